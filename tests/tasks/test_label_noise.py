"""Robust losses: by hand, against loops in float64, the posterior by brute force, and EM's gradient."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.errors import UserError
from cnnlab.tasks.label_noise import (
    aligned,
    cross_entropy,
    displacement_posterior,
    displacements,
    log_likelihoods,
    robust_to_omission,
    robust_to_translation,
)

THETA = {"theta0": 0.02, "theta1": 0.3}


def drawn(n=2, size=7, seed=0):
    random = np.random.default_rng(seed)
    logits, labels = random.normal(0, 2, (n, size, size)), random.integers(0, 2, (n, size, size))
    return jnp.asarray(logits, jnp.float32), jnp.asarray(labels)


def p_one(logits, theta0=0.0, theta1=0.0):
    road = 1 / (1 + np.exp(-np.asarray(logits, np.float64)))
    return theta0 * (1 - road) + (1 - theta1) * road


def brute(logits, labels, reach, theta0=0.0, theta1=0.0):
    """log p(map | displacement), a pixel at a time: what the map has at x is the true label at x − t."""
    one, labels, size, found = p_one(logits, theta0, theta1), np.asarray(labels), len(labels), []
    for down, right in itertools.product(range(-reach, reach + 1), repeat=2):
        total = 0.0
        for y in range(reach, size - reach):
            for x in range(reach, size - reach):
                p = one[y - down, x - right]
                total += math.log(p if labels[y, x] else 1 - p)
        found.append(total)
    return np.array(found)


def test_losses_by_hand():
    logits, labels = jnp.array([[[0.0, math.log(3)]] * 2]), jnp.array([[[1, 0]] * 2])  # σ = 1/2 and 3/4
    logits, labels = logits.reshape(1, 2, 2), labels.reshape(1, 2, 2)
    assert float(cross_entropy(logits, labels)[0]) == pytest.approx(-(math.log(0.5) + math.log(0.25)) / 2, rel=1e-6)
    # p(one) = 0.02 · 0.5 + 0.7 · 0.5 = 0.36, and p(none) = 1 − (0.02 · 0.25 + 0.7 · 0.75) = 0.47.
    expected = -(math.log(0.36) + math.log(0.47)) / 2
    assert float(robust_to_omission(logits, labels, **THETA)[0]) == pytest.approx(expected, rel=1e-6)


def test_without_noise_omission_is_cross_entropy_also_where_the_net_is_sure():
    logits = jnp.array([[[-80.0, -3.0], [5.0, 90.0]]])
    for label in (0, 1):
        labels = jnp.full(logits.shape, label)
        plain = np.logaddexp(0, np.asarray(logits, np.float64) * (1 - 2 * label)).mean()
        assert float(cross_entropy(logits, labels)[0]) == pytest.approx(plain, rel=1e-6)
    gradient = jax.grad(lambda x: cross_entropy(x, jnp.ones(x.shape, int)).sum())(logits)
    assert np.isfinite(gradient).all()


def test_what_maps_leave_out_is_not_learnt_from():
    logits, labels = jnp.full((1, 1, 1), 6.0), jnp.zeros((1, 1, 1), int)
    pull = lambda loss: float(jax.grad(lambda x: loss(x).sum())(logits)[0, 0, 0])
    assert pull(lambda x: cross_entropy(x, labels)) > 0.99
    assert 0 < pull(lambda x: robust_to_omission(x, labels, **THETA)) < 0.01


@pytest.mark.parametrize("reach", [0, 1, 2])
def test_likelihoods_and_posterior_by_brute_force(reach):
    logits, labels = drawn()
    found = jax.jit(lambda x, m: log_likelihoods(x, m, reach, **THETA))(logits, labels)
    expected = np.stack([brute(x, m, reach, **THETA) for x, m in zip(logits, labels, strict=True)])
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    weights = np.exp(expected - expected.max(1, keepdims=True))
    weights /= weights.sum(1, keepdims=True)
    posterior = jax.jit(lambda x, m: displacement_posterior(x, m, reach, **THETA))(logits, labels)
    np.testing.assert_allclose(posterior, weights, atol=1e-4)


def test_a_displaced_map_is_found_out_and_moved_back():
    truth = np.zeros((1, 22, 22), int)
    truth[0, 10:12], truth[0, :, 11] = 1, 1
    logits = jnp.asarray(8.0 * truth[:, 3:-3, 3:-3] - 4, jnp.float32)
    for down, right in ((2, -1), (0, 0), (-3, 3)):
        moved = jnp.asarray(np.roll(truth, (down, right), (1, 2)))
        posterior = np.asarray(displacement_posterior(logits, moved[:, 3:-3, 3:-3], 3))[0]
        assert displacements(3)[int(posterior.argmax())] == (down, right)
        assert posterior.max() > 0.99
        np.testing.assert_allclose(aligned(logits, moved, 3), truth[:, 3:-3, 3:-3], atol=0.01)


def test_a_net_that_says_the_same_everywhere_finds_no_displacement_likelier():
    labels = np.zeros((1, 10, 10), int)
    labels[0, :, :4] = 1  # windows without roads must not win because nothing is easily explained
    posterior = displacement_posterior(jnp.full((1, 10, 10), -1.0), jnp.asarray(labels), 3)
    np.testing.assert_allclose(posterior, 1 / 49, rtol=1e-4)


def test_the_m_step_trains_all_labels_on_the_map_moved_back():
    """Against a loop over displacements and pixels in float64, the brute-force weights of the E-step held fixed."""
    logits, reach, size = drawn(2, 6, 1)[0], 1, 6
    labels = drawn(2, 8, 2)[1]
    expected, slopes = [], []
    for x, wide in zip(np.asarray(logits, np.float64), np.asarray(labels), strict=True):
        weights = brute(x, wide[1:-1, 1:-1], reach, **THETA)
        weights = np.exp(weights - weights.max())
        weights /= weights.sum()
        one, road, total, slope = p_one(x, **THETA), p_one(x), 0.0, np.zeros((size, size))
        for w, (down, right) in zip(weights, displacements(reach), strict=True):
            for y, column in np.ndindex(size, size):
                p, label = one[y, column], wide[y + reach + down, column + reach + right]
                total -= w * math.log(p if label else 1 - p) / size**2
                rise = (1 - THETA["theta0"] - THETA["theta1"]) * road[y, column] * (1 - road[y, column])
                slope[y, column] -= w * (rise / p if label else -rise / (1 - p)) / size**2
        expected.append(total)
        slopes.append(slope)
    loss = lambda x: robust_to_translation(x, labels, reach, **THETA)
    np.testing.assert_allclose(jax.jit(loss)(logits), expected, rtol=1e-5)
    np.testing.assert_allclose(jax.jit(jax.grad(lambda x: loss(x).sum()))(logits), slopes, atol=1e-6)
    assert np.abs(slopes).max() > 1e-3


def test_without_a_reach_translation_is_omission():
    logits, labels = drawn()
    np.testing.assert_allclose(
        robust_to_translation(logits, labels, 0, **THETA), robust_to_omission(logits, labels, **THETA), rtol=1e-5
    )


def test_what_is_out_of_range():
    logits, labels = drawn()
    with pytest.raises(
        UserError, match=r"config\.reach is 4: maps may be displaced by 0 to 3 pixels, as a patch is 7×7"
    ):
        log_likelihoods(logits, labels, 4)
    with pytest.raises(UserError, match="their sum less than 1"):
        robust_to_omission(logits, labels, 0.5, 0.5)
