"""What `--mode=inspect` opens up: a trained network, some pictures, and the data that it learnt from."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree, Real, UInt8

from cnnlab.data.source import Source
from cnnlab.experiment import Experiment
from cnnlab.state import TrainState


@dataclasses.dataclass(frozen=True)
class Subject:
    """A network with the pictures on which it is to be opened up. Nothing is read before it is asked for.

    Attributes:
      experiment: what was trained.
      restore: gives the trained state.
      files: pictures of the user's; empty: some of the test set.
      count: how many of the test set.
      open_run: the subject of another run's workdir, on the same pictures.
    """

    experiment: Experiment
    restore: Callable[[], TrainState]
    files: tuple[Path, ...] = ()
    count: int = 6
    open_run: "Callable[[str], Subject] | None" = None

    @property
    def model(self):
        """The network."""
        return self.experiment.task.model

    @functools.cached_property
    def state(self) -> TrainState:
        """The trained state."""
        return self.restore()

    @property
    def variables(self) -> PyTree:
        """The network's trained variables."""
        return self.state.variables

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of the labels."""
        return self.experiment.task.class_names

    @functools.cached_property
    def _chosen(self) -> dict[str, np.ndarray]:
        if self.files:
            return {"image": np.stack([self.experiment.read_picture(file) for file in self.files])}
        source = self.experiment.test_data()
        return _readable(source.batch(_spread(source, self.count)))

    @property
    def pictures(self) -> UInt8[np.ndarray, "n h w c"]:
        """As they are stored, before the network's preprocessing."""
        return self._chosen["image"]

    @property
    def labels(self) -> Int[np.ndarray, " n"]:
        """The true classes of the pictures; of the user's own, the predicted ones."""
        if "label" in self._chosen:
            return self._chosen["label"]
        return np.asarray(jnp.argmax(self.logits(jnp.asarray(self.pictures)), -1))

    @property
    def titles(self) -> list[str]:
        """A line for each picture: its file, or its true class."""
        if self.files:
            return [file.name for file in self.files]
        return [self.class_names[label] for label in self.labels]

    @property
    def x(self) -> Float[Array, "n h w c"]:
        """The network's input."""
        return self.experiment.task.preprocess(jnp.asarray(self.pictures))

    def logits(self, pictures: Real[Array, "n h w c"]) -> Float[Array, "n k"]:
        """The network's outputs in evaluation mode for stored pictures, 0 to 255, whole numbers or not."""
        task = self.experiment.task
        return task.model.apply(self.variables, task.preprocess(pictures), train=False)

    def shown(self, x: Float[Array, "n h w c"]) -> Float[np.ndarray, "n h w c"]:
        """The network's input as pictures for the eye, from 0 (black) to 1 (white).

        Where preprocessing maps black and white to fixed values, these are black and white again; else each picture's
        lowest and highest values are.
        """
        flat = [jnp.full(self.experiment.picture_shape, value, jnp.uint8) for value in (0, 255)]
        ends = np.asarray(self.experiment.task.preprocess(jnp.stack(flat)))  # black and white
        low, high = ends.min((0, 1, 2)), ends.max((0, 1, 2))
        if np.any(np.abs(high - low) < 1e-6):
            low, high = (np.asarray(edge(x, (1, 2, 3), keepdims=True)) for edge in (jnp.min, jnp.max))
        return np.clip((np.asarray(x) - low) / np.where(high == low, 1, high - low), 0, 1)

    def examples(self, most: int, train: bool = False) -> Iterator[dict[str, np.ndarray]]:
        """Up to `most` examples of the test or the training set, spread evenly over it, in batches.

        Each batch has "index" beside the source's fields; the last may be shorter, and one with pictures that cannot be
        read, which are left out.
        """
        source = self.experiment.train_data() if train else self.experiment.test_data()
        places, size = _spread(source, most), self.experiment.eval_batch_size
        for start in range(0, len(places), size):
            index = places[start : start + size]
            yield _readable({"index": index, **source.batch(index)})


def _readable(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The examples of a source's batch that are there: in place of others it has blank pictures, and says so."""
    if "mask" not in batch:
        return batch
    return {name: array[batch["mask"] > 0] for name, array in batch.items() if name != "mask"}


def _spread(source: Source, most: int) -> Int[np.ndarray, " n"]:
    return np.linspace(0, len(source) - 1, min(len(source), most)).astype(np.int64)
