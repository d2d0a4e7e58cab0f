"""Classification scores: loss, top-1 and top-5 error, confusions, per-example predictions, the surest mistakes."""

import heapq
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Int


class ClassificationMetrics:
    """Sums over examples; rows whose mask is 0 count for nothing.

    Attributes:
      confusion: (classes, classes) counts, [true, predicted].
    """

    def __init__(self, num_classes: int, keep_worst: int = 20):
        self.confusion = np.zeros((num_classes, num_classes), np.int64)
        self._keep = keep_worst
        self._loss = 0.0
        self._wrong_in_five = 0
        self._worst: list[tuple[float, int, dict[str, Any]]] = []
        self._examples: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def add(self, outputs: Mapping[str, np.ndarray]) -> None:
        """Adds one batch: mask, index, label, predicted, probability (of the predicted class), loss and rank."""
        rows = outputs["mask"] > 0
        label, predicted = outputs["label"][rows], outputs["predicted"][rows]
        np.add.at(self.confusion, (label, predicted), 1)
        self._examples.append((outputs["index"][rows], label, predicted))
        self._loss += float(np.sum(outputs["loss"][rows], dtype=np.float64))
        self._wrong_in_five += int(np.sum(outputs["rank"][rows] >= 5))
        for i in np.flatnonzero(rows & (outputs["label"] != outputs["predicted"])):
            row = {name: outputs[name][i].item() for name in ("index", "label", "predicted", "probability")}
            heapq.heappush(self._worst, (row["probability"], -row["index"], row))
            if len(self._worst) > self._keep:
                heapq.heappop(self._worst)

    def compute(self) -> dict[str, float]:
        """Mean loss, `error` (top 1) and, with more than five classes, `top5_error`, as fractions; `count` examples.

        `error` counts a tie for first place by the lower label; `top5_error` counts a true class as found when fewer
        than five score above it. Loss and errors of no examples at all are NaN.
        """
        count = int(self.confusion.sum())
        per_example = 1 / count if count else float("nan")
        scores = {"loss": self._loss * per_example, "error": (count - int(np.trace(self.confusion))) * per_example}
        if len(self.confusion) > 5:
            scores["top5_error"] = self._wrong_in_five * per_example
        return {**scores, "count": count}

    def examples(self) -> dict[str, Int[np.ndarray, " n"]]:
        """Each counted example's "index" in the source, "label" and "predicted", in the order of the source.

        >>> metrics = ClassificationMetrics(2)
        >>> batch = {"mask": [1, 1, 0], "index": [5, 4, 0], "label": [1, 0, 0], "predicted": [1, 1, 0]}
        >>> rest = {"loss": [0, 1, 0], "rank": [0, 1, 0], "probability": [0.5, 0.5, 0.5]}
        >>> metrics.add({name: np.array(values) for name, values in {**batch, **rest}.items()})
        >>> {name: values.tolist() for name, values in metrics.examples().items()}
        {'index': [4, 5], 'label': [0, 1], 'predicted': [1, 1]}
        """
        columns = zip(*self._examples, strict=True) if self._examples else [[np.zeros(0, np.int32)]] * 3
        index, label, predicted = (np.concatenate(column) for column in columns)
        order = np.argsort(index, kind="stable")
        return {"index": index[order], "label": label[order], "predicted": predicted[order]}

    def worst(self) -> list[dict[str, Any]]:
        """The mistakes made with the greatest probability, surest first: index, label, predicted, probability."""
        return [row for _, _, row in sorted(self._worst, key=lambda item: (-item[0], -item[1]))]
