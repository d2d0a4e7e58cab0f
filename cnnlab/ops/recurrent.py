"""Recurrent cells over words: rectified units as the caption paper has them, LSTM and GRU.

A cell is given its input for each of its gates, one after the other: what a word gives to them is the same wherever it
stands, so that all words' inputs are made in one product, or that of the whole vocabulary once. What remains from word
to word is one product with what is carried.
"""

import functools
from collections.abc import Callable

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


Gate = Callable[[PyTree, Array, Array], tuple[PyTree, Array]]  # carry, input, W h + b → next carry, output


def rectified(h: Float[Array, "*n d"], x: Float[Array, "*n d"], given: Float[Array, "*n d"]) -> tuple[Array, Array]:
    """h' = max(0, x + W h + b): rectified units (Karpathy, Fei-Fei 2015, equation 4).

    Args:
      h: what is carried.
      x: the input.
      given: W h + b.
    """
    # Not `activations.relu`: where one or two sentences go through a loop, XLA cannot compile its barrier.
    new = nn.relu(x + given)
    return new.astype(h.dtype), new  # a scan carries one type from word to word


def gru(h: Float[Array, "*n d"], x: Float[Array, "*n e"], given: Float[Array, "*n e"]) -> tuple[Array, Array]:
    """h' = z h + (1 − z) n, where r = σ(x_r + W_r h + b_r), z = σ(x_z + W_z h + b_z), n = tanh(x_n + r (W_n h + b_n)).

    Cho et al. 2014 ("Learning phrase representations using RNN encoder-decoder"); the reset gate stands after the
    product, as in most implementations. To z's sum 1 is added: at first cells keep most of what they have.
    """
    (x_r, x_z, x_n), (h_r, h_z, h_n) = jnp.split(x, 3, -1), jnp.split(given, 3, -1)
    reset, keep = nn.sigmoid(x_r + h_r), nn.sigmoid(x_z + h_z + 1)
    new = keep * h + (1 - keep) * jnp.tanh(x_n + reset * h_n)
    return new.astype(h.dtype), new


def lstm(
    carry: tuple[Float[Array, "*n d"], Float[Array, "*n d"]], x: Float[Array, "*n e"], given: Float[Array, "*n e"]
) -> tuple[tuple[Array, Array], Array]:
    """c' = σ(f + 1) c + σ(i) tanh(g) and h' = σ(o) tanh(c'), where i, f, g, o are x + W h + b.

    Hochreiter, Schmidhuber 1997, with the forget gate of Gers et al. 2000, to whose sum 1 is added (Jozefowicz et al.
    2015). c and h are carried.
    """
    c, h = carry
    enter, forget, new, leave = jnp.split(x + given, 4, -1)
    c = (nn.sigmoid(forget + 1) * c + nn.sigmoid(enter) * jnp.tanh(new)).astype(c.dtype)
    out = nn.sigmoid(leave) * jnp.tanh(c).astype(leave.dtype)
    return (c, out.astype(h.dtype)), out


GATES: dict[str, tuple[Gate, int]] = {"rnn": (rectified, 1), "lstm": (lstm, 4), "gru": (gru, 3)}  # and how many


class Weights(nn.Module):
    """W and b of what is carried, of all gates side by side; of `dtype`, parameters are float32."""

    features: int
    gates: int
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self) -> tuple[Float[Array, "d e"], Float[Array, " e"]]:
        size = self.gates * self.features
        kernel = self.param("kernel", orthogonal_gates, (self.features, size))
        bias = self.param("bias", nn.initializers.zeros, (size,))
        return tuple(nn.dtypes.promote_dtype(kernel, bias, dtype=self.dtype))


