"""ResNets for 32×32 pictures: He, Zhang, Ren, Sun, "Deep residual learning for image recognition", 2015, section 4.2.

6n + 2 layers: one convolution, three stages of n blocks of two 3×3 convolutions on 32×32×16, 16×16×32 and 8×8×64 maps,
a mean and a linear layer. Shortcuts are option A throughout, which has no parameters: 20 layers 269,722, 110 layers
1,727,962. Without shortcuts the same layers make the plain net, of the same size, that gets worse with depth.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from cnnlab.errors import UserError
from cnnlab.ops.activations import relu
from cnnlab.ops.batch_norm import BatchNorm
from cnnlab.ops.conv import Conv
from cnnlab.ops.dense import Dense
from cnnlab.ops.repeat import repeat

# Of convolutions, keeps the size of signals through rectifiers: N(0, 2 / (outputs of a filter's size)), as in the
# authors' code; of the classifier uniform in ±1/√inputs, as there. HE would begin few classes with a loss of 10 nats.
HE = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
LINEAR = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def shortcut_a(x: Float[Array, "n h w c"], features: int, stride: int) -> Float[Array, "n h2 w2 k"]:
    """Option A: every `stride`-th pixel, and zeros for the maps that are new. No parameters.

    >>> shortcut_a(jnp.ones((1, 4, 4, 1)), 3, 2)[0, 0, 0].tolist()
    [1.0, 0.0, 0.0]
    """
    x = x[:, ::stride, ::stride]
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, features - x.shape[-1])))


class Block(nn.Module):
    """Two 3×3 convolutions and, unless `plain`, a shortcut round both (figure 2)."""

    features: int
    stride: int
    plain: bool = False
    axis_name: str | None = None
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n h2 w2 k"]:
        y = x
        for number, stride in ((1, self.stride), (2, 1)):
            conv = Conv(
                self.features, 3, stride, 1, use_bias=False, kernel_init=HE, dtype=self.dtype, name=f"conv{number}"
            )
            y = BatchNorm(axis_name=self.axis_name, name=f"bn{number}")(conv(y), train=train)
            if number == 1:
                y = relu(y)
        return relu(y if self.plain else y + shortcut_a(x, self.features, self.stride))


class ResNetCifar(nn.Module):
    """A residual or plain net of `depth` layers.

    Attributes:
      depth: 6n + 2: 20, 32, 44, 56, 110, 1202 in the paper.
      plain: leave the shortcuts out.
      num_classes: number of outputs.
      axis_name: of the devices that batch normalisation spans; None: each device by itself.
      dtype: of the computation; parameters are float32.

    Blocks are conv2_1 … conv2_n, conv3_1 …, conv4_n, in the manner of the paper's table 1.

    Raises:
      UserError: `depth` is not 6n + 2; the nearest that are, are named.
    """

    depth: int = 20
    plain: bool = False
    num_classes: int = 10
    axis_name: str | None = None
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool = False) -> Float[Array, "n k"]:
        blocks, rest = divmod(self.depth - 2, 6)
        if rest or blocks < 1:
            near = max(1, blocks) * 6 + 2
            raise UserError(f"the depth is {self.depth}; it must be 6n + 2, for example {near} or {near + 6}")
        x = Conv(16, 3, padding=1, use_bias=False, kernel_init=HE, dtype=self.dtype, name="conv1")(x)
        x = relu(BatchNorm(axis_name=self.axis_name, name="bn1")(x, train=train))
        for stage, features in ((2, 16), (3, 32), (4, 64)):
            first, *others = (
                Block(
                    features,
                    2 if stage > 2 and number == 1 else 1,
                    self.plain,
                    self.axis_name,
                    self.dtype,
                    name=f"conv{stage}_{number}",
                )
                for number in range(1, blocks + 1)
            )
            x = repeat(others, first(x, train=train), train=train)
        x = jnp.mean(x, (1, 2))
        return Dense(self.num_classes, kernel_init=LINEAR, dtype=self.dtype, name="fc")(x).astype(jnp.float32)
