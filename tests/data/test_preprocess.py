"""Padding and scaling on the device, by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.data.preprocess import Convention, centre_crop, contrast_normalise, pad_and_scale, rescale
from cnnlab.errors import UserError


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


@pytest.mark.parametrize(("shape", "size", "first"), [((4, 4), 2, 5), ((5, 4), 2, 5), ((3, 6), 3, 1), ((4, 4), 4, 0)])
def test_the_centre_is_cut_out(shape, size, first):
    height, width = shape
    pictures = jnp.arange(height * width).reshape(1, height, width, 1)
    rows = [[first + width * y + x for x in range(size)] for y in range(size)]
    assert centre_crop(pictures, size)[0, :, :, 0].tolist() == rows


def test_a_centre_larger_than_the_picture():
    with pytest.raises(UserError, match="a crop of 5×5 does not fit into pictures of 5×4"):
        centre_crop(jnp.zeros((1, 5, 4, 3), jnp.uint8), 5)


def test_contrast_is_normalised_over_all_channels_of_each_picture():
    pictures = np.random.default_rng(0).integers(0, 256, (3, 5, 4, 3), np.uint8)
    pictures[2] = 7
    expected = [(p - p.mean()) / p.std() for p in pictures[:2].astype(float)]
    found = np.asarray(contrast_normalise(jnp.asarray(pictures)))
    np.testing.assert_allclose(found[:2], expected, atol=1e-5)
    np.testing.assert_allclose(found[2], 0, atol=1e-5)


def test_a_convention_normalises_each_channel():
    convention = Convention(2, 4, (0.5, 0.25, 0.0), (0.5, 0.25, 1.0))
    picture = jnp.array([[[[255, 0, 51]]]], jnp.uint8)
    np.testing.assert_allclose(convention.normalise(picture), [[[[1, -1, 0.2]]]], atol=1e-6)


def test_a_convention_crops_then_normalises():
    convention = Convention(1, 3, (0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255))
    pictures = jnp.arange(27, dtype=jnp.uint8).reshape(1, 3, 3, 3)
    np.testing.assert_allclose(convention.crop_and_normalise(pictures), [[[[12, 13, 14]]]], rtol=1e-6)


def test_what_is_stored_larger_is_scaled_before_it_is_cropped():
    convention = Convention(2, 4, (0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255))
    # 8×8 in blocks of 2×2: scaled to 4×4 the blocks' colours, but for the weight that neighbours have in them.
    blocks = jnp.full((1, 8, 8, 3), 40, jnp.uint8).at[:, 2:6, 2:6].set(200)
    found = np.asarray(convention.crop_and_normalise(blocks))
    assert found.shape == (1, 2, 2, 3)
    np.testing.assert_array_equal(found, np.asarray(rescale(blocks, 4))[:, 1:3, 1:3])
    assert not np.array_equal(found, blocks[:, 3:5, 3:5])
    for size in (3, 4):  # cut out already, or stored as it is tested
        same = jnp.arange(size * size * 3, dtype=jnp.uint8).reshape(1, size, size, 3)
        np.testing.assert_array_equal(convention.crop_and_normalise(same), centre_crop(same, 2))
    # Floats stay floats, so that gradients pass.
    assert rescale(blocks.astype(jnp.float32) + 0.25, 4).dtype == jnp.float32


def test_the_conventions_colour_becomes_nothing():
    convention = Convention(2, 2, (0.485, 0.456, 0.406), (1 / 255, 1 / 255, 1 / 255))
    assert convention.colour == (124, 116, 104)
    picture = jnp.broadcast_to(jnp.array(convention.colour, jnp.uint8), (1, 2, 2, 3))
    assert np.abs(convention.normalise(picture)).max() <= 0.5
