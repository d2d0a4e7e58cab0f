"""Captioned pictures to train and to test on: drawn shapes, a folder as COCO's or Flickr's, TFDS's coco_captions."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from cnnlab.data import coco, coco_captions, flickr, text
from cnnlab.data.annotations import Annotation, Findings
from cnnlab.data.captions import Captioned, CaptionRecords, CaptionSource, DrawnCaptions, checked
from cnnlab.data.described import Described
from cnnlab.data.detected import DRAWN, DRAWN_MOST, RECORDS_MOST
from cnnlab.data.prepare import prepare
from cnnlab.data.sentences import LONGEST, distinct, sentences
from cnnlab.data.shapes import CLASS_NAMES, SPLITS
from cnnlab.data.source import Source
from cnnlab.data.text import MINIMUM, Vocabulary, words_of
from cnnlab.data.tfds_source import open_split, version_folder
from cnnlab.errors import UserError

DRAWN_TESTED = 1000  # pictures of shapes to test on
DRAWN_READ = 1000  # drawings whose sentences make the vocabulary: each of its words stands there often
TFDS = "coco_captions"  # with the splits of Karpathy and Fei-Fei 2015, of which "train" and "test" are used
RECORDS_WORDS = 60  # in a sentence of TFDS's set, which cannot be counted beforehand

Read = Callable[[], list[Captioned]]


@dataclasses.dataclass(frozen=True)
class Captions:
    """A training and a test set; pictures are read when they are called for.

    Attributes:
      vocabulary: of the training sentences, or the one that was given; without a word where a set of TFDS is not
        prepared yet, and then `train` and `test` say how it is.
      class_names: of the boxes; () where there are none.
      train, test: make the sources.
      prepare: downloads and builds the data; None where there is nothing to prepare.
      longest: words of a sentence at most; 0: unknown, as where data are read only when they are called for.
    """

    vocabulary: Vocabulary
    class_names: tuple[str, ...]
    train: Callable[[], Source]
    test: Callable[[], Source]
    prepare: Callable[[], None] | None = None
    longest: int = 0


@dataclasses.dataclass(frozen=True)
class Rules:
    """How sentences and pictures are taken.

    Attributes:
      size: pictures are size×size.
      minimum: times that a word must stand in the training sentences; see `text.build`.
      words: in a sentence at most; 0: as many as the longest has.
      cut: longer sentences are cut off and told; else they are refused.
      boxes: batches have them.
      test_share: of a folder as Flickr's without lists, the share that is held out.
      shapes: in a drawing at most, from 1 to 6.
      distinct: of drawings, those for testing have different descriptions; see `sentences.distinct`.
      places: of drawings, p of the batches' "kinds"; 0: they have none. Other sets do not have it.
      drawings: to train on.
    """

    size: int
    minimum: int = MINIMUM
    words: int = 0
    cut: bool = False
    boxes: bool = False
    test_share: float = 0.2
    shapes: int = DRAWN_MOST
    distinct: bool = False
    places: int = 0
    drawings: int = DRAWN["train"]

    def __post_init__(self) -> None:
        if self.drawings < 1:
            raise UserError(f"config.drawings is {self.drawings}; it must be 1 or more")
        if self.words < 0 or (self.cut and not self.words):
            raise UserError(
                f"config.words is {self.words}: it must be 0, for as many as the longest sentence has, or more, and 1 "
                "or more where config.cut is set"
            )


def choose(data: str, rules: Rules, experiment: str, vocabulary: Vocabulary | None = None) -> Captions:
    """The set that config.data names.

    Args:
      data: "shapes"; "coco_captions" of TFDS; or a folder as COCO's (annotations/captions_*.json) or Flickr's (see
        `flickr.py`).
      rules: how it is taken.
      experiment: whose `--mode=prepare` prepares the set of TFDS.
      vocabulary: of the run that the weights are of: a folder is not read, and need not be there, until it is called
        for.

    Raises:
      UserError: there is no such set; see also the makers below.
    """
    if data == "shapes":
        return of_shapes(rules, vocabulary)
    if data == TFDS:
        return of_tfds(rules, experiment, vocabulary)
    folder = Path(data).expanduser()
    if data and coco_captions.is_coco(folder):
        return of_coco(folder, rules, vocabulary)
    if data and folder.is_dir() and flickr.sentence_file(folder):
        return of_flickr(folder, rules, vocabulary)
    wrong = (
        f'config.data is "{data}": it must be "shapes", {TFDS} of TFDS, or a folder with annotations/captions_*.json '
        f"as COCO's or with one of {', '.join(flickr.SENTENCES)} as Flickr8k's and Flickr30k's"
    )
    if vocabulary is None:
        raise UserError(wrong)

    def missing() -> Source:
        raise UserError(wrong)

    return Captions(vocabulary, (), missing, missing)


def of_shapes(rules: Rules, vocabulary: Vocabulary | None = None) -> Captions:
    """Drawn shapes with sentences; see `sentences.py`.

    Raises:
      UserError: the rules ask for shorter sentences than there are, or for other than 1 to 6 shapes.
    """
    most = rules.shapes
    if not 1 <= most <= DRAWN_MOST or rules.size < 32:
        raise UserError(f"{rules.size}×{rules.size} with {most} shapes: it must be 32 or more, with 1 to {DRAWN_MOST}")
    if 0 < rules.words < LONGEST:
        raise UserError(f"config.words is {rules.words}, and sentences about shapes have up to {LONGEST}: make it that")
    if vocabulary is None:
        said = (sentence for i in range(DRAWN_READ) for sentence in sentences("train", i, rules.size, most))
        vocabulary = text.build(map(words_of, said), rules.minimum)

    def source(split: str) -> Source:
        count = rules.drawings if split == "train" else DRAWN_TESTED
        apart = split == "test" and rules.distinct
        numbers = distinct(split, count, rules.size, most) if apart else np.arange(count)
        return DrawnCaptions(split, numbers, vocabulary, rules.size, most, rules.boxes, rules.places)

    train, test = (functools.partial(source, split) for split in SPLITS)
    return Captions(vocabulary, CLASS_NAMES, train, test, longest=LONGEST)


def of_coco(folder: Path, rules: Rules, vocabulary: Vocabulary | None = None) -> Captions:
    """A folder as COCO's; the boxes are those of annotations/instances_*.json beside the captions.

    Raises:
      UserError: the folder is not as it should be; see `coco_captions.py` and `coco.py`.
    """
    files = coco.files_of(folder, "captions")
    instances = coco.files_of(folder) if rules.boxes else ()
    classes = tuple(coco.categories_of(coco.parse(instances[0]), instances[0]).values()) if instances else ()

    def read(side: int) -> list[Captioned]:
        findings = Findings()
        boxes = {one.picture: one for one in coco.read(instances[side], classes)} if instances else None
        described = coco_captions.read(files[side], findings)
        try:
            return _checked(described, rules, findings, boxes, instances[side] if instances else None)
        finally:
            findings.close()

    return _of_files([functools.cache(functools.partial(read, side)) for side in (0, 1)], rules, vocabulary, classes)


def of_flickr(folder: Path, rules: Rules, vocabulary: Vocabulary | None = None) -> Captions:
    """A folder as Flickr8k's or Flickr30k's, which have no boxes.

    Raises:
      UserError: the folder is not as it should be; see `flickr.py`; boxes are asked for.
    """
    if rules.boxes:
        raise UserError(f"{folder} has sentences and no boxes: boxes need shapes, or annotations/instances_* as COCO's")

    @functools.cache
    def both() -> tuple[list[Captioned], list[Captioned]]:
        findings = Findings()
        try:
            sides = flickr.read(folder, rules.test_share, findings)
            return tuple(_checked(side, rules, findings) for side in sides)
        finally:
            findings.close()

    return _of_files([lambda: both()[0], lambda: both()[1]], rules, vocabulary, ())


def _checked(
    described: Sequence[Described],
    rules: Rules,
    findings: Findings,
    boxes: dict[Path, Annotation] | None = None,
    instances: Path | None = None,
) -> list[Captioned]:
    """The pictures that have sentences."""
    if rules.words and not rules.cut:
        check_lengths(described, rules.words)
    found = []
    for one in described:
        if boxes is not None and one.picture not in boxes:
            raise UserError(f"{one.places[0]}: {one.picture} is not in {instances}, and boxes are asked for")
        made = checked(one, rules.words, rules.cut, findings, boxes[one.picture] if boxes is not None else None)
        if made.words:
            found.append(made)
        else:
            what = f"{one.picture} is left out with it: it has no other sentence"
            findings.say(one.places[-1], what, "pictures have empty sentences alone and are left out")
    if not found:
        raise UserError("not one of the sentences has a word: there is nothing to learn from")
    return found


def check_lengths(described: Sequence[Described], most: int) -> None:
    """Raises a `UserError` where sentences have more than `most` words: names the first, and how many hold all."""
    places = ((sentence, place) for one in described for sentence, place in zip(one.sentences, one.places, strict=True))
    over = [(place, count) for sentence, place in places if (count := len(words_of(sentence))) > most]
    if over:
        (place, count), longest = over[0], max(count for _, count in over)
        raise UserError(
            f"{place}: the sentence has {count} words, and config.words is {most}, as {len(over)} sentences have more: "
            f"{longest} holds all, or config.cut=true cuts them off"
        )


def _of_files(reads: list[Read], rules: Rules, vocabulary: Vocabulary | None, classes: tuple[str, ...]) -> Captions:
    if vocabulary is None:
        vocabulary = text.build((words for one in reads[0]() for words in one.words), rules.minimum)

    def source(read: Read) -> Source:
        pictures = read()
        words = rules.words or max(len(own) for one in pictures for own in one.words)
        objects = max(1, *(len(one.annotation.label) for one in pictures)) if rules.boxes else 0
        return CaptionSource(pictures, vocabulary, rules.size, words, classes, objects)

    return Captions(vocabulary, classes, *(functools.partial(source, read) for read in reads))


def of_tfds(rules: Rules, experiment: str, vocabulary: Vocabulary | None = None) -> Captions:
    """TFDS's coco_captions. Without a vocabulary all its training records are read once.

    Args:
      rules: how it is taken.
      experiment: whose `--mode=prepare` prepares it.
      vocabulary: of an earlier run.

    Raises:
      UserError: a training sentence is too long.
    """
    words, classes = rules.words or RECORDS_WORDS, coco.NAMES if rules.boxes else ()

    def opened(split: str) -> CaptionRecords:
        records, found = open_split(TFDS, split, experiment, within="objects")
        if rules.boxes and found != coco.NAMES:
            raise UserError(f"the prepared {TFDS} has other classes than COCO's {len(coco.NAMES)}: {found[:5]} …")
        return CaptionRecords(records, TFDS, words, rules.cut, rules.boxes)

    if vocabulary is None and version_folder(TFDS) is None:
        vocabulary = Vocabulary((), (), 0, 0, rules.minimum)
    elif vocabulary is None:
        every = dataclasses.replace(opened("train"), boxes=False)
        vocabulary = text.build((own for i in range(len(every)) for own in every[i].words), rules.minimum)

    def source(split: str) -> Source:
        return CaptionSource(opened(split), vocabulary, rules.size, words, classes, RECORDS_MOST if rules.boxes else 0)

    train, test = (functools.partial(source, split) for split in ("train", "test"))
    return Captions(vocabulary, classes, train, test, functools.partial(prepare, TFDS))
