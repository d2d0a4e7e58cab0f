"""Dropout: Hinton, Srivastava, Krizhevsky, Sutskever, Salakhutdinov 2012."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class Dropout(nn.Module):
    """In training, each unit is 0 with probability `rate`, and the others grow so that the mean stays.

    A unit's fate is drawn from 8 random bits, a quarter of the work of a 32-bit float: the probability is the nearest
    multiple of 1/256, and the growth fits it exactly.

    Attributes:
      rate: the probability of 0, from 0 up to but not including 1.
    """

    rate: float

    @nn.compact
    def __call__(self, x: Float[Array, "*n c"], *, train: bool) -> Float[Array, "*n c"]:
        dropped = round(self.rate * 256)
        if not 0 <= dropped < 256:
            raise ValueError(f"the rate of dropout is {self.rate}; it must be at least 0 and less than 1")
        if not train or dropped == 0:
            return x
        bits = jax.random.bits(self.make_rng("dropout"), x.shape, jnp.uint8)
        return jnp.where(bits >= dropped, x * (256 / (256 - dropped)), 0)
