"""Pictures with one object each, for localisation: of detection's pictures, the largest object of each.

A batch has "image", "size" and "original" as in `detection.py`, all canvases square and alike, and
  boxes     float32 (n, 1, 4), the object's, in pixels of the resized picture, 0 0 0 0 where there is none;
  label     int32 (n,), its class, −1 where there is none.
Pictures without an object that counts are left out.
"""

import dataclasses
import sys

import numpy as np
from jaxtyping import Int, UInt8

from cnnlab.data.annotations import Annotation
from cnnlab.data.source import Source
from cnnlab.errors import UserError


@dataclasses.dataclass(frozen=True)
class OneObject:
    """See the top of this file.

    Attributes:
      source: batches as in `detection.py`, whose canvases cover size×size.
      size: height and width of the canvas, which covers every resized picture.
      kept: which of the source's pictures there are.
    """

    source: Source
    size: int
    kept: Int[np.ndarray, " n"]
    _named: set[int] = dataclasses.field(default_factory=set, repr=False, compare=False)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.source.class_names

    def __len__(self) -> int:
        return len(self.kept)

    def batch(self, indices: Int[np.ndarray, " n"]) -> dict[str, np.ndarray]:
        """The pictures at `indices`; where one cannot be read, or turns out to have no object, the "mask" is 0."""
        batch = self.source.batch(self.kept[indices], (self.size, self.size))
        boxes, label = largest(batch["boxes"], batch["label"], batch["ignored"])
        for index in self.kept[indices][label < 0].tolist():
            if not self._named:  # of records, which cannot be counted beforehand
                print(f"left out: pictures without an object that counts; the first is {index}", file=sys.stderr)
            self._named.add(index)
        found = {
            "image": batch["image"][:, : self.size, : self.size],
            "size": batch["size"],
            "original": batch["original"],
            "boxes": boxes[:, None],
            "label": label,
        }
        if "mask" in batch or (label < 0).any():
            found["mask"] = batch.get("mask", np.ones(len(label), np.float32)) * (label >= 0)
        return found

    def picture(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """A picture as it is stored, for figures."""
        return self.source.picture(int(self.kept[index]))


def one_object(source: Source, size: int) -> OneObject:
    """The pictures of a source that have an object; how many have none is told on stderr.

    Args:
      source: batches as in `detection.py`. What it has in "annotations", a list, is counted; else pictures without an
        object are found when they are read.
      size: height and width of the canvas.

    Raises:
      UserError: not one has an object.
    """
    annotations = getattr(source, "annotations", None)
    if not isinstance(annotations, list):
        return OneObject(source, size, np.arange(len(source)))
    there = np.array([_counts(annotation) for annotation in annotations], bool)
    if not there.any():
        raise UserError(f"not one of the {len(there)} pictures has an object: there is nothing to localise")
    if not there.all():
        first = annotations[int(np.argmin(there))]
        name = first.picture if not isinstance(first.picture, bytes) else f"picture {first.number}"
        missing = int(np.sum(~there))
        print(f"left out: {missing} of {len(there)} pictures without an object that counts, {name} …", file=sys.stderr)
    return OneObject(source, size, np.flatnonzero(there))


def _counts(annotation: Annotation) -> bool:
    return not np.all(annotation.ignored)


def largest(
    boxes: np.ndarray, label: Int[np.ndarray, "n m"], ignored: np.ndarray
) -> tuple[np.ndarray, Int[np.ndarray, " n"]]:
    """The box and the label of the largest object of each picture that is not ignored; 0 0 0 0 and −1 where none is.

    Of equal ones it is the first.

    >>> boxes = np.array([[[0, 0, 2, 2], [0, 0, 3, 2], [0, 0, 9, 9]]], np.float32)
    >>> box, label = largest(boxes, np.array([[4, 5, 6]]), np.array([[False, False, True]]))
    >>> box.tolist(), label.tolist()
    ([[0.0, 0.0, 3.0, 2.0]], [5])
    """
    area = np.where((label >= 0) & ~ignored, (boxes[..., 2:] - boxes[..., :2]).prod(-1), 0)
    rows, best = np.arange(len(boxes)), np.argmax(area, 1)
    there = area[rows, best] > 0
    return np.where(there[:, None], boxes[rows, best], 0), np.where(there, label[rows, best], -1)
