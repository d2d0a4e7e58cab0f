"""Sources of examples: random access by index, from memory."""

import dataclasses
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int


@runtime_checkable
class Source(Protocol):
    """Examples by index.

    Attributes:
      class_names: the classes in the order of their labels; empty where there are none.
    """

    class_names: tuple[str, ...]

    def __len__(self) -> int: ...

    def batch(self, indices: Int[np.ndarray, " n"]) -> dict[str, np.ndarray]:
        """The examples at `indices`: arrays of leading size n, by field name ("image", "label" …).

        Where an example cannot be read, a "mask" is among the fields and 0 at its place.
        """
        ...


@dataclasses.dataclass(frozen=True)
class ArraySource:
    """Examples kept in memory, pictures as uint8: a batch is a gather.

    >>> source = ArraySource({"image": np.zeros((3, 2, 2, 1), np.uint8), "label": np.array([0, 1, 0])}, ("a", "b"))
    >>> source.batch(np.array([1, 1]))["label"].tolist()
    [1, 1]
    """

    arrays: dict[str, np.ndarray]
    class_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def batch(self, indices: Int[np.ndarray, " n"]) -> dict[str, np.ndarray]:
        return {name: array[indices] for name, array in self.arrays.items()}
