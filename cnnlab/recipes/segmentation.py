"""What the segmentation experiments share: fields of their configurations, and what is made of them."""

import functools
import itertools
from collections.abc import Callable
from pathlib import Path

import flax.linen as nn
from ml_collections import ConfigDict

from cnnlab import loop, parallel, series
from cnnlab.data import segmented
from cnnlab.data.augment import horizontal_flip
from cnnlab.data.canvas import Resizing
from cnnlab.experiment import Experiment
from cnnlab.figures import curves
from cnnlab.published import IMAGENET
from cnnlab.recipes.descent import descent_fields, optimizer_of
from cnnlab.recipes.runs import compute_type, craft_fields, on_canvases
from cnnlab.series import Series
from cnnlab.state import TrainState
from cnnlab.tasks.segmentation import Segmentation

STAGES = {"fcn32s": 32, "fcn16s": 16, "fcn8s": 8}  # and the finest maps that each judges


def segmentation_fields() -> ConfigDict:
    """The fields that all segmentation experiments have, with the values of the paper's FCN on VGG-16."""
    config = ConfigDict()
    config.data = ""  # a folder as PASCAL VOC's or COCO's, or of pictures and masks; "shapes", drawn on the spot
    config.test_share = 0.2  # of a folder without test pictures, held out for testing
    config.classes = ()  # of a folder: found there, recorded with the run; predict then needs no folder
    config.shorter = 0  # pixels of a picture's shorter side once it is resized; 0: it stays as it is
    config.longer = 512  # pixels of its longer side at most; larger pictures are made smaller
    config.flip = True  # half of the training pictures are mirrored
    config.batch_size = 20  # pictures, of all devices together, which must divide it
    config.eval_batch_size = 4  # likewise
    config.steps = 100_000  # in the whole run
    config.optimizer = "sgd"  # with momentum 0.9, as in the paper; or "adam", its rate falling to 0 along a cosine
    config.learning_rate = 1e-4  # at the first step
    config.drops = ()  # of "sgd": steps after which the rate is a tenth; the paper has none
    config.weight_decay = 5e-4  # of "sgd": L2 penalty
    config.update({**descent_fields(), **craft_fields()})
    config.seed = 0  # of the initial weights, the order of the pictures, augmentation and dropout
    config.log_every = 20  # steps between reports
    config.eval_every = 4000  # steps between tests
    config.checkpoint_every = 1000  # steps between checkpoints
    return config


def assemble(config: ConfigDict, name: str, model: Callable[..., nn.Module]) -> Experiment:
    """A segmentation net on the data that config.data names.

    Args:
      config: with the fields of `segmentation_fields`.
      name: of the experiment.
      model: makes the net, given `num_classes`.

    Raises:
      UserError: unknown data; a batch size that the devices do not divide.
    """
    config = config.copy_and_resolve_references()
    resizing = Resizing(config.shorter, config.longer)
    data = segmented.choose(config.data, resizing, tuple(config.classes), config.test_share)
    config.update(classes=data.class_names)
    parallel.check_batch_sizes(config)
    task = Segmentation(
        model=model(num_classes=len(data.class_names), **compute_type(config)),
        optimizer=optimizer_of(config),
        preprocess=IMAGENET.normalise,
        class_names=data.class_names,
        augment=horizontal_flip if config.flip else None,
    )
    return on_canvases(config, name, task, data, resizing, "-mean_iou")


def in_stages(config: ConfigDict, name: str, model: Callable[..., nn.Module]) -> Series | Experiment:
    """FCN-32s, 16s and 8s in turn, each beginning with what the one before has learnt (section 4.2).

    Args:
      config: with the fields of `segmentation_fields`, and "member", the one stage that is to run, "" for all.
      name: of the experiment.
      model: makes the net, given `num_classes` and `finest`.

    Raises:
      UserError: there is no such member; see also `assemble`.
    """

    def make(member: str) -> Experiment:
        return assemble(config, name, functools.partial(model, finest=STAGES[member]))

    def first(member: str, earlier: str, folder: Path) -> TrainState:
        return begun(make(member), make(earlier), folder / earlier)

    def draw(rows):
        return {f"curves_{member}": curves(rows[member]) for member in STAGES}

    stages = list(STAGES)
    begins = {member: functools.partial(first, member, earlier) for earlier, member in itertools.pairwise(stages)}
    return series.assemble(config, name, stages, make, draw, first=begins)


def begun(experiment: Experiment, earlier: Experiment, folder: Path) -> TrainState:
    """An experiment's first state: what another has learnt, and fresh layers where that has none.

    Args:
      experiment: that is to begin.
      earlier: of whose net it has all layers.
      folder: where that was trained; of the weights their moving average, where that is kept.
    """
    learnt, fresh = loop.restored_state(earlier, folder), loop.fresh_state(experiment)
    params = {**fresh.params, **learnt.variables["params"]}
    model_state = {kind: {**layers, **learnt.variables.get(kind, {})} for kind, layers in fresh.model_state.items()}
    return TrainState(fresh.step, params, model_state, experiment.task.init_optimizer(params, model_state))
