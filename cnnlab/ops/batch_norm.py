"""Batch normalisation."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float


class BatchNorm(nn.Module):
    """(x − mean) / √(variance + ε) · scale + bias, per channel (Ioffe, Szegedy 2015, algorithms 1 and 2).

    In training the mean and the (biased) variance are the batch's; their moving averages, the collection "batch_stats",
    serve in evaluation. Statistics are float32 whatever the computation's type.

    Attributes:
      momentum: of the moving averages: the share that stays.
      epsilon: added to the variance.
      scale_init: of "scale"; zeros makes a residual branch start as nothing.
      axis_name: of the devices whose batches are normalised together; None: each device's by itself.
      dtype: of the result; None is the input's.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    scale_init: nn.initializers.Initializer = nn.initializers.ones
    axis_name: str | None = None
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "*n c"], *, train: bool) -> Float[Array, "*n c"]:
        channels = x.shape[-1:]
        scale = self.param("scale", self.scale_init, channels)
        bias = self.param("bias", nn.initializers.zeros, channels)
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        variance = self.variable("batch_stats", "var", jnp.ones, channels)
        if train:
            wide = x.astype(jnp.float32)
            axes = tuple(range(x.ndim - 1))
            moments = jnp.mean(wide, axes), jnp.mean(jnp.square(wide), axes)
            if self.axis_name is not None and not self.is_initializing():
                moments = lax.pmean(moments, self.axis_name)
            now, spread = moments[0], jnp.maximum(moments[1] - jnp.square(moments[0]), 0.0)
            if not self.is_initializing():
                mean.value = self.momentum * mean.value + (1 - self.momentum) * now
                variance.value = self.momentum * variance.value + (1 - self.momentum) * spread
        else:
            now, spread = mean.value, variance.value
        factor = scale * jax.lax.rsqrt(spread + self.epsilon)
        dtype = self.dtype or x.dtype
        return (x * factor + (bias - now * factor)).astype(dtype)
