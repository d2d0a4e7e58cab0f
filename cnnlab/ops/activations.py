"""Nonlinearities of the papers that Flax does not have."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def scaled_tanh(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """LeCun's squashing function 1.7159·tanh(2x/3), with f(±1) = ±1.

    LeCun, Bottou, Bengio, Haffner 1998, appendix A. The range is (−1.7159, 1.7159); the curvature is greatest at ±1, so
    targets of ±1 keep units out of saturation.

    >>> round(float(scaled_tanh(jnp.float32(1.0))), 3)
    1.0
    """
    return 1.7159 * jnp.tanh(2.0 / 3.0 * x)
