"""Local response normalisation against its formula, channel by channel."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from cnnlab.ops.activations import backward_rule
from cnnlab.ops.forms import plain_forms
from cnnlab.ops.lrn import LRN


@pytest.mark.parametrize(("size", "k", "alpha", "beta"), [(5, 2.0, 1e-4, 0.75), (3, 1.0, 0.5, 0.5), (4, 1.5, 0.3, 2.0)])
def test_values(size, k, alpha, beta):
    a = np.random.default_rng(0).normal(size=(2, 3, 3, 7)) * 5
    before = (size - 1) // 2
    expected = np.empty_like(a)
    for i in range(7):
        window = a[..., max(0, i - before) : i - before + size]
        expected[..., i] = a[..., i] / (k + alpha * np.sum(window**2, -1)) ** beta
    layer = LRN(size, k, alpha, beta)
    assert np.allclose(layer.apply({}, jnp.array(a, jnp.float32)), expected, rtol=1e-5)


def test_the_defaults_are_alexnets():
    layer = LRN()
    assert (layer.size, layer.k, layer.alpha, layer.beta) == (5, 2.0, 1e-4, 0.75)


def test_gradient():
    x = jax.random.normal(jax.random.key(0), (1, 2, 2, 6)) * 3
    layer = jax.jit(lambda x: LRN(3, 1.0, 0.1, 0.75).apply({}, jnp.asarray(x)))
    check_grads(layer, (x,), order=1, modes=["rev"], rtol=1e-2)


@pytest.mark.parametrize("form", [contextlib.nullcontext, plain_forms])
def test_the_deconvnet_passes_by(form):
    x, g = jax.random.normal(jax.random.key(0), (2, 2, 3, 2, 6)) * 3
    layer = lambda x: LRN(3, 1.0, 0.1, 0.75).apply({}, x)
    with form():
        y, back = jax.vjp(layer, x)
        with backward_rule("deconvnet"):
            same, passed = jax.vjp(layer, x)
        with backward_rule("guided"):
            guided = jax.vjp(layer, x)[1]
    np.testing.assert_array_equal(same, y)
    np.testing.assert_array_equal(passed(g)[0], g)
    np.testing.assert_array_equal(guided(g)[0], back(g)[0])
    assert np.abs(back(g)[0] - g).max() > 0.1
