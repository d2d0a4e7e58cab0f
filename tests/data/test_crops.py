"""Views of pictures whose pixels are their own place, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cnnlab.data import crops
from cnnlab.errors import UserError

# 4×5: row, then column.
NUMBERED = np.array([[10 * row + column for column in range(5)] for row in range(4)], np.uint8)[None, :, :, None]


def plane(views, v, picture=0):
    return np.asarray(views)[picture, v, :, :, 0].tolist()


def test_ten_crops_by_hand():
    views = crops.ten_crops(jnp.asarray(np.concatenate([NUMBERED, NUMBERED + 100])), 2)
    assert views.shape == (2, 10, 2, 2, 1)
    assert views.dtype == jnp.uint8
    assert plane(views, 0) == [[0, 1], [10, 11]]
    assert plane(views, 1) == [[3, 4], [13, 14]]
    assert plane(views, 2) == [[20, 21], [30, 31]]
    assert plane(views, 3) == [[23, 24], [33, 34]]
    assert plane(views, 4) == [[11, 12], [21, 22]]
    assert plane(views, 6) == [[4, 3], [14, 13]]
    assert plane(views, 8, picture=1) == [[124, 123], [134, 133]]


def squares_of(size, count):
    """`count` squares, each a ramp of its own, rising to the right and downwards in steps of 4, or less so."""
    ramp = 4 * np.arange(size)[:, None] + np.arange(size)
    return np.stack([ramp + 60 * i for i in range(count)]).astype(np.uint8)[None, ..., None]


def test_googlenet_has_144_views_of_three_squares():
    size, scales = 14, crops.googlenet_scales(14)
    assert scales == (16, 18, 20, 22)
    squares = squares_of(22, 3)
    views = np.asarray(jax.jit(crops.googlenet_crops, static_argnums=1)(squares, size))
    assert views.shape == (1, 144, 14, 14, 1)
    np.testing.assert_array_equal(views[:, 72:], views[:, :72, :, ::-1])
    # The last scale is the stored one: its parts are cut out and nothing is scaled.
    for i in range(3):
        square, parts = squares[0, i], views[0, 54 + 6 * i : 60 + 6 * i]
        wanted = [square[a : a + 14, b : b + 14] for a, b in ((0, 0), (0, 8), (8, 0), (8, 8), (4, 4))]
        np.testing.assert_array_equal(parts[:5], wanted)
        np.testing.assert_array_equal(parts[5], crops.rescale(jnp.asarray(square), 14))
    # The first: the squares at 16×16, of which a corner begins 2 pixels further.
    for i in range(3):
        small = np.asarray(crops.rescale(jnp.asarray(squares[0, i]), 16))
        np.testing.assert_array_equal(views[0, 6 * i + 3], small[2:, 2:])
        np.testing.assert_array_equal(views[0, 6 * i + 4], small[1:15, 1:15])
    assert len({view.tobytes() for view in views[0]}) == 144


def test_googlenet_has_48_views_of_one_square_with_the_same_mean():
    square = squares_of(22, 1)
    views = np.asarray(crops.googlenet_crops(jnp.asarray(square[:, 0]), 14), np.float64)
    thrice = np.asarray(crops.googlenet_crops(jnp.asarray(square.repeat(3, 1)), 14), np.float64)
    assert views.shape == (1, 48, 14, 14, 1)
    np.testing.assert_allclose(views.mean(1), thrice.mean(1))


def test_the_papers_sizes():
    assert crops.googlenet_scales(224) == (256, 288, 320, 352)
    shape = jax.ShapeDtypeStruct((2, 3, 352, 352, 3), jnp.uint8)
    assert jax.eval_shape(lambda x: crops.googlenet_crops(x, 224), shape).shape == (2, 144, 224, 224, 3)
    shape = jax.ShapeDtypeStruct((2, 256, 256, 3), jnp.uint8)
    assert jax.eval_shape(lambda x: crops.ten_crops(x, 224), shape).shape == (2, 10, 224, 224, 3)


def test_scaling_is_that_of_stored_pictures():
    picture = np.random.default_rng(0).integers(0, 256, (31, 31, 3), np.uint8)
    stored = np.asarray(Image.fromarray(picture).resize((17, 17), Image.Resampling.BILINEAR), int)
    scaled = np.asarray(crops.rescale(jnp.asarray(picture), 17), int)
    assert np.abs(scaled - stored).max() <= 1
    white = jnp.full((1, 31, 31, 1), 255, jnp.uint8)
    assert (np.asarray(crops.rescale(white, 17)) == 255).all()


def test_whole_pictures_at_several_scales():
    pictures = jnp.asarray(squares_of(8, 1)[:, 0])
    large, small = crops.mirrored_scales(pictures, (8, 4))
    assert (large.shape, small.shape) == ((1, 2, 8, 8, 1), (1, 2, 4, 4, 1))
    np.testing.assert_array_equal(large[:, 0], pictures)
    np.testing.assert_array_equal(large[:, 1], pictures[:, :, ::-1])
    # Bilinear by half: weights 1, 3, 3, 1 of 8 away from the borders. The ramps give the mean of the two in the middle.
    assert plane(small, 0)[1][1:3] == [12, 14]


def test_errors():
    with pytest.raises(UserError, match="crop of 5×5 does not fit into pictures of 4×5"):
        crops.ten_crops(jnp.asarray(NUMBERED), 5)
    with pytest.raises(UserError, match=r"14×14 need pictures of 22×22, these are 21×21"):
        crops.googlenet_crops(jnp.zeros((1, 21, 21, 3), jnp.uint8), 14)
    with pytest.raises(UserError, match="scale of 9 pixels is larger than the pictures, which have 8"):
        crops.mirrored_scales(jnp.zeros((1, 8, 8, 3), jnp.uint8), (4, 9))
