"""Warps: pixels, labels, boxes and points of tiny pictures against hand-computed ones, larger ones against scipy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from cnnlab.data.draws import check_range
from cnnlab.data.warp import move_boxes, move_points, warp
from cnnlab.errors import UserError


def matrices(*rows):
    """One map for one picture."""
    return jnp.array([rows], jnp.float32)


SAME = matrices([1, 0, 0], [0, 1, 0])
# x' = y, y' = 3 − x: a quarter turn anticlockwise of pictures of 3×3.
QUARTER = matrices([0, 1, 0], [-1, 0, 3])
NUMBERED = jnp.arange(1, 10, dtype=jnp.uint8).reshape(1, 3, 3, 1)


def image_of(batch):
    return np.asarray(batch["image"])[0, :, :, 0].tolist()


def test_a_quarter_turn_moves_all_that_is_there():
    batch = {
        "image": NUMBERED,
        "segmentation": jnp.arange(9, dtype=jnp.int32).reshape(1, 3, 3),
        # The pixel at the upper right, and the two lower ones at the left.
        "boxes": jnp.array([[[2, 0, 3, 1], [0, 1, 1, 3]]]),
        "points": jnp.array([[[2.5, 0.5], [0, 0]]]),
        "label": jnp.array([5]),
    }
    turned = warp(batch, QUARTER)
    assert image_of(turned) == [[3, 6, 9], [2, 5, 8], [1, 4, 7]]
    assert turned["image"].dtype == jnp.uint8
    assert turned["segmentation"].tolist() == [[[2, 5, 8], [1, 4, 7], [0, 3, 6]]]
    assert turned["segmentation"].dtype == jnp.int32
    assert turned["boxes"].tolist() == [[[0, 0, 1, 1], [1, 2, 3, 3]]]
    assert turned["points"].tolist() == [[[0.5, 0.5], [0, 3]]]
    assert turned["label"] is batch["label"]
    assert image_of(batch) == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


def test_a_move_by_whole_pixels_copies_them_and_fills_the_rest():
    right_and_up = matrices([1, 0, 1], [0, 1, -1])
    batch = {"image": jnp.tile(NUMBERED, (1, 1, 1, 2)), "segmentation": NUMBERED[..., 0]}
    moved = warp(batch, right_and_up, fill=(50, 60), fill_label=7)
    assert moved["image"][0, :, :, 0].tolist() == [[50, 4, 5], [50, 7, 8], [50, 50, 50]]
    assert moved["image"][0, :, :, 1].tolist() == [[60, 4, 5], [60, 7, 8], [60, 60, 60]]
    assert moved["segmentation"][0].tolist() == [[7, 4, 5], [7, 7, 8], [7, 7, 7]]
    assert warp(batch, right_and_up)["segmentation"][0, 0, 0] == 255


def test_between_pixels_values_are_interpolated_and_labels_are_not():
    row = jnp.array([[[10], [20], [40]]], jnp.uint8)[None]
    batch = {"image": row, "segmentation": row[..., 0]}
    moved = warp(batch, matrices([1, 0, 0.25], [0, 1, 0]))
    # The new centres ½, 1½, 2½ show the old ¼, 1¼, 2¼: on the edge's half pixel the value stays.
    assert image_of(moved) == [[10, 18, 35]]
    assert moved["segmentation"].tolist() == [[[10, 20, 40]]]
    # Three quarters of a pixel: −¼ lies half way from the edge to where only the fill is.
    assert image_of(warp(batch, matrices([1, 0, 0.75], [0, 1, 0]), fill=(0,))) == [[5, 12, 25]]


def test_an_enlarged_part_has_no_rim():
    row = jnp.array([[[0], [40]], [[80], [120]]], jnp.uint8)[None]
    double = warp({"image": row}, matrices([2, 0, 0], [0, 2, 0]), size=(4, 4), fill=(255,))
    assert image_of(double) == [[0, 10, 30, 40], [20, 30, 50, 60], [60, 70, 90, 100], [80, 90, 110, 120]]


def test_any_map_and_field_against_scipy():
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (2, 12, 15, 3), np.uint8)
    maps = np.array([[[0.9, 0.3, -1], [-0.2, 1.1, 2]], [[1.3, -0.4, 1], [0.5, 0.8, -2]]], np.float32)
    field = random.normal(0, 0.7, (2, 2, 10, 11)).astype(np.float32)
    ours = warp({"image": jnp.asarray(image)}, jnp.asarray(maps), jnp.asarray(field), size=(10, 11))["image"]
    assert ours.shape == (2, 10, 11, 3)
    for one, matrix, bend, result in zip(image, maps, field, ours, strict=True):
        y, x = np.mgrid[:10, :11] + 0.5
        there = np.stack([x + bend[0], y + bend[1], np.ones_like(x)]).reshape(3, -1)
        x, y = (np.linalg.inv([*matrix.tolist(), [0, 0, 1]]) @ there)[:2].reshape(2, 10, 11)
        inside = (x > 0.5) & (x < 14.5) & (y > 0.5) & (y < 11.5)
        assert inside.sum() > 50
        for channel in range(3):
            right = ndimage.map_coordinates(one[..., channel].astype(float), [y - 0.5, x - 0.5], order=1)
            assert np.abs(right - np.asarray(result[..., channel]))[inside].max() < 0.51
        outside = (x < -0.5) | (x > 15.5) | (y < -0.5) | (y > 12.5)
        assert (np.asarray(result)[outside] == 0).all()


def test_a_box_is_put_around_what_becomes_of_it():
    half = np.sqrt(0.5)
    # An eighth of a turn about (5, 5): the square's corners come to lie above, below, left and right of the centre.
    eighth = matrices([half, half, 5 - 10 * half], [-half, half, 5])
    [[square]] = move_boxes(jnp.array([[[4.0, 4, 6, 6]]]), eighth, (10, 10))
    np.testing.assert_allclose(square, [5 - 2 * half, 5 - 2 * half, 5 + 2 * half, 5 + 2 * half], rtol=1e-5)


def test_boxes_are_cut_off_at_the_edges_and_vanish_beyond():
    boxes = jnp.array([[[0, 0, 4, 4], [4, 4, 9, 9], [7, 1, 9, 3], [0, 0, 0, 0], [-1, -1, -1, -1]]])
    moved = move_boxes(boxes, matrices([1, 0, 3], [0, 1, -1]), (10, 10))
    assert moved.tolist() == [[[3, 0, 7, 3], [7, 3, 10, 8], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]]
    turned = move_boxes(moved, matrices([0.8, 0.6, 1], [-0.6, 0.8, 4]), (10, 10))
    assert turned[0, 2:].tolist() == [[0] * 4] * 3
    # A line, which a turn would make a box of.
    assert move_boxes(jnp.array([[[3, 1, 3, 5]]]), matrices([0.8, 0.6, 1], [-0.6, 0.8, 4]), (10, 10)).sum() == 0


def test_points_go_against_the_field():
    constant = jnp.broadcast_to(jnp.array([2.0, -1.0])[None, :, None, None], (1, 2, 8, 8))
    point = jnp.array([[[4.0, 3.0]]])
    assert move_points(point, SAME, constant).tolist() == [[[2, 4]]]
    # What lies at q shows q + 0.1 q: 4.4 comes to 4 where the field is linear, between the outermost centres.
    centres = 0.1 * (jnp.arange(8) + 0.5)
    growing = jnp.stack([jnp.broadcast_to(centres, (8, 8)), jnp.broadcast_to(centres[:, None], (8, 8))])[None]
    np.testing.assert_allclose(move_points(jnp.array([[[4.4, 2.2]]]), SAME, growing), [[[4, 2]]], rtol=1e-4)
    wide = jnp.stack([jnp.broadcast_to(centres, (2, 8)), jnp.zeros((2, 8))])[None]
    np.testing.assert_allclose(move_points(jnp.array([[[6.6, 1.0]]]), SAME, wide), [[[6, 1]]], rtol=1e-4)


def test_points_and_boxes_stay_on_what_they_mark():
    """A blob is bent and turned; its centre of mass is where the point went, its outline where the box did."""
    y, x = np.mgrid[:60, :60] + 0.5
    blob = np.where((x - 24) ** 2 + (y - 33) ** 2 < 36, 255, 0).astype(np.uint8)
    waves = jnp.array([2 * np.sin(y / 9 + x / 20), 2 * np.cos(x / 9)], jnp.float32)[None]
    turn = matrices([0.9, 0.3, -3], [-0.25, 1, 8])
    batch = {
        "image": jnp.asarray(blob)[None, :, :, None],
        "points": jnp.array([[[24.0, 33.0]]]),
        "boxes": jnp.array([[[18.0, 27, 30, 39]]]),
    }
    moved = warp(batch, turn, waves)
    weight = np.asarray(moved["image"])[0, :, :, 0] / 255
    centre = [(weight * x).sum() / weight.sum(), (weight * y).sum() / weight.sum()]
    np.testing.assert_allclose(moved["points"][0, 0], centre, atol=0.2)
    x0, y0, x1, y1 = moved["boxes"][0, 0].tolist()
    seen = np.argwhere(weight > 0.5)
    (top, left), (bottom, right) = seen.min(0), seen.max(0) + 1
    # The box goes around the old box's outline, not the disc in it: never smaller, and by not more than its corners.
    assert left - 3 < x0 < left + 0.5
    assert top - 3 < y0 < top + 0.5
    assert right - 0.5 < x1 < right + 3
    assert bottom - 0.5 < y1 < bottom + 3


def test_the_same_map_changes_nothing():
    image = jnp.asarray(np.random.default_rng(0).integers(0, 256, (1, 7, 9, 3), np.uint8))
    boxes, points = jnp.array([[[1.5, 2, 8, 7]]]), jnp.array([[[-3.0, 20.0]]])
    for field in (None, jnp.zeros((1, 2, 7, 9))):
        moved = jax.jit(warp)({"image": image, "boxes": boxes, "points": points}, SAME, field)
        for name, before in (("image", image), ("boxes", boxes), ("points", points)):
            np.testing.assert_array_equal(moved[name], before)


@pytest.mark.parametrize("fill", [(1, 2), (256,), (-1, 0, 0), ()])
def test_a_fill_that_is_no_colour(fill):
    with pytest.raises(UserError, match=r"fill is .*; it must be one number or 3, from 0 to 255"):
        warp({"image": jnp.zeros((1, 2, 2, 3), jnp.uint8)}, SAME, fill=fill)


def test_a_fill_label_that_the_segmentation_cannot_hold():
    batch = {"image": NUMBERED, "segmentation": NUMBERED[..., 0]}
    with pytest.raises(UserError, match="fill_label is -1; it must be from 0 to 255, as the segmentation is uint8"):
        warp(batch, SAME, fill_label=-1)


@pytest.mark.parametrize("limits", [(1, 0), (-2, 0), (0, 2), (0,), (0, 0, 0), (float("nan"), 0)])
def test_a_range_that_is_none(limits):
    with pytest.raises(
        UserError, match=r"part is \(.*\); it must be two numbers, low and high, from -1 up and up to 1"
    ):
        check_range("part", limits, -1, 1)
