"""What the runs of all papers share: fields that their configurations have in common, and what is made of them."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import optax
from jax.typing import DTypeLike
from ml_collections import ConfigDict

from cnnlab import parallel, transfer
from cnnlab.configs import load, plain
from cnnlab.data.canvas import Resizing, read_fields
from cnnlab.data.detected import Detected
from cnnlab.errors import UserError
from cnnlab.experiment import Experiment
from cnnlab.optim import with_average

T = TypeVar("T")


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
    if "body" in frozen:
        image = jax.eval_shape(task.preprocess, jax.ShapeDtypeStruct((1, size, size, 3), jnp.uint8))
        others = tuple(pattern for pattern in frozen if pattern != "body")
        frozen = (*transfer.body_layers(task.model, image), *others)
    optimizer = task.optimizer
    if config.rates:
        optimizer = optax.chain(optimizer, transfer.scale_layers(transfer.factors(config.rates)))
    if config.average:
        optimizer = with_average(optimizer, config.average)
    return dataclasses.replace(task, optimizer=optimizer, frozen=frozen, accumulate=config.accumulate)


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

    Raises:
      UserError: layers to begin with are named, but no weights to take them from.
    """
    if config.init_layers and not config.init_from and config.init_layers != load(name).get_config().init_layers:
        raise UserError(f"config.init_layers is {config.init_layers!r}, and no config.init_from says whose: set both")
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
            if "small" not in config:
                right = "leave it out"
            else:
                right = f"set config.small.{field}" if field in config.small else "config.small says all of it"
            raise UserError(f"config.{field} is {config[field]!r}, which does nothing with config.data=digits: {right}")


def with_small(config: ConfigDict, name: str, **others: Any) -> ConfigDict:
    """A copy of the configuration with config.small's values and `others` in the place of its own, for digits.

    What a run records is the configuration that was asked for, not this one: of this one it could not be built again.

    Raises:
      UserError: one of those fields is set, which would do nothing; the devices cannot share the batches.
    """
    parallel.check_batch_size("config.small.batch_size", config.small.batch_size)
    others = {"eval_batch_size": config.small.batch_size, **others}
    check_unused(config, name, (*config.small, *others))
    return ConfigDict({**config.to_dict(), **config.small.to_dict(), **others})
