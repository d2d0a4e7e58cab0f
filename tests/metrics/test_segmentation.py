"""Segmentation scores: the paper's four by hand, classes that are not there, the worst pictures."""

import numpy as np
import pytest

from cnnlab.metrics.segmentation import SegmentationMetrics


def outputs(confusions, indices=None, mask=None, size=(2, 3)):
    n = len(confusions)
    return {
        "mask": np.ones(n, np.float32) if mask is None else np.array(mask, np.float32),
        "index": np.arange(n) if indices is None else np.array(indices),
        "confusion": np.array(confusions, np.int32),
        "predicted": np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None], (n, 4, 4)),
        "size": np.tile(size, (n, 1)),
    }


def test_the_four_scores_by_hand():
    metrics = SegmentationMetrics(("ground", "cat", "dog"))
    metrics.add(outputs([[[50, 10, 0], [5, 15, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 0], [0, 10, 10]]]))
    scores = metrics.compute()
    iou = np.array([50 / 65, 15 / 40, 10 / 20])
    assert scores["pixel_accuracy"] == pytest.approx(75 / 100)
    assert scores["mean_accuracy"] == pytest.approx((50 / 60 + 15 / 20 + 10 / 20) / 3)
    assert scores["mean_iou"] == pytest.approx(iou.mean())
    assert scores["weighted_iou"] == pytest.approx((iou * [0.6, 0.2, 0.2]).sum())
    assert scores["count"] == 2


def test_classes_that_are_not_there():
    """Of the third class is nothing; the second was found where it is not, which costs it all."""
    metrics = SegmentationMetrics(("ground", "cat", "dog"))
    metrics.add(outputs([[[8, 2, 0], [0, 0, 0], [0, 0, 0]]]))
    iou, accuracy = metrics.classes()
    np.testing.assert_array_equal(iou, [0.8, 0, np.nan])
    np.testing.assert_array_equal(accuracy, [0.8, np.nan, np.nan])
    assert metrics.compute()["mean_iou"] == pytest.approx(0.4)
    table = metrics.table()
    assert "80.00%" in table
    assert "–" in table.splitlines()[3]


def test_pictures_whose_mask_is_zero_do_not_count():
    metrics = SegmentationMetrics(("a", "b"))
    metrics.add(outputs([[[1, 0], [0, 1]], [[0, 9], [9, 0]]], mask=[1, 0]))
    assert metrics.compute() == {
        "mean_iou": 1,
        "pixel_accuracy": 1,
        "mean_accuracy": 1,
        "weighted_iou": 1,
        "count": 1,
    }


def test_nothing_is_no_score():
    assert np.isnan(SegmentationMetrics(("a", "b")).compute()["mean_iou"])


def test_the_first_and_the_worst_pictures():
    metrics = SegmentationMetrics(("a", "b"), keep=2)
    right = [0.5, 0.9, 0.1, 0.7, 0.0]
    confusions = [[[int(10 * r), 10 - int(10 * r)], [0, 0]] for r in right]
    metrics.add(outputs(confusions[:3], [4, 1, 2]))
    metrics.add(outputs(confusions[3:], [3, 0]))
    assert [one.index for one in metrics.worst] == [0, 2]
    assert [one.accuracy for one in metrics.worst] == [0, 0.1]
    assert [one.index for one in metrics.first] == [0, 1]
    assert metrics.worst[1].labels.tolist() == [[2, 2, 2], [2, 2, 2]]  # cut to the picture's size


def test_a_picture_of_void_alone_is_not_a_mistake():
    metrics = SegmentationMetrics(("a", "b"))
    metrics.add(outputs([np.zeros((2, 2))]))
    assert metrics.worst[0].accuracy == 1
