"""Changes of colour against hand-computed values and the standard library's colour circle."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.data.augment import keys_of
from cnnlab.data.colour import (
    IMAGENET_EIGENVALUES,
    IMAGENET_EIGENVECTORS,
    colour_components,
    colour_jitter,
    colour_noise,
    grayscale,
)
from cnnlab.errors import UserError

KEY = jax.random.key(0)
NONE = {"brightness": (1, 1), "contrast": (1, 1), "saturation": (1, 1), "hue": (0, 0)}


def keys(count):
    return keys_of(KEY, jnp.arange(count))


def batch_of(*pixels):
    """One picture of one row."""
    return {"image": jnp.array(pixels, jnp.uint8)[None, None]}


def changed(function, *pixels, **parameters):
    return np.asarray(function(keys(1), batch_of(*pixels), **parameters)["image"])[0, 0].tolist()


def test_grey_is_how_bright_a_colour_looks():
    grey = changed(grayscale, (255, 0, 0), (0, 255, 0), (0, 0, 255), (10, 20, 30), probability=1)
    # 0.299, 0.587 and 0.114 of 255; 2.99 + 11.74 + 3.42.
    assert grey == [[76] * 3, [150] * 3, [29] * 3, [18] * 3]


def test_the_share_of_grey_pictures():
    batch = {"image": jnp.tile(jnp.array([200, 100, 0], jnp.uint8), (1000, 2, 2, 1)), "label": jnp.arange(1000)}
    result = grayscale(keys(1000), batch, 0.3)
    grey = np.asarray(result["image"])[..., 0] == 118  # 59.8 + 58.7
    assert (grey.all((1, 2)) | ~grey.any((1, 2))).all()
    assert abs(grey[:, 0, 0].sum() - 300) < 6 * np.sqrt(210)
    assert result["label"] is batch["label"]
    np.testing.assert_array_equal(grayscale(keys(1000), batch, 0)["image"], batch["image"])


def jittered(*pixels, **ranges):
    return changed(colour_jitter, *pixels, **{**NONE, **ranges})


def test_brightness():
    assert jittered((101, 200, 0), brightness=(2, 2)) == [[202, 255, 0]]
    assert jittered((100, 202, 0), brightness=(0.5, 0.5)) == [[50, 101, 0]]


def test_contrast_is_about_the_mean_grey():
    # The mean grey is 60; a third channel value makes no difference to greys.
    assert jittered((20, 20, 20), (100, 100, 100), contrast=(0.5, 0.5)) == [[40] * 3, [80] * 3]
    assert jittered((20, 20, 20), (100, 100, 100), contrast=(2, 2)) == [[0] * 3, [140] * 3]
    # 0.299 · 200 = 59.8, whose mean with 0 is 29.9.
    assert jittered((200, 0, 0), (0, 0, 0), contrast=(0, 0)) == [[30] * 3] * 2
    assert changed(colour_jitter, (20,), (100,), **{**NONE, "contrast": (0.5, 0.5)}) == [[40], [80]]


def test_saturation_is_about_the_pixels_own_grey():
    assert jittered((200, 0, 0), (9, 9, 9), saturation=(0, 0)) == [[60] * 3, [9] * 3]
    assert jittered((200, 0, 0), saturation=(0.5, 0.5)) == [[130, 30, 30]]


def test_hue():
    assert jittered((255, 0, 0), (0, 10, 20), (7, 7, 7), hue=(1 / 3, 1 / 3)) == [[0, 255, 0], [20, 0, 10], [7, 7, 7]]
    pixels = np.random.default_rng(0).integers(0, 256, (200, 3))
    for turn in (-0.5, -0.13, 0.31):
        right = []
        for pixel in pixels:
            hue, saturation, value = colorsys.rgb_to_hsv(*pixel / 255)
            right.append(255 * np.array(colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value)))
        ours = np.array(jittered(*pixels, hue=(turn, turn)))
        assert np.abs(ours - np.array(right)).max() < 0.51


def test_without_ranges_nothing_changes():
    pictures = jnp.asarray(np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), np.uint8))
    for image in (pictures, pictures[..., :1]):
        np.testing.assert_array_equal(colour_jitter(keys(5), {"image": image}, **NONE)["image"], image)
    np.testing.assert_array_equal(colour_noise(keys(5), {"image": pictures}, 0)["image"], pictures)


def test_each_picture_has_its_own_jitter_within_the_range():
    grey = {"image": jnp.full((500, 2, 2, 3), 100, jnp.uint8)}
    bright = np.asarray(colour_jitter(keys(500), grey, **{**NONE, "brightness": (0.5, 1.5)})["image"])
    assert (bright == bright[:, :1, :1, :1]).all()
    values = bright[:, 0, 0, 0]
    assert 50 <= values.min() < 53
    assert 147 < values.max() <= 150
    assert len(set(values.tolist())) > 80


def test_noise_is_along_the_eigenvectors_in_proportion_to_the_eigenvalues():
    grey = {"image": jnp.full((2000, 2, 2, 3), 128, jnp.uint8)}
    vectors = ((0.6, 0.8, 0), (-0.8, 0.6, 0), (0, 0, 1))
    noisy = np.asarray(colour_noise(keys(2000), grey, 0.1, (0.8, 0.4, 0), vectors)["image"]).astype(float) - 128
    assert (noisy == noisy[:, :1, :1]).all()
    along = noisy[:, 0, 0] @ np.array(vectors).T
    # 255 · 0.1 · λ; a deviation estimated from 2000 is known to 1.6 %.
    np.testing.assert_allclose(along.std(0), [20.4, 10.2, 0], rtol=0.08, atol=0)
    assert np.abs(along.mean(0)).max() < 6 * 20.4 / np.sqrt(2000)


def test_the_eigenvectors_of_imagenet():
    vectors = np.array(IMAGENET_EIGENVECTORS)
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(3), atol=1e-3)
    # The first is brightness, common to all channels.
    assert np.ptp(vectors[0]) < 0.02
    covariance = vectors.T @ np.diag(IMAGENET_EIGENVALUES) @ vectors
    np.testing.assert_allclose(np.sqrt(np.diag(covariance)), 0.28, atol=0.01)


def test_the_components_of_given_pictures():
    random = np.random.default_rng(0)
    axes = np.linalg.qr(random.normal(size=(3, 3)))[0]
    pixels = 128 + random.normal(size=(20_000, 3)) * [30, 12, 4] @ axes.T
    pictures = np.round(pixels).astype(np.uint8).reshape(2, 100, 100, 3)
    values, vectors = colour_components(pictures)
    np.testing.assert_allclose(np.sqrt(values), np.array([30, 12, 4]) / 255, rtol=0.03)
    np.testing.assert_allclose(np.abs(np.array(vectors) @ axes), np.eye(3), atol=0.02)
    noisy = colour_noise(keys(2), {"image": jnp.asarray(pictures)}, 0.1, values, vectors)
    assert noisy["image"].shape == pictures.shape


@pytest.mark.parametrize(
    ("function", "channels", "parameters", "message"),
    [
        (grayscale, 3, {"probability": 1.5}, "probability is 1.5; it must be from 0 to 1"),
        (grayscale, 4, {}, "pictures have 4 channels"),
        (colour_jitter, 2, {}, "pictures have 2 channels"),
        (colour_jitter, 3, {"contrast": (-1, 1)}, r"contrast is \(-1, 1\); .* from 0 up and up to 10"),
        (colour_jitter, 3, {"hue": (-0.6, 0)}, r"hue is \(-0.6, 0\); .* from -0.5 up and up to 0.5"),
        (colour_noise, 1, {}, "colour_noise takes RGB pictures; the number of channels is 1"),
        (colour_noise, 3, {"deviation": -1}, "deviation is -1; it must be at least 0"),
    ],
)
def test_wrong_parameters(function, channels, parameters, message):
    with pytest.raises(UserError, match=message):
        function(keys(1), {"image": jnp.zeros((1, 2, 2, channels), jnp.uint8)}, **parameters)
