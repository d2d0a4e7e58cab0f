"""What the classification experiments share: fields that their configurations have in common, and what is made of them.

An experiment file holds what is its paper's own; the papers' common ground is here.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.typing import DTypeLike
from ml_collections import ConfigDict

from cnnlab import parallel, transfer
from cnnlab.begin import published_source
from cnnlab.configs import load, plain
from cnnlab.data import labelled
from cnnlab.data.augment import random_crop
from cnnlab.data.canvas import Resizing, read_fields
from cnnlab.data.detected import Detected
from cnnlab.data.imagenet_classes import NAMES
from cnnlab.data.labelled import Labelled
from cnnlab.data.named_augmentations import named
from cnnlab.data.pictures import read_picture
from cnnlab.data.preprocess import Convention
from cnnlab.errors import UserError
from cnnlab.experiment import Experiment
from cnnlab.optim import (
    adam_cosine,
    cosine_schedule,
    falling_on_plateau,
    kernels,
    momentum_sgd,
    step_schedule,
    warmed_up,
    with_average,
)
from cnnlab.published import convention as published_convention
from cnnlab.tasks.classification import Classification, Loss, cross_entropy, smoothed_cross_entropy

T = TypeVar("T")
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


def descent_fields() -> ConfigDict:
    """Fields of stochastic gradient descent with momentum; the defaults are the papers'."""
    config = ConfigDict()
    config.schedule = "paper"  # of the rate; or "cosine", to 0 at the end; or "plateau", a tenth where the loss stays
    config.patience = 5  # with "plateau": epochs without a lower training loss, after which the rate falls
    config.warm_up = 0  # steps in which the rate rises linearly from 0
    config.nesterov = False  # look ahead along the momentum
    config.decay_all = True  # weight decay falls on biases and batch normalisation too
    config.clip_norm = 0.0  # gradients of a greater norm are scaled down to it; 0: none
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


def descent(config: ConfigDict, paper: optax.Schedule, steps: int, epoch: int) -> optax.GradientTransformation:
    """Momentum 0.9 and an L2 penalty, with what `descent_fields` ask for.

    Args:
      config: with those fields, and the rate of the first step and the weight decay.
      paper: the paper's rate by step.
      steps: in the whole run.
      epoch: steps in one.

    Raises:
      UserError: an unknown schedule, or a number out of its range.
    """
    makers = {
        "paper": lambda: paper,
        "cosine": lambda: cosine_schedule(config.learning_rate, steps),
        "plateau": lambda: optax.constant_schedule(config.learning_rate),
    }
    if config.schedule not in makers:
        raise UserError(f'config.schedule is "{config.schedule}"; it must be one of {", ".join(makers)}')
    if config.warm_up < 0 or config.clip_norm < 0:
        raise UserError(f"config.warm_up is {config.warm_up} and config.clip_norm {config.clip_norm}: neither is < 0")
    rate = makers[config.schedule]()
    optimizer = momentum_sgd(
        warmed_up(rate, config.warm_up) if config.warm_up else rate,
        weight_decay=config.weight_decay,
        nesterov=config.nesterov,
        decayed=None if config.decay_all else kernels,
    )
    if config.clip_norm:
        optimizer = optax.chain(optax.clip_by_global_norm(config.clip_norm), optimizer)
    if config.schedule == "plateau":
        optimizer = falling_on_plateau(optimizer, max(1, epoch), config.patience)
    return optimizer


def descent_with_drops(config: ConfigDict, steps_of: Callable[[float], int]) -> optax.GradientTransformation:
    """`descent` whose rate, as in the paper, is a tenth after each of config.drops, in epochs."""
    drops = tuple(steps_of(epochs) for epochs in config.drops)
    return descent(config, step_schedule(config.learning_rate, drops), steps_of(config.epochs), steps_of(1.0))


def optimizer_of(config: ConfigDict) -> optax.GradientTransformation:
    """What config.optimizer asks for: "sgd", its rate falling at drops, or "adam", its rate falling along a cosine.

    Raises:
      UserError: an unknown optimizer.
    """
    if config.optimizer == "adam":
        return adam_cosine(config.learning_rate, config.steps, clip_norm=config.clip_norm)
    if config.optimizer != "sgd":
        raise UserError(f'config.optimizer is "{config.optimizer}"; it must be "sgd" or "adam"')
    return descent(config, step_schedule(config.learning_rate, tuple(config.drops)), config.steps, 1000)


