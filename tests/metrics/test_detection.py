"""Average precision by hand: matching, ignored objects, both of VOC's rules, and mistakes of each kind."""

import math

import numpy as np
import pytest

from cnnlab.experiment import Metrics
from cnnlab.metrics import detection
from cnnlab.metrics.detection import (
    KINDS,
    NEITHER,
    RIGHT,
    WRONG,
    DetectionMetrics,
    average_precision,
    judge,
    overlaps,
    precision_recall,
)


def boxes(*rows):
    return np.array(rows, np.float32).reshape(-1, 4)


def outputs(*pictures, mask=None):
    """One batch: of each picture (index, findings (box, score, class), objects (box, class, ignored)), padded."""
    n = len(pictures)
    found, true = (max(1, *(len(picture[i]) for picture in pictures)) + 1 for i in (1, 2))
    batch = {
        "mask": np.ones(n, np.float32) if mask is None else np.array(mask, np.float32),
        "index": np.array([picture[0] for picture in pictures], np.int32),
        "boxes": np.zeros((n, found, 4), np.float32),
        "score": np.zeros((n, found), np.float32),
        "predicted": np.full((n, found), -1, np.int32),
        "true_boxes": np.zeros((n, true, 4), np.float32),
        "label": np.full((n, true), -1, np.int32),
        "ignored": np.zeros((n, true), bool),
    }
    for i, (_, findings, objects) in enumerate(pictures):
        for j, (box, score, k) in enumerate(findings):
            batch["boxes"][i, j], batch["score"][i, j], batch["predicted"][i, j] = box, score, k
        for j, (box, k, ignored) in enumerate(objects):
            batch["true_boxes"][i, j], batch["label"][i, j], batch["ignored"][i, j] = box, k, ignored
    return batch


def added(*batches, names=("a", "b"), **options):
    metrics = DetectionMetrics(names, **options)
    for batch in batches:
        metrics.add(batch)
    return metrics


SQUARE = (0, 0, 10, 10)
HALF = (0, 0, 10, 5)  # IoU 0.5 with SQUARE
THIRD = (0, 0, 5, 7)  # IoU 0.35
FAR = (50, 50, 60, 60)


def test_overlaps_by_hand():
    found = overlaps(
        boxes(SQUARE, (5, 5, 15, 15), FAR).astype(float), boxes(SQUARE, HALF, (10, 0, 20, 10)).astype(float)
    )
    np.testing.assert_allclose(found, [[1, 0.5, 0], [25 / 175, 0, 25 / 175], [0, 0, 0]], rtol=1e-6)
    assert overlaps(np.zeros((2, 4)), np.zeros((1, 4))).tolist() == [[0], [0]]
    assert overlaps(np.zeros((0, 4)), np.zeros((3, 4))).shape == (0, 3)


def test_an_object_is_found_once_by_the_surest():
    found = boxes(HALF, SQUARE, FAR, THIRD)
    verdict, overlap, best = judge(found, np.array([0.5, 0.9, 0.7, 0.95]), boxes(SQUARE), np.array([False]))
    assert verdict.tolist() == [WRONG, RIGHT, WRONG, WRONG]
    np.testing.assert_allclose(overlap, [0.5, 1, 0, 0.35])
    assert best.tolist() == [0, 0, 0, 0]
    verdict, _, _ = judge(found[:2], np.array([0.9, 0.5]), boxes(SQUARE), np.array([False]))
    assert verdict.tolist() == [RIGHT, WRONG]


def test_of_equal_scores_the_first_comes_first():
    verdict, _, _ = judge(boxes(HALF, SQUARE), np.array([0.5, 0.5]), boxes(SQUARE), np.array([False]))
    assert verdict.tolist() == [RIGHT, WRONG]


def test_an_iou_of_exactly_a_half_is_right_and_less_is_wrong():
    under = boxes((0, 0, 10, 4.99))
    assert judge(boxes(HALF), np.ones(1), boxes(SQUARE), np.array([False]))[0].tolist() == [RIGHT]
    assert judge(under, np.ones(1), boxes(SQUARE), np.array([False]))[0].tolist() == [WRONG]


def test_a_finding_goes_to_the_object_that_it_overlaps_most_also_where_that_is_taken():
    """As in VOC's program: the second finding would be right on the other object, but overlaps it less."""
    truth = boxes(SQUARE, (0, 0, 10, 6))
    verdict, _, best = judge(boxes(SQUARE, (0, 0, 10, 9)), np.array([0.9, 0.8]), truth, np.array([False, False]))
    assert best.tolist() == [0, 0]
    assert verdict.tolist() == [RIGHT, WRONG]


def test_findings_on_an_ignored_object_are_neither_right_nor_wrong_however_many():
    found = boxes(SQUARE, HALF, THIRD)
    verdict, _, _ = judge(found, np.array([0.9, 0.8, 0.7]), boxes(SQUARE), np.array([True]))
    assert verdict.tolist() == [NEITHER, NEITHER, WRONG]


