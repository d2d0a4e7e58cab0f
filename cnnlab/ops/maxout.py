"""Maxout: Goodfellow, Warde-Farley, Mirza, Courville, Bengio 2013: a unit is the largest of several linear pieces."""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from cnnlab.ops.dense import Dense


def maxout(x: Float[Array, "*n kp"], pieces: int) -> Float[Array, "*n k"]:
    """Of kp = k·pieces inputs, output j is the largest of j, j + k, j + 2k, … (section 3 of the paper).

    >>> maxout(jnp.array([1.0, 2.0, 3.0, 0.0]), 2).tolist()
    [3.0, 2.0]

    Raises:
      ValueError: the inputs do not fall into so many pieces.
    """
    if x.shape[-1] % pieces:
        raise ValueError(f"{x.shape[-1]} inputs do not fall into maxout units of {pieces} pieces")
    return jnp.max(x.reshape(*x.shape[:-1], pieces, -1), axis=-2)


class Maxout(nn.Module):
    """A fully connected layer of maxout units: each is the largest of `pieces` linear functions of all inputs.

    Attributes:
      features: units.
      pieces: linear functions a unit.
      kernel_init: of the weights of "linear", which holds all pieces side by side, as `maxout` takes them.
      dtype: of the computation; parameters are float32.
    """

    features: int
    pieces: int
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "*n d"]) -> Float[Array, "*n k"]:
        units = self.features * self.pieces
        linear = Dense(units, kernel_init=self.kernel_init, dtype=self.dtype, name="linear")
        return maxout(linear(x), self.pieces)
