"""Figures of boxes: what stands on them and where, and that all can be saved without a warning."""

import io

import numpy as np
import pytest
from PIL import Image

from cnnlab.figures import boxes as box_figures
from cnnlab.metrics.detection import DetectionMetrics
from tests.metrics.test_detection import FAR, HALF, SQUARE, THIRD, added, boxes, outputs

NAMES = ("a", "b")


def save(figure):
    """The figure as a picture; warnings are errors in these tests."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=box_figures.DPI)
    return np.asarray(Image.open(buffer).convert("RGB"))


def grey(height=80, width=100):
    return np.full((height, width, 3), 120, np.uint8)


@pytest.mark.parametrize("count", [0, 1, 3, 20, 80])
def test_each_class_has_a_colour_of_its_own(count):
    colours = box_figures.class_colours(count)
    assert len(set(colours)) == count
    assert all(0 <= value <= 1 for colour in colours for value in colour)
    assert colours[:3] == box_figures.class_colours(100)[: min(count, 3)]


def test_a_picture_is_drawn_pixel_for_pixel_with_its_boxes():
    figure = box_figures.picture_figure(grey(600, 500), boxes((100, 200, 300, 400)), ["b"], [0.75], NAMES)
    assert [text.get_text() for text in figure.axes[0].texts] == ["b 75%"]
    drawn = save(figure)
    assert drawn.shape == (600, 500, 3)
    assert (drawn[300, 200] == 120).all()
    colour = np.round(255 * np.array(box_figures.class_colours(2)[1]))
    for y, x in ((300, 100), (300, 300), (400, 200)):  # on the left, right and lower edge
        near = drawn[y - 1 : y + 2, x - 1 : x + 2].reshape(-1, 3)
        assert np.abs(near - colour).max(1).min() <= 3
    assert (drawn[300, 110] == 120).all()


def test_a_small_picture_is_enlarged_by_a_whole_factor():
    drawn = save(box_figures.picture_figure(grey(60, 100), boxes(), [], [], NAMES))
    assert drawn.shape == (300, 500, 3)
    assert (drawn == 120).all()


def test_the_surest_boxes_are_drawn_last():
    three = boxes((0, 0, 50, 50), (5, 5, 50, 50), (10, 10, 50, 50))
    figure = box_figures.picture_figure(grey(), three, ["a", "b", "a"], [0.5, 0.9, 0.7], NAMES)
    assert [text.get_text() for text in figure.axes[0].texts] == ["a 50%", "a 70%", "b 90%"]


@pytest.mark.parametrize(
    ("box", "side", "place"),
    [
        ((10, 30, 40, 60), ("left", "bottom"), (9.5, 29.5)),
        ((10, 1, 40, 60), ("left", "top"), (9.5, 0.5)),
        ((90, 30, 99, 60), ("right", "bottom"), (98.5, 29.5)),
        ((-20, -20, 400, 300), ("left", "top"), (-1.0, -1.0)),
    ],
)
def test_captions_stay_within_the_picture(box, side, place):
    text = box_figures.picture_figure(grey(), boxes(box), ["a"], [0.5], NAMES).axes[0].texts[0]
    assert (text.get_ha(), text.get_va()) == side
    assert text.get_position() == place


@pytest.mark.parametrize("count", [1, 5])
def test_a_sheet_of_findings_or_of_objects(count):
    rows = [{"boxes": [SQUARE, FAR], "classes": ["a", "b"], "scores": [0.9, 0.5]}] * (count - 1)
    rows.append({"boxes": [SQUARE], "classes": ["b"]})
    titles = [f"picture {i}" for i in range(count)]
    figure = box_figures.boxes_sheet([grey()] * count, titles, rows, NAMES, "Found")
    assert [axes.get_title() for axes in figure.axes] == titles
    said = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    assert said == [["b 50%", "a 90%"]] * (count - 1) + [["b"]]
    save(figure)


def test_curves_have_a_line_a_class_by_falling_precision_and_their_mean():
    objects = [(SQUARE, 0, False), (SQUARE, 1, False), (FAR, 1, False)]
    metrics = added(outputs((0, [(SQUARE, 0.9, 1), (FAR, 0.4, 1), (FAR, 0.8, 0)], objects)), names=("a", "b", "c"))
    figure = box_figures.precision_recall_figure(metrics.classes())
    lines = [line for line in figure.axes[0].lines if not line.get_label().startswith("_")]
    assert [line.get_label() for line in lines] == ["b 100.0% of 2", "a 0.0% of 1", "mean 50.0%", "score 50%"]
    assert lines[0].get_xydata().tolist() == [[0.5, 1], [1, 1]]
    assert lines[1].get_xydata().tolist() == [[0, 0]]
    np.testing.assert_allclose(lines[2].get_ydata(), 0.5)
    dots = [line.get_xydata().tolist() for line in figure.axes[0].lines if line.get_label().startswith("_")]
    assert dots == [[[0.5, 1]], [[0, 0]]]
    save(figure)


@pytest.mark.parametrize("classes", [0, 1, 12, 80])
def test_curves_of_few_and_many_classes(classes):
    names = [f"class {k}" for k in range(classes)]
    objects = [(SQUARE, k, False) for k in range(classes)]
    metrics = added(outputs((0, [(SQUARE, 0.9, k) for k in range(0, classes, 2)], objects)), names=names)
    save(box_figures.precision_recall_figure(metrics.classes()))


def test_mistakes_stand_in_a_row_a_kind():
    findings = [(SQUARE, 0.9, 0), (HALF, 0.8, 0), (THIRD, 0.7, 0), (FAR, 0.6, 0)]
    metrics = added(outputs((7, findings, [(SQUARE, 0, False), (FAR, 1, False)])))
    asked = []

    def picture(index):
        asked.append(index)
        return grey()

    figure = box_figures.mistakes_figure(metrics, picture, 5)
    assert set(asked) == {7}
    heads = [part.get_suptitle() for part in figure.subfigs]
    assert [head.partition(":")[0] for head in heads] == ["missed", "false", "misplaced", "double"]
    titles = [[axes.get_title() for axes in part.axes] for part in figure.subfigs]
    assert titles == [
        ["b\nnothing near, picture 7"],
        ["a 60%\non a b, picture 7"],
        ["a 70%\nIoU 0.35, picture 7"],
        ["a 80%\nIoU 0.50, picture 7"],
    ]
    save(figure)


@pytest.mark.parametrize(
    ("box", "first", "last"),
    [
        ((40, 30, 60, 40), (26, 11), (74, 59)),  # 48 pixels at least
        ((30, 20, 70, 60), (10, 0), (90, 80)),  # twice the box
        ((0, 0, 10, 10), (0, 0), (48, 48)),  # in a corner
        ((90, 70, 100, 80), (52, 32), (100, 80)),
        ((0, 0, 100, 80), (0, 0), (100, 80)),  # the whole picture
    ],
)
def test_the_window_around_a_mistake(box, first, last):
    found = box_figures._window([float(x) for x in box], (80, 100))
    assert [tuple(corner.tolist()) for corner in found] == [first, last]


def test_no_mistakes():
    figure = box_figures.mistakes_figure(DetectionMetrics(NAMES), lambda index: grey())
    assert figure.get_suptitle() == "No mistakes"
    save(figure)
