"""Judicious normalisation: moments by hand, sheared digits come back upright, nothing and next to nothing to see."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.data import normalise
from cnnlab.data.digits import digits
from cnnlab.data.normalise import SPREAD, moments, skew
from cnnlab.data.warp import warp
from cnnlab.errors import UserError

judicious = jax.jit(normalise.judicious, static_argnames=("size", "box"))


def moments_by_loops(picture):
    """Sum, centre x y and the covariance of a grey picture, in float64."""
    total = x = y = 0.0
    for i, row in enumerate(picture.astype(float)):
        for j, ink in enumerate(row):
            total, x, y = total + ink, x + ink * (j + 0.5), y + ink * (i + 0.5)
    x, y, xx, xy, yy = x / total, y / total, 0.0, 0.0, 0.0
    for i, row in enumerate(picture.astype(float)):
        for j, ink in enumerate(row):
            dx, dy = j + 0.5 - x, i + 0.5 - y
            xx, xy, yy = xx + ink * dx * dx, xy + ink * dx * dy, yy + ink * dy * dy
    return total, (x, y), np.array([[xx, xy], [xy, yy]]) / total


def strokes():
    """Digits of the built-in set with black around them, (8, 60, 60, 1)."""
    return np.pad(digits("test").arrays["image"][:8], ((0, 0), (16, 16), (16, 16), (0, 0)))


def test_moments_by_hand():
    pictures = np.random.default_rng(0).integers(0, 256, (3, 6, 9, 1), dtype=np.uint8)
    found = moments(jnp.asarray(pictures))
    for i, picture in enumerate(pictures[..., 0]):
        total, centre, covariance = moments_by_loops(picture)
        np.testing.assert_allclose(found.ink[i], total, rtol=1e-6)
        np.testing.assert_allclose(found.centre[i], centre, rtol=1e-5)
        np.testing.assert_allclose(found.covariance[i], covariance, rtol=1e-4, atol=1e-5)
    coloured = moments(jnp.asarray(np.repeat(pictures, 3, -1)))
    np.testing.assert_allclose(coloured.covariance, found.covariance, rtol=1e-5)


def test_what_is_normalised_is_upright_centred_and_of_one_size():
    found = judicious(jnp.asarray(strokes()), size=28, box=20)
    assert found.shape == (8, 28, 28, 1)
    after = moments(found)
    np.testing.assert_allclose(after.centre, 14, atol=0.25)
    xy, yy = after.covariance[:, 0, 1], after.covariance[:, 1, 1]
    np.testing.assert_allclose(xy / yy, 0, atol=0.01)
    for picture in np.asarray(found)[..., 0]:
        ink = picture >= 0.25 * picture.max()
        sides = [np.ptp(np.nonzero(ink.any(axis))[0]) + 1 for axis in (0, 1)]
        assert abs(max(sides) - 20) <= 1


def test_translation_scale_and_shear_are_taken_out():
    upright = jnp.asarray(strokes())
    matrix = jnp.array([[1.2, 0.5 * 1.2, -20.0], [0.0, 1.2, -9.0]])
    moved = warp({"image": upright}, jnp.broadcast_to(matrix, (8, 2, 3)))["image"]
    before, after = judicious(upright), judicious(moved)
    assert float(jnp.abs(upright.astype(jnp.float32) - moved).mean()) > 10
    assert float(jnp.abs(before - after).mean()) < 5  # grey levels of 255: what two resamplings blur
    lean = skew(moments(moved).covariance) - skew(moments(upright).covariance)
    np.testing.assert_allclose(lean, 0.5, atol=0.01)


def test_a_slanted_bar_by_hand():
    # Pixels (i, i) of 4 rows: xx = xy = yy = 1.25; sheared back by 1.25 / (1.25 + SPREAD).
    bar = jnp.zeros((1, 8, 8, 1), jnp.uint8).at[0, jnp.arange(2, 6), jnp.arange(2, 6)].set(255)
    np.testing.assert_allclose(skew(moments(bar).covariance), 1.25 / (1.25 + SPREAD), rtol=1e-5)
    flat = jnp.array([[[9.0, 3.0], [3.0, 1.0]]])  # 3 to the side a row: no skewed upright object
    assert skew(flat).tolist() == [1.0]
    assert skew(flat * jnp.array([[1.0, -1.0], [-1.0, 1.0]])).tolist() == [-1.0]


def test_nothing_to_see_stays_nothing():
    found = judicious(jnp.zeros((2, 40, 30, 1), jnp.uint8))
    assert found.shape == (2, 28, 28, 1)
    assert not found.any()
    blank = moments(jnp.zeros((1, 40, 30, 1), jnp.uint8))
    assert blank.centre.tolist() == [[15.0, 20.0]]


@pytest.mark.parametrize("ink", [((3, 4),), ((3, 0), (3, 9)), ((0, 5), (9, 5)), ((0, 0), (9, 9))], ids=str)
def test_points_and_lines_are_finite(ink):
    picture = jnp.zeros((1, 10, 10, 1), jnp.uint8)
    for i, j in ink:
        picture = picture.at[0, i, j].set(200)
    found = judicious(picture)
    assert np.isfinite(found).all()
    assert float(found.max()) > 100
    np.testing.assert_allclose(moments(found).centre, 14, atol=0.6)


def test_a_single_pixel_fills_the_box():
    found = judicious(jnp.zeros((1, 10, 10, 1), jnp.uint8).at[0, 3, 4].set(255), size=28, box=20)
    ink = np.asarray(found[0, ..., 0]) > 127
    assert np.flatnonzero(ink.any(0)).tolist() == list(range(4, 24))
    assert np.flatnonzero(ink.any(1)).tolist() == list(range(4, 24))


@pytest.mark.parametrize("box", [0, 29])
def test_a_box_that_does_not_fit(box):
    with pytest.raises(UserError, match=f"are to be {box} pixels long on pictures of 28×28; it must be 1 to 28"):
        judicious(jnp.zeros((1, 5, 5, 1), jnp.uint8), size=28, box=box)
