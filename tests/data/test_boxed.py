"""Boxes resampled by products with matrices against interpolation written out pixel by pixel."""

import jax.numpy as jnp
import numpy as np

from cnnlab.data.boxed import cut, weights_along


def read(picture, x, y):
    """The value of a place between the centres of pixels, 0 beyond the edges, in float64."""
    height, width = picture.shape
    total = 0.0
    for i in range(height):
        for j in range(width):
            total += picture[i, j] * max(0.0, 1 - abs(y - i - 0.5)) * max(0.0, 1 - abs(x - j - 0.5))
    return total


def test_a_box_by_hand():
    pictures = np.random.default_rng(0).integers(0, 256, (3, 5, 7, 1), dtype=np.uint8)
    x, y, step = np.array([0.0, -1.5, 3.25]), np.array([1.0, 2.5, -4.0]), np.array([1.0, 0.7, 1.6])
    found = cut(*(jnp.asarray(a, jnp.float32) if a.ndim == 1 else jnp.asarray(a) for a in (pictures, x, y, step)), 6)
    for n in range(3):
        for i in range(6):
            for j in range(6):
                expected = read(pictures[n, ..., 0], x[n] + (j + 0.5) * step[n], y[n] + (i + 0.5) * step[n])
                np.testing.assert_allclose(found[n, i, j, 0], expected, atol=1e-3)


def test_whole_pixels_are_copied():
    picture = jnp.arange(36, dtype=jnp.uint8).reshape(1, 6, 6, 1)
    ones = jnp.ones(1)
    np.testing.assert_array_equal(cut(picture, 2 * ones, ones, ones, 3)[0, ..., 0], picture[0, 1:4, 2:5, 0])


def test_weights_within_a_row_sum_to_1():
    weights = weights_along(jnp.array([1.0, 2.5]), jnp.array([0.5, 0.9]), 8, 12)
    assert weights.shape == (2, 8, 12)
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-6)
