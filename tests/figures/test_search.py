"""Figures of a search: boxes where they were found, mistakes in red, the best place ringed."""

import numpy as np

from cnnlab.figures import search as search_figures
from cnnlab.figures.search import RIGHT, WRONG, Map

NAMES = ("a", "b")


def box_of(axes):
    """Place and colour of the last box drawn whose line is not the white or the dark one."""
    found = [patch for patch in axes.patches if patch.get_edgecolor()[:3] in (RIGHT, WRONG)]
    assert len(found) == 1
    return (*found[0].get_xy(), found[0].get_width(), found[0].get_height()), found[0].get_edgecolor()[:3]


def test_a_miss_is_red_and_says_so():
    found = {
        "label": np.array([0, 1]),
        "predicted": np.array([0, 0]),
        "probability": np.array([0.5, 0.75]),
        "overlap": np.array([1.0, 0.0]),
        "box": np.array([[1.0, 2, 5, 6], [3.0, 3, 7, 7]]),
        "true_box": np.array([[1.0, 2, 5, 6], [0.0, 0, 2, 2]]),
    }
    sheet = search_figures.boxes_sheet(np.zeros((2, 8, 8, 1), np.uint8), found, NAMES, "Heading")
    right, wrong = sheet.axes
    assert box_of(right) == ((0.5, 1.5, 4, 4), RIGHT)
    assert box_of(wrong) == ((2.5, 2.5, 4, 4), WRONG)
    assert right.get_title() == "a 50.0%, IoU 1.00"
    assert wrong.get_title() == "a 75.0%, IoU 0.00\nin truth b"


def test_the_best_place_is_ringed():
    boxes = np.array([[[x, y, x + 4, y + 4] for x in (0, 4)] for y in (0, 4)], np.float32)
    small, large = np.zeros((2, 1, 2, 2, 2), np.float32)
    small[0, 1, 0, 1], large[0, 0, 1, 0] = 3, 2
    drawn = search_figures.search_figure(
        np.zeros((1, 8, 8, 1), np.uint8), [Map(0.5, boxes, small), Map(1.0, boxes, large)], NAMES
    )
    picture, first, second, _ = drawn.axes
    assert picture.get_title() == "b, log-odds 3.0"
    assert box_of(picture)[0] == (-0.5, 3.5, 4, 4)
    assert first.lines[0].get_xydata().tolist() == [[1.5, 5.5]]  # the middle of the box, on matplotlib's axes
    assert not second.lines
    assert first.images[0].get_extent() == [-0.5 + 0.0, 7.5, 7.5, -0.5]
    np.testing.assert_array_equal(first.images[0].get_array(), [[0, 0], [3, 0]])


def test_a_prediction_lies_on_the_picture_as_it_was_read():
    picture = {"image": np.zeros((8, 8, 1), np.uint8), "original": np.array([16, 32])}
    row = {"classes": ["a"], "scores": [0.9], "boxes": [[8.0, 4, 24, 12]]}
    sheet = search_figures.predictions_sheet([picture], ["name"], [row])
    assert box_of(sheet.axes[0])[0] == (1.5, 1.5, 4, 4)
    assert sheet.axes[0].get_title() == "name\na 90.0%"
