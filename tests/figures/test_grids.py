"""Figures of sampling grids: the frame lies where the grid samples, and every part says what it is."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from cnnlab.figures.grids import COLOURS, LINES, TOP, draw_grid, transforms_figure
from cnnlab.ops.grid_sample import centres


def test_the_frame_lies_where_the_grid_samples():
    axes = Figure().add_subplot()
    draw_grid(axes, 0.5 * centres((9, 9)) + np.array([0.5, 0.0]), (28, 28), COLOURS[0])
    lines = [line.get_xydata() for line in axes.lines]
    assert len(lines) == 2 * LINES + 1
    # Half the picture's size, to the right by a quarter of it: centres 28/4 · 8/9 about (20.5, 13.5).
    reach = 7 * 8 / 9
    np.testing.assert_allclose(lines[0][[0, -1]], [[20.5 - reach, 13.5 - reach], [20.5 + reach, 13.5 - reach]])
    assert axes.lines[-1].get_color() == TOP
    np.testing.assert_allclose(lines[-1], lines[0])


@pytest.mark.parametrize("channels", [1, 3, 7])
def test_every_picture_is_shown_with_what_comes_of_it(channels):
    pictures = np.zeros((10, 12, 12, 1), np.uint8)
    grid, transformed = np.stack([centres((6, 6))] * 10), np.zeros((10, 6, 6, channels), np.float32)
    seen = [{"grid": grid, "transformed": transformed}] * 2
    figure = transforms_figure(pictures, seen, [str(i) for i in range(10)], "deep")
    assert len(figure.axes) == 10 * 3
    assert [axes.get_title() for axes in figure.axes][::3] == [str(i) for i in range(10)]
    assert "deep" in figure.get_suptitle()
    assert len(figure.axes[0].lines) == 2 * (2 * LINES + 1)
