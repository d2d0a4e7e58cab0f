"""Convolution: grouped, strided, dilated, padded in pixels, with a clear error where the filter does not fit."""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from cnnlab.errors import UserError
from cnnlab.ops import conv_cpu
from cnnlab.ops.bias import add_bias
from cnnlab.ops.forms import tuned
from cnnlab.ops.receptive_field import output_size

Size = int | tuple[int, int]


def pair(value: Size) -> tuple[int, int]:
    """One number for both dimensions, or one each.

    >>> pair(3), pair((1, 7))
    ((3, 3), (1, 7))
    """
    return (value, value) if isinstance(value, int) else value


def conv2d(
    x: Float[Array, "n h w c"],
    kernel: Float[Array, "kh kw cg k"],
    stride: Size = 1,
    padding: Size = 0,
    groups: int = 1,
    dilation: int = 1,
) -> Float[Array, "n h2 w2 k"]:
    """Slides `kernel` over `x` (without flipping it, as all papers here do). The one place that chooses how.

    Args:
      x: the input.
      kernel: (height, width, input channels / groups, output channels).
      stride: step in pixels, one number or (height, width).
      padding: zeros on each side, likewise.
      groups: the channels fall into so many parts that do not see each other.
      dilation: pixels from one weight of the filter to the next; more than 1 with a stride of 1.

    >>> import jax.numpy as jnp
    >>> conv2d(jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 2)))[0, :, :, 0].tolist()
    [[9.0, 9.0], [9.0, 9.0]]
    """
    stride, padding = pair(stride), pair(padding)
    if dilation > 1:
        return dilated_conv2d(x, kernel, padding, groups, dilation)
    if tuned() and x.dtype == jnp.float32:
        return conv_cpu.conv(x, kernel, stride, padding, groups)
    return conv_cpu.lax_conv(x, kernel, stride, padding, groups)


def dilated_conv2d(
    x: Float[Array, "n h w c"], kernel: Float[Array, "kh kw cg k"], padding: tuple[int, int], groups: int, dilation: int
) -> Float[Array, "n h2 w2 k"]:
    """A convolution whose filter has holes ("à trous"), as one without them.

    Pixels whose row and column leave the same remainders by the dilation only ever meet each other: each such phase is
    a picture of its own, and all go through an ordinary convolution side by side, which has a fast form everywhere.
    """
    n, *size, _ = x.shape
    out = [s + 2 * p - dilation * (k - 1) for s, p, k in zip(size, padding, kernel.shape[:2], strict=True)]
    sides = [(p, p + -(s + 2 * p) % dilation) for s, p in zip(size, padding, strict=True)]
    x = jnp.pad(x, ((0, 0), *sides, (0, 0)))
    phases = x.reshape(n, x.shape[1] // dilation, dilation, x.shape[2] // dilation, dilation, -1)
    phases = phases.transpose(0, 2, 4, 1, 3, 5).reshape(n * dilation**2, *phases.shape[1:4:2], -1)
    y = conv2d(phases, kernel, groups=groups)
    y = y.reshape(n, dilation, dilation, *y.shape[1:]).transpose(0, 3, 1, 4, 2, 5)
    return y.reshape(n, y.shape[1] * dilation, y.shape[3] * dilation, -1)[:, : out[0], : out[1]]


class Conv(nn.Module):
    """A convolution layer.

    Attributes:
      features: output channels.
      kernel: size of the filters in pixels, one number or (height, width).
      stride: likewise.
      padding: zeros on each side, likewise.
      groups: the channels fall into so many parts that do not see each other (AlexNet's two GPUs).
      dilation: pixels from one weight of the filters to the next; more than 1 with a stride of 1.
      use_bias: whether a bias is added.
      kernel_init, bias_init: of the parameters "kernel" and "bias".
      dtype: of the computation; parameters are float32.

    Raises:
      UserError: the filter is larger than the padded input; the layer and the sizes are named.
    """

    features: int
    kernel: Size
    stride: Size = 1
    padding: Size = 0
    groups: int = 1
    dilation: int = 1
    use_bias: bool = True
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    bias_init: nn.initializers.Initializer = nn.initializers.zeros
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 k"]:
        size = pair(self.kernel)
        reach = tuple((k - 1) * self.dilation + 1 for k in size)
        check_fit("/".join(self.path), x.shape[1:3], reach, pair(self.stride), pair(self.padding))
        kernel = self.param("kernel", self.kernel_init, (*size, x.shape[-1] // self.groups, self.features))
        bias = self.param("bias", self.bias_init, (self.features,)) if self.use_bias else None
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        y = conv2d(x, kernel, self.stride, self.padding, self.groups, self.dilation)
        return y if bias is None else add_bias(y, bias)


def check_fit(
    layer: str, sizes: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> None:
    """Raises a `UserError` that names the layer if its filter or window is larger than its padded input."""
    for size, k, s, p in zip(sizes, kernel, stride, padding, strict=True):
        try:
            output_size(size, k, s, p, floor=True)
        except ValueError as error:
            raise UserError(f"the picture is too small for layer {layer}: {error}") from error
