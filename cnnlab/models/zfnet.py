"""ZF Net: Zeiler, Fergus, "Visualizing and understanding convolutional networks", 2013, figure 3.

AlexNet's layers with smaller filters (7×7) and strides (2) in front, which the paper's deconvnet showed to lose less:
62,357,608 parameters, one column.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from cnnlab.models.maps import Maps, check_maps, chosen
from cnnlab.ops.activations import relu
from cnnlab.ops.conv import Conv
from cnnlab.ops.dense import Dense
from cnnlab.ops.dropout import Dropout
from cnnlab.ops.lrn import LRN
from cnnlab.ops.pooling import MaxPool

# Name, maps, filter, stride, padding. The paper draws maps of 110, 55, 26, 13 and 6 for 224 pixels but no padding: one
# pixel gives conv1 its 110 (none would give 109), none gives conv2 its 26.
LAYERS = (
    ("conv1", 96, 7, 2, 1),
    ("conv2", 256, 5, 2, 0),
    ("conv3", 384, 3, 1, 1),
    ("conv4", 384, 3, 1, 1),
    ("conv5", 256, 3, 1, 1),
)
MAPS = (*(name for name, *_ in LAYERS), "pool5", "fc6", "fc7")


class ZFNet(nn.Module):
    """ZF Net for pictures of 224×224.

    Attributes:
      num_classes: number of outputs.
      dropout: share of fc6's and fc7's units dropped in training.
      maps: of "conv1" … "conv5" (rectified), "pool5", "fc6", "fc7": those that are returned by name in place of the
        classes' outputs; the layers after the last of them are left out.
      dtype: of the computation; parameters are float32.

    fc6 sees pool5 flattened as (height, width, channels).

    Raises:
      UserError: a picture too small for pool5; an unknown map.
    """

    num_classes: int = 1000
    dropout: float = 0.5
    maps: tuple[str, ...] = ()
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool = False) -> Float[Array, "n k"] | Maps:
        check_maps(self, MAPS)
        found = {}
        # All weights begin at random of scale 0.01, all biases at 0 (section 3).
        init = nn.initializers.normal(0.01)
        for name, features, size, stride, padding in LAYERS:
            x = relu(Conv(features, size, stride, padding, kernel_init=init, dtype=self.dtype, name=name)(x))
            found[name] = x
            if (maps := chosen(self, found)) is not None:
                return maps
            if name in ("conv1", "conv2"):
                # 110 → 55 and 26 → 13: the last window reaches over the border. Contrast is normalised after pooling.
                x = LRN(name=f"norm{name[-1]}")(MaxPool(3, 2, ceil=True, name=f"pool{name[-1]}")(x))
        x = found["pool5"] = MaxPool(3, 2, name="pool5")(x)
        if (maps := chosen(self, found)) is not None:
            return maps
        x = x.reshape(x.shape[0], -1)
        for name in ("fc6", "fc7"):
            x = found[name] = relu(Dense(4096, kernel_init=init, dtype=self.dtype, name=name)(x))
            if (maps := chosen(self, found)) is not None:
                return maps
            x = Dropout(self.dropout, name=f"drop{name[-1]}")(x, train=train)
        return Dense(self.num_classes, kernel_init=init, dtype=self.dtype, name="fc8")(x).astype(jnp.float32)
