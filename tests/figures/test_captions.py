"""Figures of captions: what stands under each picture in which colour, and that all can be saved without a warning."""

import itertools

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb

from cnnlab.figures import boxes as box_figures
from cnnlab.figures.captions import ACROSS, COLUMNS, TRUTH, alignment_sheet, captions_sheet
from cnnlab.metrics.captions import Said
from tests.figures.test_boxes import grey, save

LONG = "a large red circle above two small blue stars and a green square left of a cross"
ROW = {
    "phrases": [
        {"words": "a red circle", "region": 2, "score": 3.25},
        {"words": "left of", "region": 0, "score": -0.5},
        {"words": "a star", "region": 2, "score": 1.0},
    ],
    "boxes": [[0, 0, 1, 1], [0.5, 0.5, 1, 1], [0.25, 0.5, 0.75, 1]],
}


def texts(axes):
    return [text.get_text() for text in axes.texts]


def colours(axes):
    return [text.get_color() for text in axes.texts]


def lines_of(figure):
    """Of each picture where its texts and itself lie, in pixels from below."""
    figure.set_dpi(box_figures.DPI)
    renderer = FigureCanvasAgg(figure).get_renderer()
    for axes in figure.axes:
        yield [text.get_window_extent(renderer) for text in axes.texts], axes.get_window_extent(renderer)


def test_captions_in_the_colour_of_their_truth():
    said = [Said(0, "a star", "a red star", True), Said(1, "two stars", "one star", False), Said(4, "x", "a.png")]
    figure = captions_sheet([grey()] * 3, said, "Said")
    assert [texts(axes) for axes in figure.axes] == [
        ["a star", "a red star"],
        ["two stars", "one star"],
        ["x", "a.png"],
    ]
    assert [colours(axes)[0] for axes in figure.axes] == [TRUTH[True], TRUTH[False], TRUTH[None]]
    assert {colours(axes)[1] for axes in figure.axes} == {"grey"}
    assert TRUTH[True] != TRUTH[False]
    assert figure.get_suptitle() == "Said"
    save(figure)


def test_nothing_said_is_told():
    assert texts(captions_sheet([grey()], [Said(0, "", "")], "Said").axes[0]) == ["(nothing)"]


def test_long_sentences_are_wrapped_and_have_room():
    figure = captions_sheet([grey(), grey(40, 20)] * 3, [Said(i, LONG, LONG) for i in range(6)], "Said")
    first = texts(figure.axes[0])
    assert len(first) == 4
    assert " ".join(first) == f"{LONG} {LONG}"
    assert max(map(len, first)) <= ACROSS
    save(figure)
    height = figure.get_figheight() * box_figures.DPI
    pictures = [axes.get_window_extent() for axes in figure.axes]
    for i, (lines, own) in enumerate(lines_of(figure)):
        assert lines[0].y1 <= own.y0 + 1  # below its picture
        assert all(lower.y1 <= upper.y0 + 2 for upper, lower in itertools.pairwise(lines))
        below = pictures[i + COLUMNS].y1 if i + COLUMNS < len(pictures) else 0
        assert below < lines[-1].y0 < own.y0 < height


@pytest.mark.parametrize("count", [1, 4, 5, 9])
def test_pictures_are_in_a_grid(count):
    figure = captions_sheet([grey()] * count, [Said(i, "a", "b") for i in range(count)], "Said")
    lefts = {round(axes.get_position().x0, 4) for axes in figure.axes}
    lows = {round(axes.get_position().y0, 4) for axes in figure.axes}
    assert (len(lefts), len(lows)) == (min(count, COLUMNS), -(-count // COLUMNS))
    save(figure)


def test_signs_of_mathematics_are_only_signs():
    figure = captions_sheet([grey()], [Said(0, "a", "for $5 and $\\frac{ more")], "Said")
    save(figure)
    assert texts(figure.axes[0])[1] == "for $5 and $\\frac{ more"
    save(alignment_sheet([grey()], ["$a_$ ^.png"], [ROW], "Found"))


def test_phrases_have_the_colours_of_their_boxes():
    figure = alignment_sheet([grey(80, 100)], ["a.png"], [ROW], "Found")
    (axes,) = figure.axes
    assert texts(axes) == ["a.png", "3.25  a red circle", "-0.50  left of", "1.00  a star"]
    title, first, second, third = map(to_rgb, colours(axes))
    palette = box_figures.class_colours(3)
    assert title == (0, 0, 0)
    assert first == third == pytest.approx(tuple(0.75 * part for part in palette[2]))
    assert second == pytest.approx(tuple(0.75 * part for part in palette[0]))
    edges = [patch for patch in axes.patches if to_rgb(patch.get_edgecolor()) != (0, 0, 0)]
    # Regions that words belong to, in pixels; pixel (0, 0) is drawn around (0, 0).
    boxes = {to_rgb(patch.get_edgecolor()): patch.get_bbox().extents.tolist() for patch in edges}
    assert boxes == {palette[0]: [-0.5, -0.5, 99.5, 79.5], palette[2]: [24.5, 39.5, 74.5, 79.5]}
    save(figure)


def test_sheets_of_pictures_of_any_size():
    rows = [ROW, {"phrases": [], "boxes": []}, {**ROW, "boxes": np.array(ROW["boxes"], np.float32)}]
    figure = alignment_sheet([grey(), grey(200, 50), grey(10, 300)], ["", "b", LONG], rows, "Found")
    assert [len(axes.texts) for axes in figure.axes] == [3, 1, 5]
    assert [len(axes.patches) // 2 for axes in figure.axes] == [2, 0, 2]
    save(figure)
