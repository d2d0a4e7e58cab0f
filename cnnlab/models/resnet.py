"""ResNet for ImageNet: He, Zhang, Ren, Sun, "Deep residual learning for image recognition", 2015, table 1.

18 and 34 layers of blocks of two 3×3 convolutions, 50, 101 and 152 of bottlenecks (1×1, 3×3, 1×1), and the plain nets
of 18 and 34 layers, which have no shortcuts. With option B: 11,689,512, 21,797,672, 25,557,032, 44,549,160 and
60,192,808 parameters.
"""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from cnnlab.errors import UserError
from cnnlab.models.maps import Maps, check_maps, chosen
from cnnlab.models.resnet_cifar import HE, LINEAR, shortcut_a
from cnnlab.ops.activations import relu
from cnnlab.ops.batch_norm import BatchNorm
from cnnlab.ops.conv import Conv
from cnnlab.ops.dense import Dense
from cnnlab.ops.pooling import MaxPool
from cnnlab.ops.repeat import repeat

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}  # by stage


class Block(nn.Module):
    """A residual block (figures 2 and 5).

    Attributes:
      width: maps of its 3×3 convolutions.
      stride: of the block.
      bottleneck: 1×1, 3×3 and 1×1 to four times the width, instead of two 3×3.
      plain: no shortcut.
      option: "A", zeros for new maps; "B", a projection where the shape changes; "C", projections everywhere.
      stride_on_3x3: where a bottleneck strides: False, on the first 1×1, is the paper's; published weights have True.
      dilations: of its first and its second 3×3 convolution; a bottleneck has one.
      norm: makes a batch normalisation, given its name.
      dtype: of the computation.
    """

    width: int
    stride: int
    bottleneck: bool
    plain: bool = False
    option: str = "B"
    stride_on_3x3: bool = False
    dilations: tuple[int, int] = (1, 1)
    norm: Callable[..., nn.Module] = BatchNorm
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n h2 w2 k"]:
        width, stride = self.width, self.stride
        begin, end = self.dilations
        layers = ((width, 3, stride, begin), (width, 3, 1, end))
        if self.bottleneck:
            first, second = (1, stride) if self.stride_on_3x3 else (stride, 1)
            layers = ((width, 1, first, 1), (width, 3, second, begin), (4 * width, 1, 1, 1))

        def conv_bn(x, features, size, stride, dilation, suffix):
            conv = Conv(
                features,
                size,
                stride,
                size // 2 * dilation,
                dilation=dilation,
                use_bias=False,
                kernel_init=HE,
                dtype=self.dtype,
                name=f"conv{suffix}" if suffix.isdigit() else suffix,
            )
            norm = self.norm(name=f"bn{suffix}" if suffix.isdigit() else f"{suffix}_bn")
            return norm(conv(x), train=train)

        y = x
        for number, layer in enumerate(layers, 1):
            y = conv_bn(y, *layer, str(number))
            if number < len(layers):
                y = relu(y)
        if self.plain:
            return relu(y)
        changes = stride > 1 or x.shape[-1] != y.shape[-1]
        if self.option == "C" or (self.option == "B" and changes):
            return relu(y + conv_bn(x, y.shape[-1], 1, stride, 1, "shortcut"))
        return relu(y + shortcut_a(x, y.shape[-1], stride))


class ResNet(nn.Module):
    """A residual or plain net for pictures of 224×224.

    Attributes:
      depth: 18, 34, 50, 101 or 152.
      plain: leave the shortcuts out (the paper has plain nets of 18 and 34 layers).
      option: of the shortcuts, "A", "B" or "C"; see `Block`.
      stride_on_3x3: see `Block`.
      num_classes: number of outputs.
      width: maps of conv1 and of the first stage's 3×3 convolutions; each stage doubles them.
      maps: of "conv2" … "conv5", the stages whose outputs are returned by name in place of the classes'; the layers
        after the last of them are left out. For detectors and segmentation.
      output_stride: pixels from one place of the last maps to the next: 32; or 16 or 8, for segmentation: the stages
        after it stride no more, and their 3×3 convolutions are dilated so that they see as far as before.
      frozen_norm: batch normalisation keeps what it has; see `BatchNorm`.
      epsilon: of batch normalisation.
      axis_name: of the devices that batch normalisation spans; None: each device by itself.
      dtype: of the computation; parameters are float32.

    Stages are conv1, pool1, conv2_1 … conv5_n, fc, as in the paper's table 1.

    Raises:
      UserError: an unknown depth, option, output stride or map.
    """

    depth: int = 50
    plain: bool = False
    option: str = "B"
    stride_on_3x3: bool = False
    num_classes: int = 1000
    width: int = 64
    maps: tuple[str, ...] = ()
    output_stride: int = 32
    frozen_norm: bool = False
    epsilon: float = 1e-5
    axis_name: str | None = None
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool = False) -> Float[Array, "n k"] | Maps:
        if self.depth not in BLOCKS:
            raise UserError(f"the depth of ResNet is {self.depth}; it must be one of {', '.join(map(str, BLOCKS))}")
        if self.option not in ("A", "B", "C"):
            raise UserError(f'the option of ResNet\'s shortcuts is "{self.option}"; it must be "A", "B" or "C"')
        if self.output_stride not in (8, 16, 32):
            raise UserError(f"the output stride of ResNet is {self.output_stride}; it must be 8, 16 or 32")
        check_maps(self, tuple(f"conv{stage}" for stage in range(2, 6)))
        norm = functools.partial(BatchNorm, epsilon=self.epsilon, axis_name=self.axis_name, frozen=self.frozen_norm)
        found, reached, dilation = {}, 4, 1
        x = Conv(self.width, 7, 2, 3, use_bias=False, kernel_init=HE, dtype=self.dtype, name="conv1")(x)
        x = relu(norm(name="bn1")(x, train=train))
        x = MaxPool(3, 2, padding=1, name="pool1")(x)
        for stage, blocks in enumerate(BLOCKS[self.depth], 2):
            step, before = (1 if stage == 2 else 2), dilation
            if reached * step > self.output_stride:
                step, dilation = 1, 2 * dilation
            reached *= step
            first, *others = (
                Block(
                    width=self.width * 2 ** (stage - 2),
                    stride=step if number == 1 else 1,
                    # Where the stage would have strided, its first convolution sees the maps as they were before.
                    dilations=(before if number == 1 else dilation, dilation),
                    bottleneck=self.depth >= 50,
                    plain=self.plain,
                    option=self.option,
                    stride_on_3x3=self.stride_on_3x3,
                    norm=norm,
                    dtype=self.dtype,
                    name=f"conv{stage}_{number}",
                )
                for number in range(1, blocks + 1)
            )
            x = found[f"conv{stage}"] = repeat(others, first(x, train=train), train=train)
            if (maps := chosen(self, found)) is not None:
                return maps
        x = jnp.mean(x, (1, 2))
        return Dense(self.num_classes, kernel_init=LINEAR, dtype=self.dtype, name="fc")(x).astype(jnp.float32)
