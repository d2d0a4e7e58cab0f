"""LeCun's squashing function: values from the paper, its slope, its symmetry."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.ops.activations import scaled_tanh


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
