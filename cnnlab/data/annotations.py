"""What is marked on pictures, boxes with classes, and the checks that the boxes of every reader pass."""

import collections
import dataclasses
import io
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from PIL import Image
from PIL.TiffImagePlugin import IMAGELENGTH, IMAGEWIDTH, TiffImageFile

from cnnlab.data.draws import Number
from cnnlab.errors import UserError, nearest

Corners = tuple[Number, Number, Number, Number]
SHOWN = 20  # findings of one kind that are told one by one
ROUNDING = 1.0  # pixels that a box may lie over the picture's edge without a word: readers and writers round


@dataclasses.dataclass(frozen=True, eq=False)
class Annotation:
    """One picture and the objects that are marked on it.

    Attributes:
      picture: its file, or the file's bytes.
      height, width: of the picture as it is stored, upright, in pixels.
      boxes: x0 y0 x1 y1 in pixels, edges as in `warp.py`, within the picture and all of some area.
      label: the classes, 0 … K − 1.
      ignored: VOC's "difficult" and COCO's "crowd": not trained on, neither right nor wrong in testing.
      area: of each object, in pixels: of its outline where that is known, else of its box. COCO's small, medium and
        large go by it.
      number: the data set's own of this picture.
      outlines: of each object the data set's own, for masks: COCO's polygons, arrays of x y x y …, or run lengths;
        none where it has boxes only.
    """

    picture: Path | bytes
    height: int
    width: int
    boxes: Float[np.ndarray, "d 4"]
    label: Int[np.ndarray, " d"]
    ignored: Bool[np.ndarray, " d"]
    area: Float[np.ndarray, " d"]
    number: int = 0
    outlines: tuple[Any, ...] = ()


@dataclasses.dataclass(frozen=True)
class Mark:
    """One object as a reader finds it, before the checks.

    Attributes:
      box: x0 y0 x1 y1 as in `Annotation`, but unchecked.
      label, ignored: as in `Annotation`.
      place: where it stands, for messages: a file and a line of it.
      area: None: the box's.
      outline: None: it has none.
    """

    box: Corners
    label: int
    ignored: bool
    place: str
    area: Number | None = None
    outline: Any = None


class Findings:
    """What readers repaired or left out: a line each on stderr, and after the first `SHOWN` of a kind their number."""

    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        self._told: set[tuple[str, str]] = set()

    def say(self, place: str, what: str, kind: str) -> None:
        """Tells one, the first time that it is found.

        Args:
          place: the file and line, or the annotation.
          what: was found and done there, with its numbers.
          kind: what all findings of this kind share, for the line that counts them.
        """
        if (place, what) in self._told:
            return
        self._told.add((place, what))
        self.counts[kind] += 1
        if self.counts[kind] <= SHOWN:
            print(f"{place}: {what}", file=sys.stderr)

    def close(self) -> None:
        """Tells how many there were of the kinds of which not all were told."""
        for kind, count in self.counts.items():
            if count > SHOWN:
                print(f"{count} {kind}, of which the first {SHOWN} are named above", file=sys.stderr)


def checked(
    picture: Path | bytes, height: int, width: int, marks: Sequence[Mark], findings: Findings, number: int = 0
) -> Annotation:
    """The annotation of a picture, its boxes repaired where that loses nothing.

    A box whose corners are exchanged is put right, one that reaches over the edge is cut off there, one of no area
    (a click without a drag, which marks nothing) is left out; each is told.

    Raises:
      UserError: a box is no four numbers, or has an area and lies wholly outside: the picture or the box is another's.
    """
    kept, boxes = [], []
    for mark in marks:
        box = checked_box(mark.box, height, width, mark.place, findings)
        if box is not None:
            kept.append(mark)
            boxes.append(box)
    corners = np.array(boxes, np.float32).reshape(-1, 4)
    sides = corners[:, 2:] - corners[:, :2]
    area = [side.prod() if mark.area is None else mark.area for mark, side in zip(kept, sides, strict=True)]
    return Annotation(
        picture,
        height,
        width,
        corners,
        np.array([mark.label for mark in kept], np.int32),
        np.array([mark.ignored for mark in kept], bool),
        np.array(area, np.float32),
        number,
        tuple(mark.outline for mark in kept) if any(mark.outline is not None for mark in kept) else (),
    )


