"""GoogLeNet: Szegedy et al., "Going deeper with convolutions", 2014, table 1 and figure 3.

Nine inception modules, each of four branches side by side, and two auxiliary classifiers in training: 6,998,552
parameters, and 3,188,840 and 3,190,888 in the auxiliary heads.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from cnnlab.ops.conv import Conv
from cnnlab.ops.lrn import LRN
from cnnlab.ops.pooling import AvgPool, MaxPool

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
# The paper does not give its initialiser; this one keeps the size of signals through rectifiers.
INIT = nn.initializers.he_normal()


class Inception(nn.Module):
    """1×1, 3×3 and 5×5 convolutions and a 3×3 pooling, side by side; 1×1 convolutions before and after make them cheap.

    Attributes:
      maps: a row of `INCEPTIONS`.
      dtype: of the computation.
    """

    maps: tuple[int, int, int, int, int, int]
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w k"]:
        def conv(x, maps, size, name):
            return nn.relu(Conv(maps, size, 1, size // 2, kernel_init=INIT, dtype=self.dtype, name=name)(x))

        one, reduce3, three, reduce5, five, projection = self.maps
        branches = [
            conv(x, one, 1, "1x1"),
            conv(conv(x, reduce3, 1, "3x3_reduce"), three, 3, "3x3"),
            conv(conv(x, reduce5, 1, "5x5_reduce"), five, 5, "5x5"),
            conv(MaxPool(3, 1, padding=1, name="pool")(x), projection, 1, "pool_proj"),
        ]
        return jnp.concatenate(branches, -1)


class Auxiliary(nn.Module):
    """The classifier beside 4a and 4d: mean of 5×5, 1×1 convolution, 1024 units, dropout (section 5)."""

    num_classes: int
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n k"]:
        x = AvgPool(5, 3, name="pool")(x)
        x = nn.relu(Conv(128, 1, kernel_init=INIT, dtype=self.dtype, name="conv")(x))
        x = nn.relu(nn.Dense(1024, kernel_init=INIT, dtype=self.dtype, name="fc")(x.reshape(x.shape[0], -1)))
        x = nn.Dropout(0.7, deterministic=not train, name="drop")(x)
        return nn.Dense(self.num_classes, dtype=self.dtype, name="classifier")(x).astype(jnp.float32)


class GoogLeNet(nn.Module):
    """GoogLeNet for pictures of 224×224.

    Attributes:
      num_classes: number of outputs.
      auxiliary: whether the heads beside 4a and 4d exist; their losses count 0.3 each (section 5).
      dtype: of the computation; parameters are float32.

    In training with `auxiliary` the result is (logits, logits beside 4a, logits beside 4d); else the logits alone.

    Raises:
      UserError: a picture too small.
    """

    num_classes: int = 1000
    auxiliary: bool = True
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], *, train: bool = False
    ) -> Float[Array, "n k"] | tuple[Float[Array, "n k"], ...]:
        def conv(x, maps, size, stride, name):
            return nn.relu(Conv(maps, size, stride, size // 2, kernel_init=INIT, dtype=self.dtype, name=name)(x))

        x = conv(x, 64, 7, 2, "conv1")
        x = LRN(name="norm1")(MaxPool(3, 2, ceil=True, name="pool1")(x))
        x = conv(conv(x, 64, 1, 1, "conv2_reduce"), 192, 3, 1, "conv2")
        x = MaxPool(3, 2, ceil=True, name="pool2")(LRN(name="norm2")(x))
        heads = []
        for name, maps in INCEPTIONS.items():
            x = Inception(maps, dtype=self.dtype, name=f"inception{name}")(x)
            if name in ("4a", "4d") and self.auxiliary and (train or self.is_initializing()):
                head = Auxiliary(self.num_classes, dtype=self.dtype, name=f"auxiliary{name}")
                heads.append(head(x, train=train))
            if name in ("3b", "4e"):
                x = MaxPool(3, 2, ceil=True, name=f"pool{name[0]}")(x)
        x = jnp.mean(x, (1, 2))
        x = nn.Dropout(0.4, deterministic=not train, name="drop")(x)
        logits = nn.Dense(self.num_classes, dtype=self.dtype, name="classifier")(x).astype(jnp.float32)
        return (logits, *heads) if train and self.auxiliary else logits
