"""The Fréchet distance against closed forms and scipy's square root of a matrix."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import sqrtm

from cnnlab.errors import UserError
from cnnlab.metrics.frechet import Moments, frechet_distance, moments


def gaussian(mean, covariance):
    """Moments of two examples, of which the scatter is the covariance."""
    return Moments(2, np.array(mean, np.float64), np.array(covariance, np.float64))


def features(n, d, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d)).astype(np.float32)


@pytest.mark.parametrize("away", [0, 1e4])
def test_moments_are_those_of_numpy(away):
    x = away + features(50, 4)
    found = moments(jnp.asarray(x))
    assert found.count == 50
    np.testing.assert_allclose(found.mean, x.mean(0, dtype=np.float64))
    np.testing.assert_allclose(found.covariance, np.cov(x.T.astype(np.float64)))


def test_diagonal_covariances():
    one, other = gaussian([0, 1], np.diag([4, 9])), gaussian([3, 1], np.diag([1, 16]))
    assert frechet_distance(one, other) == pytest.approx(3**2 + (2 - 1) ** 2 + (3 - 4) ** 2)


def test_the_same_turned_by_45_degrees():
    turn = np.array([[1, -1], [1, 1]]) / math.sqrt(2)
    one, other = (gaussian([0, 0], turn @ np.diag(values) @ turn.T) for values in ([4, 9], [1, 16]))
    assert frechet_distance(one, other) == pytest.approx(2)


def test_equal_sets_are_not_apart():
    for x in (features(40, 5), features(4, 20)):  # of 4 examples the covariance is singular
        assert frechet_distance(moments(x), moments(x)) == pytest.approx(0, abs=1e-6 * float(np.square(x).sum()))


def test_a_shift_of_the_mean():
    x = features(40, 5)
    shift = np.array([1, 2, 0, 0, 2])
    assert frechet_distance(moments(x), moments(x + shift)) == pytest.approx(9, rel=1e-4)


def test_any_two_covariances():
    one, other = moments(features(30, 6, 0)), moments(features(30, 6, 1))
    root = sqrtm(one.covariance @ other.covariance)
    expected = np.square(one.mean - other.mean).sum() + np.trace(one.covariance + other.covariance - 2 * root.real)
    assert frechet_distance(one, other) == pytest.approx(expected)
    assert frechet_distance(other, one) == pytest.approx(expected)


def test_what_varies_not_at_all():
    assert frechet_distance(gaussian([0, 0], np.eye(2)), gaussian([0, 0], np.zeros((2, 2)))) == pytest.approx(2)


def test_what_is_not_finite_is_not_a_number():
    assert math.isnan(frechet_distance(gaussian([0], [[1]]), gaussian([math.nan], [[1]])))
    assert math.isnan(frechet_distance(gaussian([0], [[math.inf]]), gaussian([0], [[1]])))


def test_what_cannot_be_compared():
    with pytest.raises(UserError, match="1 example has no covariance"):
        frechet_distance(moments(np.zeros((1, 2))), moments(np.zeros((2, 2))))
    with pytest.raises(UserError, match="2 features cannot be compared with 3"):
        frechet_distance(moments(np.zeros((2, 2))), moments(np.zeros((2, 3))))