class Cell(nn.RNNCellBase):
    """A recurrent cell.

    Attributes:
      kind: a key of `GATES`.
      features: units.
      dtype: of the computation; parameters are float32.
    """

    kind: str
    features: int
    dtype: DTypeLike | None = None

    num_feature_axes = 1

    @property
    def gates(self) -> int:
        """How many gates an input is given to."""
        return GATES[self.kind][1]

    def setup(self) -> None:
        self.recurrent = Weights(self.features, self.gates, self.dtype)

    def __call__(self, carry: PyTree, x: Float[Array, "*n e"]) -> tuple[PyTree, Float[Array, "*n d"]]:
        """One word: what is carried on, and the output."""
        return GATES[self.kind][0](carry, x, _product(carry, *self.recurrent()))

    def sequence(self, carry: PyTree, x: Float[Array, "n l e"]) -> Float[Array, "n l d"]:
        """The outputs of words one after the other."""
        return unrolled(GATES[self.kind][0], carry, x, *self.recurrent())

    @nn.nowrap
    def initialize_carry(self, rng: Key[Array, ""], input_shape: tuple[int, ...]) -> PyTree:
        """Zeros, as many as units, for each example; of an LSTM c and h."""
        zeros = jnp.zeros((*input_shape[:-1], self.features))
        return (zeros, zeros) if self.kind == "lstm" else zeros


def _seen(carry: PyTree) -> Float[Array, "*n d"]:
    """What of the carry the gates see: of an LSTM h."""
    return carry[1] if isinstance(carry, tuple) else carry


def _product(carry: PyTree, kernel: Float[Array, "d e"], bias: Float[Array, " e"]) -> Float[Array, "*n e"]:
    return _seen(carry).astype(kernel.dtype) @ kernel + bias


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def unrolled(
    gate: Gate, carry: PyTree, x: Float[Array, "n l e"], kernel: Float[Array, "d e"], bias: Float[Array, " e"]
) -> Float[Array, "n l d"]:
    """The outputs of a cell's words, unrolled in the trace: as many small products as words.

    The gradient of W is one product over all words, where JAX would add up one a word: 512 units, 80 sentences of 18
    words, forward and backward, take 0.7 of the time (one core of an Intel Xeon).

    Args:
      gate: one of `GATES`.
      carry: what the first word finds.
      x: the words' inputs.
      kernel, bias: W and b.
    """
    return _unrolled_forward(gate, carry, x, kernel, bias)[0]


def _unrolled_forward(gate: Gate, carry: PyTree, x: Array, kernel: Array, bias: Array) -> tuple[Array, tuple]:
    def outputs(carry: PyTree, inputs: list[Array], moves: list[Array]) -> list[Array]:
        found = []
        for own, move in zip(inputs, moves, strict=True):
            carry, out = gate(carry, own, _product(carry, kernel, bias) + move)
            found.append(out)
        return found

    inputs = list(jnp.unstack(x, axis=1))
    still = [jnp.zeros(own.shape, kernel.dtype) for own in inputs]  # what moves the products, to learn their gradients
    found, pull = jax.vjp(outputs, carry, inputs, still)
    return jnp.stack(found, 1), (carry, found, pull, kernel)


def _unrolled_backward(gate: Gate, kept: tuple, g: Float[Array, "n l d"]) -> tuple[PyTree, Array, Array, Array]:
    carry, found, pull, kernel = kept
    of_carry, of_inputs, of_products = pull(list(jnp.unstack(g, axis=1)))
    seen = jnp.concatenate([_seen(carry), *found[:-1]]).astype(kernel.dtype)
    moved = jnp.concatenate(of_products)
    return of_carry, jnp.stack(of_inputs, 1), seen.T @ moved, moved.sum(0)


unrolled.defvjp(_unrolled_forward, _unrolled_backward)


def cell_of(kind: str, features: int, dtype: DTypeLike | None = None, name: str | None = None) -> Cell:
    """A cell of a kind of `GATES`; `name` is that of its parameters.

    Raises:
      UserError: there is none of it.
    """
    if kind not in GATES:
        raise UserError(f'config.cell is "{kind}"; it must be one of {", ".join(GATES)}')
    return Cell(kind, features, dtype=dtype, name=name)


def first_carry(cell: Cell, count: int) -> PyTree:
    """What a cell carries before the first word of so many sentences."""
    return cell.initialize_carry(jax.random.key(0), (count, cell.features))