def test_nothing_to_find_and_nothing_found():
    verdict, overlap, best = judge(boxes(SQUARE), np.ones(1), boxes(), np.zeros(0, bool))
    assert (verdict.tolist(), overlap.tolist(), best.tolist()) == ([WRONG], [0], [-1])
    assert len(judge(boxes(), np.zeros(0), boxes(SQUARE), np.array([False]))[0]) == 0


def test_precision_and_recall():
    precision, recall = precision_recall(np.array([True, False, True, True]), 5)
    np.testing.assert_allclose(precision, [1, 1 / 2, 2 / 3, 3 / 4])
    np.testing.assert_allclose(recall, [0.2, 0.2, 0.4, 0.6])


def test_average_precision_by_hand():
    # Precision 1, 1/2, 2/3, 3/4 at recall 0.2, 0.2, 0.4, 0.6: the envelope is 1 until 0.2 and 3/4 until 0.6.
    right = np.array([True, False, True, True])
    assert average_precision(right, 5) == pytest.approx(0.2 * 1 + 0.4 * 0.75)
    # At the recalls 0, 0.1, 0.2 it is 1; at 0.3, 0.4, 0.5, 0.6 it is 3/4; from 0.7 on 0.
    assert average_precision(right, 5, 11) == pytest.approx((3 * 1 + 4 * 0.75) / 11)


def test_recalls_are_compared_without_rounding():
    """3 of 10 reach the recall 0.3, though 3/10 as a float is below 3·0.1."""
    right = np.array([True] * 3)
    assert average_precision(right, 10, 11) == pytest.approx(4 / 11)
    assert average_precision(np.array([True] * 7), 10, 11) == pytest.approx(8 / 11)


def test_average_precision_of_all_and_of_nothing():
    for points in (0, 11):
        assert average_precision(np.array([True, True]), 2, points) == 1
        assert average_precision(np.array([True, True, False]), 2, points) == 1
        assert average_precision(np.array([False, False]), 2, points) == 0
        assert average_precision(np.zeros(0, bool), 2, points) == 0
        assert math.isnan(average_precision(np.zeros(0, bool), 0, points))
        assert math.isnan(average_precision(np.array([False]), 0, points))


def test_the_area_is_that_under_a_curve_of_many_steps():
    """Beside the definition: the mean over truths of the highest precision from there on."""
    random = np.random.default_rng(0)
    for _ in range(20):
        right = random.random(40) < 0.6
        truths = int(right.sum()) + int(random.integers(0, 9))
        precision, recall = precision_recall(right, truths)
        steps = [
            max((p for p, r in zip(precision, recall, strict=True) if r >= (k + 0.5) / truths), default=0)
            for k in range(truths)
        ]
        assert average_precision(right, truths) == pytest.approx(np.mean(steps))
        eleven = [max((p for p, r in zip(precision, recall, strict=True) if r >= t - 1e-9), default=0) for t in TENTHS]
        assert average_precision(right, truths, 11) == pytest.approx(np.mean(eleven))


TENTHS = [k / 10 for k in range(11)]


def test_classes_and_means_by_hand():
    metrics = added(
        outputs(
            (3, [(SQUARE, 0.9, 0), (FAR, 0.8, 0), (SQUARE, 0.7, 1)], [(SQUARE, 0, False), (SQUARE, 1, True)]),
            (1, [(HALF, 0.6, 0), (FAR, 0.95, 1)], [(SQUARE, 0, False), (FAR, 1, False), (HALF, 1, False)]),
        )
    )
    assert isinstance(metrics, Metrics)
    a, b = metrics.classes()
    assert (a.name, a.truths, a.right.tolist()) == ("a", 2, [True, False, True])
    np.testing.assert_allclose(a.score, [0.9, 0.8, 0.6])
    assert (b.name, b.truths, b.right.tolist()) == ("b", 2, [True])  # what lies on the ignored object does not count
    assert a.average_precision == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert b.average_precision == pytest.approx(0.5)
    assert b.eleven_points == pytest.approx(6 / 11)
    scores = metrics.compute()
    assert scores["AP50"] == pytest.approx((5 / 6 + 1 / 2) / 2)
    assert scores["count"] == 2
    assert set(scores) == {"AP50", "AP", "AP75", "count"}


def test_classes_without_objects_are_no_part_of_the_mean():
    metrics = added(outputs((0, [(SQUARE, 0.9, 0), (FAR, 0.9, 1)], [(SQUARE, 0, False)])))
    assert metrics.compute()["AP50"] == 1
    assert math.isnan(metrics.classes()[1].average_precision)


def test_what_is_masked_counts_for_nothing():
    pictures = [(0, [(SQUARE, 0.9, 0)], [(SQUARE, 0, False)]), (0, [(FAR, 0.99, 0)], [(SQUARE, 0, False)])]
    metrics = added(outputs(*pictures, mask=[1, 0]))
    assert metrics.compute()["AP50"] == 1
    assert metrics.compute()["count"] == 1


