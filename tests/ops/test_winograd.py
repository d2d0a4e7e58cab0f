"""Minimal filtering gives the convolution and its gradients, of all sizes, and is chosen where it pays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.ops import winograd
from cnnlab.ops.conv import conv2d
from cnnlab.ops.forms import plain_forms
from tests.small import random_array

SIZES = [((4, 4), (1, 1)), ((5, 6), (1, 1)), ((7, 5), (0, 2)), ((3, 9), (2, 0)), ((3, 3), (0, 0)), ((1, 2), (1, 1))]


def plain(x, kernel, padding):
    """`lax`'s own."""
    with plain_forms():
        return conv2d(x, kernel, 1, padding)


def close(found, wanted):
    """Equal to float32 rounding."""
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-6 * max(1.0, float(jnp.abs(wanted).max())))


@pytest.mark.parametrize(("size", "padding"), SIZES)
def test_values_and_gradients(size, padding):
    x, kernel = random_array((2, *size, 5)), random_array((3, 3, 5, 7), seed=1)
    wanted, pull = jax.vjp(lambda x, kernel: plain(x, kernel, padding), x, kernel)
    found, own = jax.vjp(lambda x, kernel: winograd.convolve(x, kernel, padding), x, kernel)
    close(found, wanted)
    g = random_array(wanted.shape, seed=2)
    for a, b in zip(own(g), pull(g), strict=True):
        close(a, b)


def test_gradients_of_gradients():
    x, kernel = random_array((1, 6, 5, 3)), random_array((3, 3, 3, 2), seed=1) / 10

    def slope(conv):
        own = lambda x, kernel: jnp.sum(jax.grad(lambda x: jnp.sum(jnp.tanh(conv(x, kernel, (1, 1)))))(x) ** 2)
        return jax.grad(own, (0, 1))(x, kernel)

    for a, b in zip(slope(winograd.convolve), slope(plain), strict=True):
        close(a, b)


def test_many_channels_lose_nothing():
    x, kernel = jax.nn.relu(random_array((2, 14, 14, 512))), random_array((3, 3, 512, 128), seed=1) / 48
    exact = np.zeros((2, 14, 14, 128))
    padded = np.pad(np.asarray(x, np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    for u in range(3):
        for v in range(3):
            exact += padded[:, u : u + 14, v : v + 14] @ np.asarray(kernel[u, v], np.float64)
    off = lambda y: np.abs(y - exact).max() / np.abs(exact).max()
    assert off(winograd.convolve(x, kernel, (1, 1))) < 1e-6
    assert off(plain(x, kernel, (1, 1))) < 1e-6


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "output", "pays"),
    [
        ((3, 3, 96, 96), (1, 1), (1, 1), (16, 14, 14), True),
        ((3, 3, 95, 96), (1, 1), (1, 1), (16, 14, 14), False),
        ((3, 3, 96, 95), (1, 1), (1, 1), (16, 14, 14), False),
        ((3, 3, 96, 96), (2, 1), (1, 1), (16, 14, 14), False),
        ((3, 3, 96, 96), (1, 1), (3, 1), (16, 14, 14), False),
        ((3, 5, 96, 96), (1, 1), (1, 2), (16, 14, 14), False),
        ((3, 3, 96, 96), (1, 1), (1, 1), (99, 3, 14), False),
        ((3, 3, 96, 96), (1, 1), (1, 1), (1, 55, 55), True),
        ((3, 3, 96, 96), (1, 1), (1, 1), (1, 54, 55), False),
    ],
)
def test_where_it_pays(kernel, stride, padding, output, pays):
    assert winograd.pays(kernel, stride, padding, output) == pays
