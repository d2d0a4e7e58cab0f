"""Recurrent cells over words: rectified units as the caption paper has them, LSTM and GRU.

A cell is given its input for each of its gates, one after the other: what a word gives to them is the same wherever it
stands, so that all words' inputs are made in one product, or that of the whole vocabulary once. What remains from word
to word is one product with what is carried.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Key, PyTree

from cnnlab.errors import UserError


def orthogonal_gates(key: Key[Array, ""], shape: tuple[int, int], dtype: DTypeLike = jnp.float32) -> Array:
    """An orthogonal matrix for each gate, side by side: what is carried neither dies out nor grows at first."""
    rows, columns = shape
    keys = jax.random.split(key, columns // rows)
    return jnp.concatenate([nn.initializers.orthogonal()(own, (rows, rows), dtype) for own in keys], 1)


class Cell(nn.RNNCellBase):
    """What the cells have in common.

    Attributes:
      features: units.
      dtype: of the computation; parameters are float32.
    """

    features: int
    dtype: DTypeLike | None = None

    num_feature_axes = 1
    gates = 1

    @nn.nowrap
    def initialize_carry(self, rng: Key[Array, ""], input_shape: tuple[int, ...]) -> PyTree:
        """Zeros, as many as units, for each example."""
        return jnp.zeros((*input_shape[:-1], self.features))

    @nn.nowrap
    def carried(self, h: Float[Array, "*n d"]) -> Float[Array, "*n e"]:
        """What the carried vector gives to each gate: W h + b."""
        size = self.gates * self.features
        return nn.Dense(size, kernel_init=orthogonal_gates, dtype=self.dtype, name="recurrent")(h)


class PlainCell(Cell):
    """h' = max(0, x + W h + b): rectified units (Karpathy, Fei-Fei 2015, equation 4)."""

    @nn.compact
    def __call__(self, h: Float[Array, "*n d"], x: Float[Array, "*n d"]) -> tuple[Array, Array]:
        # Not `activations.relu`: where one or two sentences go through a loop, XLA cannot compile its barrier.
        new = nn.relu(x + self.carried(h))
        return new.astype(h.dtype), new  # a scan carries one type from word to word


class GRUCell(Cell):
    """h' = z h + (1 − z) n, where r = σ(x_r + W_r h + b_r), z = σ(x_z + W_z h + b_z), n = tanh(x_n + r (W_n h + b_n)).

    Cho et al. 2014 ("Learning phrase representations using RNN encoder-decoder"); the reset gate stands after the
    product, as in most implementations. To z's sum 1 is added: at first cells keep most of what they have.
    """

    gates = 3

    @nn.compact
    def __call__(self, h: Float[Array, "*n d"], x: Float[Array, "*n e"]) -> tuple[Array, Array]:
        (x_r, x_z, x_n), (h_r, h_z, h_n) = jnp.split(x, 3, -1), jnp.split(self.carried(h), 3, -1)
        reset, keep = nn.sigmoid(x_r + h_r), nn.sigmoid(x_z + h_z + 1)
        new = keep * h + (1 - keep) * jnp.tanh(x_n + reset * h_n)
        return new.astype(h.dtype), new


class LSTMCell(Cell):
    """c' = σ(f + 1) c + σ(i) tanh(g) and h' = σ(o) tanh(c'), where i, f, g, o are x + W h + b.

    Hochreiter, Schmidhuber 1997, with the forget gate of Gers et al. 2000, to whose sum 1 is added (Jozefowicz et al.
    2015). c and h are carried.
    """

    gates = 4

    @nn.compact
    def __call__(self, carry: tuple[Array, Array], x: Float[Array, "*n e"]) -> tuple[tuple[Array, Array], Array]:
        c, h = carry
        enter, forget, new, leave = jnp.split(x + self.carried(h), 4, -1)
        c = (nn.sigmoid(forget + 1) * c + nn.sigmoid(enter) * jnp.tanh(new)).astype(c.dtype)
        out = nn.sigmoid(leave) * jnp.tanh(c).astype(leave.dtype)
        return (c, out.astype(h.dtype)), out

    @nn.nowrap
    def initialize_carry(self, rng: Key[Array, ""], input_shape: tuple[int, ...]) -> PyTree:
        """Zeros, as many as units, for each example: c and h."""
        zeros = super().initialize_carry(rng, input_shape)
        return zeros, zeros


CELLS: dict[str, type[Cell]] = {"rnn": PlainCell, "lstm": LSTMCell, "gru": GRUCell}


def cell_of(kind: str, features: int, dtype: DTypeLike | None = None, name: str | None = None) -> Cell:
    """A cell of a kind of `CELLS`; `name` is that of its parameters.

    Raises:
      UserError: there is none of it.
    """
    if kind not in CELLS:
        raise UserError(f'config.cell is "{kind}"; it must be one of {", ".join(CELLS)}')
    return CELLS[kind](features, dtype=dtype, name=name)


def first_carry(cell: Cell, count: int) -> PyTree:
    """What a cell carries before the first word of so many sentences."""
    return cell.initialize_carry(jax.random.key(0), (count, cell.features))
