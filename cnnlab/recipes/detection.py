"""What the detection experiments share: fields of their configurations, and what is made of them."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cnnlab import loop, parallel
from cnnlab.data import coco, detected, pipeline
from cnnlab.data.augment import horizontal_flip
from cnnlab.data.canvas import Resizing, placed, read_fields
from cnnlab.data.detected import Detected
from cnnlab.data.detection import Relabelled
from cnnlab.data.pictures import read_picture
from cnnlab.data.proposals import WithProposals, find_all
from cnnlab.data.selective_search import opencv, selective_search
from cnnlab.data.source import Head, Source
from cnnlab.errors import UserError
from cnnlab.experiment import Experiment
from cnnlab.progress import Progress
from cnnlab.published import IMAGENET
from cnnlab.recipes.descent import descent_fields, optimizer_of
from cnnlab.recipes.runs import compute_type, craft_fields, on_canvases
from cnnlab.state import TrainState
from cnnlab.tasks import rcnn
from cnnlab.tasks.detection import Detection, Rules
from cnnlab.tasks.mask_detection import MaskDetection


def detection_fields() -> ConfigDict:
    """The fields that all detection experiments have, with the values of Faster R-CNN's paper."""
    config = ConfigDict()
    config.data = "voc"  # of TFDS, or "coco"; "shapes", drawn on the spot; or a folder as PASCAL VOC's or COCO's
    config.train_pictures = 0  # the first so many are learnt from; 0: all
    config.classes = ()  # of a folder: found there, recorded with the run; predict then needs no folder
    config.objects = 64  # of a picture at most: what boxes are padded to
    config.shorter = 600  # pixels of a picture's shorter side once it is resized
    config.longer = 1000  # pixels of its longer side at most, for which the shorter one becomes shorter still
    config.batch_size = 2  # pictures, of all devices together, which must divide it
    config.eval_batch_size = 2  # likewise
    config.steps = 70_000  # in the whole run
    config.optimizer = "sgd"  # with momentum 0.9, as in the papers; or "adam", its rate falling to 0 along a cosine
    config.learning_rate = 1e-3  # at the first step
    config.drops = (50_000,)  # of "sgd": steps after which the rate is a tenth
    config.weight_decay = 5e-4  # of "sgd": L2 penalty
    config.update({**descent_fields(), **craft_fields()})
    config.rules = rules_fields(Rules())  # the papers' numbers; see `tasks/detection.py`
    config.seed = 0  # of the initial weights, the order of the pictures, augmentation and all draws
    config.log_every = 20  # steps between reports
    config.eval_every = 10_000  # steps between tests
    config.checkpoint_every = 2000  # steps between checkpoints
    return config


def rules_fields(rules: Rules) -> ConfigDict:
    """A field for each of the papers' numbers."""
    return ConfigDict(dataclasses.asdict(rules))


def mask_fields() -> ConfigDict:
    """Fields of detectors that learn masks too."""
    config = ConfigDict()
    config.mask_window = 56  # rows and columns that an object's mask is kept at, within its box, to learn from
    return config


def search_fields() -> ConfigDict:
    """Fields of detectors that look where selective search says."""
    config = ConfigDict()
    config.proposals = 2000  # of a picture at most, the first that selective search gives
    config.quality = False  # search with more colours and likenesses: about three times the proposals, five the time
    return config


def searched(data: Detected, config: ConfigDict) -> Detected:
    """The data with selective search's proposals, found when the pictures are called for and kept on the disk."""
    opencv()  # whether it is there, before anything else is done
    search = functools.partial(selective_search, quality=config.quality, limit=config.proposals, seed=config.seed)
    how = f"selective search, quality {config.quality}, {config.proposals} proposals, seed {config.seed}"

    def found(make: Callable[[], Source], split: str) -> Source:
        source = make()
        proposals = find_all(source, search, how, f"selective search in {split} pictures")
        return WithProposals(source, proposals, max(1, *(len(own) for own in proposals)))

    train, test = (
        functools.partial(found, make, split) for make, split in ((data.train, "train"), (data.test, "test"))
    )
    return dataclasses.replace(data, train=train, test=test)


def numbered(data: Detected) -> Detected:
    """COCO's data whose labels are the ids of its categories, less 1: 90 classes, ten of which have no name.

    Raises:
      UserError: the data have another number of classes than COCO.
    """
    if len(data.class_names) != len(coco.IDS):
        raise UserError(
            f"config.numbered is for COCO's {len(coco.IDS)} classes, and the data have {len(data.class_names)}: "
            "add --config.numbered=False"
        )
    names = tuple(dict(zip(coco.IDS, data.class_names, strict=True)).get(i, f"unused {i}") for i in range(1, 91))

    def renumbered(make: Callable[[], Source]) -> Source:
        return Relabelled(make(), names, np.array(coco.IDS) - 1)

    train, test = functools.partial(renumbered, data.train), functools.partial(renumbered, data.test)
    return dataclasses.replace(data, class_names=names, train=train, test=test)


