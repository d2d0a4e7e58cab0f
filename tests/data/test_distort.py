"""Random distortions: that draws keep to their ranges and laws, seen by where marked points go."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.data.augment import keys_of
from cnnlab.data.distort import (
    affine_distortion,
    displacement,
    elastic,
    handwriting_distortion,
    rotation,
    scaling,
    translation,
)
from cnnlab.errors import UserError

KEY = jax.random.key(0)
# Two points off the centre (5, 10) of pictures 10 wide and 20 high: 4 to the right of it, 5 below it.
MARKS = [[9.0, 10.0], [5.0, 15.0]]


def keys(count):
    return keys_of(KEY, jnp.arange(count))


def marked(count, **fields):
    image = jnp.zeros((count, 20, 10, 1), jnp.uint8)
    return {"image": image, "points": jnp.tile(jnp.array(MARKS), (count, 1, 1)), **fields}


def moved(function, count=1, fields=None, **parameters):
    """Where the two points go, from the centre, in each of `count` examples."""
    points = jax.jit(lambda keys, batch: function(keys, batch, **parameters)["points"])
    return np.asarray(points(keys(count), marked(count, **(fields or {})))) - [5, 10]


def test_translation_is_in_shares_of_width_and_height():
    [[right, below]] = moved(translation, horizontal=(0.2, 0.2), vertical=(-0.1, -0.1))
    np.testing.assert_allclose([right, below], [[6, -2], [2, 3]], atol=1e-5)
    ends = moved(translation, 500, horizontal=(-0.1, 0.3), vertical=(0, 0.05))[:, 0] - [4, 0]
    np.testing.assert_allclose(ends.min(0), [-1, 0], atol=0.03)
    np.testing.assert_allclose(ends.max(0), [3, 1], atol=0.03)
    assert abs(np.corrcoef(ends.T)[0, 1]) < 6 / np.sqrt(500)


def test_rotation_is_anticlockwise_about_the_centre():
    [[right, below]] = moved(rotation, degrees=(90, 90))
    np.testing.assert_allclose([right, below], [[0, -4], [5, 0]], atol=1e-5)
    image = jnp.asarray(np.random.default_rng(0).integers(0, 256, (1, 6, 6, 3), np.uint8))
    turned = rotation(keys(1), {"image": image}, (90, 90))["image"]
    np.testing.assert_array_equal(turned[0], np.rot90(image[0]))
    across, down = moved(rotation, 500, degrees=(-10, 40))[:, 0].T
    angles = np.degrees(np.arctan2(-down, across))
    np.testing.assert_allclose([angles.min(), angles.max()], [-10, 40], atol=0.5)


def test_scaling_is_about_the_centre():
    [[right, below]] = moved(scaling, factor=(2, 2))
    np.testing.assert_allclose([right, below], [[8, 0], [0, 10]], atol=1e-5)
    factors = moved(scaling, 500, factor=(0.5, 1.5))[:, 0, 0] / 4
    np.testing.assert_allclose([factors.min(), factors.max()], [0.5, 1.5], atol=0.01)


def test_half_are_turned_and_half_sheared():
    points = moved(affine_distortion, 1000, gentle=(), scale=(0, 0))
    sheared = np.abs(points[:, 0, 1]) < 1e-4
    assert abs(sheared.sum() - 500) < 6 * np.sqrt(250)
    # A shear leaves what is beside the centre and moves what is below by tan β of its distance.
    np.testing.assert_allclose(points[sheared, 0], [[4, 0]] * sheared.sum(), atol=1e-4)
    np.testing.assert_allclose(points[sheared, 1, 1], 5, atol=1e-4)
    leaning = np.degrees(np.arctan(points[sheared, 1, 0] / 5))
    turned = np.degrees(np.arctan2(-points[~sheared, 0, 1], points[~sheared, 0, 0]))
    for angles in (leaning, turned):
        np.testing.assert_allclose([angles.min(), angles.max()], [-15, 15], atol=0.3)
    np.testing.assert_allclose(np.hypot(*points[~sheared, 0].T), 4, rtol=1e-4)


def test_ones_and_sevens_are_moved_half_as_far():
    label = jnp.arange(2000) % 10
    points = moved(affine_distortion, 2000, {"label": label}, scale=(0, 0))
    turned = np.degrees(np.arctan2(-points[:, 0, 1], points[:, 0, 0]))
    gentle = np.isin(label, (1, 7))
    assert 7.2 < np.abs(turned[gentle]).max() <= 7.501
    assert 14.5 < np.abs(turned[~gentle]).max() <= 15.001


def test_width_and_height_are_scaled_apart():
    points = moved(affine_distortion, 1000, degrees=0, gentle=(), scale=(0.2, 0.2))
    across, along = points[:, 0, 0] / 4, points[:, 1, 1] / 5
    np.testing.assert_allclose([across.min(), across.max(), along.min(), along.max()], [0.8, 1.2] * 2, atol=0.01)
    assert abs(np.corrcoef(across, along)[0, 1]) < 6 / np.sqrt(1000)
    wider = moved(affine_distortion, 1000, degrees=0, gentle=(), scale=(0.0, 0.2))[:, 0, 0] / 4
    assert wider.std() < 0.8 * across.std()


def test_fields_are_gaussian_noise_of_the_papers_width_and_strength():
    fields = np.asarray(displacement(keys(400), 41, 45, (3, 3), (30, 30)))
    assert fields.shape == (400, 2, 41, 45)
    middle = fields[:, :, 20, 12:33]
    # A unit Gaussian's square has the integral 1 / (4π σ²); the noise's variance is 1/3.
    size = 30 * np.sqrt(1 / 3 / (4 * np.pi * 9))
    np.testing.assert_allclose(middle.std(), size, rtol=0.05)
    assert abs(middle.mean()) < 0.1 * size
    # Smoothed noise is alike over distance d by exp(−d² / 4σ²), along both axes, and x and y are independent.
    for other in (fields[:, :, 20, 15:36], fields[:, :, 23, 12:33]):
        np.testing.assert_allclose((middle * other).mean() / size**2, np.exp(-9 / 36), atol=0.08)
    assert abs((middle[:, 0] * middle[:, 1]).mean()) < 0.1 * size**2
    strengths = np.asarray(displacement(keys(400), 41, 45, (3, 3), (0, 60)))[:, :, 20, 22].std()
    np.testing.assert_allclose(strengths, size * 2 / np.sqrt(3), rtol=0.15)


def test_the_defaults_move_digits_by_a_pixel_or_so():
    fields = np.asarray(displacement(keys(200), 29, 29, (5, 6), (36, 38)))
    assert 0.8 < fields[:, :, 10:19, 10:19].std() < 1.3


def test_affine_and_elastic_are_one_after_the_other():
    """With either switched off, the both are the other."""
    batch = marked(3, label=jnp.array([1, 2, 3]))
    random = np.random.default_rng(0).integers(0, 256, (3, 20, 10, 1), np.uint8)
    batch["image"] = jnp.asarray(random)
    first, second = (jnp.stack(pair) for pair in zip(*(jax.random.split(key) for key in keys(3)), strict=True))
    straight = handwriting_distortion(keys(3), batch, alpha=(0, 0))
    bent = handwriting_distortion(keys(3), batch, degrees=0, gentle_degrees=0, scale=(0, 0))
    for ours, other in ((straight, affine_distortion(first, batch)), (bent, elastic(second, batch))):
        np.testing.assert_array_equal(ours["image"], other["image"])
        np.testing.assert_allclose(ours["points"], other["points"], atol=1e-5)
        assert (ours["image"] != batch["image"]).any()


@pytest.mark.parametrize(
    ("function", "ranges"),
    [
        (translation, {"horizontal": (0, 0), "vertical": (0, 0)}),
        (rotation, {"degrees": (0, 0)}),
        (scaling, {"factor": (1, 1)}),
        (affine_distortion, {"degrees": 0, "gentle_degrees": 0, "scale": (0, 0)}),
        (elastic, {"alpha": (0, 0)}),
        (handwriting_distortion, {"degrees": 0, "gentle_degrees": 0, "scale": (0, 0), "alpha": (0, 0)}),
    ],
)
def test_without_ranges_nothing_changes(function, ranges):
    random = np.random.default_rng(0)
    batch = {
        "image": jnp.asarray(random.integers(0, 256, (3, 11, 9, 3), np.uint8)),
        "segmentation": jnp.asarray(random.integers(0, 5, (3, 11, 9), np.int32)),
        "boxes": jnp.array([[[1.0, 2, 8, 9]]] * 3),
        "points": jnp.array([[[1.0, 2]]] * 3),
        "label": jnp.array([0, 1, 7]),
    }
    result = function(keys(3), batch, **ranges)
    assert result.keys() == batch.keys()
    for name, array in batch.items():
        np.testing.assert_array_equal(result[name], array)


@pytest.mark.parametrize(
    ("function", "parameters", "message"),
    [
        (translation, {"vertical": (0, 2)}, r"vertical is \(0, 2\); .* from -1 up and up to 1"),
        (rotation, {"degrees": (10, -10)}, r"degrees is \(10, -10\); .* low and high, from -180 up and up to 180"),
        (scaling, {"factor": (0, 1)}, r"factor is \(0, 1\); .* from 0.1 up"),
        (affine_distortion, {"degrees": 90, "gentle": ()}, r"degrees is \(-90, 90\)"),
        (affine_distortion, {"scale": (0, 1), "gentle": ()}, r"scale is \(0, 1\); .* from 0 up and up to 0.9"),
        (affine_distortion, {}, r'gentle is \(1, 7\), but the batch has no "label"'),
        (elastic, {"sigma": (0, 5)}, r"sigma is \(0, 5\); .* from 0.5 up"),
        (elastic, {"alpha": (-1, 5)}, r"alpha is \(-1, 5\); .* from 0 up"),
    ],
)
def test_wrong_parameters(function, parameters, message):
    with pytest.raises(UserError, match=message):
        function(keys(1), marked(1), **parameters)
