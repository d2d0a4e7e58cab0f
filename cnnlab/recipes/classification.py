"""The nets on ImageNet, on folders of pictures and on digits."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import flax.linen as nn
import optax
from ml_collections import ConfigDict

from cnnlab import parallel
from cnnlab.begin import from_published
from cnnlab.configs import plain
from cnnlab.data import labelled
from cnnlab.data.augment import random_crop
from cnnlab.data.imagenet_classes import NAMES
from cnnlab.data.labelled import Labelled
from cnnlab.data.named_augmentations import named
from cnnlab.data.pictures import read_picture
from cnnlab.data.preprocess import Convention
from cnnlab.errors import UserError
from cnnlab.experiment import Experiment
from cnnlab.optim import adam_cosine, step_schedule
from cnnlab.published import convention as published_convention
from cnnlab.recipes.descent import descent, descent_fields
from cnnlab.recipes.runs import check_unused, compute_type, craft_fields, run_of, with_small
from cnnlab.tasks.classification import Classification, Loss, cross_entropy, smoothed_cross_entropy

TRAIN_EXAMPLES = 1_281_167  # of ILSVRC-2012
# ImageNet's mean colour; the papers subtract it and leave the scale of 0 to 255. (AlexNet's and ResNet's subtract the
# mean of each pixel, which over so many pictures is nearly the same everywhere.)
MEAN = (0.485, 0.456, 0.406)
UNSCALED = (1 / 255, 1 / 255, 1 / 255)


def paper_convention(size: int, resize: int = 256) -> Convention:
    """Pixels from 0 to 255 less the mean colour, of the central size×size of pictures stored at resize×resize."""
    return Convention(size, resize, MEAN, UNSCALED)


def imagenet_fields() -> ConfigDict:
    """The fields that all ImageNet experiments have, with AlexNet's values."""
    config = ConfigDict()
    config.data = "imagenet2012"  # of TFDS; or a folder of train/CLASS/ and val/CLASS/, or of CLASS/; or "digits"
    config.test_share = 0.2  # of the pictures of a folder without train/ and val/, held out for testing
    config.stored_size = 0  # of pictures in pixels; 0: what they are tested at, 256 mostly; 352 to test 144 crops
    config.classes = ()  # of a folder: found there, recorded with the run; predict then needs no folder
    config.train_examples = TRAIN_EXAMPLES  # of ImageNet; of a folder: counted
    config.convention = ""  # of the input's colours, "paper" or "published"; "": as init_from has it, then recorded
    config.augment = "crop,flip,colour_noise"  # of training pictures, in turn; `data/named_augmentations.py`; "": none
    config.label_smoothing = 0.0  # the share of the label that all classes have alike
    config.batch_size = 128  # of all devices together, which must divide it
    config.eval_batch_size = 128  # likewise
    config.epochs = 90.0  # passes over the training pictures
    config.learning_rate = 0.01  # at the first step
    config.drops = (30.0, 60.0, 80.0)  # epochs after which it is a tenth; the paper waits for a plateau, three times
    config.weight_decay = 5e-4  # L2 penalty on all parameters
    config.update({**descent_fields(), **craft_fields()})
    config.seed = 0  # of the initial weights, the order of the examples, augmentation and dropout
    config.log_every = 100  # steps between reports
    config.eval_every = 10_000  # steps between tests
    config.checkpoint_every = 2000  # steps between checkpoints
    config.small = ConfigDict()  # what replaces the paper's values with data "digits", to run in about a minute
    config.small.size = 64  # of the pictures, in pixels
    config.small.batch_size = 32  # of all devices together, in training and testing
    config.small.steps = 100  # in the whole run
    config.small.learning_rate = 3e-4  # of Adam, falling to 0: the paper's descent would not move in so few steps
    return config


def loss_of(config: ConfigDict) -> Loss:
    """Cross-entropy, its labels smoothed as config.label_smoothing says.

    Raises:
      UserError: that is no share.
    """
    if not 0 <= config.label_smoothing < 1:
        raise UserError(f"config.label_smoothing is {config.label_smoothing}; it must be from 0 up to but not with 1")
    if not config.label_smoothing:
        return cross_entropy
    return functools.partial(smoothed_cross_entropy, smoothing=config.label_smoothing)


def descent_with_drops(config: ConfigDict, steps_of: Callable[[float], int]) -> optax.GradientTransformation:
    """`descent` whose rate, as in the paper, is a tenth after each of config.drops, in epochs."""
    drops = tuple(steps_of(epochs) for epochs in config.drops)
    return descent(config, step_schedule(config.learning_rate, drops), steps_of(config.epochs), steps_of(1.0))


