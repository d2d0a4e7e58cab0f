"""Receptive fields through single operations; whole networks are in test_summary.py."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from cnnlab.reach import merge, pixels, reach_through


def sizes(function, shape=(1, 16, 16, 2)):
    """The field of the output of a function of one operation, per spatial dimension."""
    (eqn,) = jax.make_jaxpr(function)(jnp.zeros(shape)).eqns
    return tuple(axis.field.size for axis in reach_through(eqn, [pixels(len(shape)), *[()] * (len(eqn.invars) - 1)]))


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: -x, (1, 1)),
        (lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 2, 1), (1, 2, 2, 1), "VALID"), (3, 2)),
        (lambda x: lax.reduce_window(x, 0.0, lax.add, (1, 1, 1, 2), (1, 1, 1, 1), "SAME"), (1, 1)),
        (lambda x: lax.transpose(x, (0, 2, 1, 3)), (1, 1)),
        (lambda x: lax.reduce_sum(x, (1,)), (16, 1)),
        (lambda x: lax.reshape(x, (1, 512)), (16, 16)),
        (lambda x: lax.slice(x, (0, 0, 0, 0), (1, 16, 16, 2), (1, 2, 2, 1)), (1, 1)),
    ],
)
def test_one_operation(function, expected):
    assert sizes(function) == expected


def test_merged_is_the_largest():
    (eqn,) = jax.make_jaxpr(lambda x: lax.reduce_sum(x, (2,)))(jnp.zeros((1, 4, 5, 1))).eqns
    summed = reach_through(eqn, [pixels(4)])
    assert tuple(axis.field.size for axis in merge([pixels(4), summed])) == (1, 5)
