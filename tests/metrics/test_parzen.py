"""Parzen windows by hand, against scikit-learn's and against float64."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp
from sklearn.neighbors import KernelDensity

from cnnlab.errors import UserError
from cnnlab.metrics import distances
from cnnlab.metrics.parzen import SIGMAS, ParzenScore, choose_sigma, log_likelihoods, parzen


def pictures(n, seed, side=28):
    """Pixels from 0 to 1, mostly near either, as in pictures of digits."""
    rng = np.random.default_rng(seed)
    return rng.beta(0.2, 0.5, (n, side, side, 1)).astype(np.float32)


def exact(samples, x, sigma):
    samples, x = (array.reshape(len(array), -1).astype(np.float64) for array in (samples, x))
    squares = np.square(x[:, None] - samples).sum(-1)
    constant = math.log(len(samples)) + samples.shape[1] * math.log(sigma * math.sqrt(2 * math.pi))
    return logsumexp(-squares / (2 * sigma**2), 1) - constant


def test_two_windows_by_hand():
    samples, x = jnp.array([[0.0], [2.0]]), jnp.array([[1.0], [2.0]])
    normal = lambda z, sigma: math.exp(-(z**2) / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))
    expected = [[math.log(normal(1, s)), math.log((normal(0, s) + normal(2, s)) / 2)] for s in (1, 0.5)]
    np.testing.assert_allclose(log_likelihoods(samples, x, [1.0, 0.5]), expected, rtol=1e-6)


def test_as_scikit_learn():
    rng = np.random.default_rng(0)
    samples, x = (rng.normal(size=(n, 5)).astype(np.float32) for n in (200, 30))
    for sigma in (0.1, 0.7, 3.0):
        # A tree of more than one leaf loses densities far below its own bounds to rounding.
        expected = KernelDensity(bandwidth=sigma, leaf_size=len(samples)).fit(samples).score_samples(x)
        np.testing.assert_allclose(log_likelihoods(samples, x, [sigma])[0], expected, rtol=1e-5)


def test_float32_is_enough_for_the_narrowest_window():
    samples, x = pictures(40, 0), pictures(10, 1)
    for sigma, found in zip(SIGMAS, log_likelihoods(samples, x, SIGMAS), strict=True):
        np.testing.assert_allclose(found, exact(samples, x, sigma), rtol=1e-6, atol=5e-3)


def test_blocks_change_nothing(monkeypatch):
    samples, x = pictures(40, 0, 6), pictures(22, 1, 6)
    whole = log_likelihoods(samples, x, (0.1, 0.5))
    monkeypatch.setattr(distances, "NUMBERS", 40 * 11 + 39)
    np.testing.assert_allclose(log_likelihoods(samples, x, (0.1, 0.5)), whole, rtol=1e-5)


def test_the_width_is_the_one_that_suits_the_validation_examples():
    # The density at 0.3 of a Gaussian about 0 is greatest where σ is 0.3.
    assert choose_sigma(jnp.zeros((3, 1)), jnp.array([[0.3], [-0.3]]), (0.1, 0.3, 0.9)) == 0.3
    assert choose_sigma(jnp.zeros((3, 1)), jnp.array([[0.9]]), (0.1, 0.3, 0.9)) == 0.9


def test_the_score_is_the_mean_over_the_test_examples():
    samples, validation, test = jnp.zeros((1, 1)), jnp.array([[0.3]]), jnp.array([[0.0], [0.3], [1.5]])
    score = parzen(samples, validation, test, (0.1, 0.3, 0.9))
    top = -math.log(0.3 * math.sqrt(2 * math.pi))
    densities = [top, top - 0.5, top - 12.5]
    assert score.sigma == 0.3  # 0.9 would suit the test better, but that must not be known
    assert score.mean == pytest.approx(sum(densities) / 3, rel=1e-6)
    assert score.standard_error == pytest.approx(np.std(densities, ddof=1) / math.sqrt(3), rel=1e-5)


def test_the_grid_is_the_authors():
    assert len(SIGMAS) == 10
    np.testing.assert_allclose(np.diff(np.log10(SIGMAS)), 1 / 9)
    assert (SIGMAS[0], SIGMAS[-1]) == (0.1, 1.0)


def test_a_single_test_example_has_no_standard_error():
    score = parzen(np.zeros((2, 1)), np.zeros((1, 1)), np.zeros((1, 1)), [1.0])
    assert isinstance(score, ParzenScore)
    assert math.isnan(score.standard_error)
    assert score.mean == pytest.approx(-0.5 * math.log(2 * math.pi))


def test_what_is_no_window():
    x = np.zeros((2, 3))
    for sigmas in ([], [0.0, 1.0], [-1.0]):
        with pytest.raises(UserError, match="widths of Parzen windows"):
            log_likelihoods(x, x, sigmas)
    with pytest.raises(UserError, match="0 and 2 examples"):
        log_likelihoods(x[:0], x, [1.0])
