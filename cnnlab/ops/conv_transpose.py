"""Fractionally strided (transposed) convolution: a picture as many times larger as the stride says.

It is the gradient of a strided convolution by its input, and the learnt upsampling of DCGAN's generator (Radford, Metz,
Chintala 2015, section 3), of fully convolutional networks and of the deconvnet.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from cnnlab.ops import conv_cpu
from cnnlab.ops.bias import add_bias
from cnnlab.ops.conv import Size, pair
from cnnlab.ops.forms import tuned

Pair = tuple[int, int]


def conv_transpose2d(
    x: Float[Array, "n h w c"], kernel: Float[Array, "kh kw c k"], stride: Size, padding: Size
) -> Float[Array, "n h2 w2 k"]:
    """Each input pixel paints the filter, times its value, around its place in a picture `stride` times as large.

    Weight (u, v) of the filter takes input pixel (i, j) to output pixel (stride·i + u − padding, stride·j + v −
    padding); what falls outside is dropped, what falls on the same pixel is added. It is the transpose of `conv2d` with
    the same stride and padding and the kernel's channels swapped.

    Args:
      x: the input.
      kernel: (height, width, input channels, output channels).
      stride: output pixels from one input pixel to the next, one number or (height, width).
      padding: rows and columns of the first input pixel's filter that are dropped, likewise: from half of kernel −
        stride, rounded up, to less than half of the kernel.

    >>> x = jnp.array([1.0, 10.0]).reshape(1, 1, 2, 1)
    >>> conv_transpose2d(x, jnp.array([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1), (1, 2), (0, 1))[0, 0, :, 0].tolist()
    [2.0, 13.0, 20.0, 30.0]

    Raises:
      ValueError: with this padding the output is not `stride` times as large.
    """
    stride, padding = pair(stride), pair(padding)
    for k, s, p in zip(kernel.shape[:2], stride, padding, strict=True):
        if not k - s <= 2 * p < k:
            low, high = max(0, -(-(k - s) // 2)), (k - 1) // 2
            raise ValueError(f"a filter of {k} with stride {s} needs a padding of {low} to {high}, not {p}")
    if tuned() and x.dtype == jnp.float32:
        return spread(x, kernel, stride, padding)
    return dilated(x, kernel, stride, padding)


def dilated(x: Float[Array, "n h w c"], kernel: Float[Array, "kh kw c k"], stride: Pair, padding: Pair) -> Array:
    """`lax`'s own form: zeros between the pixels, and an ordinary convolution with the filter turned around."""
    sides = []
    for k, s, p in zip(kernel.shape[:2], stride, padding, strict=True):
        before = k - 1 - p
        sides.append((before, k + s - 2 - before))  # the padded, dilated input is s·h + k − 1 long
    return lax.conv_general_dilated(
        x, kernel[::-1, ::-1], (1, 1), sides, lhs_dilation=stride, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def spread(x: Float[Array, "n h w c"], kernel: Float[Array, "kh kw c k"], stride: Pair, padding: Pair) -> Array:
    """The form for CPUs. Its gradients are a strided convolution and that one's gradient of the filters.

    5×5, stride 2, from 8×8×512 to 16×16×256, batch 16: both gradients in 0.2 s; those that JAX derives from `dilated`
    in 9 (two busy cores, AMD EPYC).
    """
    # With a filter larger than the map XLA exchanges the two, and leaves its fast path.
    if kernel.shape[0] * kernel.shape[1] > x.shape[1] * x.shape[2]:
        return painted(x, kernel, stride, padding)
    return dilated(x, kernel, stride, padding)


def _forward(x: Array, kernel: Array, stride: Pair, padding: Pair) -> tuple[Array, tuple[Array, Array]]:
    return spread(x, kernel, stride, padding), (x, kernel)


def _backward(stride: Pair, padding: Pair, kept: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = kept
    dx, pull = jax.vjp(lambda k: conv_cpu.conv(g, k, stride, padding, 1), kernel.swapaxes(2, 3))
    return dx, pull(x)[0].swapaxes(2, 3)


spread.defvjp(_forward, _backward)


def painted(x: Float[Array, "n h w c"], kernel: Float[Array, "kh kw c k"], stride: Pair, padding: Pair) -> Array:
    """Small maps: the definition, a matrix product for each weight of the filter.

    Output pixels whose row and column leave the same remainders by the stride are painted by the same weights: each
    such phase is a sum of the products, moved by whole input pixels, and the phases are interleaved. 5×5, stride 2,
    from 4×4×1024 to 8×8×512, batch 8: 0.2 s against 20 for `dilated` (two busy cores, AMD EPYC).
    """
    n, h, w, c = x.shape
    rows, columns, _, features = kernel.shape
    pixels = x.reshape(-1, c)
    phases = [[jnp.zeros((n, h, w, features), x.dtype)] * stride[1] for _ in range(stride[0])]
    for u in range(rows):
        for v in range(columns):
            (down, a), (right, b) = divmod(u - padding[0], stride[0]), divmod(v - padding[1], stride[1])
            if abs(down) < h and abs(right) < w:  # else all of it falls outside
                paint = (pixels @ kernel[u, v]).reshape(n, h, w, features)
                moved = [(0, 0, 0), (down, -down, 0), (right, -right, 0), (0, 0, 0)]
                phases[a][b] += lax.pad(paint, np.zeros((), x.dtype), moved)
    interleaved = jnp.stack([jnp.stack(row, 3) for row in phases], 2)
    return interleaved.reshape(n, h * stride[0], w * stride[1], features)


class ConvTranspose(nn.Module):
    """A fractionally strided convolution layer: maps `stride` times as large.

    Attributes:
      features: output channels.
      kernel: size of the filters in pixels, one number or (height, width).
      stride, padding: see `conv_transpose2d`.
      use_bias: whether a bias is added.
      kernel_init, bias_init: of the parameters "kernel", (height, width, input channels, output channels), and "bias".
      dtype: of the computation; parameters are float32.
    """

    features: int
    kernel: Size
    stride: Size
    padding: Size
    use_bias: bool = True
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    bias_init: nn.initializers.Initializer = nn.initializers.zeros
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 k"]:
        kernel = self.param("kernel", self.kernel_init, (*pair(self.kernel), x.shape[-1], self.features))
        bias = self.param("bias", self.bias_init, (self.features,)) if self.use_bias else None
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        y = conv_transpose2d(x, kernel, self.stride, self.padding)
        return y if bias is None else add_bias(y, bias)
