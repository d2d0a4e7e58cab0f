"""Nonlinearities of the papers."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnnlab.ops.forms import tuned


def relu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """max(x, 0), with gradient 0 at 0.

    On CPUs its result and its gradient are stored. XLA would otherwise compute an elementwise result again at each of
    its uses, and with it everything elementwise before it: through the sums of a residual net that is the whole way to
    the input. (The barriers count only where `parallel.CPU_OPTIONS` keep XLA from removing them.)

    >>> relu(jnp.array([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """
    return _stored_relu(x) if tuned() else jax.nn.relu(x)


@jax.custom_vjp
def _stored_relu(x: Array) -> Array:
    return lax.optimization_barrier(jnp.maximum(x, 0))


def _forward(x: Array) -> tuple[Array, Array]:
    y = _stored_relu(x)
    return y, y


def _backward(y: Array, g: Array) -> tuple[Array]:
    return (lax.optimization_barrier(jnp.where(y > 0, g, 0)),)


_stored_relu.defvjp(_forward, _backward)


def scaled_tanh(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """LeCun's squashing function 1.7159·tanh(2x/3), with f(±1) = ±1.

    LeCun, Bottou, Bengio, Haffner 1998, appendix A. The range is (−1.7159, 1.7159); the curvature is greatest at ±1, so
    targets of ±1 keep units out of saturation.

    >>> round(float(scaled_tanh(jnp.float32(1.0))), 3)
    1.0
    """
    return 1.7159 * jnp.tanh(2.0 / 3.0 * x)
