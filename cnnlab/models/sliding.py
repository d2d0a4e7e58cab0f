"""A small convolutional net for windows of 32×32, applied to all windows of a picture at once.

The layers are LeNet-5's in their later form (LeCun et al. 1998; ReLU, max pooling), none of which sees beyond the
window or pads it. So over a larger picture the maps that neighbouring windows share are computed once, and each place
of the result is exactly what the net says of that window alone (the paper's space displacement networks, section VIII).
"""

import flax.linen as nn
from jaxtyping import Array, Float

from cnnlab.ops.activations import relu
from cnnlab.ops.conv import Conv
from cnnlab.ops.dense import Dense
from cnnlab.ops.pooling import MaxPool

WINDOW = 32  # pixels that one output sees, each way
STRIDE = 4  # pixels from one window to the next


class SlidingNet(nn.Module):
    """The net.

    Attributes:
      num_outputs: scores of a window.
      widths: maps of the three layers of 5×5 filters.
      hidden: units of the layer before the scores.
      whole: one set of scores of the whole picture: the same convolutions, and the hidden units see the last maps at
        all places. Else a set for each window.
    """

    num_outputs: int
    widths: tuple[int, int, int] = (16, 32, 128)
    hidden: int = 128
    whole: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool = False) -> Float[Array, "n *places k"]:
        """Scores (n, (h − 32) // 4 + 1, (w − 32) // 4 + 1, k), or (n, k) of the whole.

        Raises:
          UserError: the picture is smaller than a window.
        """
        first, second, third = self.widths
        x = MaxPool(2, 2, name="pool1")(relu(Conv(first, 5, name="conv1")(x)))
        x = MaxPool(2, 2, name="pool2")(relu(Conv(second, 5, name="conv2")(x)))
        x = relu(Conv(third, 5, name="conv3")(x))
        if self.whole:
            x = x.reshape(x.shape[0], -1)
        x = relu(Dense(self.hidden, name="hidden")(x))
        return Dense(self.num_outputs, name="output")(x)
