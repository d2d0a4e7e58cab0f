"""Batch normalisation."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from cnnlab.ops.forms import tuned
from cnnlab.ops.sums import sums


class BatchNorm(nn.Module):
    """(x − mean) / √(variance + ε) · scale + bias, per channel (Ioffe, Szegedy 2015, algorithms 1 and 2).

    In training the mean and the (biased) variance are the batch's; their moving averages, the collection "batch_stats",
    serve in evaluation. Statistics are float32 whatever the computation's type.

    Attributes:
      momentum: of the moving averages: the share that stays.
      epsilon: added to the variance.
      scale_init: of "scale"; zeros makes a residual branch start as nothing.
      axis_name: of the devices whose batches are normalised together; None, or where no such axis is bound, as in a
        notebook's own step: each device's by itself.
      frozen: an affine map and no more, in training too: "scale" and "bias" lie beside the statistics in "batch_stats",
        where no optimizer sees them. So detectors keep their backbone's, as their batches are too small for statistics.
      dtype: of the result; None is the input's.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    scale_init: nn.initializers.Initializer = nn.initializers.ones
    axis_name: str | None = None
    frozen: bool = False
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "*n c"], *, train: bool) -> Float[Array, "*n c"]:
        channels = x.shape[-1:]
        if self.frozen:
            scale = self.variable("batch_stats", "scale", jnp.ones, channels).value
            bias = self.variable("batch_stats", "bias", jnp.zeros, channels).value
        else:
            scale = self.param("scale", self.scale_init, channels)
            bias = self.param("bias", nn.initializers.zeros, channels)
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        variance = self.variable("batch_stats", "var", jnp.ones, channels)
        dtype = self.dtype or x.dtype
        if self.frozen or not train:
            return apply_moments(x, scale, bias, mean.value, variance.value, self.epsilon).astype(dtype)
        axis_name = None if self.is_initializing() or not spans_several(self.axis_name) else self.axis_name
        if axis_name is None and tuned():
            y, now, spread = normalise(x, scale, bias, self.epsilon)
        else:
            now, spread = moments(x, axis_name)
            y = apply_moments(x, scale, bias, now, spread, self.epsilon)
        if not self.is_initializing():
            mean.value = self.momentum * mean.value + (1 - self.momentum) * now
            variance.value = self.momentum * variance.value + (1 - self.momentum) * spread
        return y.astype(dtype)


def spans_several(axis_name: str | None) -> bool:
    """Whether an axis is bound and has more than one device."""
    try:
        return axis_name is not None and lax.axis_size(axis_name) > 1
    except NameError:
        return False


def moments(x: Float[Array, "*n c"], axis_name: str | None) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
    """The mean and the (biased) variance of each channel, over the devices of `axis_name` if there is one."""
    wide = x.astype(jnp.float32)
    axes = tuple(range(x.ndim - 1))
    both = jnp.mean(wide, axes), jnp.mean(jnp.square(wide), axes)
    mean, square = both if axis_name is None else lax.pmean(both, axis_name)
    return mean, jnp.maximum(square - jnp.square(mean), 0.0)


def apply_moments(
    x: Float[Array, "*n c"],
    scale: Float[Array, " c"],
    bias: Float[Array, " c"],
    mean: Float[Array, " c"],
    variance: Float[Array, " c"],
    epsilon: float,
) -> Float[Array, "*n c"]:
    """(x − mean) / √(variance + ε) · scale + bias, as one multiplication and one addition a value."""
    factor = scale * lax.rsqrt(variance + epsilon)
    return x * factor + (bias - mean * factor)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def normalise(
    x: Float[Array, "*n c"], scale: Float[Array, " c"], bias: Float[Array, " c"], epsilon: float
) -> tuple[Float[Array, "*n c"], Float[Array, " c"], Float[Array, " c"]]:
    """The normalised batch, its mean and its variance, for CPUs: each pass reads a tensor once.

    The mean and the variance feed moving averages only: no gradient flows through them.
    """
    wide = x.astype(jnp.float32)
    total, squares = sums(wide, jnp.square(wide))
    count = x.size // x.shape[-1]
    mean = total / count
    variance = jnp.maximum(squares / count - jnp.square(mean), 0.0)
    return apply_moments(x, scale, bias, mean, variance, epsilon), mean, variance


def _forward(x: Array, scale: Array, bias: Array, epsilon: float) -> tuple:
    result = normalise(x, scale, bias, epsilon)
    return result, (x, scale, result[1], result[2])


def _backward(epsilon: float, kept: tuple, cotangents: tuple) -> tuple[Array, Array, Array]:
    x, scale, mean, variance = kept
    g = cotangents[0]
    count = x.size // x.shape[-1]
    inverse = lax.rsqrt(variance + epsilon)
    wide = g.astype(jnp.float32)
    dbias, products = sums(wide, wide * x)
    dscale = (products - mean * dbias) * inverse
    # dx = scale / σ · (g − mean(g) − x̂ · mean(g x̂)), with x̂ = (x − mean) / σ multiplied out.
    factor = scale * inverse
    slope = -factor * inverse * dscale / count
    dx = g * factor + x * slope - (factor * dbias / count + slope * mean)
    return dx.astype(x.dtype), dscale, dbias


normalise.defvjp(_forward, _backward)
