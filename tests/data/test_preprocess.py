"""Padding and scaling on the device, by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.data.preprocess import pad_and_scale


def test_black_becomes_low_and_white_high_with_black_around():
    image = jnp.array([[0, 255], [51, 204]], jnp.uint8)[None, :, :, None]
    low, high = -1.0, 4.0
    expected = np.full((4, 4), low, np.float32)
    expected[1:3, 1:3] = [[-1, 4], [0, 3]]
    scaled = pad_and_scale(image, 4, low, high)
    assert (scaled.shape, scaled.dtype) == ((1, 4, 4, 1), jnp.float32)
    np.testing.assert_allclose(scaled[0, :, :, 0], expected, atol=1e-6)


def test_odd_padding_and_unequal_sides_and_colour():
    image = jnp.full((2, 2, 3, 3), 255, jnp.uint8)
    scaled = np.asarray(pad_and_scale(image, 5, 0.0, 1.0))
    expected = np.zeros((2, 5, 5, 3), np.float32)
    expected[:, 1:3, 1:4] = 1
    np.testing.assert_allclose(scaled, expected, atol=1e-6)


def test_a_picture_of_the_same_size_is_scaled_only():
    image = jnp.arange(4, dtype=jnp.uint8).reshape(1, 2, 2, 1)
    np.testing.assert_allclose(pad_and_scale(image, 2, 0.0, 255.0), image)


@pytest.mark.parametrize("shape", [(1, 5, 3, 1), (1, 3, 5, 1)])
def test_a_picture_that_is_too_large_is_an_error(shape):
    with pytest.raises(ValueError, match=f"{shape[1]}×{shape[2]} do not fit into 4×4"):
        pad_and_scale(jnp.zeros(shape, jnp.uint8), 4, 0.0, 1.0)
