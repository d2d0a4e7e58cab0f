"""Scores of classes found in boxes, counted by hand."""

import math

import numpy as np
import pytest

from cnnlab.metrics.boxed import BoxedMetrics


def outputs(index, predicted, overlap, mask):
    n = len(index)
    return {
        "mask": np.array(mask),
        "index": np.array(index),
        "label": np.ones(n, np.int32),
        "predicted": np.array(predicted),
        "probability": np.full(n, 0.9, np.float32),
        "loss": np.full(n, 0.5, np.float32),
        "rank": np.zeros(n, np.int32),
        "box": np.zeros((n, 4), np.float32),
        "true_box": np.zeros((n, 4), np.float32),
        "overlap": np.array(overlap, np.float32),
    }


def test_scores_by_hand():
    metrics = BoxedMetrics(3)
    metrics.add(outputs([2, 0, 0], [1, 0, 0], [0.5, 0.25, 0.9], [1, 1, 0]))
    metrics.add(outputs([1], [1], [0.75], [1]))
    scores = metrics.compute()
    assert scores == {
        "loss": pytest.approx(0.5),
        "error": pytest.approx(1 / 3),
        "placed": pytest.approx(2 / 3),
        "mean_iou": pytest.approx(0.5),
        "count": 3,
    }
    assert metrics.pictures()["overlap"].tolist() == [0.25, 0.75, 0.5]  # by index
    assert metrics.examples()["predicted"].tolist() == [0, 1, 1]


def test_of_no_pictures_there_are_no_scores():
    metrics = BoxedMetrics(3)
    metrics.add(outputs([0], [1], [0.5], [0]))
    scores = metrics.compute()
    assert scores.pop("count") == 0
    assert all(math.isnan(score) for score in scores.values())
