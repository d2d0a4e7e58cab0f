"""Anchors by hand, and torchvision's as they are published."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.errors import UserError
from cnnlab.ops.anchors import cell_anchors, grid_anchors, pyramid_anchors
from cnnlab.ops.boxes import inside

PAPER = ((128, 256, 512), (0.5, 1, 2))


def test_the_papers_anchors_have_its_areas_and_ratios():
    cell = np.asarray(cell_anchors(*PAPER), np.float64)
    assert cell.shape == (9, 4)
    np.testing.assert_array_equal(cell[:, :2], -cell[:, 2:])
    width, height = (2 * cell[:, 2:]).T
    np.testing.assert_allclose(width * height, [128**2, 256**2, 512**2] * 3, rtol=1e-5)
    np.testing.assert_allclose(height / width, [0.5] * 3 + [1] * 3 + [2] * 3, rtol=1e-5)


def test_rounded_ones_are_torchvisions():
    # As torchvision.models.detection.anchor_utils.AnchorGenerator makes them of size 32: 45.25 × 22.63, halved.
    assert cell_anchors((32,), (0.5, 1, 2), rounded=True).tolist() == [
        [-23, -11, 23, 11],
        [-16, -16, 16, 16],
        [-11, -23, 11, 23],
    ]
    # A half goes to the even number.
    assert cell_anchors((5, 7), (1,), rounded=True).tolist() == [[-2, -2, 2, 2], [-4, -4, 4, 4]]
    assert cell_anchors((5,), (1,)).tolist() == [[-2.5, -2.5, 2.5, 2.5]]


def test_anchors_go_by_row_column_and_cell():
    cell = jnp.array([[-1.0, -2, 1, 2], [-3, -3, 3, 3]])
    found = np.asarray(grid_anchors((2, 3), (10, 100), cell)).reshape(2, 3, 2, 4)
    for row in range(2):
        for column in range(3):
            centre = np.array([100 * column, 10 * row] * 2)
            np.testing.assert_array_equal(found[row, column], centre + np.asarray(cell))


def test_the_offset_is_in_strides():
    cell = jnp.array([[-8.0, -8, 8, 8]])
    assert grid_anchors((2, 1), 16, cell).tolist() == [[-8, -8, 8, 8], [-8, 8, 8, 24]]
    assert grid_anchors((2, 1), (16, 4), cell, offset=0.5).tolist() == [[-6, 0, 10, 16], [-6, 16, 10, 32]]


def test_a_pyramids_anchors_follow_each_other():
    cells = [cell_anchors((32,), (1,)), cell_anchors((64,), (1, 2))]
    shapes, strides = [(2, 2), (1, 1)], [8, (16, 20)]
    found = pyramid_anchors(shapes, strides, cells, offset=0.5)
    parts = [grid_anchors(*args, 0.5) for args in zip(shapes, strides, cells, strict=True)]
    assert found.shape == (6, 4)
    np.testing.assert_array_equal(found, np.concatenate(parts))


def test_which_cross_the_border():
    # Of 3×3 places 16 pixels apart, with anchors of 32, only the middle one's lies within 48×48 pixels.
    anchors = grid_anchors((3, 3), 16, cell_anchors((32,), (1,)), offset=0.5)
    assert jnp.nonzero(inside(anchors, jnp.array([48, 48])))[0].tolist() == [4]


def test_anchors_are_computed_by_the_program_and_not_stored_in_it():
    shapes = [(200, 304), (100, 152)]
    run = jax.jit(lambda shift: pyramid_anchors(shapes, [4, 8], [cell_anchors((32,), (0.5, 1, 2))] * 2) + shift)
    compiled = run.lower(1.0).compile()
    assert compiled(1.0).shape == (3 * (200 * 304 + 100 * 152), 4)
    assert len(compiled.as_text()) < 100_000


@pytest.mark.parametrize("wrong", [((), (1,)), ((32,), ()), ((0,), (1,)), ((32,), (1, -1))])
def test_sizes_and_ratios_are_positive(wrong):
    with pytest.raises(UserError, match="above 0"):
        cell_anchors(*wrong)
