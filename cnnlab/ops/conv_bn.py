"""Convolution, batch normalisation, rectifier: the layer of the later Inceptions."""

import flax.linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from cnnlab.ops.activations import relu
from cnnlab.ops.batch_norm import BatchNorm
from cnnlab.ops.conv import Conv, Size


class ConvBN(nn.Module):
    """A convolution without bias ("conv"), batch normalisation with ε = 10⁻³ ("bn"), and a rectifier.

    Attributes:
      features, kernel, stride, padding, kernel_init, dtype: see `Conv`.
      axis_name: see `BatchNorm`.
    """

    features: int
    kernel: Size
    stride: Size = 1
    padding: Size = 0
    kernel_init: nn.initializers.Initializer = nn.initializers.he_normal()
    axis_name: str | None = None
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n h2 w2 k"]:
        conv = Conv(
            self.features,
            self.kernel,
            self.stride,
            self.padding,
            use_bias=False,
            kernel_init=self.kernel_init,
            dtype=self.dtype,
            name="conv",
        )
        return relu(BatchNorm(epsilon=1e-3, axis_name=self.axis_name, name="bn")(conv(x), train=train))
