"""Scores of detectors that give masks: average precision by the boxes' IoU, and by that of the masks."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float

from cnnlab.data.source import Source
from cnnlab.metrics.coco_scores import Judged, has_coco_tool
from cnnlab.metrics.detection import ClassScore, DetectionMetrics
from cnnlab.ops.masks import masks_of


def mask_overlaps(one: Bool[np.ndarray, "n h w"], other: Bool[np.ndarray, "m h w"]) -> Float[np.ndarray, "n m"]:
    """Intersection over union, in pixels, of each pair of masks; 0 where both are empty.

    >>> mask_overlaps(np.array([[[True, True, False]]]), np.array([[[False, True, True]], [[False] * 3]])).tolist()
    [[0.3333333333333333, 0.0]]
    """
    # Eight pixels a byte.
    packed = [np.packbits(masks.reshape(len(masks), np.prod(masks.shape[1:])), axis=1) for masks in (one, other)]
    areas = [np.bitwise_count(each).sum(1, dtype=np.int64) for each in packed]
    found = np.zeros((len(one), len(other)))
    for k, mask in enumerate(packed[1]):
        common = np.bitwise_count(packed[0] & mask).sum(1, dtype=np.int64)
        found[:, k] = common / np.maximum(areas[0] + areas[1][k] - common, 1)
    return found


class MaskMetrics:
    """Findings and truths of pictures, judged by boxes and by masks; pictures whose mask is 0 count for nothing.

    The objects' masks are the exact ones, of the stored picture.

    Attributes:
      class_names: in the order of the labels.
      boxes, masks: the scores by either.
      source: what is tested on, whose `masks(index)` are the objects' of a picture; to be set before batches are added.
    """

    def __init__(self, class_names: Sequence[str]):
        self.class_names = tuple(class_names)
        self.boxes = DetectionMetrics(class_names)
        self.masks = DetectionMetrics(class_names, by_masks=True)
        self.source: Source | None = None

    @property
    def pictures(self) -> dict[int, Judged]:
        """What was found and judged, by the masks, of each picture, by its index in the source."""
        return self.masks.pictures

    def add(self, outputs: Mapping[str, np.ndarray]) -> None:
        """Adds one batch.

        Args:
          outputs: as for `DetectionMetrics.add`, and "masks" (n, d, s, s), the findings' within their boxes, 255 a
            probability of 1, and "original" (n, 2), the stored pictures' heights and widths.
        """
        self.boxes.add(outputs)
        for i in np.flatnonzero(outputs["mask"] > 0):
            index = int(outputs["index"][i])
            one, truth = self.boxes.pictures[index], self.source.masks(index)
            shape = tuple(map(int, outputs["original"][i]))
            maps = outputs["masks"][i][outputs["predicted"][i] >= 0]
            found = masks_of(maps, one.boxes, shape)
            packed = {"found_masks": _packed(found), "true_masks": _packed(truth)} if has_coco_tool() else {}
            pairs = mask_overlaps(found, truth)
            self.masks.put(index, dataclasses.replace(one, pairs=pairs, maps=maps, shape=shape, **packed))

    def classes(self) -> list[ClassScore]:
        """The boxes' score of each class, in the order of the labels."""
        return self.boxes.classes()

    def compute(self) -> dict[str, float]:
        """`DetectionMetrics.compute` for boxes, and the same for masks: "mask_AP50", "mask_AP", "mask_AP75"."""
        of_masks = {f"mask_{name}": value for name, value in self.masks.compute().items() if name != "count"}
        return {**self.boxes.compute(), **of_masks}

    def table(self) -> str:
        """All scores as lines of text, first by boxes, then by masks."""
        return f"Boxes\n{self.boxes.table()}\n\nMasks\n{self.masks.table()}"


def _packed(masks: Bool[np.ndarray, "n h w"]) -> tuple[dict, ...]:
    from pycocotools import mask as tool  # an optional dependency

    columns = np.asfortranarray(masks.transpose(1, 2, 0).astype(np.uint8))
    return tuple(tool.encode(columns)) if len(masks) else ()