def assemble(
    config: ConfigDict,
    name: str,
    model: Callable[..., nn.Module],
    optimizer: Callable[[Callable[[float], int]], optax.GradientTransformation],
    convention: Convention,
) -> Experiment:
    """A net on ImageNet, on a folder or on digits; the other ImageNet experiments use it too.

    Args:
      config: with the fields of `imagenet_fields`.
      name: of the experiment.
      model: makes the net, given `num_classes`.
      optimizer: makes the paper's, given a function from epochs to steps.
      convention: the paper's, of the pictures; that of published weights takes its place where they are used.
    """
    config = config.copy_and_resolve_references()
    model = functools.partial(model, **compute_type(config))
    settle_convention(config, lambda source: "published" if from_published(source) else "paper")
    published = config.convention == "published"
    if published:
        convention = published_convention(model(num_classes=len(NAMES)))
    if config.data == "digits":
        if not published:
            convention = dataclasses.replace(convention, size=config.small.size, resize=config.small.size)
        return on_digits(config, name, model, convention.crop_and_normalise, convention.resize, loss_of(config))
    stored = config.stored_size or convention.resize
    data = choose_data(config, name, stored)
    if data.class_names != NAMES:
        config.update(classes=data.class_names, train_examples=data.train_examples)

    def steps_of(epochs: float) -> int:
        return round(epochs * data.train_examples / config.batch_size)

    parallel.check_batch_sizes(config)
    task = Classification(
        model=model(num_classes=len(data.class_names)),
        optimizer=optimizer(steps_of),
        preprocess=convention.crop_and_normalise,
        class_names=data.class_names,
        loss=loss_of(config),
        augment=named(config.augment, stored, convention.size, convention.colour, convention.resize),
        resize=convention.resize,
        auxiliary_weight=config.get("auxiliary_weight", 0.0),
        uncropped=convention.normalise,
    )
    return experiment_of(config, name, task, data, stored, steps_of(config.epochs))


def settle_convention(config: ConfigDict, of: Callable[[str], str]) -> None:
    """Sets config.convention by what the run begins from, so that its record says it wherever those weights are later.

    Args:
      config: with that field and init_from; where it is set already, or nothing is begun from, it stays.
      of: the convention of an init_from.

    Raises:
      UserError: it is none that there is.
    """
    if config.init_from and not config.convention:
        config.convention = of(config.init_from)
    if config.convention not in ("", "paper", "published"):
        raise UserError(f'config.convention is "{config.convention}"; it must be "paper", "published" or ""')


def choose_data(config: ConfigDict, name: str, size: int) -> Labelled:
    """ImageNet or a folder, as config.data says, stored at size×size."""
    folder, known = Path(config.data).expanduser(), tuple(config.classes)
    if config.data == "imagenet2012":
        return labelled.of_tfds(config.data, "validation", NAMES, config.train_examples, size, name)
    if known or folder.is_dir():
        return labelled.of_folder(folder, config.test_share, size, known, config.train_examples)
    raise UserError(f'config.data is "{config.data}": it must be "imagenet2012", "digits" or a folder of pictures')


def experiment_of(
    config: ConfigDict, name: str, task: Classification, data: Labelled, size: int, steps: int
) -> Experiment:
    """The Experiment of a classification on pictures stored at size×size, all else from the config's fields."""
    read = functools.partial(read_picture, shape=(size, size, 3), crop=True)
    return run_of(config, name, task, data, size, read, steps=steps, test_squares=data.test_squares)


# Fields that do nothing with config.data=digits, where config.small and Adam train.
PAPERS_OWN = (
    "augment",
    "classes",
    "drops",
    "epochs",
    "stored_size",
    "test_share",
    "train_examples",
    "weight_decay",
    *descent_fields(),
)


def on_digits(
    config: ConfigDict,
    name: str,
    model: Callable[..., nn.Module],
    preprocess: Callable,
    size: int,
    loss: Loss,
) -> Experiment:
    """A net on scikit-learn's digits at size×size, as config.small says: small enough for a laptop.

    Pictures are moved by up to a sixteenth, and not mirrored: a digit's mirror image is another sign.

    Raises:
      UserError: a field of the paper's training is set, which would do nothing here.
    """
    check_unused(config, name, PAPERS_OWN)
    steps = config.small.steps
    every = {"log_every": max(1, steps // 10), "eval_every": steps, "checkpoint_every": steps}
    small = with_small(config, name, **every)
    data = labelled.of_digits(size)
    task = Classification(
        model=model(num_classes=len(data.class_names)),
        optimizer=adam_cosine(small.learning_rate, small.steps),
        preprocess=preprocess,
        class_names=data.class_names,
        loss=loss,
        auxiliary_weight=config.get("auxiliary_weight", 0.0),
        augment=functools.partial(random_crop, size=size, padding=size // 16),
    )
    experiment = experiment_of(small, name, task, data, size, steps)
    return dataclasses.replace(experiment, config=plain(config))
