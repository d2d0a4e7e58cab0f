"""Recurrent cells over words: rectified units as the caption paper has them, LSTM and GRU."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Key, PyTree

from cnnlab.errors import UserError


class PlainCell(nn.RNNCellBase):
    """h' = max(0, x + W h + b): rectified units that are given their input as it is (Karpathy, Fei-Fei 2015, eq. 4).

    Attributes:
      features: units, and numbers of the input.
      dtype: of the computation; parameters are float32.
    """

    features: int
    dtype: DTypeLike | None = None

    num_feature_axes = 1

    @nn.compact
    def __call__(self, h: Float[Array, "*n d"], x: Float[Array, "*n d"]) -> tuple[Array, Array]:
        # What is carried over many words then neither dies out nor grows at first; the paper has no word of it.
        init = nn.initializers.orthogonal()
        # Not `activations.relu`: where one or two sentences go through a loop, XLA cannot compile its barrier.
        new = nn.relu(x + nn.Dense(self.features, kernel_init=init, dtype=self.dtype, name="recurrent")(h))
        return new.astype(h.dtype), new  # a scan carries one type from word to word

    @nn.nowrap
    def initialize_carry(self, rng: Key[Array, ""], input_shape: tuple[int, ...]) -> Float[Array, "*n d"]:
        """Zeros, as many as units, for each example."""
        return jnp.zeros((*input_shape[:-1], self.features))


CELLS: dict[str, Callable[..., nn.RNNCellBase]] = {
    "rnn": PlainCell,
    "lstm": nn.OptimizedLSTMCell,
    "gru": nn.GRUCell,
}


def cell_of(kind: str, features: int, dtype: DTypeLike | None = None, name: str | None = None) -> nn.RNNCellBase:
    """A cell of a kind of `CELLS`; `name` is that of its parameters.

    Raises:
      UserError: there is none of it.
    """
    if kind not in CELLS:
        raise UserError(f'config.cell is "{kind}"; it must be one of {", ".join(CELLS)}')
    return CELLS[kind](features, dtype=dtype, name=name)


def first_carry(cell: nn.RNNCellBase, count: int) -> PyTree:
    """What a cell carries before the first word of so many sentences."""
    return cell.initialize_carry(jax.random.key(0), (count, cell.features))
