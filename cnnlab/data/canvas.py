"""Pictures of mixed sizes: resized as the detection papers do, or as they are, on canvases of a few shapes."""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

from cnnlab.data.annotations import picture_size
from cnnlab.data.pictures import CorruptPicture, read_picture
from cnnlab.errors import UserError


@dataclasses.dataclass(frozen=True)
class Resizing:
    """The papers' rule: the shorter side becomes `shorter`, but the longer one at most `longer`.

    Ren et al. 2015 (Faster R-CNN), section 3.3; 600 and 1000 are Fast R-CNN's and its code's, 800 and 1333 the feature
    pyramid's. Proportions are kept, to a pixel.

    Attributes:
      shorter, longer: in pixels; a `shorter` of 0 leaves pictures as they are whose longer side is no longer than that.
      multiple: that the canvas's sides are of, so that maps of its halves and quarters … come out even.

    >>> Resizing().size(375, 500), Resizing().size(300, 900)
    ((600, 800), (333, 1000))
    """

    shorter: int = 600
    longer: int = 1000
    multiple: int = 32

    def __post_init__(self) -> None:
        if not 0 <= self.shorter <= self.longer or self.longer < 1 or self.multiple < 1:
            raise UserError(
                f"pictures are resized to sides of {self.shorter} and at most {self.longer}, on multiples of "
                f"{self.multiple}: the first must be from 1 to the second, or 0 to leave them, the last at least 1"
            )

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that a picture is resized to."""
        wanted = self.shorter / min(height, width) if self.shorter else 1.0
        scale = min(wanted, self.longer / max(height, width))
        return max(1, round(height * scale)), max(1, round(width * scale))

    def buckets(self) -> list[tuple[int, int]]:
        """The shapes of canvases, the smallest first: one program is compiled for each that occurs.

        Square, 4 : 3 (most photographs) and the most oblong one; lying, standing, and for both in one batch. For
        pictures that are left as they are, those whose sides are one to four quarters of the longest.

        >>> Resizing(600, 1000).buckets()
        [(608, 608), (608, 800), (800, 608), (608, 1024), (1024, 608), (800, 800), (1024, 1024)]
        """
        if not self.shorter:
            sides = {math.ceil(part * self.longer / 4 / self.multiple) * self.multiple for part in (1, 2, 3, 4)}
            shapes = set(itertools.product(sides, repeat=2))
            return sorted(shapes, key=lambda shape: (shape[0] * shape[1], shape))
        short, third, long = (
            math.ceil(side / self.multiple) * self.multiple
            for side in (self.shorter, min(round(self.shorter * 4 / 3), self.longer), self.longer)
        )
        shapes = {shape for side in (short, third, long) for shape in ((short, side), (side, short), (side, side))}
        return sorted(shapes, key=lambda shape: (shape[0] * shape[1], shape))

    def canvas(self, sizes: Iterable[tuple[int, int]]) -> tuple[int, int]:
        """The smallest bucket that covers pictures of these sizes once they are resized."""
        heights, widths = zip(*(self.size(*size) for size in sizes), strict=True)
        return next(bucket for bucket in self.buckets() if bucket[0] >= max(heights) and bucket[1] >= max(widths))


def read_resized(path: Path, resizing: Resizing) -> tuple[UInt8[np.ndarray, "h w 3"], tuple[int, int]]:
    """A picture file after `resizing`, and its height and width as it is stored.

    Raises:
      CorruptPicture: it cannot be decoded.
    """
    size = picture_size(path)
    if size is None:
        read_picture(path, (1, 1, 3))  # says what is wrong with it
        raise CorruptPicture(f"{path} is not a whole picture (it has no size)")
    return read_picture(path, (*resizing.size(*size), 3)), size


def on_canvas(
    pictures: Sequence[np.ndarray], originals: Sequence[tuple[int, int]], canvas: tuple[int, int]
) -> dict[str, np.ndarray]:
    """ "image", "size" and "original" of a batch.

    Args:
      pictures: resized ones, uint8 (h, w, 3).
      originals: their heights and widths as they are stored.
      canvas: height and width, that cover all.
    """
    image = np.zeros((len(pictures), *canvas, 3), np.uint8)
    for row, picture in zip(image, pictures, strict=True):
        row[: picture.shape[0], : picture.shape[1]] = picture
    size = np.array([picture.shape[:2] for picture in pictures], np.int32).reshape(-1, 2)
    return {"image": image, "size": size, "original": np.array(originals, np.int32).reshape(-1, 2)}


def read_fields(path: Path, resizing: Resizing) -> dict[str, np.ndarray]:
    """A picture file as "image", "size" and "original" of a batch, on the largest canvas, where every picture fits."""
    picture, original = read_resized(path, resizing)
    return {name: array[0] for name, array in on_canvas([picture], [original], resizing.buckets()[-1]).items()}


def cropped(picture: Mapping[str, np.ndarray]) -> UInt8[np.ndarray, "h w 3"]:
    """A picture without the rest of its canvas."""
    height, width = picture["size"]
    return picture["image"][:height, :width]


def placed(boxes: Float[np.ndarray, "k 4"], factor: Float[np.ndarray, "2"], most: int) -> Float[np.ndarray, "{most} 4"]:
    """The first `most` boxes of a stored picture in pixels of the resized one, padded with 0 0 0 0.

    >>> placed(np.array([[0.0, 2.0, 4.0, 8.0]]), np.array([0.5, 2.0]), 2).tolist()
    [[0.0, 1.0, 8.0, 4.0], [0.0, 0.0, 0.0, 0.0]]
    """
    padded = np.zeros((most, 4), np.float32)
    down, across = factor
    padded[: len(boxes)] = boxes[:most] * np.array([across, down, across, down], np.float32)
    return padded


def within(size: Int[Array, "n 2"], shape: tuple[int, int]) -> Bool[Array, "n h w"]:
    """Which pixels of canvases belong to their pictures, which lie in the upper left corner."""
    rows_in = jnp.arange(shape[0]) < size[:, :1]
    return rows_in[:, :, None] & (jnp.arange(shape[1]) < size[:, 1:])[:, None, :]
