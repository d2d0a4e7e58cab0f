"""Labelled pictures to train and to test on: a TFDS data set, a folder of the user's, or the built-in digits."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cnnlab.data import digits
from cnnlab.data.folders import check_unchanged, folder_source, split_listing
from cnnlab.data.prepare import prepare
from cnnlab.data.source import ArraySource, Source
from cnnlab.data.tfds_source import tfds_source


@dataclasses.dataclass(frozen=True)
class Labelled:
    """A training and a test set; nothing is read before it is called for.

    Attributes:
      class_names: in the order of the labels.
      train_examples: how many pictures there are to train on.
      train, test: make the sources.
      test_squares: makes the test set with three squares of each picture; None where its pictures are squares.
      prepare: downloads and builds the data; None where there is nothing to prepare.
    """

    class_names: tuple[str, ...]
    train_examples: int
    train: Callable[[], Source]
    test: Callable[[], Source]
    prepare: Callable[[], None] | None = None
    test_squares: Callable[[], Source] | None = None


def of_digits(size: int) -> Labelled:
    """scikit-learn's real digits, scaled up to size×size and RGB."""

    def read(split):
        source = digits.digits(split, size)
        return ArraySource({**source.arrays, "image": np.repeat(source.arrays["image"], 3, -1)}, source.class_names)

    train, test = functools.partial(read, "train"), functools.partial(read, "test")
    return Labelled(digits.CLASS_NAMES, digits.TRAIN_EXAMPLES, train, test)


def of_folder(
    folder: Path, test_share: float, size: int, known: tuple[str, ...] = (), train_examples: int = 0
) -> Labelled:
    """The pictures of class folders, split as `split_listing` has it; the central square of each, at size×size.

    Args:
      folder: of the user's.
      test_share: see `split_listing`.
      size: of the pictures.
      known: the classes of a run that was trained on it, which then need not be there until its pictures are called
        for; none: the folder's.
      train_examples: with `known`: of that run.

    Raises:
      UserError: the folder is not as it should be, see `split_listing`; or not as it was when the run was trained: at
        once, or where `known` is given, when the pictures are called for.
    """
    listings = functools.cache(lambda: split_listing(folder, test_share))
    if not known:
        train = listings()[0]
        known, train_examples = train.class_names, len(train.paths)

    def read(side: int, *squares: int) -> Source:
        listing = listings()[side]
        check_unchanged(folder, listing, known, None if side else train_examples)
        return folder_source(listing, (*squares, size, size, 3), crop=True)

    train, test, test_squares = (functools.partial(read, *what) for what in ((0,), (1,), (1, 3)))
    return Labelled(known, train_examples, train, test, test_squares=test_squares)


def of_tfds(
    name: str, test_split: str, class_names: tuple[str, ...], train_examples: int, size: int, experiment: str
) -> Labelled:
    """A TFDS data set of colour pictures; the central square of each, at size×size.

    Args:
      name: of the data set.
      test_split: the name of the split to test on; the one to train on is "train".
      class_names: in the order of the labels.
      train_examples: in the split "train".
      size: of the pictures.
      experiment: whose `--mode=prepare` prepares the data set.
    """

    def read(split: str, *squares: int) -> Source:
        return tfds_source(name, split, (*squares, size, size, 3), experiment, crop=True)

    train, test, test_squares = (
        functools.partial(read, *what) for what in (("train",), (test_split,), (test_split, 3))
    )
    return Labelled(class_names, train_examples, train, test, functools.partial(prepare, name), test_squares)
