"""Batch normalisation against numpy, in training, in evaluation, and over devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from cnnlab.ops.batch_norm import BatchNorm


@pytest.fixture
def x():
    return jnp.array(np.random.default_rng(0).normal(3.0, 2.0, (8, 5, 5, 3)), jnp.float32)


def variables(scale, bias, mean, var):
    params = {"scale": jnp.array(scale), "bias": jnp.array(bias)}
    return {"params": params, "batch_stats": {"mean": jnp.array(mean), "var": jnp.array(var)}}


GIVEN = ([1.0, 2.0, 0.5], [0.0, 1.0, -1.0], [1.0, 2.0, 3.0], [4.0, 1.0, 0.25])


def test_training_uses_the_batch_and_moves_the_averages(x):
    y, changed = BatchNorm(momentum=0.8).apply(variables(*GIVEN), x, train=True, mutable=["batch_stats"])
    wide = np.asarray(x, np.float64)
    mean, var = wide.mean((0, 1, 2)), wide.var((0, 1, 2))
    assert np.allclose(y, (wide - mean) / np.sqrt(var + 1e-5) * GIVEN[0] + GIVEN[1], atol=1e-4)
    assert np.allclose(changed["batch_stats"]["mean"], 0.8 * np.array(GIVEN[2]) + 0.2 * mean, atol=1e-5)
    assert np.allclose(changed["batch_stats"]["var"], 0.8 * np.array(GIVEN[3]) + 0.2 * var, atol=1e-4)


def test_evaluation_uses_the_averages_and_changes_nothing(x):
    y, changed = BatchNorm().apply(variables(*GIVEN), x, train=False, mutable=["batch_stats"])
    scale, bias, mean, var = map(np.array, GIVEN)
    assert np.allclose(y, (np.asarray(x) - mean) / np.sqrt(var + 1e-5) * scale + bias, atol=1e-4)
    assert changed["batch_stats"]["mean"].tolist() == GIVEN[2]


def test_initialisation_does_not_move_the_averages(x):
    found = BatchNorm().init(jax.random.key(0), x, train=True)
    assert found["batch_stats"]["mean"].tolist() == [0, 0, 0]
    assert found["batch_stats"]["var"].tolist() == [1, 1, 1]
    assert found["params"]["scale"].tolist() == [1, 1, 1]


def test_over_an_axis_it_is_the_whole_batchs(x):
    """Two halves normalised together give what the whole gives."""
    layer = BatchNorm(axis_name="halves")
    both = jax.vmap(
        lambda half: layer.apply(variables(*GIVEN), half, train=True, mutable=["batch_stats"]), axis_name="halves"
    )
    y, changed = both(x.reshape(2, 4, 5, 5, 3))
    whole, expected = BatchNorm().apply(variables(*GIVEN), x, train=True, mutable=["batch_stats"])
    assert np.allclose(y.reshape(x.shape), whole, atol=1e-4)
    assert np.allclose(changed["batch_stats"]["var"][0], expected["batch_stats"]["var"], atol=1e-4)


def test_half_precision_keeps_float32_statistics(x):
    layer = BatchNorm()
    y, changed = layer.apply(variables(*GIVEN), x.astype(jnp.bfloat16), train=True, mutable=["batch_stats"])
    assert y.dtype == jnp.bfloat16
    assert changed["batch_stats"]["mean"].dtype == jnp.float32


def test_gradient(x):
    def loss(x, scale):
        given = variables(scale, *GIVEN[1:])
        y, _ = BatchNorm().apply(given, jnp.asarray(x), train=True, mutable=["batch_stats"])
        return jnp.sum(jnp.sin(y))

    arguments = (x[:2, :2, :2], jnp.array(GIVEN[0]))
    check_grads(loss, arguments, order=1, modes=["rev"], rtol=2e-2, atol=2e-2)


def test_frozen_it_is_an_affine_map_that_nothing_changes(x):
    layer = BatchNorm(frozen=True)
    fresh = layer.init(jax.random.key(0), x, train=True)
    assert set(fresh) == {"batch_stats"}, "no optimizer sees any of it"
    assert set(fresh["batch_stats"]) == {"scale", "bias", "mean", "var"}
    values = {"scale": 2.0, "bias": 1.0, "mean": 3.0, "var": 4.0}
    given = {name: jnp.full(x.shape[-1], value) for name, value in values.items()}
    y, changed = layer.apply({"batch_stats": given}, x, train=True, mutable=["batch_stats"])
    assert np.allclose(y, (x - 3) / np.sqrt(4 + 1e-5) * 2 + 1, atol=1e-5)
    assert all(np.array_equal(changed["batch_stats"][name], given[name]) for name in given)
