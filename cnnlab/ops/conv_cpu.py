"""Convolutions for CPUs: forms of the same sums that XLA's CPU compiler runs faster than its general convolution.

Each was chosen by measuring it against `lax.conv_general_dilated` on two cores (AMD EPYC, jax 0.10.2, float32); rates
are of multiply-adds and additions, in Gflop/s.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from cnnlab.ops import winograd

Pair = tuple[int, int]

FEW_WEIGHTS = 1000  # of a layer on one channel, up to which a sum of shifted pictures is the faster form
FEW_CHANNELS = 16  # of the input, under which its gradient is faster as products of whole rows
SHORT_ROW = 4  # filters' widths, up to which it is
SMALL_MAP = 49  # output pixels of a picture, up to which the general convolution is the slower form


def lax_conv(x: Array, kernel: Array, stride: Pair, padding: Pair | tuple[Pair, Pair], groups: int = 1) -> Array:
    """`lax`'s own convolution; padding is (height, width), or (before, after) of each."""
    sides = [(p, p) if isinstance(p, int) else p for p in padding]
    return lax.conv_general_dilated(
        x, kernel, stride, sides, dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups
    )


def conv(
    x: Float[Array, "n h w c"], kernel: Float[Array, "kh kw cg k"], stride: Pair, padding: Pair, groups: int
) -> Float[Array, "n h2 w2 k"]:
    """The convolution, in the form that fits its shape."""
    if groups > 1:  # side by side: the grouped convolution leaves the fast path
        parts = zip(jnp.split(x, groups, -1), jnp.split(kernel, groups, -1), strict=True)
        return jnp.concatenate([conv(a, b, stride, padding, 1) for a, b in parts], -1)
    if kernel.shape[:2] == (1, 1) and padding == (0, 0):
        return pointwise(x[:, :: stride[0], :: stride[1]], kernel)
    if kernel.shape[:2] == x.shape[1:3] and padding == (0, 0):
        return whole(x, kernel)
    height, width = (
        (size + 2 * p - k) // s + 1
        for size, p, k, s in zip(x.shape[1:3], padding, kernel.shape[:2], stride, strict=True)
    )
    if winograd.pays(kernel.shape, stride, padding, (x.shape[0], height, width)):
        return winograd.convolve(x, kernel, padding)
    if height * width <= SMALL_MAP:
        return gathered(x, kernel, stride, padding)
    return spatial(x, kernel, stride, padding)


def split_product(a: Float[Array, "m i"], b: Float[Array, "m j"]) -> Float[Array, "i j"]:
    """aᵀb for large m, as two products side by side, one for each half of m, so that both cores work.

    Of 50,176 rows, 64 and 256 columns: 150 Gflop/s against 120 for the plain product. With the columns the other way
    round 12 ms if the narrower of the two is the one that is transposed, against 18, on two cores of an Intel Xeon.
    """
    if a.shape[0] % 2 or a.shape[0] <= 8 * (a.shape[1] + b.shape[1]):
        return a.T @ b
    if a.shape[1] > b.shape[1]:  # behind a barrier, or XLA would turn the product round again
        return lax.optimization_barrier(split_product(b, a)).T
    return jnp.einsum("zmi,zmj->zij", a.reshape(2, -1, a.shape[1]), b.reshape(2, -1, b.shape[1])).sum(0)


@jax.custom_vjp
def product(a: Float[Array, "m i"], b: Float[Array, "i j"]) -> Float[Array, "m j"]:
    """ab, whose gradient of b is a `split_product`."""
    return a @ b


def _product_forward(a: Array, b: Array) -> tuple[Array, tuple[Array, Array]]:
    return a @ b, (a, b)