def assemble(
    config: ConfigDict,
    name: str,
    model: Callable[..., nn.Module],
    task: Callable[..., Detection] = Detection,
    **parts: Any,
) -> Experiment:
    """A detector on the data that config.data names.

    Args:
      config: with the fields of `detection_fields`; with those of `search_fields` it looks where selective search says,
        with those of `mask_fields` it learns masks.
      name: of the experiment.
      model: makes the net, given `num_classes`.
      task: makes the task.
      **parts: further fields of it.

    Raises:
      UserError: unknown data; a batch size that the devices do not divide; masks of no size.
    """
    config = config.copy_and_resolve_references()
    resizing, window = Resizing(config.shorter, config.longer), config.get("mask_window", 0)
    if "mask_window" in config and window < 1:
        raise UserError(f"config.mask_window is {window}; it must be at least 1")
    data = detected.choose(config.data, resizing, config.objects, tuple(config.classes), name, window)
    config.update(classes=data.class_names)
    if config.get("numbered"):
        data = numbered(data)
    if config.train_pictures:
        train = data.train
        data = dataclasses.replace(data, train=lambda: Head(train(), config.train_pictures))
    searches = "proposals" in config
    if searches:
        data = searched(data, config)
    parallel.check_batch_sizes(config)
    made = task(
        model=model(num_classes=len(data.class_names), **compute_type(config)),
        optimizer=optimizer_of(config),
        preprocess=IMAGENET.normalise,
        class_names=data.class_names,
        rules=Rules(**config.rules),
        **{"augment": horizontal_flip, **parts},
    )
    best = "-mask_AP50" if isinstance(made, MaskDetection) else "-AP50"
    experiment = on_canvases(config, name, made, data, resizing, best)
    if searches:
        read = functools.partial(read_searched, resizing=resizing, config=config)
        experiment = dataclasses.replace(experiment, read_picture=read)
    return experiment


def with_proposals_of(proposer: Experiment, folder: Path, experiment: Experiment) -> Experiment:
    """An experiment whose pictures come with the proposals that another's trained network makes of them.

    Args:
      proposer: learns proposals only, of the same data.
      folder: where it was trained.
      experiment: that is to learn, and to be tested, with its proposals.
    """
    rules = proposer.task.rules
    many = dataclasses.replace(rules, test_before=rules.train_before, test_proposals=rules.train_proposals)
    proposer = dataclasses.replace(proposer, task=dataclasses.replace(proposer.task, rules=many))

    def proposed(make: Callable[[], Source]) -> Source:
        source, state = make(), loop.restored_state(proposer, folder)
        step = parallel.compile_eval_step(proposer.task.eval_step)
        found = [np.zeros((0, 4), np.float32)] * len(source)  # what cannot be read keeps its place, with none
        for batch in loop.test_batches(proposer, source):
            outputs = parallel.gather(step(state, batch))
            for i in np.flatnonzero(outputs["mask"] > 0):
                found[int(outputs["index"][i])] = outputs["boxes"][i][outputs["predicted"][i] >= 0]
        return WithProposals(source, found, rules.train_proposals)

    train, test = (functools.partial(proposed, make) for make in (experiment.train_data, experiment.test_data))
    return dataclasses.replace(experiment, train_data=train, test_data=test)


def judged(experiment: Experiment, folder: Path, step: int) -> TrainState:
    """The state of R-CNN's net that was fine-tuned in a folder, with its SVMs and box regressions; see `rcnn.fit`.

    Args:
      experiment: of the fine-tuning.
      folder: its workdir.
      step: that the state is said to be of.
    """
    state = loop.restored_state(experiment, folder)
    source, size = experiment.train_data(), experiment.eval_batch_size
    count = pipeline.eval_batch_count(source, size)

    def batches() -> Iterator[dict[str, np.ndarray]]:
        progress = Progress(f"{experiment.name}: features of training pictures", 0, count, size)
        for n in range(count):
            yield pipeline.eval_batch(source, n, size, slice(None))
            progress.step(n + 1)
            if n + 1 == count or (n + 1) % experiment.log_every == 0:
                progress.report(n + 1, {})
        progress.close()

    return dataclasses.replace(rcnn.fit(experiment.task, state, batches), step=jnp.asarray(step, jnp.int32))


def read_searched(path: Path, resizing: Resizing, config: ConfigDict) -> dict[str, np.ndarray]:
    """`read_fields` with "proposals", which selective search finds in the picture."""
    fields = read_fields(path, resizing)
    height, width = fields["original"]
    picture = read_picture(path, (int(height), int(width), 3))
    boxes = selective_search(picture, config.quality, config.proposals, config.seed)
    return {**fields, "proposals": placed(boxes, fields["size"] / fields["original"], config.proposals)}
