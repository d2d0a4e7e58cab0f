"""Segmentation scores: the four of Long, Shelhamer, Darrell 2015, section 5, and the pictures that are worst."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int, Real, UInt8


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
    """What was found in a picture.

    Attributes:
      index: of the picture in its source.
      accuracy: share of its pixels that are right, void ones not counted; 1 where there is none.
      labels: the class found for each pixel of the picture as the network saw it.
    """

    index: int
    accuracy: float
    labels: UInt8[np.ndarray, "h w"]


def ratios(part: Real[np.ndarray, " k"], whole: Real[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """part / whole, NaN where there is nothing to divide by."""
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)


class SegmentationMetrics:
    """Pixels counted by true and found class; pictures whose mask is 0 count for nothing, void pixels neither.

    Attributes:
      class_names: in the order of the labels.
      confusion: pixels, by true class (rows) and found class.
      count: pictures.
      first: what was found in the first pictures.
      worst: what was found in those with the lowest accuracy, the worst first.
    """

    def __init__(self, class_names: Sequence[str], keep: int = 8):
        self.class_names = tuple(class_names)
        self.confusion: Int[np.ndarray, "k k"] = np.zeros((len(self.class_names),) * 2, np.int64)
        self.count = 0
        self.first: list[Found] = []
        self.worst: list[Found] = []
        self._keep = keep

    def add(self, outputs: Mapping[str, np.ndarray]) -> None:
        """Adds one batch.

        Args:
          outputs: "mask", "index" (n); "confusion" (n, k, k), pixels by true and found class; "predicted" (n, H, W),
            each pixel's class, of which "size" (n, 2), height and width, belong to the picture.
        """
        for i in np.flatnonzero(outputs["mask"] > 0):
            counts, (height, width) = outputs["confusion"][i].astype(np.int64), outputs["size"][i]
            self.confusion += counts
            self.count += 1
            accuracy = float(np.trace(counts) / max(counts.sum(), 1)) if counts.any() else 1.0
            index = int(outputs["index"][i])
            if len(self.worst) < self._keep or accuracy < self.worst[-1].accuracy or index < self._keep:
                found = Found(index, accuracy, outputs["predicted"][i, :height, :width].copy())
                self.worst = sorted([*self.worst, found], key=lambda one: (one.accuracy, one.index))[: self._keep]
                self.first = sorted([*self.first, found], key=lambda one: one.index)[: self._keep]

    def classes(self) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
        """Each class's IoU, NaN where it neither is nor was found, and accuracy, NaN where it is not."""
        right, true, found = np.diag(self.confusion), self.confusion.sum(1), self.confusion.sum(0)
        return ratios(right, true + found - right), ratios(right, true)

    def compute(self) -> dict[str, float]:
        """The paper's four scores, from 0 to 1, and how many pictures `count`.

        "mean_iou" and "mean_accuracy" are means over the classes that are there, "weighted_iou" is weighted by each
        class's true pixels, "pixel_accuracy" the share of all pixels that are right. All are NaN without a pixel.
        """
        iou, accuracy = self.classes()
        true, total = self.confusion.sum(1), self.confusion.sum()
        if not total:
            return dict.fromkeys(("mean_iou", "pixel_accuracy", "mean_accuracy", "weighted_iou"), float("nan")) | {
                "count": self.count
            }
        return {
            "mean_iou": float(np.nanmean(iou)),
            "pixel_accuracy": float(np.trace(self.confusion) / total),
            "mean_accuracy": float(np.nanmean(accuracy)),
            "weighted_iou": float(np.nansum(iou * true) / total),
            "count": self.count,
        }

    def table(self) -> str:
        """The classes' scores and their means as lines of text."""
        iou, accuracy = self.classes()
        true, scores = self.confusion.sum(1), self.compute()
        rows = [*zip(self.class_names, iou, accuracy, true, strict=True)]
        rows.append(("mean", scores["mean_iou"], scores["mean_accuracy"], true.sum()))
        width = max(len(name) for name, *_ in [*rows, ("class",)])
        shown = [(name, *("–" if np.isnan(x) else f"{x:.2%}" for x in (i, a)), pixels) for name, i, a, pixels in rows]
        lines = [f"{'class':<{width}}  {'IoU':>7}  {'accuracy':>8}  {'pixels':>13}"]
        lines += [f"{name:<{width}}  {i:>7}  {a:>8}  {pixels:13,}" for name, i, a, pixels in shown]
        rest = f"pixel accuracy {scores['pixel_accuracy']:.2%}, frequency-weighted IoU {scores['weighted_iou']:.2%}"
        return "\n".join([*lines, rest])
