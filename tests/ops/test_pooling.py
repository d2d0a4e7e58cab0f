"""Pooling by hand, and where its gradients go."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from cnnlab.errors import UserError
from cnnlab.ops.pooling import AvgPool, L2Pool, MaxPool, sum_pool

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


def windows(x, window, stride, padding, ceil, fill):
    """Every window of `x` in a list by place: (rows, columns, list of pixels (n, c)), by the definition."""
    n, height, width, c = x.shape
    wide = np.full((n, height + 2 * padding + stride, width + 2 * padding + stride, c), fill, np.float64)
    wide[:, padding : padding + height, padding : padding + width] = x
    starts = []
    for size in (height, width):
        limit = size + padding if ceil else size + 2 * padding - window + 1
        last = size + 2 * padding - window + (stride - 1 if ceil else 0)
        starts.append([s for s in range(0, last + 1, stride) if s < limit])
    return [[wide[:, i : i + window, j : j + window].reshape(n, -1, c) for j in starts[1]] for i in starts[0]]


POOLS = [(3, 2, 0, False), (3, 2, 0, True), (3, 2, 1, True), (2, 2, 0, False), (3, 1, 1, False), (5, 3, 0, False)]


@pytest.mark.parametrize(("window", "stride", "padding", "ceil"), POOLS)
@pytest.mark.parametrize("size", [7, 8])
def test_pooling_by_the_definition(window, stride, padding, ceil, size):
    x = np.random.default_rng(0).normal(size=(2, size, size, 3)).astype(np.float32)
    shape = (window, stride, padding, ceil)

    def expected(reduce, fill):
        rows = [[reduce(w) for w in row] for row in windows(x, *shape, fill)]
        return np.moveaxis(np.array(rows), 2, 0)

    assert np.allclose(MaxPool(*shape).apply({}, jnp.array(x)), expected(lambda w: w.max(1), -np.inf))
    assert np.allclose(AvgPool(*shape).apply({}, jnp.array(x)), expected(lambda w: np.nanmean(w, 1), np.nan), atol=1e-6)
    if not ceil:
        counted = AvgPool(*shape, count_padding=True).apply({}, jnp.array(x))
        assert np.allclose(counted, expected(lambda w: w.mean(1), 0.0), atol=1e-6)
    assert np.allclose(
        L2Pool(*shape).apply({}, jnp.array(x)), expected(lambda w: np.sqrt((w**2).sum(1)), 0.0), atol=1e-5
    )


def test_l2_pooling_of_nothing_has_no_gradient():
    slope = jax.grad(lambda x: L2Pool(2, 2).apply({}, x).sum())
    assert slope(jnp.zeros((1, 2, 2, 1))).tolist() == jnp.zeros((1, 2, 2, 1)).tolist()
    assert np.allclose(slope(jnp.array([3.0, 4.0, 0.0, 0.0]).reshape(1, 2, 2, 1)).ravel(), [0.6, 0.8, 0, 0])


def test_a_window_that_does_not_fit_is_named():
    with pytest.raises(UserError, match="too small for layer"):
        MaxPool(3, 2, name="pool1").apply({}, jnp.zeros((1, 2, 2, 1)))


@pytest.mark.parametrize("pool", [MaxPool(3, 2), AvgPool(3, 2), AvgPool(3, 2, count_padding=True), L2Pool(3, 2)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_gradients_under_jit_are_those_without(pool, dtype):
    x = jax.random.normal(jax.random.key(0), (2, 7, 7, 3), dtype)
    slope = jax.grad(lambda x: jnp.sum(pool.apply({}, x).astype(jnp.float32) ** 2))
    assert slope(x).dtype == dtype
    np.testing.assert_allclose(*(f(x).astype(jnp.float32) for f in (jax.jit(slope), slope)), rtol=0.05, atol=1e-2)
    total = jax.jit(jax.grad(lambda x: jnp.sum(sum_pool(x, 2).astype(jnp.float32))))
    assert total(x)[:, :6, :6].astype(jnp.float32).min() == 1
