"""GoogLeNet: Szegedy et al., "Going deeper with convolutions", 2014, table 1 and figure 3.

Nine inception modules, each of four branches side by side, and two auxiliary classifiers in training: 6,998,552
parameters, and 3,188,840 and 3,190,888 in the auxiliary heads. The published weights are of a net with batch
normalisation: 6,624,904, and 13,004,888 with the heads.
"""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from cnnlab.errors import UserError
from cnnlab.models.maps import Maps, check_maps, chosen
from cnnlab.ops.activations import relu
from cnnlab.ops.conv import Conv
from cnnlab.ops.conv_bn import ConvBN
from cnnlab.ops.dense import Dense
from cnnlab.ops.dropout import Dropout
from cnnlab.ops.lrn import LRN
from cnnlab.ops.pooling import AvgPool, MaxPool, adaptive_average

# Maps of #1×1, #3×3 reduce, #3×3, #5×5 reduce, #5×5, pool proj (table 1).
INCEPTIONS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
MAPS = (*(f"inception{name}" for name in INCEPTIONS), "pool3", "pool4")  # that the net can return
# The paper does not give its initialiser; this one keeps the size of signals through rectifiers.
INIT = nn.initializers.he_normal()


class Layers(nn.Module):
    """What the parts of the net share.

    Attributes:
      variant: see `GoogLeNet`.
      axis_name: see `GoogLeNet`.
      dtype: of the computation.
    """

    variant: str = "paper"
    axis_name: str | None = None
    dtype: DTypeLike | None = None

    @property
    def shared(self) -> dict:
        """These fields, for a part of this part."""
        return {"variant": self.variant, "axis_name": self.axis_name, "dtype": self.dtype}

    def conv(self, maps: int, size: int, stride: int, name: str, train: bool) -> Callable[[Array], Array]:
        """A convolution and a rectifier, with batch normalisation between in the published variant."""
        if self.variant == "paper":
            layer = Conv(maps, size, stride, size // 2, kernel_init=INIT, dtype=self.dtype, name=name)
            return lambda x: relu(layer(x))
        layer = ConvBN(maps, size, stride, size // 2, INIT, self.axis_name, self.dtype, name=name)
        return lambda x: layer(x, train=train)


class Inception(Layers):
    """1×1, 3×3 and 5×5 convolutions and a 3×3 pooling, side by side; 1×1 convolutions before and after make them cheap.

    The published variant has 3×3 where the paper has 5×5.

    Attributes:
      maps: a row of `INCEPTIONS`.
    """

    maps: tuple[int, int, int, int, int, int] = INCEPTIONS["3a"]

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n h w k"]:
        def conv(x, maps, size, name):
            return self.conv(maps, size, 1, name, train)(x)

        one, reduce3, three, reduce5, five, projection = self.maps
        branches = [
            conv(x, one, 1, "1x1"),
            conv(conv(x, reduce3, 1, "3x3_reduce"), three, 3, "3x3"),
            conv(conv(x, reduce5, 1, "5x5_reduce"), five, 5 if self.variant == "paper" else 3, "5x5"),
            conv(MaxPool(3, 1, padding=1, name="pool")(x), projection, 1, "pool_proj"),
        ]
        return jnp.concatenate(branches, -1)


class Auxiliary(Layers):
    """The classifier beside 4a and 4d: 4×4 means, 1×1 convolution, 1024 units, dropout (section 5).

    The paper's means are of 5×5, one every 3 pixels; the published net takes 4×4 of any map.

    Attributes:
      num_classes: number of outputs.
    """

    num_classes: int = 1000

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n k"]:
        x = AvgPool(5, 3, name="pool")(x) if self.variant == "paper" else adaptive_average(x, 4)
        x = self.conv(128, 1, 1, "conv", train)(x)
        x = relu(Dense(1024, kernel_init=INIT, dtype=self.dtype, name="fc")(x.reshape(x.shape[0], -1)))
        x = Dropout(0.7, name="drop")(x, train=train)
        return Dense(self.num_classes, dtype=self.dtype, name="classifier")(x).astype(jnp.float32)


class GoogLeNet(Layers):
    """GoogLeNet for pictures of 224×224.

    Attributes:
      num_classes: number of outputs.
      auxiliary: whether the heads beside 4a and 4d exist; their losses count 0.3 each (section 5).
      variant: "paper"; or "published", the net of the published weights: batch normalisation in place of LRN, 3×3 in
        place of 5×5, a pool of 2×2 after 4e, dropout 0.2 in place of 0.4 before the classifier.
      maps: of "inception3a" … "inception5b", "pool3" and "pool4": those that are returned by name in place of the
        classes' outputs; the layers after the last of them, and the auxiliary heads, are left out.
      axis_name: of the devices that batch normalisation spans; None: each device by itself.
      dtype: of the computation; parameters are float32.

    Raises:
      UserError: an unknown variant or map; a picture too small.
    """

    num_classes: int = 1000
    auxiliary: bool = True
    maps: tuple[str, ...] = ()

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], *, train: bool = False, heads: bool | None = None
    ) -> Float[Array, "n k"] | tuple[Float[Array, "n k"], ...] | Maps:
        """The logits; with `heads` (by default in training), if the net has them: (logits, beside 4a, beside 4d)."""
        if self.variant not in ("paper", "published"):
            raise UserError(f'the variant of GoogLeNet is "{self.variant}"; it must be "paper" or "published"')
        check_maps(self, MAPS)
        paper, found = self.variant == "paper", {}
        heads = self.auxiliary and (train if heads is None else heads)

        x = self.conv(64, 7, 2, "conv1", train)(x)
        x = MaxPool(3, 2, ceil=True, name="pool1")(x)
        x = LRN(name="norm1")(x) if paper else x
        x = self.conv(64, 1, 1, "conv2_reduce", train)(x)
        x = self.conv(192, 3, 1, "conv2", train)(x)
        x = LRN(name="norm2")(x) if paper else x
        x = MaxPool(3, 2, ceil=True, name="pool2")(x)
        beside = []
        for name, widths in INCEPTIONS.items():
            layer = Inception(maps=widths, **self.shared, name=f"inception{name}")
            x = found[f"inception{name}"] = layer(x, train=train)
            if (maps := chosen(self, found)) is not None:
                return maps
            if name in ("4a", "4d") and not self.maps and (heads or (self.auxiliary and self.is_initializing())):
                head = Auxiliary(num_classes=self.num_classes, **self.shared, name=f"auxiliary{name}")
                beside.append(head(x, train=train))
            if name in ("3b", "4e"):
                window = 3 if paper or name == "3b" else 2
                x = found[f"pool{name[0]}"] = MaxPool(window, 2, ceil=True, name=f"pool{name[0]}")(x)
                if (maps := chosen(self, found)) is not None:
                    return maps
        x = Dropout(0.4 if paper else 0.2, name="drop")(jnp.mean(x, (1, 2)), train=train)
        logits = Dense(self.num_classes, dtype=self.dtype, name="classifier")(x).astype(jnp.float32)
        return (logits, *beside) if heads else logits
