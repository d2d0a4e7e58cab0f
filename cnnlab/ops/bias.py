"""A bias added to every pixel."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnlab.ops.forms import tuned
from cnnlab.ops.sums import sums


def add_bias(x: Float[Array, "*n c"], bias: Float[Array, " c"]) -> Float[Array, "*n c"]:
    """x + bias, whose gradient on CPUs is one of `sums`.

    >>> add_bias(jnp.zeros((1, 2)), jnp.array([1.0, 2.0])).tolist()
    [[1.0, 2.0]]
    """
    return _add_bias(x, bias) if tuned() and x.dtype == jnp.float32 else x + bias


@jax.custom_vjp
def _add_bias(x: Array, bias: Array) -> Array:
    return x + bias


def _forward(x: Array, bias: Array) -> tuple[Array, None]:
    return x + bias, None


def _backward(_: None, g: Array) -> tuple[Array, Array]:
    return g, sums(g)[0]


_add_bias.defvjp(_forward, _backward)
