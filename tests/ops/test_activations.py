"""LeCun's squashing function: values from the paper, its slope, its symmetry; rectifiers and ways back through them."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.ops.activations import backward_rule, current_rule, leaky_relu, relu, scaled_tanh
from cnnlab.ops.forms import plain_forms


def test_values():
    x = np.array([-1e4, -1, 0, 1, 1.5, 1e4])
    # tanh(1) = 0.76159416; the targets ±1 are reached at ±1, the bounds are ±1.7159.
    np.testing.assert_allclose(scaled_tanh(jnp.asarray(x)), [-1.7159, -1, 0, 1, 1.7159 * 0.76159416, 1.7159], atol=1e-4)


def test_gradient():
    slope = jax.vmap(jax.grad(scaled_tanh))(jnp.array([0.0, 1.5, 50.0]))
    # A·S·(1 − tanh²(S·x)) with A = 1.7159 and S = 2/3; tanh²(1) = 0.58002566.
    np.testing.assert_allclose(slope, [1.7159 * 2 / 3, 1.7159 * 2 / 3 * (1 - 0.58002566), 0], atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4)])
def test_shape_and_dtype_stay(shape, dtype):
    y = scaled_tanh(jnp.zeros(shape, dtype))
    assert (y.shape, y.dtype) == (shape, dtype)


def test_a_leaky_rectifier_lets_some_through():
    y, back = jax.vjp(leaky_relu, jnp.array([-2.0, 0.0, 3.0]))
    np.testing.assert_allclose(y, [-0.4, 0, 3])
    np.testing.assert_allclose(back(jnp.full(3, 10.0))[0], [2, 2, 10])
    np.testing.assert_allclose(leaky_relu(jnp.array([-2.0, 3.0]), 0.01), [-0.02, 3])


# x, what comes back to relu(x), and what goes on by each rule, worked out by hand.
X, G = [-2.0, -2.0, 0.0, 3.0, 3.0], [5.0, -5.0, 5.0, 5.0, -5.0]
WAYS = {None: [0, 0, 0, 5, -5], "deconvnet": [5, 0, 5, 5, 0], "guided": [0, 0, 0, 5, 0]}


@pytest.mark.parametrize("form", [contextlib.nullcontext, plain_forms])
@pytest.mark.parametrize("rule", WAYS)
def test_ways_back_through_rectifiers(rule, form):
    with backward_rule(rule) if rule else contextlib.nullcontext(), form():
        y, back = jax.vjp(jax.jit(lambda x: relu(x)), jnp.array(X))
    assert y.tolist() == [0, 0, 0, 3, 3]
    assert back(jnp.array(G))[0].tolist() == WAYS[rule]  # also outside


def test_rules_nest_and_end():
    def fail():
        with backward_rule("guided"):
            raise RuntimeError(current_rule())

    with backward_rule("deconvnet"):
        with pytest.raises(RuntimeError, match="guided"):
            fail()
        assert current_rule() == "deconvnet"
    assert current_rule() is None
