"""Recurrent cells: the paper's by hand, names, what they carry at first."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.errors import UserError
from cnnlab.ops.recurrent import CELLS, cell_of, first_carry


def test_the_papers_units_by_hand():
    cell = cell_of("rnn", 3)
    x, h = jax.random.normal(jax.random.key(0), (2, 2, 3))
    variables = cell.init(jax.random.key(1), h, x)
    weights = variables["params"]["recurrent"]
    expected = np.maximum(
        np.asarray(x) + np.asarray(h) @ np.asarray(weights["kernel"]) + np.asarray(weights["bias"]), 0
    )
    carry, out = cell.apply(variables, h, x)
    np.testing.assert_allclose(out, expected, atol=1e-5)
    assert (carry == out).all()
    kernel = np.asarray(weights["kernel"])
    np.testing.assert_allclose(kernel @ kernel.T, np.eye(3), atol=1e-5)


@pytest.mark.parametrize("name", CELLS)
def test_every_cell_begins_with_zeros_and_goes_on(name):
    cell = cell_of(name, 4)
    carry = first_carry(cell, 2)
    assert all(leaf.shape == (2, 4) and not leaf.any() for leaf in jax.tree.leaves(carry))
    x = jnp.ones((2, 4))
    variables = cell.init(jax.random.key(0), carry, x)
    moved, out = cell.apply(variables, carry, x)
    assert out.shape == (2, 4)
    assert jax.tree.structure(moved) == jax.tree.structure(carry)


def test_an_unknown_cell():
    with pytest.raises(UserError, match=r'config.cell is "lstmm"; it must be one of rnn, lstm, gru'):
        cell_of("lstmm", 4)
