"""Fractionally strided convolution: by its definition, as lax has it, as the transpose of the strided convolution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from cnnlab.ops.conv import conv2d, pair
from cnnlab.ops.conv_transpose import ConvTranspose, conv_transpose2d, dilated, painted
from cnnlab.ops.forms import plain_forms

# (filter, stride, padding, map): DCGAN's on a map smaller than the filter and on a larger one; others.
CASES = [
    (5, 2, 2, (4, 3)),
    (5, 2, 2, (7, 6)),
    (4, 2, 1, (5, 4)),
    (5, 2, 2, (1, 1)),
    ((3, 8), (1, 4), (1, 3), (6, 7)),
    ((3, 8), (1, 4), (1, 3), (2, 3)),
    (1, 2, 0, (3, 3)),
]


def example(kernel, size, c=3, k=4):
    draw = np.random.default_rng(0)
    x = jnp.array(draw.normal(size=(2, *size, c)), jnp.float32)
    return x, jnp.array(draw.normal(size=(*pair(kernel), c, k)), jnp.float32)


def by_hand(x, kernel, stride, padding):
    """Every input pixel paints the filter, in float64."""
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    (sh, sw), (ph, pw) = pair(stride), pair(padding)
    (n, h, w, _), (kh, kw, _, k) = x.shape, kernel.shape
    canvas = np.zeros((n, sh * h + 2 * kh, sw * w + 2 * kw, k))
    for i in range(h):
        for j in range(w):
            canvas[:, sh * i : sh * i + kh, sw * j : sw * j + kw] += np.einsum("nc,uvck->nuvk", x[:, i, j], kernel)
    return canvas[:, ph : ph + sh * h, pw : pw + sw * w]


@pytest.mark.parametrize(("kernel", "stride", "padding", "size"), CASES)
def test_values(kernel, stride, padding, size):
    x, weights = example(kernel, size)
    expected = by_hand(x, weights, stride, padding)
    assert expected.shape == (2, pair(stride)[0] * size[0], pair(stride)[1] * size[1], 4)
    arguments = (x, weights, pair(stride), pair(padding))
    for form in (conv_transpose2d, dilated, painted):
        assert np.allclose(form(*arguments), expected, atol=1e-5)


def test_lax_has_the_same():
    x, weights = example(5, (6, 7))
    theirs = lax.conv_transpose(x, weights[::-1, ::-1], (2, 2), [(2, 3), (2, 3)])
    assert np.allclose(conv_transpose2d(x, weights, 2, 2), theirs, atol=1e-5)


@pytest.mark.parametrize(("kernel", "stride", "padding", "size"), CASES)
def test_it_is_the_transpose_of_the_strided_convolution(kernel, stride, padding, size):
    x, weights = example(kernel, size)
    picture = jnp.zeros((2, pair(stride)[0] * size[0], pair(stride)[1] * size[1], 4))
    with plain_forms():
        _, pull = jax.vjp(lambda y: conv2d(y, weights.swapaxes(2, 3), stride, padding), picture)
        expected = pull(x)[0]
    assert np.allclose(conv_transpose2d(x, weights, stride, padding), expected, atol=1e-5)


def same_gradients(function, arguments):
    """Whether the gradients are those that JAX derives from lax's own form."""
    with plain_forms():
        expected = jax.jit(jax.grad(function, (0, 1)))(*arguments)
    found = jax.jit(jax.grad(lambda *arguments: function(*arguments), (0, 1)))(*arguments)
    pairs = zip(found, expected, strict=True)
    return all(np.allclose(g, e, rtol=1e-3, atol=1e-3 * float(jnp.abs(e).max())) for g, e in pairs)


@pytest.mark.parametrize(("case", "features"), [(0, 4), (1, 4), (3, 4), (4, 4), (6, 4), (1, 1)])
def test_gradients(case, features):
    kernel, stride, padding, size = CASES[case]

    def loss(x, weights):
        return jnp.sum(jnp.sin(conv_transpose2d(x, weights, stride, padding)))

    assert same_gradients(loss, example(kernel, size, k=features))


@pytest.mark.parametrize("size", [(2, 2), (9, 8)])
def test_second_gradients(size):
    def steepness(x, weights):
        loss = lambda *arguments: jnp.sum(jnp.sin(conv_transpose2d(*arguments, 2, 2)))
        return sum(jnp.sum(g**2) for g in jax.grad(loss, (0, 1))(x, weights))

    assert same_gradients(steepness, example(5, size))


def test_the_layer_adds_its_bias_and_names_its_parameters():
    x, _ = example(5, (3, 4))
    layer = ConvTranspose(6, 5, 2, 2, bias_init=jax.nn.initializers.ones)
    y, variables = layer.init_with_output(jax.random.key(1), x)
    assert jax.tree.map(jnp.shape, variables["params"]) == {"kernel": (5, 5, 3, 6), "bias": (6,)}
    assert np.allclose(y, by_hand(x, variables["params"]["kernel"], 2, 2) + 1, atol=1e-5)
    assert "bias" not in ConvTranspose(6, 5, 2, 2, use_bias=False).init(jax.random.key(0), x)["params"]


def test_half_precision_computes_and_keeps_float32_parameters():
    layer = ConvTranspose(4, 5, 2, 2, dtype=jnp.bfloat16)
    y, variables = layer.init_with_output(jax.random.key(0), jnp.ones((1, 3, 3, 2)))
    assert y.dtype == jnp.bfloat16
    assert variables["params"]["kernel"].dtype == jnp.float32


@pytest.mark.parametrize("padding", [1, 3])
def test_a_padding_that_does_not_fit(padding):
    with pytest.raises(ValueError, match=f"a filter of 5 with stride 2 needs a padding of 2 to 2, not {padding}"):
        conv_transpose2d(*example(5, (3, 3)), 2, padding)
