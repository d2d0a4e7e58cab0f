"""AlexNet: Krizhevsky, Sutskever, Hinton, "ImageNet classification with deep convolutional neural networks", 2012.

Two columns of a half of the maps each, on a GPU each, that see each other in conv3 and the fully connected layers only:
60,965,224 parameters. `variant="one_column"` is torchvision's form of the net of Krizhevsky's "One weird trick", 2014,
for which there are published weights: 61,100,840 parameters, other widths; the normalisation and the biases that begin
at 1 are left out.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from cnnlab.errors import UserError
from cnnlab.models.maps import Maps, check_maps, chosen
from cnnlab.ops.activations import relu
from cnnlab.ops.conv import Conv
from cnnlab.ops.dense import Dense
from cnnlab.ops.dropout import Dropout
from cnnlab.ops.lrn import LRN
from cnnlab.ops.pooling import MaxPool

# Name, maps, filter, stride, padding, groups, whether the bias begins at 1 (paper, section 5: so that ReLUs see
# positive inputs early on).
LAYERS = {
    "paper": (
        ("conv1", 96, 11, 4, 0, 1, False),
        ("conv2", 256, 5, 1, 2, 2, True),
        ("conv3", 384, 3, 1, 1, 1, False),
        ("conv4", 384, 3, 1, 1, 2, True),
        ("conv5", 256, 3, 1, 1, 2, True),
    ),
    "one_column": (
        ("conv1", 64, 11, 4, 2, 1, False),
        ("conv2", 192, 5, 1, 2, 1, False),
        ("conv3", 384, 3, 1, 1, 1, False),
        ("conv4", 256, 3, 1, 1, 1, False),
        ("conv5", 256, 3, 1, 1, 1, False),
    ),
}
MAPS = ("conv1", "conv2", "conv3", "conv4", "conv5", "pool5", "fc6", "fc7")


class AlexNet(nn.Module):
    """AlexNet.

    Attributes:
      variant: "paper" for pictures of 227×227 (the paper writes 224, which 11×11 filters of stride 4 do not fit), or
        "one_column" for 224×224.
      groups: how many columns conv2, conv4 and conv5 of the paper's variant fall into; 1 joins them: 62,378,344
        parameters.
      num_classes: number of outputs.
      dropout: share of fc6's and fc7's units dropped in training.
      maps: of "conv1" … "conv5" (rectified), "pool5", "fc6", "fc7": those that are returned by name in place of the
        classes' outputs; the layers after the last of them are left out.
      dtype: of the computation; parameters are float32.

    fc6 sees pool5 flattened as (height, width, channels). Published weights flatten channels first.

    Raises:
      UserError: an unknown variant or map; a picture too small for pool5.
    """

    variant: str = "paper"
    groups: int = 2
    num_classes: int = 1000
    dropout: float = 0.5
    maps: tuple[str, ...] = ()
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool = False) -> Float[Array, "n k"] | Maps:
        if self.variant not in LAYERS:
            raise UserError(f'the variant of AlexNet is "{self.variant}"; it must be "paper" or "one_column"')
        check_maps(self, MAPS)
        paper, found = self.variant == "paper", {}
        init, ones = nn.initializers.normal(0.01), nn.initializers.ones
        hidden_bias = ones if paper else nn.initializers.zeros
        for name, features, size, stride, padding, groups, positive in LAYERS[self.variant]:
            conv = Conv(
                features,
                size,
                stride,
                padding,
                groups=min(groups, self.groups),
                kernel_init=init,
                bias_init=ones if positive else nn.initializers.zeros,
                dtype=self.dtype,
                name=name,
            )
            x = found[name] = relu(conv(x))
            if (maps := chosen(self, found)) is not None:
                return maps
            if name in ("conv1", "conv2") and paper:
                x = LRN(name=f"norm{name[-1]}")(x)
            if name in ("conv1", "conv2", "conv5"):
                x = found[f"pool{name[-1]}"] = MaxPool(3, 2, name=f"pool{name[-1]}")(x)
        if (maps := chosen(self, found)) is not None:
            return maps
        x = x.reshape(x.shape[0], -1)
        for name in ("fc6", "fc7"):
            # The paper drops fc6's and fc7's outputs; the published net drops their inputs.
            drop = Dropout(self.dropout, name=f"drop{name[-1]}")
            dense = Dense(4096, kernel_init=init, bias_init=hidden_bias, dtype=self.dtype, name=name)
            x = drop(relu(dense(x)), train=train) if paper else relu(dense(drop(x, train=train)))
            found[name] = x
            if (maps := chosen(self, found)) is not None:
                return maps
        return Dense(self.num_classes, kernel_init=init, dtype=self.dtype, name="fc8")(x).astype(jnp.float32)