def craft_fields() -> ConfigDict:
    """Fields for beginning from trained weights, and for machines of other memory and speed; all nets have them."""
    config = ConfigDict()
    config.init_from = ""  # weights to begin with: a run's workdir, or published ones, a file or a hub id
    config.replace_head = False  # with init_from: begin with a new last layer, for other classes
    config.init_layers = ""  # with init_from: only of these layers, patterns of their names: "conv*,fc6"; "": of all
    config.freeze = ""  # layers that stay as they are, likewise; "body" is all but the classifiers
    config.rates = ""  # layers whose rate is multiplied: "conv*=0.1,fc6=0.5"
    config.average = 0.0  # decay of a moving average of the weights, used in testing; 0: none, 0.9999 in long runs
    config.accumulate = 1  # parts that each device's share of a batch is computed in, one by one, in less memory
    config.dtype = "float32"  # of the computation, or "bfloat16"; parameters and their updates are float32
    return config


def compute_type(config: ConfigDict) -> dict[str, DTypeLike]:
    """The model's `dtype` where the config asks for another than float32.

    Raises:
      UserError: it asks for an unknown one.
    """
    if config.dtype not in ("float32", "bfloat16"):
        raise UserError(f'config.dtype is "{config.dtype}"; it must be "float32" or "bfloat16"')
    return {} if config.dtype == "float32" else {"dtype": jnp.bfloat16}


def crafted(task: T, config: ConfigDict, size: int) -> T:
    """A supervised task with what `craft_fields` ask for; its stored pictures are size×size."""
    frozen = transfer.patterns(config.freeze)
    if frozen == ("body",):
        image = jax.eval_shape(task.preprocess, jax.ShapeDtypeStruct((1, size, size, 3), jnp.uint8))
        frozen = transfer.body_layers(task.model, image)
    optimizer = task.optimizer
    if config.rates:
        optimizer = optax.chain(optimizer, transfer.scale_layers(transfer.factors(config.rates)))
    if config.average:
        optimizer = with_average(optimizer, config.average)
    return dataclasses.replace(task, optimizer=optimizer, frozen=frozen, accumulate=config.accumulate)


def assemble(
    config: ConfigDict,
    name: str,
    model: Callable[..., nn.Module],
    optimizer: Callable[[Callable[[float], int]], optax.GradientTransformation],
    convention: Convention,
) -> Experiment:
    """A net on ImageNet, on a folder or on digits; the other ImageNet experiments use it too.

    Args:
      config: with the fields of `recipe`.
      name: of the experiment.
      model: makes the net, given `num_classes`.
      optimizer: makes the paper's, given a function from epochs to steps.
      convention: the paper's, of the pictures; that of published weights takes its place where they are used.
    """
    config = config.copy_and_resolve_references()
    model = functools.partial(model, **compute_type(config))
    from_published = bool(published_source(config.init_from))
    if from_published:
        convention = published_convention(model(num_classes=len(NAMES)))
    if config.data == "digits":
        if not from_published:
            convention = dataclasses.replace(convention, size=config.small.size, resize=config.small.size)
        return on_digits(config, name, model, convention.crop_and_normalise, convention.resize, loss_of(config))
    stored = config.stored_size or convention.resize
    data = choose_data(config, name, stored)
    if data.class_names != NAMES:
        config.update(classes=data.class_names, train_examples=data.train_examples)

    def steps_of(epochs: float) -> int:
        return round(epochs * data.train_examples / config.batch_size)

    parallel.check_batch_size("config.batch_size", config.batch_size)
    parallel.check_batch_size("config.eval_batch_size", config.eval_batch_size)
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


