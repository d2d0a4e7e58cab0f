"""Localisation scores by hand: ILSVRC's rule, what is masked, ties of the threshold, the surest mistakes."""

import math

import numpy as np
import pytest

from cnnlab.experiment import Metrics
from cnnlab.metrics.localisation import LocalisationMetrics

BOX = np.array([1, 2, 3, 4], np.float32)


def outputs(*pictures, mask=None):
    """One batch: of each picture (index, label, likeliest classes, IoU of each one's box, IoU of the true class's)."""
    n, guesses = len(pictures), len(pictures[0][2])
    index, label, classes, overlap, own = (list(column) for column in zip(*pictures, strict=True))
    return {
        "mask": np.ones(n, np.float32) if mask is None else np.array(mask, np.float32),
        "index": np.array(index, np.int32),
        "label": np.array(label, np.int32),
        "loss": np.arange(n, dtype=np.float32),
        "classes": np.array(classes, np.int32),
        "probability": np.array([[0.9 - 0.1 * i] + [0.01] * (guesses - 1) for i in range(n)], np.float32),
        "overlap": np.array(overlap, np.float32),
        "own_overlap": np.array(own, np.float32),
        "box": BOX + np.array(index, np.float32)[:, None],
        "true_box": np.tile(BOX, (n, 1)),
    }


def added(*batches, classes=7):
    metrics = LocalisationMetrics(classes)
    for batch in batches:
        metrics.add(batch)
    return metrics


RIGHT = (0, 3, [3, 0, 1, 2, 4], [0.8, 0, 0, 0, 0], 0.8)
PLACE = (1, 3, [3, 0, 1, 2, 4], [0.3, 0.9, 0.9, 0.9, 0.9], 0.3)  # the class alone is right
SECOND = (2, 3, [0, 3, 1, 2, 4], [0.9, 0.5, 0, 0, 0], 0.5)  # among five, at just 0.5
SIXTH = (3, 6, [0, 1, 2, 3, 4], [0.9] * 5, 0.7)  # the class is none of five, its box is right
JUST = (4, 3, [3, 0, 1, 2, 4], [0.49, 0, 0, 0, 0], 0.49)


def test_scores_by_hand():
    scores = added(outputs(RIGHT, PLACE, SECOND), outputs(SIXTH, JUST)).compute()
    assert scores == pytest.approx(
        {
            "loss": (0 + 1 + 2 + 0 + 1) / 5,
            "error": 2 / 5,  # SECOND and SIXTH
            "top5_error": 1 / 5,
            "localisation_error": 4 / 5,
            "top5_localisation_error": 3 / 5,  # PLACE, SIXTH and JUST
            "box_error": 2 / 5,  # PLACE and JUST
            "mean_iou": (0.8 + 0.3 + 0.5 + 0.7 + 0.49) / 5,
            "count": 5,
        }
    )
    assert list(scores)[-1] == "count"


def test_a_guess_is_right_only_with_its_own_box():
    metrics = added(outputs((0, 3, [0, 3], [0.9, 0.1], 0.1), (1, 3, [0, 3], [0.1, 0.9], 0.9)))
    assert metrics.compute()["top5_localisation_error"] == 0.5
    assert metrics.compute()["localisation_error"] == 1.0


def test_the_sixth_guess_does_not_count():
    six = outputs((0, 5, [0, 1, 2, 3, 4, 5], [0, 0, 0, 0, 0, 1.0], 1.0))
    scores = added(six).compute()
    assert scores["top5_error"] == scores["top5_localisation_error"] == 1.0
    assert scores["box_error"] == 0.0


def test_what_is_masked_counts_for_nothing():
    some = outputs(RIGHT, PLACE, SIXTH, mask=[1, 0, 0])
    some["loss"][1:] = math.nan
    assert added(some).compute() == added(outputs(RIGHT)).compute()
    assert added(some).pictures()["index"].tolist() == [0]


def test_five_classes_are_always_found_among_five():
    assert "top5_error" not in added(outputs(RIGHT), classes=5).compute()
    assert "top5_error" not in added(classes=5).compute()


def test_no_pictures():
    metrics = added(classes=7)
    scores = metrics.compute()
    assert scores.pop("count") == 0
    assert set(scores) == set(added(outputs(RIGHT)).compute()) - {"count"}
    assert all(math.isnan(value) for value in scores.values())
    assert metrics.worst() == []
    assert len(metrics.right()) == 0
    assert metrics.confusion().sum() == 0
    assert metrics.examples()["index"].tolist() == []
    assert isinstance(metrics, Metrics)


def test_examples_are_right_or_wrong_in_the_order_of_the_source():
    examples = added(outputs(SIXTH, SECOND), outputs(PLACE, RIGHT)).examples()
    assert {name: values.tolist() for name, values in examples.items()} == {
        "index": [0, 1, 2, 3],
        "label": [3, 3, 3, 6],
        "predicted": [3, -1, 0, 0],
    }


def test_confusions_are_of_the_class_alone():
    confusion = added(outputs(RIGHT, PLACE, SECOND, SIXTH)).confusion()
    assert confusion[3, 3] == 2
    assert confusion[3, 0] == confusion[6, 0] == 1
    assert confusion.sum() == 4


def test_the_surest_mistakes_come_first():
    # Probabilities fall by a tenth a row: RIGHT is the surest, and no mistake.
    metrics = added(outputs(RIGHT, SECOND, PLACE, SIXTH))
    assert [int(row["index"]) for row in metrics.worst()] == [2, 1, 3]
    first = metrics.worst(1)
    assert len(first) == 1
    assert first[0]["box"].tolist() == [3, 4, 5, 6]
    assert first[0]["probability"][0] == pytest.approx(0.8)
