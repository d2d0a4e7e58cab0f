"""Scores by hand: the mask, ties, five guesses, batches that add up, the surest mistakes."""

import math

import numpy as np
import pytest

from cnnlab.metrics.classification import ClassificationMetrics


def outputs(label, predicted, *, mask=None, loss=None, rank=None, probability=None, index=None):
    """One batch of outputs; what is not given counts as right and is 0 or the row's number."""
    n = len(label)
    return {
        "mask": np.array(mask if mask is not None else [1] * n, np.float32),
        "index": np.array(index if index is not None else range(n), np.int32),
        "label": np.array(label, np.int32),
        "predicted": np.array(predicted, np.int32),
        "probability": np.array(probability if probability is not None else [0.5] * n, np.float32),
        "loss": np.array(loss if loss is not None else [0] * n, np.float32),
        "rank": np.array(rank if rank is not None else [0] * n, np.int32),
    }


def added(*batches, classes=3, **options):
    metrics = ClassificationMetrics(classes, **options)
    for batch in batches:
        metrics.add(batch)
    return metrics


def test_scores_by_hand():
    metrics = added(outputs([0, 0, 1, 2], [0, 1, 1, 1], loss=[0.5, 1.5, 0.25, 1.75]))
    assert metrics.compute() == {"loss": 1.0, "error": 0.5, "count": 4}
    np.testing.assert_array_equal(metrics.confusion, [[1, 1, 0], [0, 1, 0], [0, 1, 0]])


def test_what_is_masked_counts_for_nothing():
    metrics = added(
        outputs([0, 1, 2, 0], [0, 2, 0, 1], mask=[1, 1, 0, 0], loss=[1, 2, 400, math.nan], rank=[0, 1, 9, 9]),
        classes=6,
    )
    assert metrics.compute() == {"loss": 1.5, "error": 0.5, "top5_error": 0.0, "count": 2}
    assert metrics.confusion.sum() == 2
    assert [row["index"] for row in metrics.worst()] == [1]


def test_top5_counts_five_or_more_classes_above_the_true_one():
    batch = outputs([0] * 7, [0, 1, 1, 1, 1, 1, 1], rank=range(7))
    assert added(batch, classes=7).compute()["top5_error"] == pytest.approx(2 / 7)


@pytest.mark.parametrize(("classes", "has"), [(5, False), (6, True)])
def test_top5_needs_more_than_five_classes(classes, has):
    assert ("top5_error" in added(outputs([0], [0]), classes=classes).compute()) == has


def test_no_example_is_not_a_number():
    for metrics in (added(), added(outputs([1], [0], mask=[0]))):
        scores = metrics.compute()
        assert math.isnan(scores["loss"])
        assert math.isnan(scores["error"])
        assert scores["count"] == 0
        assert metrics.worst() == []
    assert math.isnan(added(classes=6).compute()["top5_error"])


def test_batches_add_up_to_the_whole():
    rng = np.random.default_rng(0)
    n, classes = 60, 7
    whole = outputs(
        rng.integers(0, classes, n),
        rng.integers(0, classes, n),
        mask=rng.integers(0, 2, n),
        loss=rng.random(n),
        rank=rng.integers(0, classes, n),
        probability=rng.random(n),
    )
    parts = [{name: array[start : start + 7] for name, array in whole.items()} for start in range(0, n, 7)]
    one, many = added(whole, classes=classes), added(*parts, classes=classes)
    assert one.compute() == pytest.approx(many.compute())
    np.testing.assert_array_equal(one.confusion, many.confusion)
    assert one.worst() == many.worst()
    counted = whole["mask"] > 0
    wrong = whole["label"] != whole["predicted"]
    assert one.compute() == pytest.approx(
        {
            "loss": whole["loss"][counted].mean(),
            "error": wrong[counted].mean(),
            "top5_error": (whole["rank"] >= 5)[counted].mean(),
            "count": counted.sum(),
        }
    )


def test_the_surest_mistakes_come_first_and_the_rest_is_dropped():
    first = outputs([0, 0, 0, 0], [1, 1, 0, 2], probability=[0.5, 0.75, 1.0, 0.25], index=[0, 1, 2, 3])
    second = outputs([1, 1], [0, 2], probability=[0.625, 0.125], index=[4, 5])
    assert [row["index"] for row in added(first, second).worst()] == [1, 4, 0, 3, 5]
    metrics = added(first, second, keep_worst=2)
    assert metrics.worst() == [
        {"index": 1, "label": 0, "predicted": 1, "probability": 0.75},
        {"index": 4, "label": 1, "predicted": 0, "probability": 0.625},
    ]


def test_equally_sure_mistakes_come_in_the_order_of_the_source_whatever_the_batches():
    batches = [outputs([0, 0], [1, 1], index=pair) for pair in ([4, 1], [3, 0], [5, 2])]
    assert [row["index"] for row in added(*batches, keep_worst=3).worst()] == [0, 1, 2]
    assert [row["index"] for row in added(*reversed(batches), keep_worst=3).worst()] == [0, 1, 2]


def test_each_counted_example_is_told_in_the_order_of_the_source():
    first = outputs([0, 1, 2], [0, 2, 2], index=[7, 2, 0], mask=[1, 1, 0])
    second = outputs([1, 2], [1, 0], index=[4, 0])
    for batches in ((first, second), (second, first)):
        examples = added(*batches).examples()
        assert {name: array.tolist() for name, array in examples.items()} == {
            "index": [0, 2, 4, 7],
            "label": [2, 1, 1, 0],
            "predicted": [0, 2, 1, 0],
        }
    assert all(len(array) == 0 for array in added().examples().values())


def test_the_worst_are_plain_numbers():
    row = added(outputs([0], [1])).worst()[0]
    assert {name: type(value) for name, value in row.items()} == {
        "index": int,
        "label": int,
        "predicted": int,
        "probability": float,
    }
