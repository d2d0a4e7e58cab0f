"""Scores of pictures that are classified by one box of theirs: those of the classes, and whether the box is right."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Int, Shaped

from cnnlab.metrics.classification import ClassificationMetrics
from cnnlab.metrics.localisation import PLACED, Rows

FIELDS = ("index", "label", "predicted", "probability", "box", "true_box", "overlap")


class BoxedMetrics:
    """Sums of the classes' scores, and what was found in every picture; rows whose mask is 0 count for nothing.

    Attributes:
      classes: the scores of the classes alone.
    """

    def __init__(self, num_classes: int):
        self.classes = ClassificationMetrics(num_classes)
        self._rows = Rows(FIELDS)

    def add(self, outputs: Mapping[str, np.ndarray]) -> None:
        """Adds one batch: what `ClassificationMetrics` takes, "box" and "true_box" (n, 4), and their IoU "overlap"."""
        self.classes.add(outputs)
        self._rows.add(outputs)

    def pictures(self) -> dict[str, Shaped[np.ndarray, "n ..."]]:
        """Of each counted picture `FIELDS`, in the order of the source; no fields before the first batch.

        >>> BoxedMetrics(2).pictures()
        {}
        """
        return self._rows.pictures()

    def compute(self) -> dict[str, float]:
        """The classes' scores; "placed", the share of boxes whose IoU is 0.5 or more, and "mean_iou"; "count"."""
        found = self.pictures()
        overlap = found["overlap"] if found and len(found["overlap"]) else np.array([np.nan])
        scores = self.classes.compute()
        count = scores.pop("count")
        placed = float(np.mean(overlap >= PLACED)) if not np.isnan(overlap).any() else float("nan")
        return {**scores, "placed": placed, "mean_iou": float(np.mean(overlap, dtype=np.float64)), "count": count}

    def examples(self) -> dict[str, Int[np.ndarray, " n"]]:
        """Each counted example's "index" in the source, "label" and "predicted", wherever the box lies."""
        return self.classes.examples()
