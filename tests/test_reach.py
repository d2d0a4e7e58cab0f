"""Receptive fields through single operations; whole networks are in test_summary.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from cnnlab.ops.receptive_field import Field
from cnnlab.reach import Axis, merge, pixels, reach_through


def reach(function, shape=(1, 16, 16, 2)):
    """That of the output of a function of one operation."""
    (eqn,) = jax.make_jaxpr(function)(jnp.zeros(shape)).eqns
    return reach_through(eqn, [pixels(len(shape)), *[()] * (len(eqn.invars) - 1)])


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
    assert tuple(axis.field.size for axis in reach(function)) == expected


def convolve(x, sides, stride=1, spread=1, dilation=1):
    kernel, numbers = np.zeros((3, 3, 2, 2), np.float32), ("NHWC", "HWIO", "NHWC")
    pair = lambda number: (number, number)
    return lax.conv_general_dilated(x, kernel, pair(stride), sides, pair(spread), pair(dilation), numbers)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: convolve(x, [(1, 1), (0, 2)], stride=2), [(3, 6), (4, 7)]),
        (lambda x: convolve(x, [(2, 0), (0, 0)], dilation=2), [(0, 5), (2, 7)]),
        # Zeros between the pixels: pixel i stands at place 2 i + 1 of the padded row, unit 2 sees places 2 to 4.
        (lambda x: convolve(x, [(1, 1), (1, 1)], spread=2), [(1, 3), (1, 3)]),
        (lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 2, 1), (1, 2, 2, 1), "SAME"), [(4, 7), (4, 6)]),
        (lambda x: lax.slice(x, (0, 3, 1, 0), (1, 16, 16, 2), (1, 2, 1, 1)), [(7, 8), (3, 4)]),
        (lambda x: lax.pad(x, 0.0, [(0, 0, 0), (5, 0, 0), (-2, 0, 0), (0, 0, 0)]), [(-3, -2), (4, 5)]),
        (lambda x: lax.reduce_sum(x, (1,)), [(0, 16), (2, 3)]),
    ],
)
def test_where_the_third_unit_looks(function, expected):
    assert [axis.pixels(2, 16) for axis in reach(function)] == expected


def test_merged_holds_all():
    left, right = Axis(Field(3, 2, -2), 1), Axis(Field(4, 2, 0), 1)
    assert merge([(left,), (), (right,)]) == (Axis(Field(6, 2, -2), 1),)


def test_merged_with_what_all_see_alike():
    (eqn,) = jax.make_jaxpr(lambda x: lax.reduce_sum(x, (2,)))(jnp.zeros((1, 4, 5, 1))).eqns
    rows, columns = merge([pixels(4), reach_through(eqn, [pixels(4)])])
    assert (rows.field.size, columns.field.size) == (1, 5)
    assert (columns.dim, columns.whole, rows.whole) == (2, True, False)
    assert [axis.pixels(1, size) for axis, size in ((rows, 4), (columns, 5))] == [(1, 2), (0, 5)]
