"""Outlines of objects as COCO has them, polygons and run lengths, and masks: the one made of the other.

A polygon is x y x y … in pixels from the picture's upper left corner: pixel (i, j) covers [j, j + 1] × [i, i + 1].
Run lengths go down the columns, the first of them of pixels that are outside; COCO writes them as a list of numbers or
packed into a string.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import contourpy
import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from cnnlab.errors import UserError

Outline = tuple[Float[np.ndarray, " _"], ...] | Mapping[str, Any]


def outline_of(segmentation: Any, place: str) -> Outline | None:
    """An object's "segmentation" as JSON has it, checked: polygons as arrays, or run lengths; None: it has none.

    Args:
      segmentation: a list of polygons, or "counts" and "size" (height, width).
      place: the file and the annotation, for messages.

    Raises:
      UserError: a polygon has fewer than three points or half a point; run lengths do not cover the picture that they
        say they are of; it is neither.
    """
    if not segmentation:
        return None
    if isinstance(segmentation, list):
        return tuple(_polygon(polygon, i, place) for i, polygon in enumerate(segmentation, 1))
    if not isinstance(segmentation, dict) or not {"counts", "size"} <= set(segmentation):
        wrong = str(segmentation)[:50]
        raise UserError(f"{place}: segmentation is {wrong}; it must be a list of polygons, or have counts and size")
    size = segmentation["size"]
    if not (isinstance(size, list) and len(size) == 2 and all(isinstance(side, int) and side > 0 for side in size)):
        raise UserError(f"{place}: the size of its run lengths is {size}; it must be height and width")
    counts = run_lengths(segmentation["counts"], place)
    if sum(counts) != size[0] * size[1]:
        raise UserError(
            f"{place}: its run lengths are of {sum(counts):,} pixels, and a picture of {size[1]}×{size[0]} has "
            f"{size[0] * size[1]:,}"
        )
    return segmentation


def _polygon(polygon: Any, number: int, place: str) -> Float[np.ndarray, " n"]:
    numbers = isinstance(polygon, list) and all(isinstance(x, int | float) and math.isfinite(x) for x in polygon)
    if not numbers:
        raise UserError(f"{place}: polygon {number} is {str(polygon)[:50]}; it must be a list of numbers, x y x y …")
    if len(polygon) < 6 or len(polygon) % 2:
        raise UserError(
            f"{place}: polygon {number} has {len(polygon)} numbers; they must be x and y of three points or more"
        )
    return np.array(polygon, np.float32)


def check_fits(outline: Outline | None, height: int, width: int, place: str) -> None:
    """Raises a `UserError` where run lengths are of a picture of another size than their own, naming the place."""
    if isinstance(outline, Mapping) and tuple(outline["size"]) != (height, width):
        own = "×".join(map(str, outline["size"][::-1]))
        raise UserError(f"{place}: its run lengths are for a picture of {own}, and its picture is {width}×{height}")


def run_lengths(counts: Any, place: str = "an outline") -> list[int]:
    """Run lengths as numbers, unpacked if need be.

    Packed ones are numbers of six bits a character, from "0" on: five of them the number's, the lowest first, the sixth
    whether more follow; the last one's fifth bit is the sign. From the fourth on, a number is what the run has more
    than the one before the last.

    Raises:
      UserError: they are neither a list nor a packed string, or one of them is negative.

    >>> run_lengths("152N0"), run_lengths([1, 5, 3])
    ([1, 5, 2, 3, 2], [1, 5, 3])
    """
    if isinstance(counts, str | bytes):
        found = _unpacked(counts.encode() if isinstance(counts, str) else counts)
    else:
        found = counts
    if not isinstance(found, list) or not all(isinstance(count, int) and count >= 0 for count in found):
        raise UserError(
            f"{place}: its run lengths, {str(counts)[:50]}, are neither whole numbers nor COCO's packed ones"
        )
    return found


def _unpacked(packed: bytes) -> list[int] | None:
    """The numbers; None: that is no such string."""
    found, value, bits = [], 0, 0
    for character in packed:
        code = character - 48
        if not 0 <= code < 64:
            return None
        value |= (code & 31) << bits
        bits += 5
        if not code & 32:
            value -= (code & 16) << (bits - 4)
            found.append(value + (found[-2] if len(found) > 2 else 0))
            value, bits = 0, 0
    return None if bits else found


def mask_of(outline: Outline, height: int, width: int) -> Bool[np.ndarray, "h w"]:
    """The pixels of a picture that an outline holds; of several polygons those that any of them holds.

    Args:
      outline: polygons, arrays of x y x y …, or run lengths of a picture of this size.
      height, width: of the picture.

    Raises:
      UserError: polygons, and pycocotools is not installed.
    """
    if not isinstance(outline, Mapping):
        try:
            from pycocotools import mask as tool  # an optional dependency
        except ImportError as error:
            raise UserError("masks of polygons need pycocotools: pip install -e '.[detection]'") from error
        if not outline:
            return np.zeros((height, width), bool)
        polygons = [np.asarray(polygon, np.float64).tolist() for polygon in outline]
        outline = tool.merge(tool.frPyObjects(polygons, height, width))
    counts = run_lengths(outline["counts"])
    inside = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return inside.reshape(width, height).T


def window_of(mask: Bool[np.ndarray, "h w"], box: Float[np.ndarray, "4"], size: int) -> UInt8[np.ndarray, "size size"]:
    """The part of a mask within a box, resampled to size×size: the share that is covered, 255 all.

    >>> window_of(np.array([[False, True, True, False]]), np.array([0.0, 0.0, 4.0, 1.0]), 2).tolist()
    [[128, 128], [128, 128]]
    """
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(picture.resize((size, size), Image.Resampling.BOX, tuple(map(float, box))))


def polygons_of(mask: Bool[np.ndarray, "h w"]) -> list[list[float]]:
    """Closed outlines of a mask, a flat list x y x y … for each connected part; `mask_of` gives the mask back.

    They lead through the middles of pixels' edges. Pixels that touch at a corner only are parts of their own. COCO's
    polygons have no holes: to a hole leads a cut, there and back on the same line, which rasterising does not see.

    >>> polygons_of(np.array([[True, True]]))
    [[0.0, 0.5, 0.5, 0.0, 1.5, 0.0, 2.0, 0.5, 1.5, 1.0, 0.5, 1.0]]
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return []
    top, left = rows[0], columns[0]
    part = np.pad(mask[top : rows[-1] + 1, left : columns[-1] + 1].astype(np.float32), 1)
    filled = contourpy.contour_generator(z=part, name="serial", fill_type=contourpy.FillType.OuterOffset)
    found = []
    # The map's values stand for the middles of pixels, and it begins one pixel before the part.
    for points, ends in zip(*filled.filled(0.5, 2.0), strict=True):
        rings = [straightened(points[a : b - 1]) - 0.5 + (left, top) for a, b in itertools.pairwise(ends)]
        found.append(with_holes(rings[0], rings[1:]).reshape(-1).tolist())
    return found


def straightened(ring: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "m 2"]:
    """A closed ring without the points that lie on the line between their neighbours.

    >>> straightened(np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [2.0, 2.0]])).tolist()
    [[0.0, 0.0], [2.0, 0.0], [2.0, 2.0]]
    """
    before, after = ring - np.roll(ring, 1, 0), np.roll(ring, -1, 0) - ring
    return ring[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]


def with_holes(ring: Float[np.ndarray, "n 2"], holes: Sequence[Float[np.ndarray, "_ 2"]]) -> Float[np.ndarray, "m 2"]:
    """One closed ring of an outer one and holes, each reached by a cut from its leftmost point to the nearest."""
    for hole in holes:
        j = hole[:, 0].argmin()
        i = np.square(ring - hole[j]).sum(-1).argmin()
        ring = np.concatenate([ring[: i + 1], hole[j:], hole[: j + 1], ring[i:]])
    return ring


def enclosed(polygon: Sequence[float]) -> float:
    """The area within a closed outline, x y x y …, in pixels.

    >>> enclosed([0.0, 0.0, 2.0, 0.0, 2.0, 3.0])
    3.0
    """
    x, y = np.reshape(polygon, (-1, 2)).T.astype(np.float64)
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2