def checked_box(box: Corners, height: int, width: int, place: str, findings: Findings) -> Corners | None:
    """The box put right and cut off at the picture's edges; None: it has no area. See `checked`.

    >>> checked_box((30, 5, 10, 25.5), 20, 40, "a.xml:7", Findings())
    (10, 5, 30, 20)
    """
    if not all(map(math.isfinite, box)):
        raise UserError(f"{place}: the box {shown(box)} is not four numbers x0 y0 x1 y1")
    x0, y0, x1, y1 = box
    if x1 == x0 or y1 == y0:
        findings.say(place, f"the box {shown(box)} has no area and is left out", "boxes without area are left out")
        return None
    if x1 < x0 or y1 < y0:
        x0, y0, x1, y1 = min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)
        findings.say(
            place,
            f"the box {shown(box)} has its corners exchanged; taken as {shown((x0, y0, x1, y1))}",
            "boxes had their corners exchanged and were put right",
        )
    cut = max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)
    if cut[2] <= cut[0] or cut[3] <= cut[1]:
        raise UserError(
            f"{place}: the box {shown((x0, y0, x1, y1))} lies outside its picture of {width}×{height}: "
            "correct it, or the picture's size, or take it out"
        )
    if max(-x0, -y0, x1 - width, y1 - height) > ROUNDING:
        findings.say(
            place,
            f"the box {shown((x0, y0, x1, y1))} reaches over the edge of its picture of {width}×{height}; cut off",
            "boxes reached over the edge of their picture and were cut off there",
        )
    return cut


def shown(box: Corners) -> str:
    """A box for a message.

    >>> shown((1.0, 2.5, 300.0, 4.0))
    '1 2.5 300 4'
    """
    return " ".join(f"{value:.6g}" for value in box)


def label_of(name: str, class_names: Sequence[str], place: str) -> int:
    """The number of a class.

    Raises:
      UserError: there is none of that name.
    """
    try:
        return class_names.index(name)
    except ValueError:
        hint = nearest(name, class_names) or f": they are {', '.join(class_names[:20])}"
        raise UserError(f"{place}: {name!r} is none of the {len(class_names)} classes{hint}") from None


def picture_size(file: Path | io.BytesIO) -> tuple[int, int] | None:
    """Height and width of a picture when it stands upright, from its header; None: it cannot be read.

    A TIFF may be of any size, others of as many pixels as Pillow decodes.
    """
    try:
        with _header(file) as image:
            # Some versions of Pillow turn the size of a TIFF when they open it, others when they read its pixels.
            tiff = isinstance(image, TiffImageFile)
            width, height = (image.tag_v2[IMAGEWIDTH], image.tag_v2[IMAGELENGTH]) if tiff else image.size
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)  # by 90°, says the camera
    except Exception:  # a decoder may trip over damaged bytes in any way
        return None
    return (width, height) if turned else (height, width)


def _header(file: Path | io.BytesIO) -> Image.Image:
    """A picture whose pixels are not read: `Image.open` would still refuse a TIFF for their number."""
    try:
        return TiffImageFile(file)
    except SyntaxError:  # it is none
        return Image.open(file)


def agreed_size(path: Path, stated: tuple[int, int] | None, place: str) -> tuple[int, int]:
    """A picture's height and width, on which its file and its annotation must agree, or boxes would be misplaced.

    Args:
      path: the picture's; where it cannot be read, `stated` holds (and the picture is left out when it is wanted).
      stated: what the annotation says; None: nothing.
      place: of the annotation, for the message.

    Raises:
      UserError: they disagree; neither says anything.
    """
    found = picture_size(path)
    if found is None and stated is None:
        raise UserError(f"{place} tells no size of its picture, and {path} cannot be read: give it one or take it out")
    if found and stated and found != stated:
        sizes = [f"{width}×{height}" for height, width in (stated, found)]
        raise UserError(f"{place} is for a picture of {sizes[0]}, and {path} is {sizes[1]}: its boxes would not fit")
    return found or stated


def check_count(annotations: Sequence[Annotation], most: int, field: str) -> None:
    """Raises a `UserError` where a picture has more than `most` objects, naming it and the `field` to change."""
    for annotation in annotations:
        count = len(annotation.label)
        if count > most:
            name = annotation.picture if isinstance(annotation.picture, Path) else f"picture {annotation.number}"
            fullest = max(len(other.label) for other in annotations)
            raise UserError(f"{name} has {count} objects, and {field} is {most}: {fullest} holds all")
