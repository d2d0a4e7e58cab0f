"""Maxout against numpy, its gradient, its parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.ops.maxout import Maxout, maxout


def test_values_and_gradient():
    x = jnp.array([[1.0, -5.0, 2.0, 7.0, 3.0, -6.0]])  # units 0 and 1 have the pieces (1, 2, 3) and (−5, 7, −6)
    assert maxout(x, 3).tolist() == [[3.0, 7.0]]
    assert jax.grad(lambda x: (maxout(x, 3) * jnp.array([10.0, 1.0])).sum())(x).tolist() == [[0, 0, 0, 1, 10, 0]]


def test_the_layer_is_the_largest_of_its_linear_pieces():
    x = jax.random.normal(jax.random.key(0), (3, 4, 7))
    layer = Maxout(5, 2, kernel_init=jax.nn.initializers.normal(1.0))
    y, variables = layer.init_with_output(jax.random.key(1), x)
    assert jax.tree.map(jnp.shape, variables["params"]) == {"linear": {"kernel": (7, 10), "bias": (10,)}}
    kernel = np.asarray(variables["params"]["linear"]["kernel"], np.float64)
    assert np.allclose(y, np.maximum(x @ kernel[:, :5], x @ kernel[:, 5:]), atol=1e-5)


def test_half_precision_keeps_float32_parameters():
    y, variables = Maxout(5, 2, dtype=jnp.bfloat16).init_with_output(jax.random.key(1), jnp.ones((2, 3)))
    assert y.dtype == jnp.bfloat16
    assert variables["params"]["linear"]["kernel"].dtype == jnp.float32


def test_pieces_that_do_not_fit():
    with pytest.raises(ValueError, match="7 inputs do not fall into maxout units of 2 pieces"):
        maxout(jnp.ones((1, 7)), 2)
