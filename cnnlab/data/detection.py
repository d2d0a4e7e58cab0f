"""Pictures with boxes, of mixed sizes: resized as the detection papers do, on canvases of a few shapes.

A batch has, besides what `pipeline.py` adds (n pictures, m objects at most):
  image     uint8 (n, H, W, 3), the resized picture in the upper left corner of a canvas, the rest 0;
  size      int32 (n, 2), height and width of the picture within the canvas;
  original  int32 (n, 2), the same of the picture as it is stored: a box there is box · original / size;
  boxes     float32 (n, m, 4), x0 y0 x1 y1 in pixels of the resized picture, edges as in `warp.py`, 0 0 0 0 for padding;
  label     int32 (n, m), 0 … K − 1, and −1 for padding;
  ignored   bool (n, m), not trained on, neither right nor wrong in testing;
  area      float32 (n, m), of the objects, in pixels of the stored picture;
and of a source whose `mask_window` is not 0
  masks     uint8 (n, m, W, W), what is visible of each object within its box, the box resampled to W×W: the share that
            is covered, 255 all. So masks take the same room in pictures of any size.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int, UInt8

from cnnlab.data.annotations import Annotation, check_count
from cnnlab.data.canvas import Resizing, on_canvas
from cnnlab.data.outlines import mask_of, window_of
from cnnlab.data.pictures import CorruptPicture, LeftOut, decode_picture, read_picture
from cnnlab.data.tfds_objects import Records
from cnnlab.errors import UserError


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


def mask_windows(
    masks: Iterable[Bool[np.ndarray, "_ _ _"]], annotations: Sequence[Annotation], most: int, window: int
) -> UInt8[np.ndarray, "n m w w"]:
    """ "masks" of a batch; see the top of this file.

    Args:
      masks: the objects' of each picture, in pixels of the stored one.
      annotations: of the pictures, with the objects' boxes there.
      most: objects a picture, the padding.
      window: W.
    """
    found = np.zeros((len(annotations), most, window, window), np.uint8)
    for row, own, one in zip(found, masks, annotations, strict=True):
        for i, (mask, box) in enumerate(zip(own, one.boxes, strict=True)):
            row[i] = window_of(mask, box, window)
    return found


@dataclasses.dataclass(frozen=True)
class DetectionSource:
    """Annotated pictures, decoded and resized when they are asked for; unreadable ones are named once and masked out.

    Attributes:
      annotations: by index.
      class_names: in the order of the labels.
      resizing: the rule.
      most: objects a picture, which boxes are padded to.
      mask_window: W of the masks' windows; 0: batches have no masks.

    Raises:
      UserError: a picture has more objects. (Of records it is found when the picture comes.) Masks are asked for, and
        an object has no outline.
    """

    annotations: list[Annotation] | Records
    class_names: tuple[str, ...]
    resizing: Resizing
    most: int
    mask_window: int = 0
    _left_out: LeftOut = dataclasses.field(default_factory=LeftOut, repr=False, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.annotations, list):
            check_count(self.annotations, self.most, "config.objects")
        if self.mask_window:
            check_outlines(self.annotations)

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
        if self.mask_window:
            batch["masks"] = mask_windows(map(_masks, found), found, self.most, self.mask_window)
        if any(picture is None for picture in pictures):
            batch["mask"] = np.array([picture is not None for picture in pictures], np.float32)
        return batch

    def picture(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """A picture as it is stored, for figures; black where it cannot be read."""
        one = self._annotation(index)
        picture = self._read(index, one, (one.height, one.width))
        return np.zeros((one.height, one.width, 3), np.uint8) if picture is None else picture

    def masks(self, index: int) -> Bool[np.ndarray, "k h w"]:
        """The pixels of each object of a picture as it is stored, for tests and figures."""
        return _masks(self._annotation(index))

    def _annotation(self, index: int) -> Annotation:
        try:
            return self.annotations[index]
        except CorruptPicture as error:
            self._left_out.say(str(error))
            nothing = np.zeros(0, np.float32)
            return Annotation(b"", 1, 1, nothing.reshape(0, 4), nothing.astype(int), nothing.astype(bool), nothing)

    def _read(self, index: int, one: Annotation, size: tuple[int, int]) -> np.ndarray | None:
        try:
            if isinstance(one.picture, Path):
                return read_picture(one.picture, (*size, 3))
            return decode_picture(one.picture, (*size, 3)) if one.picture else None
        except CorruptPicture as error:
            self._left_out.say(
                str(error) if isinstance(one.picture, Path) else f"picture {index} is not whole ({error})"
            )
            return None


def check_outlines(annotations: list[Annotation] | Records) -> None:
    """Raises a `UserError` where an object has no outline, naming its picture."""
    if not isinstance(annotations, list):
        raise UserError(f"{annotations.name} of TFDS has boxes and no outlines: masks need a folder as COCO's")
    for one in annotations:
        without = [i for i in range(len(one.label)) if not one.outlines or one.outlines[i] is None]
        if without:
            box = " ".join(f"{x:.6g}" for x in one.boxes[without[0]])
            raise UserError(
                f"{one.picture}: the object in the box {box} has no outline, and masks are made of outlines"
            )


def _masks(one: Annotation) -> Bool[np.ndarray, "k h w"]:
    made = [mask_of(outline, one.height, one.width) for outline in one.outlines]
    return np.array(made, bool).reshape(-1, one.height, one.width)


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

    def masks(self, index: int) -> Bool[np.ndarray, "k h w"]:
        """See `DetectionSource.masks`."""
        return self.source.masks(index)

    def batch(self, indices: Int[np.ndarray, " n"], canvas: tuple[int, int] | None = None) -> dict[str, np.ndarray]:
        """See `DetectionSource.batch`."""
        batch = self.source.batch(indices, canvas)
        label = np.where(batch["label"] < 0, -1, self.labels[batch["label"]])
        return {**batch, "label": label.astype(np.int32)}
