"""Every form for CPUs gives what `lax`'s own operation gives, and so do its gradients, to float32 rounding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.ops import conv_cpu
from cnnlab.ops.activations import relu
from cnnlab.ops.batch_norm import BatchNorm
from cnnlab.ops.bias import add_bias
from cnnlab.ops.conv import conv2d
from cnnlab.ops.dense import Dense
from cnnlab.ops.forms import plain_forms, tuned
from cnnlab.ops.lrn import LRN
from cnnlab.ops.pooling import AvgPool, L2Pool, MaxPool
from tests.small import random_array


def value_and_gradients(function, *arguments):
    """The result, and the gradients of its sum weighted by fixed random numbers."""
    result = function(*arguments)
    leaves = jax.tree.leaves(result)
    weights = [random_array(leaf.shape, seed=7) for leaf in leaves]

    def total(*arguments):
        return sum(jnp.vdot(w, y) for w, y in zip(weights, jax.tree.leaves(function(*arguments)), strict=True))

    return result, jax.jit(jax.grad(total, range(len(arguments))))(*arguments)


def agree(function, *arguments):
    """Asserts that `function` traced in both forms gives the same values and gradients."""
    assert tuned(), "these tests need a CPU"
    fast = value_and_gradients(function, *arguments)
    with plain_forms():
        plain = value_and_gradients(lambda *a: function(*a), *arguments)
    for a, b in zip(jax.tree.leaves(fast), jax.tree.leaves(plain), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-6 * max(1.0, float(jnp.abs(b).max())))


@pytest.mark.parametrize(
    ("size", "channels", "features", "kernel", "stride", "padding", "groups"),
    [
        ((9, 8), 3, 4, 3, 1, 1, 1),
        ((9, 8), 5, 4, (3, 2), 1, (0, 1), 1),
        ((12, 12), 1, 6, 5, 1, 0, 1),  # one input channel
        ((12, 9), 1, 6, 5, 2, 2, 1),
        ((20, 19), 1, 16, 9, 1, 2, 1),  # likewise, of more than 1000 weights
        ((20, 19), 1, 32, (9, 8), (2, 1), (1, 0), 1),
        ((8, 9), 6, 4, 1, 1, 0, 1),  # 1×1
        ((9, 8), 6, 4, 1, 2, 0, 1),
        ((9, 8), 6, 4, 1, 1, 1, 1),  # 1×1, padded
        ((5, 4), 6, 7, (5, 4), 1, 0, 1),  # as large as its input
        ((3, 2), 6, 4, 3, 1, 1, 1),  # small maps
        ((10, 11), 6, 4, 3, 2, 0, 1),  # likewise, strided; rows and columns at the end that no filter sees
        ((19, 18), 6, 4, 3, 2, 1, 1),  # strided: phases of the input's gradient
        ((20, 21), 6, 4, 3, 2, 0, 1),  # rows and columns at the end that no filter sees
        ((43, 37), 3, 4, 7, 4, 2, 1),
        ((31, 32), 4, 4, 2, 3, 0, 1),  # filters smaller than the stride: pixels between that none sees
        ((11, 22), 4, 4, (3, 1), (1, 2), (1, 0), 1),
        ((9, 8), 6, 4, 3, 1, 1, 2),  # groups
        ((9, 8), 6, 6, 1, 1, 0, 3),
        ((14, 13), 6, 16, 5, 1, 0, 1),  # few channels, short rows
        ((9, 11), 2, 5, (3, 4), 1, (2, 1), 1),
        ((9, 8), 3, 5, 3, 1, 3, 1),  # zeros that the filter sees alone
        ((8, 21), 6, 4, 5, 1, 1, 1),  # few channels, long rows
        ((40, 41), 96, 97, 3, 1, 1, 1),  # Winograd's minimal filtering
        ((41, 40), 97, 96, 3, 1, (0, 2), 1),
        ((39, 40), 192, 200, 3, 1, 1, 2),
    ],
)
def test_convolution(size, channels, features, kernel, stride, padding, groups):
    x = random_array((2, *size, channels))
    kh, kw = (kernel, kernel) if isinstance(kernel, int) else kernel
    w = random_array((kh, kw, channels // groups, features), seed=1) / (kh * kw)
    agree(lambda x, w: conv2d(x, w, stride, padding, groups), x, w)


@pytest.mark.parametrize("rows", [10, 512, 513])
@pytest.mark.parametrize(("left", "right"), [(3, 5), (5, 3)])
def test_the_split_product(rows, left, right):
    a, b = random_array((rows, left)), random_array((rows, right), seed=1)
    np.testing.assert_allclose(conv_cpu.split_product(a, b), np.asarray(a).T @ np.asarray(b), rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", [(3, 7, 5, 4), (6, 3)])
def test_a_bias(shape):
    agree(add_bias, random_array(shape), random_array(shape[-1:], seed=1))


@pytest.mark.parametrize(("rows", "inputs"), [(5, 4096), (97, 4096), (5, 4095)])
def test_fully_connected_layers_of_many_weights(rows, inputs):
    x, kernel = random_array((rows, inputs)), random_array((inputs, 1024), seed=1) / 64
    bias = random_array((1024,), seed=2)
    agree(
        lambda *given: Dense(1024).apply({"params": dict(zip(("kernel", "bias"), given[1:], strict=True))}, given[0]),
        x,
        kernel,
        bias,
    )


@pytest.mark.parametrize("pool", [MaxPool, AvgPool, L2Pool])
@pytest.mark.parametrize(
    ("window", "stride", "padding", "ceil"),
    [(2, 2, 0, False), (3, 2, 0, False), (3, 2, 1, False), (3, 2, 0, True), (3, 1, 1, False), (2, 3, 1, False)],
)
def test_pooling(pool, window, stride, padding, ceil):
    x = random_array((2, 10, 9, 3))
    agree(lambda x: pool(window, stride, padding, ceil).apply({}, x), x)


def test_average_pooling_that_counts_padding():
    agree(lambda x: AvgPool(3, 2, 1, count_padding=True).apply({}, x), random_array((2, 8, 9, 3)))


def test_the_first_of_equal_maxima_gets_the_gradient():
    x = jnp.round(random_array((2, 9, 9, 3)))  # many are equal
    agree(lambda x: MaxPool(3, 2).apply({}, x), x)


@pytest.mark.parametrize(("size", "beta"), [(5, 0.75), (4, 0.5), (3, 0.75)])
def test_local_response_normalisation(size, beta):
    agree(lambda x: LRN(size=size, alpha=0.3, beta=beta).apply({}, x), 2 * random_array((2, 3, 4, 7)))


@pytest.mark.parametrize("shape", [(4, 6, 5, 3), (6, 3)])
def test_batch_normalisation(shape):
    x = random_array(shape) + 2
    variables = BatchNorm().init(jax.random.key(0), x, train=False)
    scale, bias = random_array(shape[-1:], seed=2), random_array(shape[-1:], seed=3)

    def normalised(x, scale, bias):
        state = {"params": {"scale": scale, "bias": bias}, "batch_stats": variables["batch_stats"]}
        y, moved = BatchNorm().apply(state, x, train=True, mutable=["batch_stats"])
        return y, jax.lax.stop_gradient(moved)

    agree(normalised, x, scale, bias)


def test_relu_and_its_gradient_at_zero():
    x = jnp.concatenate([random_array((20,)), jnp.zeros(2)])
    agree(relu, x)
    assert jax.grad(relu)(jnp.float32(0) + 0) == 0
    assert np.isnan(relu(jnp.float32(np.nan)))


def test_half_precision_takes_the_plain_convolution():
    x, w = random_array((1, 5, 5, 4)).astype(jnp.bfloat16), random_array((1, 1, 4, 3)).astype(jnp.bfloat16)
    assert "conv_general_dilated" in str(jax.make_jaxpr(conv2d)(x, w))
    assert "conv_general_dilated" not in str(jax.make_jaxpr(conv2d)(x.astype(jnp.float32), w.astype(jnp.float32)))
