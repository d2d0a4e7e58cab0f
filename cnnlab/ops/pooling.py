"""Pooling layers. Each is a module, so that a network's layers keep the names that its paper gives them."""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from cnnlab.ops.conv import check_fit
from cnnlab.ops.forms import tuned
from cnnlab.ops.switches import LARGEST_WINDOW, Sides, max_pool


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


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def window_sum(x: Float[Array, "n h w c"], window: int, stride: int, sides: Sides) -> Float[Array, "n h2 w2 c"]:
    """The sum of each window for CPUs, columns first and then rows, which XLA fuses into two loops.

    >>> window_sum(jnp.ones((1, 3, 3, 1)), 2, 1, ((0, 0), (0, 0)))[0, :, :, 0].tolist()
    [[4.0, 4.0], [4.0, 4.0]]
    """
    x = jnp.pad(x, ((0, 0), *sides, (0, 0)))
    for axis in (2, 1):
        last = (x.shape[axis] - window) // stride * stride
        x = sum(lax.slice_in_dim(x, i, i + last + 1, stride, axis) for i in range(window))
    return x


def _window_sum_forward(x: Array, window: int, stride: int, sides: Sides) -> tuple[Array, Array]:
    return window_sum(x, window, stride, sides), jnp.zeros((0, *x.shape[1:3]))


def _window_sum_backward(window: int, stride: int, sides: Sides, kept: Array, g: Array) -> tuple[Array]:
    # Each pixel gets the sum of the cotangents of the windows that hold it: a window sum again, the strides undone.
    rests = [
        size + sum(side) - (n - 1) * stride - 1
        for size, side, n in zip(kept.shape[1:], sides, g.shape[1:3], strict=True)
    ]
    around = [(window - 1 - side[0], rest - side[1], stride - 1) for side, rest in zip(sides, rests, strict=True)]
    spread = lax.pad(g, np.zeros((), g.dtype), [(0, 0, 0), *around, (0, 0, 0)])
    return (window_sum(spread, window, 1, ((0, 0), (0, 0))),)


window_sum.defvjp(_window_sum_forward, _window_sum_backward)


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

    def sides(self, x: Array) -> Sides:
        """The padding before and after of height and width."""
        fit = [(n, n) for n in (self.window, self.stride, self.padding)]
        check_fit("/".join(self.path), x.shape[1:3], *fit)
        height, width = (pads(size, self.window, self.stride, self.padding, self.ceil) for size in x.shape[1:3])
        return height, width

    def reduce(self, x: Array, start: float, function: Callable) -> Array:
        """Reduces each window of `x` by `function`, beginning with `start`, which is also what padding holds."""
        window, stride = (1, self.window, self.window, 1), (1, self.stride, self.stride, 1)
        # A constant of numpy's: only by a known start does JAX know the maximum or sum, and its gradient, under jit.
        first = np.array(start, x.dtype)
        return lax.reduce_window(x, first, function, window, stride, [(0, 0), *self.sides(x), (0, 0)])

    def sum(self, x: Array) -> Array:
        """The sum of each window; padding counts as 0."""
        if tuned():
            return window_sum(x, self.window, self.stride, self.sides(x))
        return self.reduce(x, 0.0, lax.add)


class MaxPool(Pool):
    """The maximum of each window."""

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
        if tuned() and self.window <= LARGEST_WINDOW:
            return max_pool(x, self.window, self.stride, self.sides(x))
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
            return self.sum(x) / self.window**2
        return self.sum(x) / self.sum(jnp.ones_like(x[:1, :, :, :1]))


class L2Pool(Pool):
    """The root of the sum of squares of each window. Its gradient is 0 where the whole window is 0."""

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
        squares = self.sum(jnp.square(x))
        positive = squares > 0
        # The root's slope at 0 is infinite; the inner choice keeps it out of the gradient.
        return jnp.where(positive, jnp.sqrt(jnp.where(positive, squares, 1.0)), 0.0)


def adaptive_average(x: Float[Array, "n h w c"], outputs: int) -> Float[Array, "n outputs outputs c"]:
    """Means of outputs×outputs even parts of a map of any size; parts overlap by a pixel where it cannot be divided.

    Part i of a side of s pixels reaches from ⌊i s / outputs⌋ up to but not including ⌈(i + 1) s / outputs⌉.

    >>> adaptive_average(jnp.arange(3.0).reshape(1, 1, 3, 1), 2)[0, 0, :, 0].tolist()
    [0.5, 1.5]
    """

    def means(size: int) -> Array:
        rows = np.zeros((outputs, size), np.float32)
        for i in range(outputs):
            start, end = i * size // outputs, -(-(i + 1) * size // outputs)
            rows[i, start:end] = 1 / (end - start)
        return jnp.asarray(rows, x.dtype)

    return jnp.einsum("nhwc,ah,bw->nabc", x, means(x.shape[1]), means(x.shape[2]))
