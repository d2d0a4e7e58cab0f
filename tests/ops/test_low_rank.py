"""Layers of low rank by hand, and against numpy's singular values."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.errors import UserError
from cnnlab.ops.low_rank import low_rank


def test_by_hand():
    # Singular values 3 and 1 along the diagonals.
    first, second, kept = low_rank(jnp.array([[2.0, 1.0], [1.0, 2.0]]), 1)
    assert (first.shape, second.shape) == ((2, 1), (1, 2))
    np.testing.assert_allclose(first @ second, [[1.5, 1.5], [1.5, 1.5]], rtol=1e-5)
    np.testing.assert_allclose(kept, 0.9, rtol=1e-6)


@pytest.mark.parametrize("shape", [(7, 4), (4, 7)])
def test_it_is_the_nearest_of_its_rank(shape):
    kernel = np.random.default_rng(0).normal(size=shape)
    sigma = np.linalg.svd(kernel, compute_uv=False)
    for rank in (1, 3, 4):
        first, second, kept = jax.jit(low_rank, static_argnums=1)(jnp.array(kernel, jnp.float32), rank)
        away = np.linalg.norm(np.asarray(first, np.float64) @ np.asarray(second, np.float64) - kernel)
        # Eckart and Young: nothing of this rank is nearer than the singular values left out.
        np.testing.assert_allclose(away**2, (sigma[rank:] ** 2).sum(), atol=1e-5)
        np.testing.assert_allclose(kept, (sigma[:rank] ** 2).sum() / (sigma**2).sum(), rtol=1e-5)
        # The first is Σ Vᵀ, the second U, whose columns are of length 1 and at right angles.
        np.testing.assert_allclose(second @ second.T, np.eye(rank), atol=1e-5)
        np.testing.assert_allclose(first.T @ first, np.diag(sigma[:rank] ** 2), atol=1e-4)


def test_two_dense_layers_do_as_one():
    x = jax.random.normal(jax.random.key(0), (5, 6))
    layer = nn.Dense(4)
    params = layer.init(jax.random.key(1), x)["params"] | {"bias": jnp.arange(4.0)}
    first, second, kept = low_rank(params["kernel"], 4)
    hidden = nn.Dense(4, use_bias=False).apply({"params": {"kernel": first}}, x)
    y = nn.Dense(4).apply({"params": {"kernel": second, "bias": params["bias"]}}, hidden)
    np.testing.assert_allclose(y, layer.apply({"params": params}, x), atol=1e-5)
    np.testing.assert_allclose(kept, 1, rtol=1e-6)


def test_a_layer_of_zeros_is_kept_whole():
    first, second, kept = low_rank(jnp.zeros((3, 2)), 1)
    assert not (first @ second).any()
    assert kept == 1


@pytest.mark.parametrize("rank", [0, 3])
def test_ranks_that_there_are_not(rank):
    with pytest.raises(UserError, match=f"rank of 1 to 2, not {rank}"):
        low_rank(jnp.zeros((5, 2)), rank)
