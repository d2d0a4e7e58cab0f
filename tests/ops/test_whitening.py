"""Whitening by hand, by the covariance of what comes out, and as a layer."""

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.ops.whitening import Whitening, zca


def pictures(count: int = 400) -> np.ndarray:
    """Pictures of 3×4×2 whose pixels know of each other, some of them everything."""
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(count, 20)) @ rng.normal(size=(20, 24)) + rng.normal(size=24)
    return mixed.reshape(count, 3, 4, 2).astype(np.float32)


def test_by_hand():
    # Two pixels: of variance 1 along (1, 1) and 4 along (1, −1), with 0 and 5 added to them.
    x = np.array([[1, 1], [-1, -1], [2, -2], [-2, 2]]) + [0, 5]
    found = zca([x.reshape(4, 1, 2, 1).astype(np.float32)], bias=0.0)
    # (1, 1) and (−1, −1) among four: λ = 4/4 = 1; (2, −2) and (−2, 2): λ = 16/4 = 4.
    along, across = np.array([1, 1]) / np.sqrt(2), np.array([1, -1]) / np.sqrt(2)
    np.testing.assert_allclose(found["mean"], [0, 5], atol=1e-6)
    np.testing.assert_allclose(
        found["matrix"], np.outer(along, along) / 1 + np.outer(across, across) / 2, rtol=1e-5, atol=1e-6
    )


def test_the_covariance_becomes_the_identity_but_for_the_bias():
    x, bias = pictures(), 0.1
    white = np.asarray(Whitening().apply({"whitening": zca([x], bias)}, jnp.asarray(x))).reshape(len(x), -1)
    np.testing.assert_allclose(white.mean(0), 0, atol=1e-4)
    values = np.linalg.eigvalsh(np.cov(x.reshape(len(x), -1), rowvar=False, bias=True))
    expected = np.sort(np.maximum(values, 0) / (np.maximum(values, 0) + bias))
    np.testing.assert_allclose(np.linalg.eigvalsh(np.cov(white, rowvar=False, bias=True)), expected, atol=1e-3)


def test_parts_of_any_size_are_one_whole():
    x = pictures()
    whole, parts = zca([x]), zca([x[:7], x[7:300], x[300:]])
    for name in whole:
        np.testing.assert_allclose(parts[name], whole[name], atol=1e-4)


def test_the_matrix_has_no_turn():
    # Of all whitening matrices the symmetric one changes pictures least.
    matrix = zca([pictures()])["matrix"]
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-6)
    assert np.linalg.eigvalsh(matrix.astype(np.float64)).min() > 0


def test_before_it_is_fitted_nothing_changes():
    x = jnp.asarray(pictures(3))
    variables = Whitening().init(jax.random.key(0), x)
    assert set(variables) == {"whitening"}, "there is nothing to train"
    np.testing.assert_array_equal(Whitening().apply(variables, x), x)
