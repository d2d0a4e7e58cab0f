"""Pooling layers. Each is a module, so that a network's layers keep the names that its paper gives them."""

import flax.linen as nn
from jaxtyping import Array, Float


def sum_pool(x: Float[Array, "n h w c"], window: int) -> Float[Array, "n h2 w2 c"]:
    """Sums of non-overlapping window×window squares; rows and columns that do not fill a window are dropped.

    >>> import jax.numpy as jnp
    >>> import jax.numpy as jnp
    >>> sum_pool(jnp.ones((1, 4, 4, 1)), 2)[0, :, :, 0].tolist()
    [[4.0, 4.0], [4.0, 4.0]]
    """
    return nn.avg_pool(x, (window, window), (window, window)) * window**2


class MaxPool(nn.Module):
    """Maximum over window×window squares, one every `stride` pixels (overlapping where stride < window), unpadded."""

    window: int
    stride: int

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
        return nn.max_pool(x, (self.window, self.window), (self.stride, self.stride))
