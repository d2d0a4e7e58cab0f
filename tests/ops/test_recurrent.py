"""Recurrent cells: the paper's by hand, names, what they carry at first."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.errors import UserError
from cnnlab.ops.recurrent import GATES, cell_of, first_carry


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


def gates_of(variables):
    """The recurrent kernel of each gate of four units."""
    weights = variables["params"]["recurrent"]
    count = weights["bias"].shape[0] // 4
    kernels = [np.asarray(own) for own in np.split(np.asarray(weights["kernel"]), count, 1)]
    for kernel in kernels:  # what is carried keeps its length, gate by gate
        np.testing.assert_allclose(kernel @ kernel.T, np.eye(4), atol=1e-5)
    assert len({kernel.tobytes() for kernel in kernels}) == count
    return kernels


def given_to_flax(x, kernels, order, biased, keep):
    """Parameters of flax's own cell that give each gate its part of the input as it is.

    `biased` are its layers with a bias, all of which are 0 but `keep`'s, 1.
    """
    params = {}
    for number, (letter, kernel) in enumerate(zip(order, kernels, strict=True)):
        chooses = np.zeros((x.shape[-1], 4))
        chooses[4 * number : 4 * number + 4] = np.eye(4)
        params[f"i{letter}"] = {"kernel": chooses}
        params[f"h{letter}"] = {"kernel": kernel}
    for name in biased:
        params[name]["bias"] = np.full(4, float(name == keep))
    return {"params": params}


def test_gru_is_flaxs_but_for_the_first_bias():
    cell, h = cell_of("gru", 4), jax.random.normal(jax.random.key(3), (3, 4))
    x = jax.random.normal(jax.random.key(0), (3, 12))
    variables = cell.init(jax.random.key(1), h, x)
    moved, out = cell.apply(variables, h, x)
    params = given_to_flax(x, gates_of(variables), "rzn", ("ir", "iz", "in", "hn"), "iz")
    expected, _ = nn.GRUCell(4).apply(params, h, x)
    np.testing.assert_allclose(out, expected, atol=1e-5)
    assert (moved == out).all()


def test_lstm_is_flaxs_but_for_the_first_bias():
    cell, c, h = cell_of("lstm", 4), *jax.random.normal(jax.random.key(3), (2, 3, 4))
    x = jax.random.normal(jax.random.key(0), (3, 16))
    variables = cell.init(jax.random.key(1), (c, h), x)
    moved, out = cell.apply(variables, (c, h), x)
    params = given_to_flax(x, gates_of(variables), "ifgo", ("hi", "hf", "hg", "ho"), "hf")
    expected, _ = nn.LSTMCell(4).apply(params, (c, h), x)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, atol=1e-5), moved, expected)
    assert (moved[1] == out).all()


@pytest.mark.parametrize("name", GATES)
def test_every_cell_begins_with_zeros_and_goes_on(name):
    cell = cell_of(name, 4)
    carry = first_carry(cell, 2)
    assert all(leaf.shape == (2, 4) and not leaf.any() for leaf in jax.tree.leaves(carry))
    x = jnp.ones((2, cell.gates * 4))
    variables = cell.init(jax.random.key(0), carry, x)
    moved, out = cell.apply(variables, carry, x)
    assert out.shape == (2, 4)
    assert jax.tree.structure(moved) == jax.tree.structure(carry)


@pytest.mark.parametrize("dtype", [None, jnp.bfloat16])
@pytest.mark.parametrize("name", GATES)
def test_a_sequence_is_word_after_word(name, dtype):
    """Outputs and all gradients are those that JAX finds of single steps."""
    cell = cell_of(name, 4, dtype)
    x, wanted = (jax.random.normal(jax.random.key(i), (3, 5, cell.gates * 4 if i else 4)) for i in (1, 0))
    x = x.astype(dtype or jnp.float32)
    carry = jax.tree.map(lambda leaf: leaf + 0.5, first_carry(cell, 3))
    variables = cell.init(jax.random.key(2), carry, x[:, 0])
    variables = jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(jax.random.key(3), leaf.shape), variables)

    def at_once(variables, carry, x):
        return cell.apply(variables, carry, x, method=cell.sequence)

    def one_by_one(variables, carry, x):
        found = []
        for place in range(x.shape[1]):
            carry, out = cell.apply(variables, carry, x[:, place])
            found.append(out)
        return jnp.stack(found, 1)

    def both(outputs):
        total = lambda *arguments: jnp.vdot(outputs(*arguments).astype(jnp.float32), wanted)
        return jax.jit(lambda *a: (outputs(*a), jax.grad(total, (0, 1, 2))(*a)))(variables, carry, x)

    found, expected = both(at_once), both(one_by_one)
    assert found[0].dtype == expected[0].dtype
    assert all(leaf.any() for leaf in jax.tree.leaves(expected))
    atol = 1e-5 if dtype is None else 0.1
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=atol, rtol=0), *jax.tree.map(np.float32, (found, expected))
    )


def test_an_unknown_cell():
    with pytest.raises(UserError, match=r'config.cell is "lstmm"; it must be one of rnn, lstm, gru'):
        cell_of("lstmm", 4)