def test_no_picture_and_no_object_are_not_a_number():
    for metrics in (added(), added(outputs((0, [(SQUARE, 0.9, 0)], [])))):
        scores = metrics.compute()
        assert math.isnan(scores["AP50"])
        assert "AP" not in scores
        assert "class" in metrics.table()
        assert [row["kind"] for kind in KINDS for row in metrics.worst(kind)] == ["false"] * len(metrics.pictures)


def test_batches_add_up_in_any_order():
    random = np.random.default_rng(0)
    pictures = []
    for index in range(12):
        corners = random.uniform(0, 40, (6, 2))
        rows = [(*corner, *(corner + random.uniform(10, 30, 2))) for corner in corners]
        objects = [(row, int(random.integers(2)), bool(random.random() < 0.2)) for row in rows[:4]]
        findings = [(np.array(row) + random.normal(0, 3), random.random(), int(random.integers(2))) for row in rows]
        pictures.append((index, findings, objects))
    whole = added(outputs(*pictures))
    parts = added(*(outputs(*pictures[start : start + 5]) for start in (5, 10, 0)))
    assert whole.compute() == parts.compute()
    assert whole.table() == parts.table()
    assert all(whole.worst(kind) == parts.worst(kind) for kind in KINDS)
    assert 0 < whole.compute()["AP50"] < 1


def test_mistakes_of_each_kind():
    findings = [
        (SQUARE, 0.9, 0),  # right
        (HALF, 0.8, 0),  # a second time
        ((0, 0, 5, 7), 0.7, 0),  # beside it
        (FAR, 0.6, 0),  # on an object of another class
        ((90, 90, 99, 99), 0.5, 1),  # on nothing
        ((20, 0, 30, 10), 0.4, 0),  # on an ignored object
    ]
    objects = [(SQUARE, 0, False), (FAR, 1, False), ((20, 0, 30, 10), 0, True), ((70, 0, 75, 5), 1, False)]
    metrics = added(outputs((7, findings, objects)))
    rows = {kind: metrics.worst(kind) for kind in KINDS}
    # Of the missed ones the larger comes first.
    assert [(row["label"], row["box"]) for row in rows["missed"]] == [(1, [*FAR]), (1, [70, 0, 75, 5])]
    assert [(row["label"], row["other"]) for row in rows["false"]] == [(0, 1), (1, -1)]
    assert [round(row["score"], 3) for row in rows["false"]] == [0.6, 0.5]
    assert [(row["box"], round(row["overlap"], 3)) for row in rows["misplaced"]] == [([0, 0, 5, 7], 0.35)]
    assert [row["box"] for row in rows["double"]] == [[*HALF]]
    assert [[row["number"] for row in found] for found in rows.values()] == [[1, 3], [3, 4], [2], [1]]
    assert all(row["index"] == 7 and row["kind"] == kind for kind, found in rows.items() for row in found)
    for row in rows["false"]:
        assert {name: type(value) for name, value in row.items()} == {
            "kind": str,
            "index": int,
            "number": int,
            "box": list,
            "label": int,
            "score": float,
            "overlap": float,
            "other": int,
        }


def test_a_missed_object_tells_how_near_a_finding_of_its_class_came():
    objects = [(SQUARE, 0, False)]
    row = added(outputs((0, [(THIRD, 0.9, 0), (HALF, 0.9, 1)], objects))).worst("missed")[0]
    assert row["overlap"] == pytest.approx(0.35)
    assert added(outputs((0, [(HALF, 0.9, 1)], objects))).worst("missed")[0]["overlap"] == 0


def test_only_the_worst_are_kept():
    findings = [(FAR, 0.01 * k, 0) for k in range(1, 31)]
    metrics = added(outputs((0, findings, [(SQUARE, 0, False)])), keep_worst=3)
    assert [round(row["score"], 2) for row in metrics.worst("false")] == [0.3, 0.29, 0.28]


def test_the_table():
    metrics = added(
        outputs((0, [(SQUARE, 0.9, 0), (FAR, 0.9, 2)], [(SQUARE, 0, False), (FAR, 1, False)])),
        names=("cell", "b", "c"),
    )
    lines = metrics.table().splitlines()
    assert lines[0].split() == ["class", "AP50", "11", "points", "objects", "findings"]
    assert lines[1].split() == ["cell", "100.00%", "100.00%", "1", "1"]
    assert lines[2].split() == ["b", "0.00%", "0.00%", "1", "0"]
    assert lines[3].split() == ["c", "–", "–", "0", "1"]
    assert lines[4].split() == ["mean", "50.00%", "50.00%", "2", "2"]
    assert lines[5].startswith("COCO: AP 50.00%  AP50 50.00%  AP75 50.00%")
    assert len({len(line) for line in lines[:5]}) == 1


def test_without_cocos_tool_the_rest_is_told(monkeypatch, capsys):
    monkeypatch.setattr(detection, "has_coco_tool", lambda: False)
    metrics = added(outputs((0, [(SQUARE, 0.9, 0)], [(SQUARE, 0, False)])))
    for _ in range(2):
        assert metrics.compute() == {"AP50": 1, "count": 1}
    assert "COCO" not in metrics.table()
    assert capsys.readouterr().err == "COCO's scores are left out: they need pip install -e '.[detection]'\n"
