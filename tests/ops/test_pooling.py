"""Pooling by hand, and where its gradients go."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from cnnlab.ops.pooling import MaxPool, sum_pool

PICTURE = jnp.array([[1, 2, 3, 4], [5, 6, 7, 8], [9, 8, 7, 6], [5, 4, 3, 2]], jnp.float32)


def one(picture):
    return picture[None, :, :, None]


def test_sum_pool():
    np.testing.assert_allclose(sum_pool(one(PICTURE), 2)[0, :, :, 0], [[14, 22], [26, 18]])


def test_the_tests_check_the_arrays_in_signatures():
    with pytest.raises(jaxtyping.TypeCheckError):
        sum_pool(PICTURE, 2)
    with pytest.raises(jaxtyping.TypeCheckError):
        sum_pool(one(PICTURE).astype(jnp.int32), 2)


def test_sum_pool_drops_what_fills_no_window():
    np.testing.assert_allclose(sum_pool(one(PICTURE), 3)[0, :, :, 0], [[48]])
    np.testing.assert_allclose(sum_pool(one(PICTURE[:3]), 2)[0, :, :, 0], [[14, 22]])


def test_sum_pool_keeps_examples_and_channels_apart():
    x = jnp.arange(2 * 4 * 4 * 3, dtype=jnp.float32).reshape(2, 4, 4, 3)
    expected = np.asarray(x).reshape(2, 2, 2, 2, 2, 3).sum((2, 4))
    np.testing.assert_allclose(sum_pool(x, 2), expected)


def test_sum_pools_gradient_is_one_everywhere_in_the_windows():
    gradient = jax.grad(lambda x: sum_pool(x, 3).sum())(one(PICTURE))[0, :, :, 0]
    np.testing.assert_allclose(gradient, [[1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0]])


@pytest.mark.parametrize(
    ("window", "stride", "expected"),
    [(2, 2, [[6, 8], [9, 7]]), (3, 1, [[9, 8], [9, 8]]), (2, 1, [[6, 7, 8], [9, 8, 8], [9, 8, 7]]), (2, 3, [[6]])],
)
def test_max_pool(window, stride, expected):
    pooled = MaxPool(window, stride).apply({}, one(PICTURE))
    np.testing.assert_allclose(pooled[0, :, :, 0], expected)


def test_max_pool_of_negatives_is_not_padded_with_zeros():
    np.testing.assert_allclose(MaxPool(2, 2).apply({}, one(-PICTURE))[0, :, :, 0], [[-1, -3], [-4, -2]])


def test_max_pools_gradient_goes_to_the_greatest():
    gradient = jax.grad(lambda x: MaxPool(2, 2).apply({}, x).sum())(one(PICTURE))[0, :, :, 0]
    np.testing.assert_allclose(gradient, [[0, 0, 0, 0], [0, 1, 0, 1], [1, 0, 1, 0], [0, 0, 0, 0]])


def test_overlapping_windows_add_their_gradients():
    gradient = jax.grad(lambda x: MaxPool(3, 1).apply({}, x).sum())(one(PICTURE))[0, :, :, 0]
    # The 9 is the greatest of the two windows on the left, and of the others it is an 8: the one that comes first.
    np.testing.assert_allclose(gradient.sum(), 4)
    assert gradient[2, 0] == 2


def test_max_pool_has_no_parameters():
    assert isinstance(MaxPool(2, 2), nn.Module)
    assert MaxPool(2, 2).init(jax.random.key(0), one(PICTURE)) == {}