def _product_backward(kept: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    a, b = kept
    a, g = lax.optimization_barrier((a, g))
    return g @ b.T, split_product(a, g)


product.defvjp(_product_forward, _product_backward)


def pointwise(x: Float[Array, "n h w c"], kernel: Float[Array, "1 1 c k"]) -> Float[Array, "n h w k"]:
    """A 1×1 convolution as a matrix product."""
    return product(x.reshape(-1, x.shape[-1]), kernel[0, 0]).reshape(*x.shape[:3], kernel.shape[-1])


def whole(x: Float[Array, "n h w c"], kernel: Float[Array, "h w c k"]) -> Float[Array, "n 1 1 k"]:
    """A filter as large as its input (LeNet-5's C5), as a matrix product."""
    y = x.reshape(x.shape[0], -1) @ kernel.reshape(-1, kernel.shape[-1])
    return y[:, None, None]


def gathered(x: Float[Array, "n h w c"], kernel: Float[Array, "kh kw c k"], stride: Pair, padding: Pair) -> Array:
    """Small maps: all that a filter sees at each place side by side, times the filters, as one matrix product.

    3×3, 512 channels, batch 32 of 2×2: 151 Gflop/s against 2 for the general convolution; of 7×7 1.1 times as fast.
    """
    rows, columns = kernel.shape[:2]
    x = jnp.pad(x, ((0, 0), (padding[0],) * 2, (padding[1],) * 2, (0, 0)))
    seen = [tap(x, i, j, kernel.shape[:2], stride) for i in range(rows) for j in range(columns)]
    n, height, width, _ = seen[0].shape
    patches = jnp.concatenate(seen, -1).reshape(n * height * width, -1)
    return product(patches, kernel.reshape(-1, kernel.shape[-1])).reshape(n, height, width, -1)


def taps(x: Float[Array, "n h w 1"], kernel: Float[Array, "kh kw 1 k"], stride: Pair, padding: Pair) -> Array:
    """One input channel: a sum of shifted pictures, each times its weight of the filters, fused by XLA into one loop.

    LeNet-5's first layer, batch 256: 81 Gflop/s against 6.
    """
    rows, columns = kernel.shape[:2]
    x = jnp.pad(x, ((0, 0), (padding[0],) * 2, (padding[1],) * 2, (0, 0)))
    return sum(tap(x, i, j, kernel.shape[:2], stride) * kernel[i, j] for i in range(rows) for j in range(columns))


def patches(x: Float[Array, "n h w 1"], size: Pair, stride: Pair, padding: Pair) -> Float[Array, "m k"]:
    """What a filter of `size` sees at each place, a row a place: first the columns side by side, then the rows.

    By it the gradients of 88 filters of 9×9, batch 256 of 28×28, take 0.4 (filters) and 0.2 (input) of the time that
    the general convolution's take.
    """
    x = jnp.pad(x, ((0, 0), (padding[0],) * 2, (padding[1],) * 2, (0, 0)))
    beside = jnp.concatenate([tap(x, 0, j, (1, size[1]), (1, stride[1])) for j in range(size[1])], -1)
    rows = [tap(beside, i, 0, (size[0], 1), (stride[0], 1)) for i in range(size[0])]
    return jnp.concatenate(rows, -1).reshape(-1, size[0] * size[1])


def tap(x: Array, i: int, j: int, size: Pair, stride: Pair) -> Array:
    """What weight (i, j) of a filter of `size` sees of the padded `x`, at each place of the filter."""
    n, h, w, c = x.shape
    return lax.slice(x, (0, i, j, 0), (n, h - size[0] + i + 1, w - size[1] + j + 1, c), (1, *stride, 1))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def spatial(x: Float[Array, "n h w c"], kernel: Float[Array, "kh kw c k"], stride: Pair, padding: Pair) -> Array:
    """A convolution with filters larger than a pixel, its gradients chosen by shape."""
    if x.shape[-1] == 1 and kernel.size <= FEW_WEIGHTS:
        return taps(x, kernel, stride, padding)
    return lax_conv(x, kernel, stride, padding)


def _spatial_forward(x: Array, kernel: Array, stride: Pair, padding: Pair) -> tuple[Array, tuple[Array, Array]]:
    return spatial(x, kernel, stride, padding), (x, kernel)


def _spatial_backward(stride: Pair, padding: Pair, kept: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = kept
    # Each is used twice, once transposed. Without this barrier XLA would compute it again within the transposition, in
    # the wrong order for the memory.
    x, g = lax.optimization_barrier((x, g))
    if x.shape[-1] == 1:
        seen = jax.linear_transpose(lambda a: patches(a, kernel.shape[:2], stride, padding), x)
        dx = seen(g.reshape(-1, g.shape[-1]) @ kernel.reshape(-1, g.shape[-1]).T)[0]
    elif stride == (1, 1) and x.shape[-1] < FEW_CHANNELS and x.shape[2] <= SHORT_ROW * kernel.shape[1]:
        dx = input_gradient_by_rows(g, kernel, x.shape, padding)
    elif stride == (1, 1):
        dx = jax.linear_transpose(lambda a: lax_conv(a, kernel, stride, padding), x)(g)[0]
    else:
        dx = input_gradient(g, kernel, x.shape, stride, padding)
    if x.shape[-1] == 1 and kernel.size > FEW_WEIGHTS:
        dk = split_product(patches(x, kernel.shape[:2], stride, padding), g.reshape(-1, g.shape[-1]))
        dk = dk.reshape(kernel.shape)
    else:
        dk = jax.linear_transpose(lambda a: lax_conv(x, a, stride, padding), kernel)(g)[0]
    return dx, dk


spatial.defvjp(_spatial_forward, _spatial_backward)


def input_gradient(
    g: Float[Array, "n h2 w2 k"], kernel: Float[Array, "kh kw c k"], shape: tuple[int, ...], stride: Pair, padding: Pair
) -> Float[Array, "n h w c"]:
    """The gradient of the input of a strided convolution, without the zeros that `lax` puts between the pixels of `g`.

    Input pixels whose row and column leave the same remainders by the stride meet the same weights, every stride-th
    one: each such phase is a convolution of `g` with stride 1, and the phases are interleaved. 3×3, stride 2, batch
    16 of 56×56×128: 176 Gflop/s against 63.
    """
    n, h, w, c = shape
    rows, columns = (-(-(size + 2 * p) // s) for size, p, s in zip((h, w), padding, stride, strict=True))

    def phase(a: int, b: int) -> Array:
        part = kernel[a :: stride[0], b :: stride[1]][::-1, ::-1].swapaxes(2, 3)
        if 0 in part.shape:  # a filter smaller than the stride: these pixels are never seen
            return jnp.zeros((n, rows, columns, c), g.dtype)
        before = part.shape[0] - 1, part.shape[1] - 1
        after = rows - g.shape[1], columns - g.shape[2]
        return lax_conv(g, part, (1, 1), tuple(zip(before, after, strict=True)))

    phases = [jnp.stack([phase(a, b) for b in range(stride[1])], 3) for a in range(stride[0])]
    padded = jnp.stack(phases, 2).reshape(n, rows * stride[0], columns * stride[1], c)
    return lax.slice(padded, (0, *padding, 0), (n, padding[0] + h, padding[1] + w, c))


def input_gradient_by_rows(
    g: Float[Array, "n h2 w2 k"], kernel: Float[Array, "kh kw c k"], shape: tuple[int, ...], padding: Pair
) -> Float[Array, "n h w c"]:
    """The gradient of the input at stride 1, as a matrix product for whole rows: few channels fill a core's lanes so.

    A row of the cotangent times a matrix with the filter's weights along its diagonals gives what each row of the
    filter brings to a row of the input. 5×5, 6 channels from 16, batch 256 of 14×14, two cores of an Intel Xeon: 2.0 ms
    against 5.6 for the general convolution.
    """
    n, height, width, features = g.shape
    rows, columns = kernel.shape[:2]
    weight = np.arange(shape[2]) - np.arange(width)[:, None] + padding[1]  # between two columns: input, output
    seen = (weight >= 0) & (weight < columns)
    bands = jnp.where(seen[:, :, None, None], kernel[:, np.clip(weight, 0, columns - 1)], 0.0)
    bands = bands.transpose(1, 4, 0, 2, 3).reshape(width * features, -1)
    brought = lax.optimization_barrier(g.reshape(n * height, -1) @ bands).reshape(n, height, rows, -1)
    dx = sum(jnp.pad(brought[:, :, i], ((0, 0), (i, rows - 1 - i), (0, 0))) for i in range(rows))
    return dx[:, padding[0] : padding[0] + shape[1]].reshape(shape)
