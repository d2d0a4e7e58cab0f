"""Dropout: how many units fall, and what becomes of the mean."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.ops.dropout import Dropout, by_example


def dropped(rate, x, train=True):
    return Dropout(rate).apply({}, x, train=train, rngs={"dropout": jax.random.key(0)})


@pytest.mark.parametrize("rate", [0.5, 0.4, 0.7])
def test_the_share_and_the_mean(rate):
    y = np.asarray(dropped(rate, jnp.ones((300, 1000))))
    assert np.mean(y == 0) == pytest.approx(rate, abs=0.005)
    assert np.mean(y) == pytest.approx(1, abs=0.01)
    (kept,) = set(np.unique(y)) - {0.0}
    assert kept == pytest.approx(256 / (256 - round(rate * 256)))


def test_nothing_falls_in_evaluation_or_at_rate_0():
    x = jnp.arange(12.0).reshape(3, 4)
    np.testing.assert_array_equal(dropped(0.5, x, train=False), x)
    np.testing.assert_array_equal(dropped(0.0, x), x)


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_a_rate_out_of_range(rate):
    with pytest.raises(ValueError, match=f"the rate of dropout is {rate}; it must be at least 0 and less than 1"):
        dropped(rate, jnp.ones((2, 2)))


def test_by_example_a_share_of_a_batch_draws_what_the_whole_does():
    x, layer = jnp.ones((8, 50)), Dropout(0.5)

    def drop(part):
        with by_example(jnp.arange(8)[part]):
            return layer.apply({}, x[part], train=True, rngs={"dropout": jax.random.key(0)})

    whole = drop(slice(None))
    np.testing.assert_array_equal(whole[4:], drop(slice(4, 8)))
    assert len({row.tobytes() for row in np.asarray(whole)}) == 8
    assert 0.4 < np.mean(np.asarray(whole) == 0) < 0.6
