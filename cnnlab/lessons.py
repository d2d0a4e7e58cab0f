"""What the experiments of the beginner's lessons share: fields, runs on the built-in digits, points of curves."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from ml_collections import ConfigDict

from cnnlab import parallel
from cnnlab.configs import plain
from cnnlab.data.digits import digits
from cnnlab.data.pictures import read_picture
from cnnlab.data.source import Source
from cnnlab.errors import UserError
from cnnlab.experiment import Experiment
from cnnlab.tasks.classification import Classification

Row = Mapping[str, Any]  # of a metrics.jsonl: "step", "split", and metrics by name


def lesson_fields() -> ConfigDict:
    """The fields that lessons on the built-in digits have in common."""
    config = ConfigDict()
    config.member = ""  # only this run of the series, by the name of its folder; "": all of them
    config.batch_size = 64  # of all devices together, which must divide it
    config.eval_batch_size = 360  # likewise
    config.steps = 300  # in each run
    config.seed = 0  # of the initial weights, the order of the examples and dropout
    config.log_every = 1  # steps between reports, the points of the curves
    config.eval_every = 300  # steps between tests
    config.checkpoint_every = 300  # steps between checkpoints
    return config


def on_digits(
    config: ConfigDict, name: str, task: Classification, size: int, train: Callable[[], Source] | None = None
) -> Experiment:
    """One run of a lesson on scikit-learn's digits.

    Args:
      config: with the fields of `lesson_fields`.
      name: the experiment file's.
      task: whose preprocessing takes pictures of size×size×1.
      size: of the stored pictures, in pixels; 8 is how they come.
      train: makes the training set; None: all 1,438.
    """
    parallel.check_batch_sizes(config)
    shape = (size, size, 1)
    return Experiment(
        name=name,
        config=plain(config),
        task=task,
        train_data=train or functools.partial(digits, "train", size),
        test_data=functools.partial(digits, "test", size),
        picture_shape=shape,
        read_picture=functools.partial(read_picture, shape=shape),
        batch_size=config.batch_size,
        eval_batch_size=config.eval_batch_size,
        steps=config.steps,
        seed=config.seed,
        log_every=config.log_every,
        eval_every=config.eval_every,
        checkpoint_every=config.checkpoint_every,
    )


def check_maps(maps: Sequence[int]) -> None:
    """Raises a `UserError` unless these are the numbers of maps of two layers."""
    if len(maps) != 2 or not all(isinstance(count, int) and count > 0 for count in maps):
        raise UserError(f"config.maps is {tuple(maps)}; it must be two whole numbers of 1 or more, as in 8,16")


def points(
    rows: Sequence[Row], split: str, metric: str
) -> tuple[Int[np.ndarray, " reports"], Float[np.ndarray, " reports"]]:
    """The steps and the values of one metric of one split.

    >>> steps, values = points([{"step": 2, "split": "train", "loss": 0.5}], "train", "loss")
    >>> steps.tolist(), values.tolist()
    ([2], [0.5])
    """
    found = [(row["step"], row[metric]) for row in rows if row["split"] == split and metric in row]
    return np.array([step for step, _ in found], np.int64), np.array([value for _, value in found], np.float64)


def running_mean(values: Float[np.ndarray, " n"], width: int) -> Float[np.ndarray, " n"]:
    """The mean of each value and up to `width` − 1 before it.

    >>> running_mean(np.array([4.0, 2.0, 6.0]), 2).tolist()
    [4.0, 3.0, 4.0]
    """
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - width, 0)
    total = np.concatenate([[0.0], np.cumsum(values)])
    return (total[ends] - total[starts]) / (ends - starts)
