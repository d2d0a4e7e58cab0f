"""Fully connected layers by hand, and half precision against products in double."""

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.ops.dense import Dense, half_product
from cnnlab.ops.forms import plain_forms
from tests.small import random_array


def rounded(x):
    return np.asarray(jnp.asarray(x).astype(jnp.bfloat16), np.float64)


def test_by_hand():
    params = {"kernel": jnp.array([[1.0, 2.0], [3.0, 4.0]]), "bias": jnp.array([10.0, 20.0])}
    assert Dense(2).apply({"params": params}, jnp.array([[1.0, -1.0]])).tolist() == [[8.0, 18.0]]
    del params["bias"]
    assert Dense(2, use_bias=False).apply({"params": params}, jnp.array([1.0, -1.0])).tolist() == [-2.0, -2.0]


def test_half_precision_sums_in_single():
    x, kernel, g = random_array((300, 700)), random_array((700, 5), seed=1), random_array((300, 5), seed=2)
    y, back = jax.vjp(half_product, x.astype(jnp.bfloat16), kernel)
    dx, dkernel = back(g)
    assert (y.dtype, dx.dtype, dkernel.dtype) == (jnp.float32, jnp.bfloat16, jnp.float32)
    # A sum of 300 or more in bfloat16, or one rounded to it, would be off by 0.1.
    np.testing.assert_allclose(y, rounded(x) @ rounded(kernel), atol=1e-3)
    np.testing.assert_allclose(dkernel, rounded(x).T @ rounded(g), atol=1e-3)
    np.testing.assert_allclose(np.asarray(dx, np.float64), rounded(g) @ rounded(kernel).T, rtol=2**-8, atol=1e-3)


def test_a_half_precision_layer_of_any_rank():
    x = random_array((2, 3, 40))
    layer = Dense(6, bias_init=jax.nn.initializers.normal(), dtype=jnp.bfloat16)
    variables = layer.init(jax.random.key(0), x)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    y = layer.apply(variables, x)
    assert y.dtype == jnp.bfloat16
    params = variables["params"]
    np.testing.assert_allclose(rounded(y), rounded(x) @ rounded(params["kernel"]) + params["bias"], rtol=2**-8)

    def loss(variables):
        return (layer.apply(variables, x).astype(jnp.float32) ** 2).mean()

    with plain_forms():
        expected = jax.grad(loss)(variables)
    for got, want in zip(*map(jax.tree.leaves, (jax.grad(loss)(variables), expected)), strict=True):
        np.testing.assert_allclose(got, want, rtol=0.05, atol=0.01)
