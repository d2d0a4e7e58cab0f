"""Batches as a pure function of (seed, n), made ahead of the step by threads.

The order of an epoch depends on (seed, epoch) alone, and batch n on (seed, n) alone. A resumed run therefore sees
exactly the batches that an uninterrupted one would, and no iterator has a state to save.
"""

import functools
from collections.abc import Callable, Iterator
from typing import TypeVar

import grain
import numpy as np
from jaxtyping import Int

from cnnlab.data.source import Source
from cnnlab.errors import UserError

T = TypeVar("T")


@functools.lru_cache(maxsize=2)
def epoch_order(seed: int, epoch: int, size: int) -> Int[np.ndarray, " size"]:
    """The order of the examples in one epoch: a permutation of 0 … size − 1."""
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(size)


def batch_indices(seed: int, n: int, batch_size: int, size: int) -> Int[np.ndarray, " batch_size"]:
    """Which examples are in training batch n.

    The epochs' orders stand end to end, so each epoch holds each example once, also where the batch size does not
    divide the number of examples.
    """
    positions = np.arange(n * batch_size, (n + 1) * batch_size)
    epochs, offsets = np.divmod(positions, size)
    indices = np.empty(batch_size, np.int64)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        indices[here] = epoch_order(seed, int(epoch), size)[offsets[here]]
    return indices


def train_batch(source: Source, seed: int, n: int, batch_size: int, share: slice) -> dict[str, np.ndarray]:
    """This process's share of training batch n.

    "position" is each example's place in the global batch, "index" says which example of the source it is. A picture
    that cannot be read is replaced by the first readable one of the share, so that every batch is full.
    """
    whole = batch_indices(seed, n, batch_size, len(source))
    indices = whole[share]
    batch = {**_read(source, indices, whole), "index": indices.astype(np.int32)}
    mask = batch.pop("mask", None)
    if mask is not None and not mask.any():
        raise UserError(f"not one of the {len(indices)} pictures of training batch {n} can be read")
    if mask is not None and not mask.all():
        rows = np.where(mask > 0, np.arange(len(indices)), np.argmax(mask > 0))
        batch = {name: array[rows] for name, array in batch.items()}
    return {**batch, "position": np.arange(batch_size, dtype=np.int32)[share]}


def eval_batch(source: Source, n: int, batch_size: int, share: slice) -> dict[str, np.ndarray]:
    """This process's share of evaluation batch n, in the source's order.

    The last batch is padded with example 0; "mask" is 1 for examples that count and 0 for padding and unreadable ones,
    and "index" says which example of the source a row is.
    """
    positions = np.arange(n * batch_size, (n + 1) * batch_size)
    inside = positions < len(source)
    whole = np.where(inside, positions, 0)
    indices = whole[share]
    batch = _read(source, indices, whole)
    mask = batch.pop("mask", np.ones(len(indices), np.float32)) * inside[share]
    return {**batch, "mask": mask.astype(np.float32), "index": indices.astype(np.int32)}


def _read(source: Source, indices: Int[np.ndarray, " n"], whole: Int[np.ndarray, " m"]) -> dict[str, np.ndarray]:
    """This process's examples of a batch, `whole` being the indices of all processes.

    Sources of pictures of mixed sizes have a `canvas(indices)`, the shape that all processes need for the whole batch.
    """
    return source.batch(indices, source.canvas(whole)) if hasattr(source, "canvas") else source.batch(indices)


def eval_batch_count(source: Source, batch_size: int) -> int:
    """How many evaluation batches hold every example once."""
    return -(-len(source) // batch_size)


def prefetch(make: Callable[[int], T], start: int, stop: int, workers: int) -> Iterator[T]:
    """`make(n)` for n from `start` to `stop` − 1, in order, computed ahead by `workers` threads (0: none)."""
    numbers = grain.MapDataset.range(start, stop).map(make)
    options = grain.ReadOptions(num_threads=workers, prefetch_buffer_size=2 * workers)
    return iter(numbers.to_iter_dataset(options))
