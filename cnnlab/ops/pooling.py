"""Pooling layers. Each is a module, so that a network's layers keep the names that its paper gives them."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from cnnlab.ops.conv import check_fit


def sum_pool(x: Float[Array, "n h w c"], window: int) -> Float[Array, "n h2 w2 c"]:
    """Sums of non-overlapping window×window squares; rows and columns that do not fill a window are dropped.

    >>> sum_pool(jnp.ones((1, 4, 4, 1)), 2)[0, :, :, 0].tolist()
    [[4.0, 4.0], [4.0, 4.0]]
    """
    squares = (1, window, window, 1)
    return lax.reduce_window(x, np.zeros((), x.dtype), lax.add, squares, squares, "VALID")


def pads(size: int, window: int, stride: int, padding: int, ceil: bool) -> tuple[int, int]:
    """The padding before and after one dimension.

    With `ceil`, pixels at the end that do not fill a window get one of their own, unless it would start beyond the
    input and its first padding (the rule of Caffe and torchvision).

    >>> pads(112, 3, 2, 0, True), pads(112, 3, 2, 0, False)
    ((0, 1), (0, 0))
    """
    if not ceil:
        return padding, padding
    outputs = -(-(size + 2 * padding - window) // stride) + 1
    if (outputs - 1) * stride >= size + padding:
        outputs -= 1
    return padding, padding + max(0, (outputs - 1) * stride + window - size - 2 * padding)


class Pool(nn.Module):
    """The windows that all pooling layers share: window×window squares, one every `stride` pixels, overlapping where
    stride < window.

    Attributes:
      window, stride: in pixels.
      padding: pixels on each side that count for nothing.
      ceil: see `pads`.
    """

    window: int
    stride: int
    padding: int = 0
    ceil: bool = False

    def reduce(self, x: Array, start: float, function) -> Array:
        """Reduces each window of `x` by `function`, beginning with `start`, which is also what padding holds."""
        fit = [(n, n) for n in (self.window, self.stride, self.padding)]
        check_fit("/".join(self.path), x.shape[1:3], *fit)
        sides = [pads(size, self.window, self.stride, self.padding, self.ceil) for size in x.shape[1:3]]
        window, stride = (1, self.window, self.window, 1), (1, self.stride, self.stride, 1)
        # A constant of numpy's: only by a known start does JAX know the maximum or sum, and its gradient, under jit.
        first = np.array(start, x.dtype)
        return lax.reduce_window(x, first, function, window, stride, [(0, 0), *sides, (0, 0)])


class MaxPool(Pool):
    """The maximum of each window."""

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
        return self.reduce(x, -jnp.inf, lax.max)


class AvgPool(Pool):
    """The mean of each window.

    Attributes:
      count_padding: whether padding counts as zeros (torchvision's Inception) or not at all.
    """

    count_padding: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
        if self.count_padding:
            return self.reduce(x, 0.0, lax.add) / self.window**2
        return self.reduce(x, 0.0, lax.add) / self.reduce(jnp.ones_like(x[:1, :, :, :1]), 0.0, lax.add)


class L2Pool(Pool):
    """The root of the sum of squares of each window. Its gradient is 0 where the whole window is 0."""

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
        squares = self.reduce(jnp.square(x), 0.0, lax.add)
        positive = squares > 0
        # The root's slope at 0 is infinite; the inner choice keeps it out of the gradient.
        return jnp.where(positive, jnp.sqrt(jnp.where(positive, squares, 1.0)), 0.0)
