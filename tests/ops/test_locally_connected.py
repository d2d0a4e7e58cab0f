"""Locally connected layers: against loops over places, and against a convolution where all places are alike."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab import summary
from cnnlab.errors import UserError
from cnnlab.ops.locally_connected import LocallyConnected, everywhere, locally_connected
from tests.small import random_array


def by_loops(x, kernel, bias, size, strides, pad):
    """In float64, a place and an output at a time."""
    x = np.pad(np.asarray(x, np.float64), ((0, 0), pad[0], pad[1], (0, 0)))
    out = np.zeros((len(x), *bias.shape))
    for n in range(len(x)):
        for i in range(bias.shape[0]):
            for j in range(bias.shape[1]):
                window = x[n, i * strides[0] :, j * strides[1] :][: size[0], : size[1]]
                for f in range(bias.shape[2]):
                    weights = np.asarray(kernel[i, j, :, f], np.float64).reshape(*size, x.shape[-1])
                    out[n, i, j, f] = (window * weights).sum() + bias[i, j, f]
    return out


@pytest.mark.parametrize(
    ("size", "strides", "padding", "pad", "places"),
    [
        ((3, 3), (1, 1), "VALID", [(0, 0), (0, 0)], (5, 4)),
        ((2, 3), (2, 1), "SAME", [(0, 1), (1, 1)], (4, 6)),
        ((3, 2), (2, 3), (1, 2), [(1, 1), (2, 2)], (4, 3)),
    ],
)
def test_it_is_the_sum_over_each_places_window(size, strides, padding, pad, places):
    x, kernel = random_array((2, 7, 6, 3)), random_array((*places, size[0] * size[1] * 3, 4), 1)
    bias = random_array((*places, 4), 2)
    found = jax.jit(lambda x, k, b: locally_connected(x, k, b, strides, padding, size))(x, kernel, bias)
    np.testing.assert_allclose(found, by_loops(x, kernel, bias, size, strides, pad), atol=1e-4)
    layer = LocallyConnected(4, size, strides, padding)
    variables = jax.eval_shape(layer.init, jax.random.key(0), x)
    assert variables["params"]["kernel"].shape == kernel.shape
    own = jax.jit(layer.apply)({"params": {"kernel": kernel, "bias": bias}}, x)
    np.testing.assert_allclose(own, found, atol=1e-6)


def test_with_the_same_weights_everywhere_it_is_a_convolution_in_value_and_gradient():
    x, weights, wanted = random_array((2, 9, 9, 3)), random_array((4, 4, 3, 5), 1), random_array((2, 3, 3, 5), 2)
    kernel = everywhere(weights, (3, 3))

    def of_conv(x, weights):
        y = nn.Conv(5, (4, 4), (2, 2), "VALID", use_bias=False).apply({"params": {"kernel": weights}}, x)
        return (y * wanted).sum()

    def of_places(x, kernel):
        return (locally_connected(x, kernel, strides=2) * wanted).sum()

    found, (dx, dk) = jax.jit(jax.value_and_grad(of_places, (0, 1)))(x, kernel)
    wanted_value, (ex, ek) = jax.jit(jax.value_and_grad(of_conv, (0, 1)))(x, weights)
    assert float(found) == pytest.approx(float(wanted_value), rel=1e-5)
    np.testing.assert_allclose(dx, ex, atol=1e-4)
    # Weight sharing: the convolution's gradient is the sum of the places'.
    np.testing.assert_allclose(dk.sum((0, 1)).reshape(ek.shape), ek, atol=1e-4)
    assert float(jnp.abs(dk[0, 0] - dk[1, 1]).max()) > 0.1


def test_each_place_draws_its_own_weights_of_the_windows_fan_in():
    layer = LocallyConnected(64, 6, 6, kernel_init=nn.initializers.he_normal())
    kernel = jax.jit(layer.init)(jax.random.key(0), jnp.zeros((1, 24, 24, 3)))["params"]["kernel"]
    assert kernel.shape == (4, 4, 108, 64)
    np.testing.assert_allclose(np.asarray(kernel).std((2, 3)), (2 / 108) ** 0.5, rtol=0.05)
    first = np.asarray(kernel).reshape(16, -1)[:, 0]
    assert len(np.unique(first)) == 16


def test_the_summary_counts_every_place():
    (layer,) = summary.summarize(LocallyConnected(5, (3, 3), (2, 2)), (1, 9, 9, 2))
    assert layer.parameters == 4 * 4 * (18 * 5 + 5)
    assert layer.multiply_adds == 4 * 4 * 18 * 5
    assert (layer.output_shape, layer.receptive_field) == ((1, 4, 4, 5), (3, 3))


def test_what_does_not_fit():
    with pytest.raises(UserError, match="the picture is too small for layer"):
        LocallyConnected(1, 8).init(jax.random.key(0), jnp.zeros((1, 6, 6, 1)))
    with pytest.raises(ValueError, match="no square: say its kernel_size"):
        locally_connected(jnp.zeros((1, 4, 4, 1)), jnp.zeros((3, 2, 6, 1)))
    with pytest.raises(ValueError, match="the windows are"):
        locally_connected(jnp.zeros((1, 4, 4, 1)), jnp.zeros((3, 2, 4, 1)))
