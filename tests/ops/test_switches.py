"""Max pooling's switches and unpooling, by hand."""

import jax.numpy as jnp
import numpy as np

from cnnlab.ops.switches import max_pool_with_switches, unpool

NONE = ((0, 0), (0, 0))


def test_maxima_and_their_places():
    x = jnp.array([[1, 5, 2, 0], [3, 4, 7, 7], [0, 0, 1, 0], [9, 0, 0, 2]], jnp.float32)[None, :, :, None]
    best, switches = max_pool_with_switches(x, 2, 2, NONE)
    assert best[0, :, :, 0].tolist() == [[5, 7], [9, 2]]
    assert switches[0, :, :, 0].tolist() == [[1, 2], [2, 3]]  # of the two 7s the first
    assert switches.dtype == jnp.int8


def test_unpooling_puts_values_back_and_adds_where_windows_overlap():
    x = jnp.array([[0, 0, 0, 0, 0], [0, 0, 9, 0, 0], [0, 0, 0, 0, 8]], jnp.float32)[None, :, :, None]
    best, switches = max_pool_with_switches(x, 3, 2, NONE)
    assert best[0, 0, :, 0].tolist() == [9, 9]
    assert switches[0, 0, :, 0].tolist() == [5, 3]
    back = unpool(jnp.array([2.0, 5.0]).reshape(1, 1, 2, 1), switches, 3, 2, NONE, (3, 5))
    wanted = np.zeros((3, 5))
    wanted[1, 2] = 7
    np.testing.assert_array_equal(back[0, :, :, 0], wanted)


def test_padding_is_never_a_maximum():
    x = -jnp.ones((1, 2, 2, 1))
    best, switches = max_pool_with_switches(x, 3, 2, ((1, 1), (1, 1)))
    assert best.shape == (1, 1, 1, 1)
    assert (best.item(), switches.item()) == (-1, 4)
