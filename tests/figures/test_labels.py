"""Figures of label maps: colours, edges, what an overlay changes, legends."""

import numpy as np

from cnnlab.figures.labels import colours_of, comparison_sheet, edges, overlay, overlay_figure, overlay_sheet, plain

NAMES = ("background", "cat", "dog")
PICTURE = np.full((6, 8, 3), 100, np.uint8)
LABELS = np.zeros((6, 8), np.uint8)
LABELS[:, 4:] = 2
LABELS[5] = 255


def test_colours_differ_and_the_background_is_black():
    colours = colours_of(NAMES)
    assert colours[0].tolist() == [0, 0, 0]
    assert len({tuple(c) for c in colours.tolist()}) == 3
    assert colours_of(("sky", "road"))[0].any()


def test_an_overlay_leaves_background_and_void_and_draws_a_line_between():
    shown = overlay(PICTURE, LABELS, NAMES)
    assert (shown[0, 0] == 100).all()
    assert (shown[5] == 100).all()
    assert (shown[0, 3] == 255).all()  # the edge
    np.testing.assert_allclose(shown[0, 5], 55 + 0.45 * colours_of(NAMES)[2], atol=0.51)
    assert edges(LABELS)[:4, 3].all()
    assert edges(LABELS)[4].all()
    assert edges(LABELS).sum() == 4 + 8


def test_plain_maps():
    shown = plain(LABELS, NAMES)
    assert shown[0, 0].tolist() == [0, 0, 0]
    assert shown[5, 0].tolist() == [210] * 3


def texts(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_legends_name_what_is_seen():
    assert texts(overlay_figure(PICTURE, LABELS, NAMES)) == ["background", "dog"]
    assert texts(overlay_sheet([PICTURE] * 3, [LABELS] * 3, "abc", NAMES, "x")) == ["background", "dog"]
    sheet = comparison_sheet([PICTURE] * 3, [LABELS] * 3, [LABELS // 2] * 3, ["a", "b", "c"], NAMES, "x")
    assert texts(sheet) == ["background", "cat", "dog"]
    assert len(sheet.axes) == 9
    assert [axes.get_title() for axes in sheet.axes if axes.get_title()] == ["a", "b", "c"]
