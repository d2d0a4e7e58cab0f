"""Small nets for the lessons on replicated features: weights shared or a copy at every place; three kinds of pooling.

Two stages of a 3×3 convolution, a rectifier and pooling by 2, and a fully connected layer that sees where things are.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from cnnlab.errors import UserError, nearest
from cnnlab.ops.activations import relu
from cnnlab.ops.conv import Conv
from cnnlab.ops.dense import Dense
from cnnlab.ops.locally_connected import LocallyConnected
from cnnlab.ops.pooling import AvgPool, MaxPool

# By name: the stride of the convolutions, and what pools behind them. Without pooling the windows are of one pixel, so
# that the layers of all three kinds have the same names.
POOLING = {"none": (2, MaxPool, 1), "average": (1, AvgPool, 2), "max": (1, MaxPool, 2)}


class ReplicatedNet(nn.Module):
    """Layers conv1, pool1, conv2, pool2 and fc; the same number of parameters whatever the pooling.

    Attributes:
      num_classes: number of outputs.
      maps: of the two convolutions.
      shared: whether conv1 and conv2 are convolutions; else they are locally connected.
      pooling: "max", "average", or "none": the convolutions themselves take every second pixel.
      dtype: of the computation; parameters are float32.

    Raises:
      UserError: the pooling is unknown.
    """

    num_classes: int = 10
    maps: tuple[int, int] = (8, 16)
    shared: bool = True
    pooling: str = "max"
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool = False) -> Float[Array, "n k"]:
        if self.pooling not in POOLING:
            near = nearest(self.pooling, POOLING) or f"; it must be one of {', '.join(POOLING)}"
            raise UserError(f'the pooling is "{self.pooling}"{near}')
        stride, pool, window = POOLING[self.pooling]
        layer = Conv if self.shared else LocallyConnected
        for number, maps in enumerate(self.maps, 1):
            x = relu(layer(maps, 3, stride, 1, dtype=self.dtype, name=f"conv{number}")(x))
            x = pool(window, window, name=f"pool{number}")(x)
        return Dense(self.num_classes, dtype=self.dtype, name="fc")(x.reshape(x.shape[0], -1)).astype(jnp.float32)
