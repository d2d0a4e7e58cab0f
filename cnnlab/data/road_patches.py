"""Patches of large pictures and their maps to train on, and windows of tiles that whole pictures are labelled by.

Both are cut out of `Maps`: drawn scenes (`aerial.py`) or files (`road_folders.py`), which are read part by part.
A batch to train on has
  image         uint8 (n, k, side, side, 3), k patches of each picture,
  segmentation  uint8 (n, k, side, side), 1 where the map has a road,
one to test on "image" alone, uint8 (n, side, side, 3), and besides what `pipeline.py` adds.
"""

import dataclasses
import functools
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, UInt8

from cnnlab.data.distort import about_centre
from cnnlab.data.draws import Batch, uniform
from cnnlab.data.warp import warp
from cnnlab.errors import UserError

CLASS_NAMES = ("ground", "road")


@runtime_checkable
class Maps(Protocol):
    """Pictures and their road maps by index, read part by part."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """What a picture is called in figures and errors."""
        ...

    def size(self, index: int) -> tuple[int, int]:
        """Its height and width."""
        ...

    def read(
        self, index: int, rows: slice, columns: slice
    ) -> tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"]]:
        """A part of it, and the same part of its map."""
        ...

    def truth(self, index: int) -> Bool[np.ndarray, "h w"]:
        """Its whole map, without its picture."""
        ...


def reflected(start: int, count: int, length: int) -> Int[np.ndarray, " count"]:
    """The pixels `start` … `start + count − 1` of a line, those beyond its ends as mirrored at the last ones.

    >>> reflected(-2, 8, 4).tolist()
    [2, 1, 0, 1, 2, 3, 2, 1]
    """
    period = max(2 * (length - 1), 1)
    places = np.abs((np.arange(start, start + count)) % period)
    return np.minimum(places, period - places) if length > 1 else np.zeros(count, np.int64)


def cut(
    maps: Maps, index: int, top: int, left: int, height: int, width: int
) -> tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"]]:
    """A window of a picture and of its map; beyond the edges both are mirrored."""
    rows, columns = (
        reflected(start, count, length)
        for start, count, length in zip((top, left), (height, width), maps.size(index), strict=True)
    )
    first, start = int(rows.min()), int(columns.min())
    picture, roads = maps.read(index, slice(first, int(rows.max()) + 1), slice(start, int(columns.max()) + 1))
    inner = np.ix_(rows - first, columns - start)
    return picture[inner], roads[inner]


@dataclasses.dataclass(frozen=True)
class Tiling:
    """How a net that labels the middle of a tile labels a whole picture: tiles that overlap, put together by means.

    A window holds tiles × tiles tiles; windows side by side hold all tiles of a picture, whatever its size. The net
    sees the picture mirrored beyond its edges.

    Attributes:
      context: side of a tile, in pixels.
      labels: side of its middle, which is labelled.
      step: from one tile to the next; it divides `labels`, and a pixel is labelled (labels / step)² times.
      tiles: along a window's side.

    >>> Tiling().span, Tiling().side
    (72, 120)
    """

    context: int = 64
    labels: int = 16
    step: int = 8
    tiles: int = 8

    def __post_init__(self) -> None:
        if not 1 <= self.labels <= self.context or (self.context - self.labels) % 2 or self.tiles < 1:
            raise UserError(
                f"tiles of {self.context}×{self.context} cannot label their middle {self.labels}×{self.labels}: it "
                "must be smaller by an even number"
            )
        if not 1 <= self.step <= self.labels or self.labels % self.step:
            raise UserError(f"config.step is {self.step}: it must divide the {self.labels} pixels that a tile labels")

    @property
    def margin(self) -> int:
        """Pixels between a tile's edge and its middle."""
        return (self.context - self.labels) // 2

    @property
    def span(self) -> int:
        """Side of what a window labels."""
        return (self.tiles - 1) * self.step + self.labels

    @property
    def side(self) -> int:
        """Side of a window."""
        return self.span + 2 * self.margin

    def windows(self, height: int, width: int) -> list[tuple[int, int]]:
        """Where the labelled parts of a picture's windows begin: rows and columns."""
        tops, lefts = (
            range(0, -(-max(n - self.labels, 0) // self.step) * self.step + 1, self.step * self.tiles)
            for n in (height, width)
        )
        return [(top, left) for top in tops for left in lefts]

    @functools.cached_property
    def counts(self) -> Float[np.ndarray, "span span"]:
        """How many tiles of a window label each of its pixels."""
        along = np.zeros(self.span, np.float32)
        for tile in range(self.tiles):
            along[tile * self.step : tile * self.step + self.labels] += 1
        return np.outer(along, along)

    def cut(self, windows: UInt8[Array, "n s s c"]) -> UInt8[Array, "m t t c"]:
        """All tiles of windows, window by window, row by row."""
        places = np.arange(self.tiles)[:, None] * self.step + np.arange(self.context)
        tiles = windows[:, places][:, :, :, places]
        return tiles.transpose(0, 1, 3, 2, 4, 5).reshape(-1, self.context, self.context, windows.shape[-1])

    def lay(self, labels: Float[Array, "m l l"]) -> Float[Array, "n s s"]:
        """What tiles say of their middles, added up where they overlap; in the order of `cut`."""
        parts = self.labels // self.step
        t, s = self.tiles, self.step
        blocks = labels.reshape(-1, t, t, parts, s, parts, s)
        total = 0.0
        for i in range(parts):
            for j in range(parts):
                sides = ((0, 0), (i, parts - 1 - i), (j, parts - 1 - j), (0, 0), (0, 0))
                total += jnp.pad(blocks[:, :, :, i, :, j], sides)
        return total.transpose(0, 1, 3, 2, 4).reshape(-1, self.span, self.span)


class Assembly:
    """A picture's map, put together of its windows."""

    def __init__(self, height: int, width: int, tiling: Tiling):
        self._size, self._tiling = (height, width), tiling
        places = tiling.windows(height, width)
        self._missing = len(places)
        shape = [place + tiling.span for place in places[-1]]
        self._sums, self._counts = np.zeros(shape, np.float32), np.zeros(shape, np.float32)

    def add(self, top: int, left: int, sums: Float[np.ndarray, "span span"]) -> bool:
        """Adds what a window says; whether all have."""
        here = slice(top, top + self._tiling.span), slice(left, left + self._tiling.span)
        self._sums[here] += sums
        self._counts[here] += self._tiling.counts
        self._missing -= 1
        return self._missing == 0

    def probability(self) -> Float[np.ndarray, "h w"]:
        """The mean of what was said of each pixel."""
        height, width = self._size
        return self._sums[:height, :width] / self._counts[:height, :width]


def check_sizes(maps: Maps, tiling: Tiling) -> None:
    """Raises a `UserError` that names the first picture that is smaller than a tile."""
    for index in range(len(maps)):
        height, width = maps.size(index)
        if min(height, width) < tiling.context:
            raise UserError(
                f"{maps.name(index)} is {width}×{height} pixels, and a tile is {tiling.context}×{tiling.context}: "
                "leave the picture out, or make it larger"
            )


@dataclasses.dataclass(frozen=True)
class PatchSource:
    """Patches to train on, k of a picture at a time, so that it is opened once for them.

    Attributes:
      maps: the pictures.
      tiling: of which a patch holds a tile, however it is turned.
      patches: k.
      visits: how often an epoch comes to each picture, for other patches every time.
    """

    maps: Maps
    tiling: Tiling
    patches: int
    visits: int = 64

    class_names = CLASS_NAMES

    def __len__(self) -> int:
        return len(self.maps) * self.visits

    @property
    def side(self) -> int:
        """Of a patch: the diagonal of a tile, and even."""
        return 2 * int(np.ceil(self.tiling.context / 2**0.5))

    def batch(self, indices: Int[np.ndarray, " n"]) -> dict[str, np.ndarray]:
        """Patches of the pictures `indices % len(maps)`: a function of the indices alone."""
        n, side = len(indices), self.side
        image = np.empty((n, self.patches, side, side, 3), np.uint8)
        roads = np.empty((n, self.patches, side, side), np.uint8)
        for i, index in enumerate(indices.tolist()):
            picture = index % len(self.maps)
            random = np.random.Generator(np.random.Philox(key=[5, index]))
            middles = random.random((self.patches, 2)) * np.array(self.maps.size(picture))
            for k, (y, x) in enumerate(np.floor(middles).astype(int).tolist()):
                image[i, k], roads[i, k] = cut(self.maps, picture, y - side // 2, x - side // 2, side, side)
        return {"image": image, "segmentation": roads}


@dataclasses.dataclass(frozen=True)
class WindowSource:
    """The windows of all pictures, to label them whole.

    Attributes:
      maps: the pictures.
      tiling: of the windows.
    """

    maps: Maps
    tiling: Tiling

    class_names = CLASS_NAMES

    @functools.cached_property
    def places(self) -> list[tuple[int, int, int]]:
        """Of each window its picture, and where in it that begins which it labels."""
        found = ((i, self.tiling.windows(*self.maps.size(i))) for i in range(len(self.maps)))
        return [(i, top, left) for i, windows in found for top, left in windows]

    def __len__(self) -> int:
        return len(self.places)

    def batch(self, indices: Int[np.ndarray, " n"]) -> dict[str, np.ndarray]:
        """Windows."""
        margin, side = self.tiling.margin, self.tiling.side
        places = [self.places[i] for i in indices.tolist()]
        return {"image": np.stack([cut(self.maps, i, y - margin, x - margin, side, side)[0] for i, y, x in places])}

    def picture(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """A whole picture, for figures."""
        height, width = self.maps.size(index)
        return self.maps.read(index, slice(0, height), slice(0, width))[0]

    def truth(self, index: int) -> Bool[np.ndarray, "h w"]:
        """Its map."""
        return self.maps.truth(index)


def turned(keys: Key[Array, " n"], batch: Batch, size: int) -> dict[str, Array]:
    """The size×size middle of each patch, turned by any angle, as the papers do: roads run in all directions.

    Args:
      keys: one a patch.
      batch: "image" and "segmentation", patches that are wider than a tile's diagonal.
      size: of the result, in pixels.
    """
    angle = uniform(keys, (-np.pi, np.pi))
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    matrix = about_centre(batch, jnp.stack([jnp.stack([cos, sin], -1), jnp.stack([-sin, cos], -1)], -2))
    room = (batch["image"].shape[1] - size) / 2
    return warp(batch, matrix.at[:, :, 2].add(-room), size=(size, size))
