"""Pictures with boxes, of mixed sizes: resized as the detection papers do, on canvases of a few shapes.

A batch has, besides what `pipeline.py` adds (n pictures, m objects at most):
  image     uint8 (n, H, W, 3), the resized picture in the upper left corner of a canvas, the rest 0;
  size      int32 (n, 2), height and width of the picture within the canvas;
  original  int32 (n, 2), the same of the picture as it is stored: a box there is box · original / size;
  boxes     float32 (n, m, 4), x0 y0 x1 y1 in pixels of the resized picture, edges as in `warp.py`, 0 0 0 0 for padding;
  label     int32 (n, m), 0 … K − 1, and −1 for padding;
  ignored   bool (n, m), not trained on, neither right nor wrong in testing;
  area      float32 (n, m), of the objects, in pixels of the stored picture.
"""

import dataclasses
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from cnnlab.data.annotations import Annotation, check_count, picture_size
from cnnlab.data.pictures import CorruptPicture, decode_picture, read_picture
from cnnlab.data.tfds_objects import Records
from cnnlab.errors import UserError


@dataclasses.dataclass(frozen=True)
class Resizing:
    """The papers' rule: the shorter side becomes `shorter`, but the longer one at most `longer`.

    Ren et al. 2015 (Faster R-CNN), section 3.3; 600 and 1000 are Fast R-CNN's and its code's, 800 and 1333 the feature
    pyramid's. Proportions are kept, to a pixel.

    Attributes:
      shorter, longer: in pixels.
      multiple: that the canvas's sides are of, so that maps of its halves and quarters … come out even.

    >>> Resizing().size(375, 500), Resizing().size(300, 900)
    ((600, 800), (333, 1000))
    """

    shorter: int = 600
    longer: int = 1000
    multiple: int = 32

    def __post_init__(self) -> None:
        if not 1 <= self.shorter <= self.longer or self.multiple < 1:
            raise UserError(
                f"pictures are resized to sides of {self.shorter} and at most {self.longer}, on multiples of "
                f"{self.multiple}: the first must be from 1 to the second, the last at least 1"
            )

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that a picture is resized to."""
        scale = min(self.shorter / min(height, width), self.longer / max(height, width))
        return max(1, round(height * scale)), max(1, round(width * scale))

    def buckets(self) -> list[tuple[int, int]]:
        """The shapes of canvases, the smallest first: one program is compiled for each that occurs.

        Square, 4 : 3 (most photographs) and the most oblong one; lying, standing, and for both in one batch.

        >>> Resizing(600, 1000).buckets()
        [(608, 608), (608, 800), (800, 608), (608, 1024), (1024, 608), (800, 800), (1024, 1024)]
        """
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


def padded(annotations: Sequence[Annotation], size: Int[np.ndarray, "n 2"], most: int) -> dict[str, np.ndarray]:
    """ "boxes", "label", "ignored" and "area" of a batch.

    Args:
      annotations: of each picture, with at most `most` objects.
      size: heights and widths of the resized pictures, which the boxes are scaled to.
      most: objects a picture, the padding.
    """
    n = len(annotations)
    boxes, area = np.zeros((n, most, 4), np.float32), np.zeros((n, most), np.float32)
    label, ignored = np.full((n, most), -1, np.int32), np.zeros((n, most), bool)
    for i, (one, (height, width)) in enumerate(zip(annotations, size, strict=True)):
        count, across, down = len(one.label), width / one.width, height / one.height
        boxes[i, :count] = one.boxes * np.array([across, down, across, down], np.float32)
        label[i, :count], ignored[i, :count], area[i, :count] = one.label, one.ignored, one.area
    return {"boxes": boxes, "label": label, "ignored": ignored, "area": area}


@dataclasses.dataclass(frozen=True)
class DetectionSource:
    """Annotated pictures, decoded and resized when they are asked for; unreadable ones are named once and masked out.

    Attributes:
      annotations: by index.
      class_names: in the order of the labels.
      resizing: the rule.
      most: objects a picture, which boxes are padded to.

    Raises:
      UserError: a picture has more objects. (Of records it is found when the picture comes.)
    """

    annotations: list[Annotation] | Records
    class_names: tuple[str, ...]
    resizing: Resizing
    most: int
    _named: set[str] = dataclasses.field(default_factory=set, repr=False, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.annotations, list):
            check_count(self.annotations, self.most, "config.objects")

    def __len__(self) -> int:
        return len(self.annotations)

    def canvas(self, indices: Int[np.ndarray, " n"]) -> tuple[int, int]:
        """Height and width of the canvas for these pictures. All processes put their share of a batch on the same."""
        return self.resizing.canvas((one.height, one.width) for one in map(self._annotation, indices.tolist()))

    def batch(self, indices: Int[np.ndarray, " n"], canvas: tuple[int, int] | None = None) -> dict[str, np.ndarray]:
        """The pictures at `indices` with their objects; see the top of this file.

        Args:
          indices: which.
          canvas: height and width of `image`; None: `canvas(indices)`.
        """
        found = [self._annotation(i) for i in indices.tolist()]
        check_count(found, self.most, "config.objects")
        sizes = [self.resizing.size(one.height, one.width) for one in found]
        pictures = [self._read(i, one, size) for i, one, size in zip(indices.tolist(), found, sizes, strict=True)]
        shown = [np.zeros((*s, 3), np.uint8) if p is None else p for p, s in zip(pictures, sizes, strict=True)]
        canvas = canvas or self.resizing.canvas((one.height, one.width) for one in found)
        batch = on_canvas(shown, [(one.height, one.width) for one in found], canvas)
        batch |= padded(found, batch["size"], self.most)
        if any(picture is None for picture in pictures):
            batch["mask"] = np.array([picture is not None for picture in pictures], np.float32)
        return batch

    def picture(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """A picture as it is stored, for figures; black where it cannot be read."""
        one = self._annotation(index)
        picture = self._read(index, one, (one.height, one.width))
        return np.zeros((one.height, one.width, 3), np.uint8) if picture is None else picture

    def _annotation(self, index: int) -> Annotation:
        try:
            return self.annotations[index]
        except CorruptPicture as error:
            self._say(str(error))
            nothing = np.zeros(0, np.float32)
            return Annotation(b"", 1, 1, nothing.reshape(0, 4), nothing.astype(int), nothing.astype(bool), nothing)

    def _read(self, index: int, one: Annotation, size: tuple[int, int]) -> np.ndarray | None:
        try:
            if isinstance(one.picture, Path):
                return read_picture(one.picture, (*size, 3))
            return decode_picture(one.picture, (*size, 3)) if one.picture else None
        except CorruptPicture as error:
            self._say(str(error) if isinstance(one.picture, Path) else f"picture {index} is not whole ({error})")
            return None

    def _say(self, what: str) -> None:
        if what not in self._named:
            self._named.add(what)
            print(f"left out: {what} ({len(self._named)} so far)", file=sys.stderr)


@dataclasses.dataclass(frozen=True)
class Relabelled:
    """A source with other classes.

    Attributes:
      source: of pictures with boxes.
      class_names: the new ones.
      labels: of each old class the new one.
    """

    source: DetectionSource
    class_names: tuple[str, ...]
    labels: Int[np.ndarray, " k"]

    def __len__(self) -> int:
        return len(self.source)

    def canvas(self, indices: Int[np.ndarray, " n"]) -> tuple[int, int]:
        """See `DetectionSource.canvas`."""
        return self.source.canvas(indices)

    def picture(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """A picture as it is stored, for figures."""
        return self.source.picture(index)

    def batch(self, indices: Int[np.ndarray, " n"], canvas: tuple[int, int] | None = None) -> dict[str, np.ndarray]:
        """See `DetectionSource.batch`."""
        batch = self.source.batch(indices, canvas)
        label = np.where(batch["label"] < 0, -1, self.labels[batch["label"]])
        return {**batch, "label": label.astype(np.int32)}
