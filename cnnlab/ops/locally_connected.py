"""Locally connected layers: small receptive fields as in a convolution, but every place has weights of its own.

The nets before weight sharing, and those of Mnih and Hinton's road finder (2010). Where all places hold the same
weights it is a convolution; see `everywhere`.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from cnnlab.ops.conv import Size, check_fit, pair
from cnnlab.ops.forms import tuned

Padding = str | int | tuple[int, int]


def sides(
    padding: Padding, sizes: tuple[int, int], kernel: tuple[int, int], strides: tuple[int, int]
) -> list[tuple[int, int]]:
    """Zeros before and after, by dimension.

    Args:
      padding: "VALID", "SAME", or pixels on each side, one number or (height, width).
      sizes: height and width of the input.
      kernel, strides: likewise.

    >>> sides("SAME", (5, 5), (3, 3), (1, 1)), sides(2, (5, 5), (3, 3), (1, 1))
    ([(1, 1), (1, 1)], [(2, 2), (2, 2)])
    """
    if isinstance(padding, str):
        return lax.padtype_to_pads(sizes, kernel, strides, padding)
    return [(p, p) for p in pair(padding)]


def windows_of(
    x: Float[Array, "n h w c"], kernel_size: tuple[int, int], strides: tuple[int, int] = (1, 1)
) -> Float[Array, "h2 w2 n k"]:
    """What a window sees at each place, in the order (row, column, channel).

    Slices side by side: on CPUs `lax.conv_general_dilated_patches` is a convolution, and its gradient tens of times
    slower. There the columns that a stride passes are one dimension with the channels, so that slices are few and long.
    The places come first, as the product over them wants.

    >>> windows_of(jnp.arange(6.0).reshape(1, 2, 3, 1), (2, 2)).tolist()
    [[[[0.0, 1.0, 3.0, 4.0]], [[1.0, 2.0, 4.0, 5.0]]]]
    """
    n, _, width, channels = x.shape
    (down, across), (high, wide) = strides, kernel_size
    rows, columns = (x.shape[1] - high) // down + 1, (width - wide) // across + 1
    run = across if tuned() else 1
    x = jnp.pad(x, ((0, 0), (0, 0), (0, -width % run), (0, 0)))
    x = x.reshape(n, x.shape[1], -1, run * channels).transpose(1, 2, 0, 3)
    step = across // run
    taps = [
        x[
            i : i + (rows - 1) * down + 1 : down,
            j : j + (columns - 1) * step + 1 : step,
            :,
            : (wide - j * run) * channels,
        ]
        for i in range(high)
        for j in range(-(-wide // run))
    ]
    return jnp.concatenate(taps, -1)


def locally_connected(
    x: Float[Array, "n h w c"],
    kernel: Float[Array, "h2 w2 k f"],
    bias: Float[Array, "h2 w2 f"] | None = None,
    strides: Size = 1,
    padding: Padding = "VALID",
    kernel_size: Size | None = None,
) -> Float[Array, "n h2 w2 f"]:
    """Each place's window times that place's own weights.

    Args:
      x: the input.
      kernel: `kernel[i, j]` of the place (i, j): k = height · width · c, in the order (row, column, channel), so that
        reshaped to (height, width, c, f) it is a convolution's.
      bias: that is added; None: nothing.
      strides: of the window, one number or (height, width).
      padding: see `sides`.
      kernel_size: height and width of the window; None: it is a square.

    Raises:
      ValueError: the kernel has not as many places as the window finds, or the window is no square.

    >>> kernel = everywhere(jnp.ones((2, 2, 1, 1)), (1, 2))
    >>> kernel.shape
    (1, 2, 4, 1)
    >>> locally_connected(jnp.arange(6.0).reshape(1, 2, 3, 1), kernel).ravel().tolist()
    [8.0, 12.0]
    """
    strides = pair(strides)
    size = _square(kernel.shape[2] // x.shape[-1]) if kernel_size is None else pair(kernel_size)
    x = jnp.pad(x, ((0, 0), *sides(padding, x.shape[1:3], size, strides), (0, 0)))
    seen = windows_of(x, size, strides)
    found = (*seen.shape[:2], seen.shape[-1])
    if found != kernel.shape[:3]:
        raise ValueError(f"the windows are {found}, and the kernel is for {kernel.shape[:3]}")
    y = jnp.einsum("ijnk,ijkf->nijf", seen, kernel)
    return y if bias is None else y + bias


def _square(area: int) -> tuple[int, int]:
    side = round(area**0.5)
    if side * side != area:
        raise ValueError(f"a window of {area} pixels is no square: say its kernel_size")
    return side, side


def everywhere(kernel: Float[Array, "kh kw c f"], places: tuple[int, int]) -> Float[Array, "h2 w2 k f"]:
    """A convolution's kernel as that of a locally connected layer whose places, (height, width), all begin with it."""
    features = kernel.shape[-1]
    return jnp.broadcast_to(kernel.reshape(-1, features), (*places, kernel.size // features, features))


class LocallyConnected(nn.Module):
    """A locally connected layer.

    Its parameters are "kernel", (h2, w2, height · width · input channels, features), and "bias", (h2, w2, features).

    Attributes:
      features: output channels.
      kernel_size: height and width of the window, or one number for both.
      strides: likewise.
      padding: "VALID", "SAME", or pixels on each side.
      use_bias: whether a bias is added.
      kernel_init: of the weights of one place, (height · width · input channels, features): each place draws its own.
      bias_init: of the biases.
      dtype: of the computation; parameters are float32.

    Raises:
      UserError: the window is larger than the padded input; the layer and the sizes are named.
    """

    features: int
    kernel_size: Size
    strides: Size = 1
    padding: Padding = "VALID"
    use_bias: bool = True
    kernel_init: Callable[..., Array] = nn.initializers.lecun_normal()
    bias_init: Callable[..., Array] = nn.initializers.zeros
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 f"]:
        size, strides = pair(self.kernel_size), pair(self.strides)
        added = [sum(side) for side in sides(self.padding, x.shape[1:3], size, strides)]
        sizes = tuple(length + more for length, more in zip(x.shape[1:3], added, strict=True))
        check_fit("/".join(self.path), sizes, size, strides, (0, 0))
        places = tuple((length - k) // s + 1 for length, k, s in zip(sizes, size, strides, strict=True))
        shape = (size[0] * size[1] * x.shape[-1], self.features)

        def of_places(key: Array) -> Array:
            keys = jax.random.split(key, places[0] * places[1])
            return jax.vmap(lambda own: self.kernel_init(own, shape))(keys).reshape(*places, *shape)

        kernel = self.param("kernel", of_places)
        bias = self.param("bias", self.bias_init, (*places, self.features)) if self.use_bias else None
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        return locally_connected(x, kernel, bias, strides, self.padding, size)