def choose_data(config: ConfigDict, name: str, size: int) -> Labelled:
    """ImageNet or a folder, as config.data says, stored at size×size."""
    folder = Path(config.data).expanduser()
    if config.data == "imagenet2012":
        return labelled.of_tfds(config.data, "validation", NAMES, config.train_examples, size, name)
    if folder.is_dir():
        return labelled.of_folder(folder, config.test_share, size)
    wrong = f'config.data is "{config.data}": it must be "imagenet2012", "digits" or a folder of pictures'
    if not config.classes:
        raise UserError(wrong)

    def missing():
        raise UserError(wrong)

    return Labelled(tuple(config.classes), config.train_examples, missing, missing)


def experiment_of(
    config: ConfigDict, name: str, task: Classification, data: Labelled, size: int, steps: int
) -> Experiment:
    """The Experiment of a classification on pictures stored at size×size, all else from the config's fields."""
    read = functools.partial(read_picture, shape=(size, size, 3), crop=True)
    return run_of(config, name, task, data, size, read, steps=steps, test_squares=data.test_squares)


def on_canvases(config: ConfigDict, name: str, task: T, data: Detected, resizing: Resizing, best: str) -> Experiment:
    """The Experiment of a supervised task on pictures of mixed sizes; see `run_of`."""
    read = functools.partial(read_fields, resizing=resizing)
    largest = resizing.buckets()[-1]
    made = run_of(config, name, task, data, largest[0], read, best=best)
    return dataclasses.replace(made, picture_shape=(*largest, 3))


def run_of(
    config: ConfigDict, name: str, task: T, data: Any, size: int, read_picture: Callable, **fields: Any
) -> Experiment:
    """The Experiment of a supervised task, all else from the config's fields.

    Args:
      config: with the fields of `craft_fields`, and those that all runs have.
      name: of the experiment.
      task: without what `craft_fields` ask for.
      data: with `train`, `test` and `prepare`.
      size: its pictures are stored at size×size.
      read_picture, **fields: of the `Experiment`.
    """
    return Experiment(
        name=name,
        config=plain(config),
        task=crafted(task, config, size),
        train_data=data.train,
        test_data=data.test,
        prepare=data.prepare,
        picture_shape=(size, size, 3),
        read_picture=read_picture,
        batch_size=config.batch_size,
        eval_batch_size=config.eval_batch_size,
        seed=config.seed,
        log_every=config.log_every,
        eval_every=config.eval_every,
        checkpoint_every=config.checkpoint_every,
        init_from=config.init_from,
        replace_head=config.replace_head,
        init_layers=transfer.patterns(config.init_layers),
        **{"steps": config.get("steps"), **fields},
    )


# Fields that do nothing with config.data=digits, where config.small and Adam train.
PAPERS_OWN = ("augment", "batch_size", "drops", "epochs", "learning_rate", "steps", "weight_decay", *descent_fields())


def check_unused(config: ConfigDict, name: str, fields: Sequence[str]) -> None:
    """Raises a `UserError` where a field is set whose place config.small takes with config.data=digits.

    Args:
      config: as it was asked for.
      name: of the experiment, which says what is usual.
      fields: that do nothing with digits.
    """
    usual = load(name).get_config()
    for field in fields:
        if field in config and config[field] != usual[field]:
            right = f"set config.small.{field}" if field in config.small else "config.small says all of it"
            raise UserError(f"config.{field} is {config[field]!r}, which does nothing with config.data=digits: {right}")


def with_small(config: ConfigDict, name: str, **others: Any) -> ConfigDict:
    """A copy of the configuration with config.small's values and `others` in the place of its own, for digits.

    What a run records is the configuration that was asked for, not this one: of this one it could not be built again.

    Raises:
      UserError: one of those fields is set, which would do nothing.
    """
    others = {"eval_batch_size": config.small.batch_size, **others}
    check_unused(config, name, (*config.small, *others))
    return ConfigDict({**config.to_dict(), **config.small.to_dict(), **others})


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
    small = config.small
    check_unused(config, name, PAPERS_OWN)
    parallel.check_batch_size("config.small.batch_size", small.batch_size)
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
    experiment = experiment_of(config, name, task, data, size, small.steps)
    every = {"log_every": max(1, small.steps // 10), "eval_every": small.steps, "checkpoint_every": small.steps}
    return dataclasses.replace(
        experiment, batch_size=small.batch_size, eval_batch_size=small.batch_size, steps=small.steps, **every
    )
