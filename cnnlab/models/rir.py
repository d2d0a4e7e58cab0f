"""ResNet in ResNet: Targ, Almeida, Lyman, "Resnet in Resnet: generalizing residual architectures", 2016, section 2.

Two streams run side by side: the residual stream has shortcuts, the transient one has none and can forget. Each layer
of each stream sees both.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from cnnlab.errors import UserError
from cnnlab.models.resnet_cifar import HE, LINEAR, shortcut_a
from cnnlab.ops.activations import relu
from cnnlab.ops.batch_norm import BatchNorm
from cnnlab.ops.conv import Conv

STAGES = ((48, 2), (96, 3), (192, 3))  # maps of each stream, and blocks of two layers


class GeneralizedLayer(nn.Module):
    """Equations 1 and 2: r' = σ(W_rr ∗ r + W_tr ∗ t + shortcut(r)), t' = σ(W_rt ∗ r + W_tt ∗ t), σ = ReLU ∘ BN.

    The four convolutions are one, over both streams side by side, the residual one first: the paper's "ResNet Init",
    in which a standard layer starts with an identity added to part of it. Without W_rt and W_tr this is a residual
    layer beside a plain one.

    Attributes:
      width: maps of each stream.
      stride: of the convolution.
      axis_name, dtype: see `RiR`.
    """

    width: int
    stride: int = 1
    axis_name: str | None = None
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self,
        residual: Float[Array, "n h w c"],
        transient: Float[Array, "n h w c"],
        outer: Float[Array, "n h2 w2 k"] | None = None,
        *,
        train: bool,
    ) -> tuple[Float[Array, "n h2 w2 k"], Float[Array, "n h2 w2 k"]]:
        """Both streams; `outer` is the shortcut of a block that ends here, added to the residual stream."""
        both = jnp.concatenate([residual, transient], -1)
        conv = Conv(2 * self.width, 3, self.stride, 1, use_bias=False, kernel_init=HE, dtype=self.dtype, name="conv")
        new, passing = jnp.split(conv(both), 2, -1)
        new = new + shortcut_a(residual, self.width, self.stride)
        if outer is not None:
            new = new + outer
        norm = BatchNorm(axis_name=self.axis_name, name="bn")
        both = relu(norm(jnp.concatenate([new, passing], -1), train=train))
        new, passing = jnp.split(both, 2, -1)
        return new, passing


class RiRBlock(nn.Module):
    """A residual block of two generalised layers: its own shortcut spans both, on the residual stream (figure 1d).

    Attributes:
      width, stride, axis_name, dtype: see `GeneralizedLayer`; the stride is the first layer's.
    """

    width: int
    stride: int = 1
    axis_name: str | None = None
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self, residual: Float[Array, "n h w c"], transient: Float[Array, "n h w c"], *, train: bool
    ) -> tuple[Float[Array, "n h2 w2 k"], Float[Array, "n h2 w2 k"]]:
        shared = {"axis_name": self.axis_name, "dtype": self.dtype}
        outer = shortcut_a(residual, self.width, self.stride)
        first = GeneralizedLayer(self.width, self.stride, **shared, name="layer1")
        second = GeneralizedLayer(self.width, 1, **shared, name="layer2")
        return second(*first(residual, transient, train=train), outer, train=train)


class RiR(nn.Module):
    """The wide net of 18 layers for 32×32 pictures: a convolution, 8 blocks of 2 layers, a 1×1 convolution, the mean.

    9,469,930 parameters for 10 classes. What is not settled by the equations is chosen here: both streams have 48, 96
    and 192 maps, in 2, 3 and 3 blocks, and shortcuts that grow are padded with zeros (option A).

    Attributes:
      num_classes: number of outputs.
      axis_name: of the devices that batch normalisation spans; None: each device by itself.
      dtype: of the computation; parameters are float32.

    Raises:
      UserError: a picture smaller than 4×4.
    """

    num_classes: int = 10
    axis_name: str | None = None
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool = False) -> Float[Array, "n k"]:
        if min(x.shape[1:3]) < 4:
            raise UserError(f"the picture is {x.shape[1]}×{x.shape[2]}; ResNet in ResNet needs at least 4×4")
        shared = {"axis_name": self.axis_name, "dtype": self.dtype}
        width = STAGES[0][0]
        x = Conv(2 * width, 3, 1, 1, use_bias=False, kernel_init=HE, dtype=self.dtype, name="conv1")(x)
        x = relu(BatchNorm(axis_name=self.axis_name, name="bn1")(x, train=train))
        residual, transient = jnp.split(x, 2, -1)
        for stage, (width, blocks) in enumerate(STAGES, 2):
            for number in range(1, blocks + 1):
                stride = 2 if stage > 2 and number == 1 else 1
                block = RiRBlock(width, stride, **shared, name=f"conv{stage}_{number}")
                residual, transient = block(residual, transient, train=train)
        x = jnp.concatenate([residual, transient], -1)
        x = Conv(self.num_classes, 1, kernel_init=LINEAR, dtype=self.dtype, name="classifier")(x)
        return jnp.mean(x, (1, 2)).astype(jnp.float32)
