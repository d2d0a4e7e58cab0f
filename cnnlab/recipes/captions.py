"""What the experiments on sentences share: fields of their configurations, and what is made of them."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import flax.linen as nn
from ml_collections import ConfigDict

from cnnlab import parallel, workdirs
from cnnlab.data import captioned
from cnnlab.data.detected import DRAWN
from cnnlab.data.shapes import KINDS, SPLITS
from cnnlab.data.text import MINIMUM, Vocabulary
from cnnlab.errors import UserError
from cnnlab.experiment import Experiment
from cnnlab.models.alignment import AlignmentNet
from cnnlab.models.captioner import CaptionNet
from cnnlab.published import IMAGENET
from cnnlab.recipes.descent import descent_fields, optimizer_of
from cnnlab.recipes.runs import compute_type, craft_fields, run_of
from cnnlab.region_sources import aligned_snippets, read_square, with_regions
from cnnlab.tasks.alignment import SentenceAlignment
from cnnlab.tasks.captioning import Captioning

LONGEST = 20  # words of a sentence that is made, at most, where neither config.words nor the data say how many


def caption_fields() -> ConfigDict:
    """The fields that all experiments on sentences have."""
    config = ConfigDict()
    config.data = "shapes"  # drawn on the spot; "coco_captions" of TFDS; or a folder as COCO's or Flickr8k's
    config.shapes = 6  # of data "shapes": in a drawing at most
    config.drawings = DRAWN["train"]  # of data "shapes": to train on
    config.size = 128  # pictures are stretched to size×size pixels
    config.minimum = MINIMUM  # times that a word must stand in the training sentences to be known
    config.words = 0  # of a sentence at most; 0: all of one that is read, and 20, or 16 on shapes, of one that is made
    config.cut = False  # longer sentences are cut off; else they are refused
    config.sentences = 5  # of a picture's five that a step learns from, drawn anew in each; 1 in the paper's alignment
    config.distinct = False  # of data "shapes": no two of the test's have one description, 1,000 or all there are
    config.test_on = "test"  # pictures; or "train": scores are of those that were learnt, to see what is known by heart
    config.test_share = 0.2  # of a folder as Flickr's without lists of its splits, held out for testing
    config.vocabulary = vocabulary_fields(Vocabulary((), (), 0, 0))  # found in the data, recorded with the run
    config.batch_size = 100  # pictures, of all devices together, which must divide it; the paper's
    config.eval_batch_size = 100  # likewise
    config.steps = 10_000  # in the whole run
    config.optimizer = "adam"  # its rate falling to 0 along a cosine; or "sgd" with momentum 0.9, the paper's
    config.learning_rate = 1e-3  # at the first step
    config.drops = ()  # of "sgd": steps after which the rate is a tenth
    config.weight_decay = 0.0  # of "sgd": L2 penalty
    config.update({**descent_fields(), **craft_fields()})
    config.clip_norm = 5.0  # gradients of a greater norm are scaled down to it; the paper cuts numbers off at 5
    config.seed = 0  # of the initial weights, the order of the pictures and all draws
    config.log_every = 20  # steps between reports
    config.eval_every = 500  # steps between tests
    config.checkpoint_every = 500  # steps between checkpoints
    return config


def alignment_fields() -> ConfigDict:
    """Fields of experiments that align regions and words."""
    config = ConfigDict()
    config.joint = 1000  # numbers of a vector in the space of regions and words: 1000 to 1600 in the paper
    config.hidden = 300  # units of each direction of the recurrent network, and of a word: 300 to 600 in the paper
    config.cell = "rnn"  # the paper's, rectified; or "lstm" or "gru"
    config.kind = "max"  # each word counts for its best region; or "sum": for all that point its way
    config.margin = 1.0  # by which right pairs are to be above wrong ones
    config.beta = 0.5  # what two neighbouring words of one region are worth, when phrases are found
    config.places = True  # where a region lies and how large it is are among its features
    config.distinct = True  # of data "shapes": no two of the test's have one description, as sentences are to find them
    config.sync_norm = True  # batch normalisation and wrong pairs over all devices: their number changes nothing
    config.detector = ""  # workdir of a trained detector: what it finds are the regions; "": the boxes of the data
    config.most_regions = 19  # of a picture at most, the surest that the detector finds, besides all of it; the paper's
    return config


def captioner_fields() -> ConfigDict:
    """Fields of experiments that make sentences."""
    config = ConfigDict()
    config.alignment = ""  # workdir of an alignment: its regions are described, in the phrases that it gives them
    config.hidden = 512  # units of the recurrent network; the paper's
    config.cell = "rnn"  # the paper's, rectified; or "lstm" or "gru"
    config.dropout = 0.0  # share of the words' and the hidden numbers that is dropped in training
    config.deep_output = 0  # rectified units between the recurrent ones and the choice of the next word; 0: the paper's
    config.beam = 7  # sentences that the search for the likeliest keeps; 1: the likeliest word each time
    config.temperature = 0.0  # over 0, words are drawn by chance, the odder the higher; 0: they are searched for
    config.detector = ""  # workdir of a trained detector, whose findings predict describes with config.regions
    config.most_regions = 19  # of a picture at most, the surest
    return config


def captioning(
    config: ConfigDict, backbone: nn.Module, flat: bool = False, naming: float = 0.0
) -> Callable[[Vocabulary, int], Captioning]:
    """Makes the task of `captioner_fields`; see `assemble`.

    Args:
      config: with those fields.
      backbone, flat: of the `CaptionNet`.
      naming: see `Captioning`; over 0, the network names the kinds of drawn shapes.

    Raises:
      UserError: fewer units than there can be.
    """
    if config.hidden < 1 or config.deep_output < 0:
        raise UserError(
            f"config.hidden is {config.hidden} and config.deep_output {config.deep_output}: at least 1 and 0"
        )

    def make(vocabulary: Vocabulary, words: int) -> Captioning:
        sizes = {name: config[name] for name in ("hidden", "cell", "dropout", "deep_output")}
        kinds = KINDS if naming else ()
        return Captioning(
            model=CaptionNet(backbone, len(vocabulary), flat=flat, kinds=kinds, **sizes, **compute_type(config)),
            optimizer=optimizer_of(config),
            preprocess=IMAGENET.normalise,
            vocabulary=vocabulary,
            words=words,
            beam=config.beam,
            sentences=config.sentences,
            naming=naming,
            temperature=config.temperature,
        )

    return make


def aligning(
    config: ConfigDict, net: AlignmentNet, axis_name: str | None
) -> Callable[[Vocabulary, int], SentenceAlignment]:
    """Makes the task of `alignment_fields`; see `assemble`.

    Args:
      config: with those fields.
      net: that has no vocabulary yet.
      axis_name: see `SentenceAlignment`.
    """

    def make(vocabulary: Vocabulary, words: int) -> SentenceAlignment:
        sizes = {name: config[name] for name in ("joint", "hidden", "cell", "places")}
        return SentenceAlignment(
            model=net.clone(vocabulary=len(vocabulary), embedding=config.hidden, **sizes),
            optimizer=optimizer_of(config),
            preprocess=IMAGENET.normalise,
            vocabulary=vocabulary,
            axis_name=axis_name,
            **{name: config[name] for name in ("kind", "margin", "beta", "sentences")},
        )

    return make


def vocabulary_fields(vocabulary: Vocabulary) -> ConfigDict:
    """A field for each of its attributes."""
    fields = {field.name: getattr(vocabulary, field.name) for field in dataclasses.fields(vocabulary) if field.init}
    return ConfigDict(fields)


def assemble(
    config: ConfigDict,
    name: str,
    make: Callable[[Vocabulary, int], Captioning | SentenceAlignment],
    best: str,
    regions: bool = False,
    places: int = 0,
) -> Experiment:
    """An experiment on the captioned pictures that config.data names.

    Args:
      config: with the fields of `caption_fields`, and what `alignment_fields` or `captioner_fields` have.
      name: of the experiment.
      make: the task, without what `craft_fields` ask for, given the vocabulary and how many words a sentence has at
        most.
      best: see `Experiment`.
      regions: batches have boxes: what config.detector finds; where it names none, those of the data.
      places: see `captioned.Rules`.

    Raises:
      UserError: unknown data; `places` with other than drawn shapes; a batch size that the devices do not divide;
        weights of another vocabulary.
    """
    config = config.copy_and_resolve_references()
    parallel.check_batch_sizes(config)
    if config.test_on not in SPLITS:
        raise UserError(f'config.test_on is "{config.test_on}"; it must be "test" or "train"')
    data = _data_of(config, name, regions and not config.detector, places)
    config.update(vocabulary=vocabulary_fields(data.vocabulary))
    if not (config.init_layers or config.replace_head):
        check_vocabulary(config.init_from, data.vocabulary)
    if config.test_on == "train":
        data = dataclasses.replace(data, test=data.train)
    read = functools.partial(read_square, size=config.size)
    if regions and config.detector:
        detector = Path(config.detector).expanduser()
        read = functools.partial(read, detector=detector, most=config.most_regions)
        data = with_regions(data, detector, config.most_regions)
    elif regions:
        read = read_without_regions
    task = make(data.vocabulary, config.words or data.longest or LONGEST)
    return run_of(config, name, task, data, config.size, read, best=best)


def _data_of(config: ConfigDict, name: str, boxes: bool, places: int) -> captioned.Captions:
    """The pictures and sentences of `assemble`; with the vocabulary that config has, where it has one."""
    known = Vocabulary(**config.vocabulary) if config.vocabulary.words else None
    alignment = config.get("alignment")
    if places and (alignment or config.data != "shapes"):
        raise UserError("config.naming needs to know what there is where, as of whole drawn shapes alone: make it 0")
    if alignment:
        return aligned_snippets(Path(alignment).expanduser(), config.size, known)
    fields = ("size", "minimum", "words", "cut", "test_share", "shapes", "distinct", "drawings")
    rules = captioned.Rules(**{field: config[field] for field in fields}, boxes=boxes, places=places)
    return captioned.choose(config.data, rules, name, known)


def read_without_regions(path: Path) -> NoReturn:
    """Where the regions of a picture file are is not known.

    Raises:
      UserError: always.
    """
    raise UserError(f"where the regions of {path} are is not known: add --config.detector=WORKDIR, of a detector")


def check_vocabulary(init_from: str, vocabulary: Vocabulary) -> None:
    """Makes sure that a run whose weights are begun with has the same words, by the same numbers.

    Raises:
      UserError: it has others.
    """
    found = workdirs.read(Path(init_from).expanduser()) if init_from else None
    theirs = tuple(found["config"].get("vocabulary", {}).get("words", ())) if found else ()
    if theirs and theirs != vocabulary.words:
        pairs = enumerate(zip(theirs, vocabulary.words, strict=False))
        other = next((f': word {i} is "{one}" there and "{own}" here' for i, (one, own) in pairs if one != own), "")
        raise UserError(
            f"the weights of {init_from} are of a vocabulary of {len(theirs)} words, and the data's has "
            f"{len(vocabulary.words)}{other}; begin with a run on the same sentences, or "
            "with all but its words: --config.replace_head=True"
        )
