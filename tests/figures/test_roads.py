"""Figures of road maps: which pixels are right, wrong and missed, and the curve."""

import numpy as np

from cnnlab.figures import masks as mask_figures
from cnnlab.figures.roads import (
    FOUND,
    LONGEST,
    MISSED,
    RIGHT,
    SHOWN,
    WRONG,
    curve_figure,
    overlay,
    overlay_figure,
    overlay_sheet,
    smaller,
)
from cnnlab.metrics.roads import curve_of, nothing

BLACK = np.zeros((1, 12, 3), np.uint8)


def tint(colour):
    return mask_figures.overlay(BLACK[:, :1], np.ones((1, 1, 1), bool), [colour])[0, 0].tolist()


def test_right_wrong_and_missed_within_the_slack():
    found, truth = np.zeros((1, 12), bool), np.zeros((1, 12), bool)
    found[0, [0, 4, 5]], truth[0, [2, 10]] = True, True
    colours = overlay(BLACK, found, truth, 2.0)[0].tolist()
    # 5 is three from the nearest true pixel, 10 five from the nearest found one; 2 is found, two away.
    assert colours[0] == colours[4] == tint(RIGHT)
    assert colours[5] == tint(WRONG)
    assert colours[10] == tint(MISSED)
    assert all(colours[i] == [0, 0, 0] for i in (1, 2, 3, 6, 9, 11))


def test_without_a_truth_there_is_one_colour():
    colours = overlay(BLACK, np.arange(12)[None] < 3, None, 2.0)[0].tolist()
    assert colours[0] == tint(FOUND)
    assert colours[3] == [0, 0, 0]


def test_sheets_hold_pictures_of_any_size():
    sizes = [(40, 60), (SHOWN + 400, 100)]
    pictures = [np.zeros((*size, 3), np.uint8) for size in sizes]
    found = [np.ones(size, bool) for size in sizes]
    figure = overlay_sheet(pictures, found, [None, found[1]], ["a", "b"], 3.0)
    assert [axes.get_title() for axes in figure.axes] == ["a", "b"]
    assert smaller(pictures[1]).shape[0] == SHOWN


def test_a_large_picture_is_annotated_reduced():
    long = 2 * LONGEST
    figure = overlay_figure(np.zeros((long, 60, 3), np.uint8), np.arange(60)[None].repeat(long, 0) < 30, None, 3.0)
    shown = figure.axes[0].get_images()[0].get_array()
    assert shown.shape == (LONGEST, 30, 3)
    assert shown[LONGEST // 2, 5].tolist() == tint(FOUND)
    assert shown[LONGEST // 2, 25].tolist() == [0, 0, 0]
    width, height = figure.axes[0].get_window_extent().size
    assert (round(width), round(height)) == (30, LONGEST)


def test_the_curve_says_what_it_shows():
    truth = np.random.default_rng(0).random((40, 40)) < 0.2
    figure = curve_figure(curve_of(np.where(truth, 0.8, 0.3), truth, 0.0), 0.5, 0.0)
    text = " ".join(line.get_label() for line in figure.axes[0].lines)
    assert "break-even 100.0%" in text
    assert "threshold 0.5: precision 100.0%, recall 100.0%" in text
    assert curve_figure(nothing(), 0.5, 3.0).axes  # of pictures without a road, too
