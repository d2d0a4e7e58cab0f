"""Network in Network: Lin, Chen, Yan, 2013: 1×1 convolutions after each convolution, and no fully connected layers.

Each filter is followed by a small perceptron that slides with it (1×1 convolutions); the last layer has a map a class,
whose mean over the picture is the class's score. The widths are those of the authors' published networks, which the
paper does not give: 966,986 parameters for CIFAR-10, 7,595,176 for ImageNet.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from cnnlab.errors import UserError
from cnnlab.ops.activations import relu
from cnnlab.ops.conv import Conv
from cnnlab.ops.dropout import Dropout
from cnnlab.ops.pooling import AvgPool, MaxPool
from cnnlab.ops.whitening import Whitening

# By group: the first filter's size, stride and padding, and the maps of it and of the two 1×1 layers after it
# (None: the number of classes).
GROUPS = {
    "cifar": ((5, 1, 2, (192, 160, 96)), (5, 1, 2, (192, 192, 192)), (3, 1, 1, (192, 192, None))),
    "imagenet": (
        (11, 4, 0, (96, 96, 96)),
        (5, 1, 2, (256, 256, 256)),
        (3, 1, 1, (384, 384, 384)),
        (3, 1, 1, (1024, 1024, None)),
    ),
}


class NiN(nn.Module):
    """Network in Network.

    Attributes:
      form: "cifar" for 32×32 pictures or "imagenet" for 224×224.
      num_classes: number of outputs.
      dropout: share of units dropped in training: after each pooling layer of "cifar", before the last group of
        "imagenet".
      whiten: whiten the input first; the layer is "whitening".
      dtype: of the computation; parameters are float32.

    Layers are conv1, cccp1, cccp2, pool1, conv2, cccp3, … in the authors' naming ("cascaded cross-channel parametric
    pooling").

    Raises:
      UserError: an unknown form; a picture too small.
    """

    form: str = "cifar"
    num_classes: int = 10
    dropout: float = 0.5
    whiten: bool = False
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool = False) -> Float[Array, "n k"]:
        if self.form not in GROUPS:
            raise UserError(f'the form of NiN is "{self.form}"; it must be "cifar" or "imagenet"')
        cifar, groups = self.form == "cifar", GROUPS[self.form]
        if self.whiten:
            x = Whitening(name="whitening")(x)
        init = nn.initializers.normal(0.05 if cifar else 0.01)
        for number, (size, stride, padding, maps) in enumerate(groups, 1):
            names = (f"conv{number}", f"cccp{2 * number - 1}", f"cccp{2 * number}")
            shapes = ((size, stride, padding), (1, 1, 0), (1, 1, 0))
            for name, shape, features in zip(names, shapes, maps, strict=True):
                conv = Conv(features or self.num_classes, *shape, kernel_init=init, dtype=self.dtype, name=name)
                x = relu(conv(x))
            if number == len(groups):
                break
            # The CIFAR net's windows reach over the right and lower borders; its second pooling is a mean.
            pool = AvgPool if cifar and number == 2 else MaxPool
            x = pool(3, 2, ceil=True, name=f"pool{number}")(x)
            if cifar or number == len(groups) - 1:
                x = Dropout(self.dropout, name=f"drop{number}")(x, train=train)
        return jnp.mean(x, (1, 2)).astype(jnp.float32)
