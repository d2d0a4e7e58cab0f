"""COCO's figures by its own program, on what can be counted by hand."""

import numpy as np
import pytest

from cnnlab.metrics.coco_scores import NAMES, Judged, coco_scores


def picture(findings, objects, area=None):
    """Findings (box, score, class) and objects (box, class, ignored)."""
    found, true = (np.array([row[0] for row in rows], np.float32).reshape(-1, 4) for rows in (findings, objects))
    return Judged(
        found,
        np.array([row[1] for row in findings], np.float32),
        np.array([row[2] for row in findings], np.int32),
        true,
        np.array([row[1] for row in objects], np.int32),
        np.array([row[2] for row in objects], bool),
        (true[:, 2:] - true[:, :2]).prod(-1) if area is None else np.array(area, np.float32),
    )


SQUARE = (0, 0, 10, 10)
FAR = (50, 50, 60, 60)
WIDE = (100, 0, 140, 40)


def test_all_found_is_1():
    scores = coco_scores({5: picture([(SQUARE, 0.9, 0), (FAR, 0.8, 1)], [(SQUARE, 0, False), (FAR, 1, False)])}, 2)
    assert [scores[name] for name in ("AP", "AP50", "AP75", "AP_small")] == pytest.approx([1] * 4)
    assert "AP_medium" not in scores
    assert "AP_large" not in scores
    assert set(scores) <= set(NAMES)


def test_half_found_is_half_of_101_recalls():
    scores = coco_scores({0: picture([(SQUARE, 0.9, 0)], [(SQUARE, 0, False), (FAR, 0, False)])}, 1)
    assert scores["AP"] == pytest.approx(51 / 101)
    assert scores["AR100"] == pytest.approx(0.5)


def test_a_loose_box_is_right_up_to_its_overlap():
    scores = coco_scores({0: picture([((0, 0, 10, 6.1), 0.9, 0)], [(SQUARE, 0, False)])}, 1)
    assert scores["AP50"] == pytest.approx(1)
    assert scores["AP75"] == 0
    assert scores["AP"] == pytest.approx(3 / 10)  # at 0.5, 0.55 and 0.6 of the ten


def test_sizes_go_by_the_area_that_is_given():
    one = picture([(WIDE, 0.9, 0)], [(WIDE, 0, False)])
    assert {"AP_medium"} == {name for name in coco_scores({0: one}, 1) if name.startswith("AP_")}
    thin = picture([(WIDE, 0.9, 0)], [(WIDE, 0, False)], area=[100])
    assert {"AP_small"} == {name for name in coco_scores({0: thin}, 1) if name.startswith("AP_")}


def test_findings_in_a_crowd_count_for_nothing():
    crowd = (0, 0, 40, 40)
    objects = [(crowd, 0, True), (FAR, 0, False)]
    findings = [(SQUARE, 0.95, 0), ((5, 5, 15, 15), 0.9, 0), (FAR, 0.5, 0)]
    assert coco_scores({0: picture(findings, objects)}, 1)["AP"] == pytest.approx(1)


def test_pictures_and_classes_are_kept_apart():
    pictures = {0: picture([(SQUARE, 0.9, 0)], [(FAR, 0, False)]), 9: picture([(FAR, 0.9, 1)], [(SQUARE, 0, False)])}
    assert coco_scores(pictures, 2)["AP"] == 0


def test_nothing_found_is_0_and_nothing_to_find_is_nothing(capsys):
    assert coco_scores({0: picture([], [(SQUARE, 0, False)])}, 1)["AP"] == 0
    assert coco_scores({0: picture([(SQUARE, 0.9, 0)], [(SQUARE, 0, True)])}, 1) == {}
    assert coco_scores({}, 1) == {}
    assert capsys.readouterr().out == ""
