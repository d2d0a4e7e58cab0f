"""What the road finders' experiments share: fields of their configurations, and what is made of them."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

from ml_collections import ConfigDict

from cnnlab import parallel
from cnnlab.data.detected import Detected
from cnnlab.data.road_folders import OnePicture, one_picture
from cnnlab.data.road_patches import CLASS_NAMES, Maps, PatchSource, Tiling, WindowSource, check_sizes
from cnnlab.errors import UserError
from cnnlab.experiment import Experiment
from cnnlab.models.road_net import RoadNet
from cnnlab.published import IMAGENET
from cnnlab.recipes.descent import descent_fields, optimizer_of
from cnnlab.recipes.runs import compute_type, craft_fields, run_of
from cnnlab.tasks.label_noise import (
    Loss,
    check_noise,
    check_reach,
    cross_entropy,
    robust_to_omission,
    robust_to_translation,
)
from cnnlab.tasks.label_patches import LabelPatches

CONTEXT, LABELS = 64, 16  # sides of a tile and of its middle that is labelled, as in the papers


def road_fields() -> ConfigDict:
    """The fields that both experiments have."""
    config = ConfigDict()
    config.net = "convolutional"  # or "untied": each place has weights of its own, as in the paper
    config.loss = "cross_entropy"  # or "omission", "translation": robust to roads left out, and to displaced maps too
    config.theta0 = 0.001  # of the robust losses: share of the pixels without a road that maps call roads
    config.theta1 = 0.3  # of the robust losses: share of the roads' pixels that maps leave out
    config.reach = (
        5  # of "translation": displacements in pixels; 1.4 times a map's along its axes, as patches are turned
    )
    config.features = (32, 48)  # of the first two layers
    config.hidden = 512  # units of the third
    config.step = 8  # pixels from tile to tile of a whole picture: 16: each pixel is labelled once, 8: 4 times, 4: 16
    config.threshold = 0.5  # probability from which on a pixel is said to be of a road
    config.slack = 3.0  # pixels that the scores forgive
    config.patches = 16  # that are cut out of each picture of a batch
    config.batch_size = 8  # pictures, of all devices together, which must divide it
    config.eval_batch_size = 8  # windows of 8×8 tiles, likewise
    config.steps = 1500  # in the whole run
    config.optimizer = "adam"  # its rate falling to 0 along a cosine; or "sgd", with momentum 0.9
    config.learning_rate = 1e-3  # at the first step
    config.drops = ()  # of "sgd": steps after which the rate is a tenth
    config.weight_decay = 2e-4  # of "sgd": L2 penalty
    config.update({**descent_fields(), **craft_fields()})
    config.average = 0.99  # decay of a moving average of the weights, used in testing; 0: none
    config.seed = 0  # of the initial weights, the order of the pictures and the patches' turns
    config.log_every = 50  # steps between reports
    config.eval_every = 500  # steps between tests
    config.checkpoint_every = 250  # steps between checkpoints
    return config


def loss_of(config: ConfigDict) -> Loss:
    """The loss that config.loss names.

    Raises:
      UserError: there is no such loss, or a parameter of it is out of its range.
    """
    if config.loss == "cross_entropy":
        return cross_entropy
    noise = {"theta0": config.theta0, "theta1": config.theta1}
    check_noise(**noise)
    if config.loss == "omission":
        return functools.partial(robust_to_omission, **noise)
    if config.loss != "translation":
        raise UserError(f'config.loss is "{config.loss}"; it must be cross_entropy, omission or translation')
    check_reach(config.reach, LABELS)
    return functools.partial(robust_to_translation, reach=config.reach, **noise)


def assemble(config: ConfigDict, name: str, train: Callable[[], Maps], test: Callable[[], Maps]) -> Experiment:
    """A road finder.

    Args:
      config: with the fields of `road_fields`.
      name: of the experiment.
      train, test: make the pictures.

    Raises:
      UserError: a field is out of its range.
    """
    config = config.copy_and_resolve_references()
    parallel.check_batch_sizes(config)
    for field in ("patches", "hidden"):
        if config[field] < 1:
            raise UserError(f"config.{field} is {config[field]}; it must be positive")
    if len(config.features) != 2 or min(config.features) < 1:
        raise UserError(f"config.features is {tuple(config.features)}; it must be two positive numbers, as in 32,48")
    if not 0 < config.threshold < 1 or not 0 <= config.slack <= 100:
        raise UserError(
            f"config.threshold is {config.threshold} and config.slack {config.slack}: the first must lie between 0 and "
            "1, the second be from 0 to 100"
        )
    tiling = Tiling(CONTEXT, LABELS, config.step)
    model = RoadNet(
        config.net, CONTEXT, LABELS, features=tuple(config.features), hidden=config.hidden, **compute_type(config)
    )
    task = LabelPatches(
        model=model,
        optimizer=optimizer_of(config),
        preprocess=IMAGENET.normalise,
        tiling=tiling,
        loss=loss_of(config),
        reach=config.reach if config.loss == "translation" else 0,
        threshold=config.threshold,
        slack=config.slack,
    )

    def patches() -> PatchSource:
        return PatchSource(_checked(train(), tiling), tiling, config.patches)

    def windows() -> WindowSource:
        return WindowSource(_checked(test(), tiling), tiling)

    def read(path: Path) -> OnePicture:
        return _checked(one_picture(path), tiling)

    data = Detected(CLASS_NAMES, patches, windows)
    made = run_of(config, name, task, data, tiling.context, read, best="-break_even")
    return dataclasses.replace(made, picture_shape=(tiling.context, tiling.context, 3))


def _checked(maps: Maps, tiling: Tiling) -> Maps:
    check_sizes(maps, tiling)
    return maps
