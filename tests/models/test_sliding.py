"""The sliding net: exactly what it says of each window alone, and its form for a whole picture."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.errors import UserError
from cnnlab.models.sliding import STRIDE, WINDOW, SlidingNet
from tests.small import count, random_array


def test_each_place_is_what_the_net_says_of_that_window_alone():
    net = SlidingNet(11, (4, 6, 8), 8)
    x = random_array((2, 44, 52, 1))
    variables = jax.jit(net.init)(jax.random.key(0), x)
    found = net.apply(variables, x)
    assert found.shape == (2, 4, 6, 11)
    apply = jax.jit(net.apply)
    for i in range(4):
        for j in range(6):
            window = x[:, STRIDE * i : STRIDE * i + WINDOW, STRIDE * j : STRIDE * j + WINDOW]
            np.testing.assert_allclose(found[:, i, j], apply(variables, window)[:, 0, 0], atol=1e-5)


def test_parameters_by_hand():
    x = jax.ShapeDtypeStruct((1, 64, 64, 1), jnp.float32)
    of = lambda net: count(jax.eval_shape(net.init, jax.random.key(0), x)["params"])
    body = (25 + 1) * 16 + (25 * 16 + 1) * 32 + (25 * 32 + 1) * 128
    assert of(SlidingNet(11)) == body + 129 * 128 + 129 * 11
    assert of(SlidingNet(10, whole=True)) == body + (9 * 9 * 128 + 1) * 128 + 129 * 10


def test_a_window_alone_is_the_whole():
    x = random_array((3, 32, 32, 1))
    variables = jax.jit(SlidingNet(10, (4, 6, 8), 8).init)(jax.random.key(0), x)
    alone, whole = (SlidingNet(10, (4, 6, 8), 8, whole=flag).apply(variables, x) for flag in (False, True))
    assert whole.shape == (3, 10)
    np.testing.assert_allclose(alone[:, 0, 0], whole, atol=1e-6)


def test_a_picture_that_is_smaller_than_a_window():
    with pytest.raises(UserError, match="conv3"):
        SlidingNet(10).init(jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
