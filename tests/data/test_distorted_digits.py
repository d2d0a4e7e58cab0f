"""The paper's distortions: where pixels go, in what ranges, the same for a key whoever computes it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.data import distorted_digits as dd
from cnnlab.data.augment import keys_of
from cnnlab.data.clutter import digit_bank
from cnnlab.data.digits import digits
from cnnlab.data.source import Head

KEYS = keys_of(jax.random.key(0), jnp.arange(64))


def dots(*places):
    """64 pictures with bright spots of 3×3 pixels about some (row, column)."""
    image = np.zeros((64, 28, 28, 1), np.uint8)
    for row, column in places:
        image[:, row - 1 : row + 2, column - 1 : column + 2] = 250
    return jnp.array(image)


def centre(image):
    """The centre of mass of each picture, x and y in pixels from its corner, and its mass."""
    image = np.asarray(image, np.float64)[..., 0]
    mass = image.sum((1, 2))
    along = lambda axis: (image.sum(axis) * (np.arange(image.shape[1]) + 0.5)).sum(1) / mass
    return np.stack([along(1), along(2)], -1), mass


def test_rotated_by_up_to_a_quarter_turn():
    where, _ = centre(jax.jit(dd.rotated)(KEYS, {"image": dots((14, 22))})["image"])
    x, y = (where - 14).T
    degrees = np.degrees(np.arctan2(-y, x) + np.arctan2(0.5, 8.5))  # the spot lies a little below the middle
    np.testing.assert_allclose(np.hypot(x, y), np.hypot(8.5, 0.5), atol=0.2)
    assert -91 < degrees.min() < -75
    assert 75 < degrees.max() < 91


def test_rotated_scaled_moved_within_the_picture():
    step = jax.jit(dd.rotated_scaled_moved)
    (left, _), (right, _) = (centre(step(KEYS, {"image": dots(at)})["image"]) for at in ((14, 8), (14, 20)))
    between = right - left
    scale, degrees = np.hypot(*between.T) / 12, np.degrees(np.arctan2(-between[:, 1], between[:, 0]))
    assert 0.68 < scale.min() < 0.75
    assert 1.15 < scale.max() < 1.22
    assert -46 < degrees.min() < -35
    assert 35 < degrees.max() < 46
    middle = (left + right) / 2
    room = 21 - 14 * scale
    assert (np.abs(middle - 21) < room[:, None] + 0.8).all()
    assert np.abs(middle - 21).max() > 8
    whole = step(KEYS, {"image": dots((5, 5), (5, 22), (22, 5), (22, 22))})["image"]
    assert whole.shape == (64, 42, 42, 1)
    assert whole.dtype == jnp.uint8


def test_a_projective_map_takes_corners_to_corners():
    corners = jnp.array([[[3.0, 2.0], [25.0, 4.0], [22.0, 27.0], [1.0, 20.0]]])
    places = np.asarray(dd._from_quadrilateral(corners, 28, 28))[0]
    # The projective map from its eight linear equations, in float64.
    rows, right = [], []
    for (x, y), (u, v) in zip(np.asarray(corners[0], np.float64), [(0, 0), (28, 0), (28, 28), (0, 28)], strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        right += [u, v]
    matrix = np.append(np.linalg.solve(rows, right), 1).reshape(3, 3)
    for i, j in np.ndindex(28, 28):
        u, v, w = matrix @ [j + 0.5, i + 0.5, 1]
        if w > 0:
            np.testing.assert_allclose(places[:, i, j], [u / w, v / w], rtol=1e-3, atol=2e-3)


def test_beyond_the_horizon_nothing_is_seen():
    # Two sides would meet within the picture, in the middle of its 21st column: there is the horizon.
    corners = jnp.array([[[0.0, 0.0], [10.25, 7.0], [10.25, 21.0], [0.0, 28.0]]])
    places = np.asarray(dd._from_quadrilateral(corners, 28, 28))[0]
    assert np.isfinite(places).all()
    outside = ((places < 0) | (places > 28)).any(0)
    assert outside[:, 11:].all()
    assert not outside[10:18, :9].any()


def test_projected_pictures_stay_pictures():
    convex = np.asarray(dd._convex(jnp.array([[[0.0, 0], [9, 0], [9, 9], [0, 9]], [[0, 0], [9, 0], [2, 2], [0, 9]]])))
    assert convex.tolist() == [True, False]
    flat = jnp.array([[[0.0, 0], [9, 0], [5, 1], [0, 1]]])  # convex, but with an angle over 150°
    assert not dd._convex(flat)[0]
    found = jax.jit(dd.projected)(KEYS, {"image": dots((14, 14), (9, 9), (19, 19))})["image"]
    _, mass = centre(found)
    assert found.shape == (64, 28, 28, 1)
    assert (mass > 0).all()
    still = jax.jit(functools.partial(dd.projected, deviation=0.0))(KEYS, {"image": dots((14, 8), (14, 20))})["image"]
    _, mass = centre(still)
    assert 0.75**2 * 0.9 < (mass / (18 * 250)).min() < (mass / (18 * 250)).max() < 1.05


def test_bent_by_about_the_deviation():
    where, _ = centre(jax.jit(dd.bent)(KEYS, {"image": dots((14, 14))})["image"])
    # The middle lies among four control points, whose mean moves by half of 1.5 pixels; farther ones count little.
    assert 0.4 < (where - 14.5).std() < 1.4
    still = jax.jit(functools.partial(dd.bent, deviation=0.0))(KEYS, {"image": dots((14, 8), (14, 20))})["image"]
    where, mass = centre(still)
    np.testing.assert_allclose(where, 14.45, atol=0.4)
    assert 0.75**2 * 0.9 < (mass / (18 * 250)).min() < 0.65


@pytest.mark.parametrize("name", dd.DISTORTIONS)
def test_a_key_makes_the_same_picture_in_any_batch(name):
    source = digits("test", 28)
    distortion = dd.DISTORTIONS[name]
    function = jax.jit(distortion.function(lambda: digit_bank(source)))
    batch = {"image": jnp.array(source.arrays["image"][:8]), "label": jnp.array(source.arrays["label"][:8])}
    whole = function(KEYS[:8], batch)
    assert whole["image"].shape == (8, distortion.size, distortion.size, 1)
    assert whole["image"].dtype == jnp.uint8
    np.testing.assert_array_equal(whole["label"], batch["label"])
    half = function(KEYS[4:8], {field: array[4:] for field, array in batch.items()})
    difference = np.abs(np.asarray(whole["image"][4:], int) - np.asarray(half["image"], int))
    assert difference.max() <= 1  # a value in the middle between two may be rounded either way
    assert (np.asarray(whole["image"][0]) != np.asarray(function(KEYS[8:16], batch)["image"][0])).any()


def test_the_test_set_is_always_the_same():
    source, distortion = digits("test", 28), dd.DISTORTIONS["R"]
    all_of_it = dd.distorted(source, distortion)
    assert len(all_of_it) == len(source)
    assert all_of_it.class_names == source.class_names
    np.testing.assert_array_equal(all_of_it.arrays["label"], source.arrays["label"])
    few = dd.distorted(Head(source, 10), distortion)
    np.testing.assert_array_equal(few.arrays["image"], all_of_it.arrays["image"][:10])
    assert (all_of_it.arrays["image"] != source.arrays["image"]).any()
