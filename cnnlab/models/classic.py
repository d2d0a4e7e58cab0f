"""The classic net of a beginner's guide to convolutional networks.

Input → Conv → ReLU → Conv → ReLU → Pool → ReLU → Conv → ReLU → Pool → Fully connected. The guide gives the order of the
layers and leaves their sizes open; here every filter is 3×3 and every pool 2×2. (The rectifier after the first pool
changes nothing, as its input is never negative; it is left as the guide has it.)
"""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from cnnlab.ops.activations import relu
from cnnlab.ops.conv import Conv
from cnnlab.ops.dense import Dense
from cnnlab.ops.pooling import MaxPool

INIT = nn.initializers.he_normal()


class ClassicNet(nn.Module):
    """The classic net, for pictures of any size from 4×4 on: 69,610 parameters for 32×32 colour pictures of 10 classes.

    Attributes:
      num_classes: number of outputs.
      maps: of the three convolutions.
      dtype: of the computation; parameters are float32.

    Raises:
      UserError: a picture smaller than 4×4.
    """

    num_classes: int = 10
    maps: tuple[int, int, int] = (32, 32, 64)
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool = False) -> Float[Array, "n k"]:
        first, second, third = self.maps
        x = relu(Conv(first, 3, 1, 1, kernel_init=INIT, dtype=self.dtype, name="conv1")(x))
        x = relu(Conv(second, 3, 1, 1, kernel_init=INIT, dtype=self.dtype, name="conv2")(x))
        x = relu(MaxPool(2, 2, name="pool1")(x))
        x = relu(Conv(third, 3, 1, 1, kernel_init=INIT, dtype=self.dtype, name="conv3")(x))
        x = MaxPool(2, 2, name="pool2")(x)
        return Dense(self.num_classes, dtype=self.dtype, name="fc")(x.reshape(x.shape[0], -1)).astype(jnp.float32)
