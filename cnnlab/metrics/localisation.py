"""Localisation scores, as in ILSVRC: a picture is right if its class is, and the box lies at an IoU of 0.5 or more."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, Shaped

PLACED = 0.5  # IoU from which a box is in the right place
FIELDS = ("index", "label", "loss", "classes", "probability", "overlap", "own_overlap", "box", "true_box")


class Rows:
    """What was found in every picture, field by field; rows whose mask is 0 are left out.

    >>> rows = Rows(("index", "label"))
    >>> rows.pictures()
    {}
    >>> rows.add({"mask": np.array([1, 0, 1]), "index": np.array([5, 0, 2]), "label": np.array([7, 8, 9])})
    >>> {name: values.tolist() for name, values in rows.pictures().items()}
    {'index': [2, 5], 'label': [9, 7]}
    """

    def __init__(self, fields: Sequence[str]):
        self._fields = fields
        self._batches: list[dict[str, np.ndarray]] = []

    def add(self, outputs: Mapping[str, np.ndarray]) -> None:
        """Adds one batch of n pictures: "mask" (n) and the fields, of which "index" (n) is one."""
        rows = outputs["mask"] > 0
        self._batches.append({name: np.asarray(outputs[name])[rows] for name in self._fields})

    def pictures(self) -> dict[str, Shaped[np.ndarray, "n ..."]]:
        """The fields, in the order of the source; none before the first batch."""
        if not self._batches:
            return {}
        whole = {name: np.concatenate([batch[name] for batch in self._batches]) for name in self._fields}
        order = np.argsort(whole["index"], kind="stable")
        return {name: values[order] for name, values in whole.items()}


class LocalisationMetrics:
    """What was found in every picture; rows whose mask is 0 count for nothing."""

    def __init__(self, num_classes: int):
        self._classes = num_classes
        self._rows = Rows(FIELDS)

    def add(self, outputs: Mapping[str, np.ndarray]) -> None:
        """Adds one batch of n pictures.

        Args:
          outputs: "mask" (n); "index", "label" and "loss" (n); the g likeliest classes "classes" (n, g), the first the
            likeliest, with their "probability" (n, g) and the "overlap" (n, g) of their boxes with the true one, an
            IoU; "own_overlap" (n), that of the true class's box; "box" and "true_box" (n, 4), the likeliest class's
            and the truth.
        """
        self._rows.add(outputs)

    def pictures(self) -> dict[str, Shaped[np.ndarray, "n ..."]]:
        """Of each counted picture what `add` was given, in the order of the source; no fields before the first batch.

        >>> LocalisationMetrics(2).pictures()
        {}
        """
        return self._rows.pictures()

    def compute(self) -> dict[str, float]:
        """Means over the pictures, errors as fractions; of no pictures at all NaN.

        "loss". "error" and, with more than five classes, "top5_error": the class is wrong, or none of five is right.
        "localisation_error": the likeliest class is wrong or its box; "top5_localisation_error": no class of five is
        right with a right box. "box_error": the true class's box is wrong, whatever the classifier says: how well
        boxes are regressed (the paper's table 8). "mean_iou": of the true class's box. "count" pictures.
        """
        found = self.pictures()
        count = len(found["label"]) if found else 0
        if not count:
            names = ["loss", "error", "top5_error", "localisation_error", "top5_localisation_error", "box_error"]
            kept = [name for name in [*names, "mean_iou"] if name != "top5_error" or self._classes > 5]
            return {**dict.fromkeys(kept, float("nan")), "count": 0}
        classes = found["classes"][:, :5] == found["label"][:, None]
        placed = classes & (found["overlap"][:, :5] >= PLACED)
        scores = {"loss": np.mean(found["loss"], dtype=np.float64), "error": np.mean(~classes[:, 0])}
        if self._classes > 5:
            scores["top5_error"] = np.mean(~classes.any(1))
        scores["localisation_error"] = np.mean(~placed[:, 0])
        scores["top5_localisation_error"] = np.mean(~placed.any(1))
        scores["box_error"] = np.mean(found["own_overlap"] < PLACED)
        scores["mean_iou"] = np.mean(found["own_overlap"], dtype=np.float64)
        return {**{name: float(value) for name, value in scores.items()}, "count": count}

    def right(self) -> Bool[np.ndarray, " n"]:
        """Whether the likeliest class of each picture is right and in the right place."""
        found = self.pictures()
        if not found:
            return np.zeros(0, bool)
        return (found["classes"][:, 0] == found["label"]) & (found["overlap"][:, 0] >= PLACED)

    def examples(self) -> dict[str, Int[np.ndarray, " n"]]:
        """Each picture's "index" in the source, "label" and "predicted", which is −1 where the box is wrong."""
        found = self.pictures()
        if not found:
            return {name: np.zeros(0, np.int32) for name in ("index", "label", "predicted")}
        predicted = np.where(found["overlap"][:, 0] >= PLACED, found["classes"][:, 0], -1)
        return {"index": found["index"], "label": found["label"], "predicted": predicted}

    def confusion(self) -> Int[np.ndarray, "k k"]:
        """Counts of pictures, [true, likeliest class]."""
        counts = np.zeros((self._classes, self._classes), np.int64)
        if found := self.pictures():
            np.add.at(counts, (found["label"], found["classes"][:, 0]), 1)
        return counts

    def worst(self, most: int = 12) -> list[dict[str, Any]]:
        """Of the pictures that are wrong, those of the greatest probability: a row each of `pictures`' fields."""
        found, wrong = self.pictures(), np.flatnonzero(~self.right())
        if not len(wrong):
            return []
        surest = wrong[np.argsort(-found["probability"][wrong, 0], kind="stable")][:most]
        return [{name: values[i] for name, values in found.items()} for i in surest]
