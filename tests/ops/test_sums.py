"""Sums of all pixels, of any number of them, exact to the last digits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.ops.sums import sums
from tests.small import random_array


@pytest.mark.parametrize("shape", [(3,), (1, 2), (16, 3), (17, 3), (2, 37, 11, 3), (4, 32, 8, 2), (1, 101, 103, 2)])
def test_sums_of_several_tensors(shape):
    a, b = random_array(shape) + 1, random_array(shape, seed=1)
    found = sums(a, b, a * b)
    axes = tuple(range(len(shape) - 1))
    for one, tensor in zip(found, (a, b, a * b), strict=True):
        exact = np.asarray(tensor, np.float64).sum(axes)
        np.testing.assert_allclose(one, exact, rtol=0, atol=1e-6 * np.abs(tensor).sum(axes).max())


def test_many_rows_lose_nothing():
    x = jnp.full((2**22, 1), 0.1)
    assert abs(float(sums(x)[0][0]) / (2**22 * np.float64(np.float32(0.1))) - 1) < 1e-6


def test_it_can_be_differentiated():
    x = random_array((34, 2))
    slope = jax.grad(lambda x: jnp.sum(sums(x, x * x)[1] * jnp.array([1.0, 2.0])))(x)
    np.testing.assert_allclose(slope, 2 * x * np.array([1.0, 2.0]), rtol=1e-6)


def test_half_precision_is_added_up_in_single():
    x = jnp.ones((1000, 1), jnp.bfloat16)
    assert sums(x)[0].dtype == jnp.float32
    assert float(sums(x)[0][0]) == 1000
