"""Inception-v3: Szegedy, Vanhoucke, Ioffe, Shlens, Wojna, "Rethinking the Inception architecture for computer vision",
2015, table 1 and figures 5 to 7 and 10.

Large filters fall apart into small ones, 5×5 into two of 3×3 and 7×7 into 1×7 and 7×1, and maps shrink by convolution
and pooling side by side. This is the net whose weights are published: 27,161,264 parameters with its auxiliary head,
23,834,568 without. It departs from table 1 in the stem, where a 1×1 convolution, a 3×3 one and a pooling stand for the
last three convolutions, and in the modules of figure 5, where one branch keeps its 5×5 filter.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from cnnlab.ops.conv import Size, pair
from cnnlab.ops.conv_bn import ConvBN
from cnnlab.ops.dense import Dense
from cnnlab.ops.dropout import Dropout
from cnnlab.ops.pooling import AvgPool, MaxPool

Layer = tuple[str, int, Size]  # name, maps, filter
# Layers one after the other; where there is a tuple of layers, they lie side by side.
Branch = tuple[Layer | tuple[Layer, ...], ...]

# The authors' code begins with normal weights cut at two standard deviations; the paper does not say. torchvision cuts
# them nowhere near.
INIT = nn.initializers.truncated_normal(0.1)


def figure_5(pool: int) -> tuple[Branch, ...]:
    """The branches on 35×35 maps; `pool` maps after the pooling."""
    return (
        (("branch1x1", 64, 1),),
        (("branch5x5_1", 48, 1), ("branch5x5_2", 64, 5)),
        (("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3)),
        (("branch_pool", pool, 1),),
    )


def figure_6(maps: int) -> tuple[Branch, ...]:
    """The branches on 17×17 maps; `maps` between the 1×7 and 7×1 filters."""
    wide, tall = (1, 7), (7, 1)
    return (
        (("branch1x1", 192, 1),),
        (("branch7x7_1", maps, 1), ("branch7x7_2", maps, wide), ("branch7x7_3", 192, tall)),
        (
            ("branch7x7dbl_1", maps, 1),
            ("branch7x7dbl_2", maps, tall),
            ("branch7x7dbl_3", maps, wide),
            ("branch7x7dbl_4", maps, tall),
            ("branch7x7dbl_5", 192, wide),
        ),
        (("branch_pool", 192, 1),),
    )


def figure_7() -> tuple[Branch, ...]:
    """The branches on 8×8 maps, two of which fork."""
    wide, tall = (1, 3), (3, 1)
    return (
        (("branch1x1", 320, 1),),
        (("branch3x3_1", 384, 1), (("branch3x3_2a", 384, wide), ("branch3x3_2b", 384, tall))),
        (
            ("branch3x3dbl_1", 448, 1),
            ("branch3x3dbl_2", 384, 3),
            (("branch3x3dbl_3a", 384, wide), ("branch3x3dbl_3b", 384, tall)),
        ),
        (("branch_pool", 192, 1),),
    )


# In order. 6a and 7a halve the maps: figure 10.
MODULES = {
    "Mixed_5b": figure_5(32),
    "Mixed_5c": figure_5(64),
    "Mixed_5d": figure_5(64),
    "Mixed_6a": (
        (("branch3x3", 384, 3),),
        (("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3)),
    ),
    "Mixed_6b": figure_6(128),
    "Mixed_6c": figure_6(160),
    "Mixed_6d": figure_6(160),
    "Mixed_6e": figure_6(192),
    "Mixed_7a": (
        (("branch3x3_1", 192, 1), ("branch3x3_2", 320, 3)),
        (
            ("branch7x7x3_1", 192, 1),
            ("branch7x7x3_2", 192, (1, 7)),
            ("branch7x7x3_3", 192, (7, 1)),
            ("branch7x7x3_4", 192, 3),
        ),
    ),
    "Mixed_7b": figure_7(),
    "Mixed_7c": figure_7(),
}


class Mixed(nn.Module):
    """Branches of convolutions, and a pooling, side by side.

    Attributes:
      branches: a value of `MODULES`.
      halve: whether the last layer of each branch has stride 2 and no padding, and the pooling is a maximum that no
        convolution follows; else all keep the size, and the pooling is a mean, the last branch's beginning.
      axis_name, dtype: see `InceptionV3`.
    """

    branches: tuple[Branch, ...]
    halve: bool = False
    axis_name: str | None = None
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n h2 w2 k"]:
        def conv(x, layer, stride):
            name, maps, size = layer
            height, width = pair(size)
            padding = 0 if stride > 1 else (height // 2, width // 2)
            part = ConvBN(maps, size, stride, padding, INIT, self.axis_name, self.dtype, name=name)
            return part(x, train=train)

        def run(x, branch):
            for step in branch:
                if isinstance(step[0], tuple):
                    return [conv(x, layer, 1) for layer in step]
                x = conv(x, step, 2 if self.halve and step is branch[-1] else 1)
            return [x]

        if self.halve:
            outputs = [y for branch in self.branches for y in run(x, branch)]
            outputs.append(MaxPool(3, 2, name="pool")(x))
        else:
            outputs = [y for branch in self.branches[:-1] for y in run(x, branch)]
            mean = AvgPool(3, 1, padding=1, count_padding=True, name="pool")(x)
            outputs += run(mean, self.branches[-1])
        return jnp.concatenate(outputs, -1)


class Auxiliary(nn.Module):
    """The classifier beside 6e, batch-normalised, which regularises (section 4).

    Attributes:
      num_classes: number of outputs.
      axis_name, dtype: see `InceptionV3`.
    """

    num_classes: int
    axis_name: str | None = None
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n k"]:
        # The standard deviations are those of the authors' code.
        late, last = nn.initializers.truncated_normal(0.01), nn.initializers.truncated_normal(0.001)
        x = AvgPool(5, 3, name="pool")(x)
        x = ConvBN(128, 1, 1, 0, INIT, self.axis_name, self.dtype, name="conv0")(x, train=train)
        x = ConvBN(768, 5, 1, 0, late, self.axis_name, self.dtype, name="conv1")(x, train=train)
        x = jnp.mean(x, (1, 2))
        return Dense(self.num_classes, kernel_init=last, dtype=self.dtype, name="fc")(x).astype(jnp.float32)


class InceptionV3(nn.Module):
    """Inception-v3 for pictures of 299×299.

    Attributes:
      num_classes: number of outputs.
      auxiliary: whether the head beside 6e exists.
      dropout: share of units dropped before the last layer in training: 0.2 in the authors' code, 0.5 in torchvision's.
      axis_name: of the devices that batch normalisation spans; None: each device by itself.
      dtype: of the computation; parameters are float32.

    Layers have the names of the published weights. `heads` says whether the auxiliary logits are wanted too; by default
    they are in training. With them, and with `auxiliary`, the result is (logits, auxiliary logits), else the logits.

    Raises:
      UserError: a picture too small for the net or for its auxiliary head; the layer is named.
    """

    num_classes: int = 1000
    auxiliary: bool = True
    dropout: float = 0.5
    axis_name: str | None = None
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], *, train: bool = False, heads: bool | None = None
    ) -> Float[Array, "n k"] | tuple[Float[Array, "n k"], ...]:
        heads = self.auxiliary and (train if heads is None else heads)
        shared = {"axis_name": self.axis_name, "dtype": self.dtype}

        def conv(x, maps, size, stride, padding, name):
            return ConvBN(maps, size, stride, padding, INIT, **shared, name=name)(x, train=train)

        x = conv(x, 32, 3, 2, 0, "Conv2d_1a_3x3")
        x = conv(x, 32, 3, 1, 0, "Conv2d_2a_3x3")
        x = conv(x, 64, 3, 1, 1, "Conv2d_2b_3x3")
        x = MaxPool(3, 2, name="maxpool1")(x)
        x = conv(x, 80, 1, 1, 0, "Conv2d_3b_1x1")
        x = conv(x, 192, 3, 1, 0, "Conv2d_4a_3x3")
        x = MaxPool(3, 2, name="maxpool2")(x)
        beside = []
        for name, branches in MODULES.items():
            x = Mixed(branches, name in ("Mixed_6a", "Mixed_7a"), **shared, name=name)(x, train=train)
            if name == "Mixed_6e" and (heads or (self.auxiliary and self.is_initializing())):
                beside.append(Auxiliary(self.num_classes, **shared, name="AuxLogits")(x, train=train))
        x = Dropout(self.dropout, name="dropout")(jnp.mean(x, (1, 2)), train=train)
        logits = Dense(self.num_classes, kernel_init=INIT, dtype=self.dtype, name="fc")(x).astype(jnp.float32)
        return (logits, *beside) if heads else logits
