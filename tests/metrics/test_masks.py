"""Mask scores: overlaps counted, precision by hand, beside pycocotools, and with boxes that fit where masks do not."""

import numpy as np
import pytest

from cnnlab.data.shapes import ShapesSource
from cnnlab.metrics import detection, masks
from cnnlab.metrics.masks import MaskMetrics, mask_overlaps
from tests.metrics.test_detection import outputs

SHAPE = (40, 60)


class Truths:
    """Objects' masks by picture."""

    class_names = ("a", "b")

    def __init__(self, *pictures):
        self.pictures = pictures

    def masks(self, index):
        return np.array(self.pictures[index], bool).reshape(-1, *SHAPE)


def filled(x0, y0, x1, y1):
    mask = np.zeros(SHAPE, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def with_masks(batch, maps):
    """A batch of boxes' outputs with the findings' maps, one list a picture."""
    found = np.zeros((*batch["predicted"].shape, 2, 2), np.uint8)
    for row, own in zip(found, maps, strict=True):
        row[: len(own)] = np.reshape(own, (-1, 2, 2))
    return {**batch, "masks": found, "original": np.array([SHAPE] * len(maps))}


def added(truths, *batches):
    metrics = MaskMetrics(("a", "b"))
    metrics.source = truths
    for batch in batches:
        metrics.add(batch)
    return metrics


FULL, LEFT, TOP = [[255, 255]] * 2, [[255, 0]] * 2, [[255, 255], [0, 0]]
BOX, FAR = (10, 10, 30, 30), (40, 10, 50, 20)


def test_overlaps_are_pixels():
    random = np.random.default_rng(0)
    one, other = random.random((3, 7, 11)) < 0.5, random.random((4, 7, 11)) < 0.3
    one[2] = other[3] = False
    found = mask_overlaps(one, other)
    for i, j in np.ndindex(3, 4):
        union = (one[i] | other[j]).sum()
        assert found[i, j] == ((one[i] & other[j]).sum() / union if union else 0)
    assert mask_overlaps(one[:0], other).shape == (0, 4)
    assert mask_overlaps(one, other[:0]).shape == (3, 0)


def test_masks_are_judged_by_masks_and_boxes_by_boxes():
    # Both boxes fit. Of class a the mask is right; of class b the left half was found, and the top half is there.
    findings, objects = [(BOX, 0.9, 0), (FAR, 0.8, 1)], [(BOX, 0, False), (FAR, 1, False)]
    truths = Truths([filled(*BOX), filled(40, 10, 50, 15)])
    metrics = added(truths, with_masks(outputs((0, findings, objects)), [[FULL, LEFT]]))
    scores = metrics.compute()
    assert scores["count"] == 1
    assert scores["AP50"] == 1
    assert scores["AP"] == pytest.approx(1)
    assert scores["mask_AP50"] == 0.5
    assert scores["mask_AP"] == pytest.approx(0.5)
    assert [each.average_precision for each in metrics.masks.classes()] == [1, 0]
    assert [each.average_precision for each in metrics.classes()] == [1, 1]
    one = metrics.pictures[0]
    assert one.overlap.tolist() == pytest.approx([1, 25 / 75])
    assert [row["overlap"] for row in metrics.masks.worst("misplaced")] == pytest.approx([25 / 75])
    assert [row["number"] for row in metrics.masks.worst("missed")] == [1]
    assert "mean" in metrics.table()
    assert metrics.table().count("COCO: AP") == 2


def test_the_finding_whose_mask_fits_better_is_an_objects():
    # Two objects share a box: the left half and the right.
    findings = [(BOX, 0.9, 0), (BOX, 0.8, 0)]
    truths = Truths([filled(20, 10, 30, 30), filled(10, 10, 20, 30)])
    right = [[0, 255]] * 2
    objects = [(BOX, 0, False), (BOX, 0, False)]
    metrics = added(truths, with_masks(outputs((0, findings, objects)), [[LEFT, right]]))
    assert metrics.compute()["mask_AP50"] == 1
    assert metrics.compute()["AP50"] == 0.5  # both findings are on the first box
    assert metrics.masks.pictures[0].matched.all()


def test_a_loose_mask_is_right_up_to_its_overlap():
    truths = Truths([filled(10, 10, 22, 30)])  # 12 of 20 columns
    metrics = added(truths, with_masks(outputs((0, [(BOX, 0.9, 0)], [(BOX, 0, False)])), [[FULL]]))
    scores = metrics.compute()
    assert (scores["mask_AP50"], scores["mask_AP75"]) == (1, 0)
    assert scores["mask_AP"] == pytest.approx(3 / 10)  # IoU 0.6: at 0.5, 0.55 and 0.6


def noisy(count=30):
    """Drawn shapes found with random errors, as batches of outputs."""
    source, random = ShapesSource("test", count, 64, 4), np.random.default_rng(0)
    for index in range(count):
        truth, batch = source.masks(index), source.batch(np.array([index]))
        boxes, label = batch["boxes"][0, : len(truth)], batch["label"][0, : len(truth)]
        moved = boxes + random.normal(0, 2, boxes.shape)
        maps = np.zeros((1, 2 * len(truth), 14, 14), np.uint8)
        for k, (x0, y0, x1, y1) in enumerate(moved):
            rows, columns = (np.linspace(a, b, 14).astype(int).clip(0, 63) for a, b in ((y0, y1), (x0, x1)))
            maps[0, k] = 255 * truth[k][np.ix_(rows, columns)]
            maps[0, k + len(truth)] = 255 * (random.random((14, 14)) < 0.7)
        yield {
            "mask": np.ones(1),
            "index": np.array([index]),
            "boxes": np.concatenate([moved, boxes])[None],
            "score": random.random((1, 2 * len(truth))),
            "predicted": np.concatenate([label, random.integers(0, 5, len(label))])[None],
            "true_boxes": batch["boxes"],
            "label": batch["label"],
            "ignored": batch["ignored"],
            "area": batch["area"],
            "masks": maps,
            "original": np.array([[64, 64]]),
        }


def test_without_pycocotools_there_is_the_same_ap50(monkeypatch, capsys):
    source = ShapesSource("test", 30, 64, 4)
    metrics = MaskMetrics(source.class_names)
    metrics.source = source
    for batch in noisy():
        metrics.add(batch)
    own, cocos = metrics.compute()["mask_AP50"], metrics.masks.coco()["AP50"]
    # COCO's is read off at 101 recalls, and takes the next best object where the best is taken.
    assert 0.2 < own < 0.9
    assert own == pytest.approx(cocos, abs=0.03)
    monkeypatch.setattr(detection, "has_coco_tool", lambda: False)
    monkeypatch.setattr(masks, "has_coco_tool", lambda: False)
    without = MaskMetrics(source.class_names)
    without.source = source
    for batch in noisy():
        without.add(batch)
    scores = without.compute()
    assert scores["mask_AP50"] == own
    assert set(scores) == {"AP50", "mask_AP50", "count"}
    assert "COCO's scores are left out" in capsys.readouterr().err


def test_pictures_without_anything_and_those_that_are_masked_out():
    truths = Truths([filled(*BOX)], [filled(*FAR)], [])
    assert np.isnan(added(truths).compute()["mask_AP50"])
    each = [
        with_masks(outputs((index, [(box, 0.9, 0)], [(box, 0, False)])), [[FULL]])
        for index, box in enumerate((BOX, FAR))
    ]
    empty = with_masks(outputs((2, [], [])), [[]])
    metrics = added(truths, *each, empty, {**empty, "mask": np.zeros(1), "index": np.array([77])})
    assert metrics.compute() == pytest.approx(
        {"AP50": 1, "AP": 1, "AP75": 1, "mask_AP50": 1, "mask_AP": 1, "mask_AP75": 1, "count": 3}
    )
