"""Sources of examples: random access by index, from memory."""

import dataclasses
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

MEMORY_LIMIT = 1 << 30  # bytes of decoded pictures that are kept in memory; larger sets are decoded batch by batch


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


@dataclasses.dataclass(frozen=True)
class Head:
    """The first examples of a source.

    >>> source = ArraySource({"label": np.array([0, 1, 0])})
    >>> len(Head(source, 2)), len(Head(source, 5))
    (2, 3)
    """

    source: Source
    size: int

    def __len__(self) -> int:
        return min(self.size, len(self.source))

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.source.class_names

    def batch(self, indices: Int[np.ndarray, " n"], *canvas: tuple[int, int]) -> dict[str, np.ndarray]:
        """See `Source.batch`; sources of pictures of mixed sizes take a canvas too."""
        return self.source.batch(indices, *canvas)

    def __getattr__(self, name: str) -> Any:
        """What else the source has: pictures for figures, canvases."""
        if name == "source":  # not there yet, as while it is unpickled
            raise AttributeError(name)
        return getattr(self.source, name)
