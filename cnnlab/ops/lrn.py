"""Local response normalisation across channels."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float


class LRN(nn.Module):
    """b = a / (k + α Σ a²)^β, the sum over `size` neighbouring channels (Krizhevsky et al. 2012, section 3.3).

    The defaults are AlexNet's. Caffe and PyTorch divide α by `size`; the paper does not.

    Attributes:
      size: how many channels, the own in the middle; fewer at the ends.
      k, alpha, beta: the constants.
    """

    size: int = 5
    k: float = 2.0
    alpha: float = 1e-4
    beta: float = 0.75

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        before = (self.size - 1) // 2
        sides = [(0, 0), (0, 0), (0, 0), (before, self.size - 1 - before)]
        zero = np.zeros((), x.dtype)  # numpy's: under jit JAX knows the sum, and its gradient, only by a known start
        squares = lax.reduce_window(jnp.square(x), zero, lax.add, (1, 1, 1, self.size), (1, 1, 1, 1), sides)
        return x * (self.k + self.alpha * squares) ** -self.beta
