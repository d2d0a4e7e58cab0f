"""Dropout: Hinton, Srivastava, Krizhevsky, Sutskever, Salakhutdinov 2012."""

import contextlib
import contextvars
from collections.abc import Iterator

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

_places = contextvars.ContextVar("places", default=None)


@contextlib.contextmanager
def by_example(position: Int[Array, " n"]) -> Iterator[None]:
    """What is traced within draws each example's fate from its place in the global batch, however many devices share
    the work. Elsewhere a batch is drawn as a whole, which is quicker.
    """
    token = _places.set(position)
    try:
        yield
    finally:
        _places.reset(token)


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
        key, places = self.make_rng("dropout"), _places.get()
        if places is None:
            bits = jax.random.bits(key, x.shape, jnp.uint8)
        else:
            own = jax.vmap(lambda place: jax.random.fold_in(key, place))(places)
            bits = jax.vmap(lambda key: jax.random.bits(key, x.shape[1:], jnp.uint8))(own)
        return jnp.where(bits >= dropped, x * (256 / (256 - dropped)), 0)
