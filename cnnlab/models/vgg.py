"""VGG: Simonyan, Zisserman, "Very deep convolutional networks for large-scale image recognition", 2014, table 1.

3×3 filters, one after the other, and nothing else: two see 5×5 pixels, three 7×7, with fewer weights and more
rectifiers than one large filter. A 11 layers with weights, B 13, C and D 16, E 19; C's third of three is 1×1.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from cnnlab.errors import UserError
from cnnlab.models.maps import Maps, check_maps, chosen
from cnnlab.ops.activations import relu
from cnnlab.ops.batch_norm import BatchNorm
from cnnlab.ops.conv import Conv
from cnnlab.ops.dense import Dense
from cnnlab.ops.dropout import Dropout
from cnnlab.ops.lrn import LRN
from cnnlab.ops.pooling import MaxPool

WIDTHS = (64, 128, 256, 512, 512)  # of the five groups of layers, each followed by a pooling layer
# Weights at the start; biases begin at 0. The deviation is AlexNet's 0.01: the paper writes of a variance of 0.01, with
# which signals grow tenfold in some layers. The deep configurations learn from "normal" only when they begin with A's
# trained layers; Glorot's and Bengio's weights, as the paper found later (section 3.1), spare them that.
INITIALISERS = {"normal": nn.initializers.normal(0.01), "glorot": nn.initializers.glorot_uniform()}
# Filter sizes by group.
CONFIGURATIONS = {
    "A": ((3,), (3,), (3, 3), (3, 3), (3, 3)),
    "A-LRN": ((3,), (3,), (3, 3), (3, 3), (3, 3)),
    "B": ((3, 3), (3, 3), (3, 3), (3, 3), (3, 3)),
    "C": ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1)),
    "D": ((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
    "E": ((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3)),
}


def map_names(configuration: str) -> tuple[str, ...]:
    """The layers whose maps a VGG can return.

    >>> map_names("A")[:3]
    ('conv1_1', 'pool1', 'conv2_1')
    """
    names = []
    for group, sizes in enumerate(CONFIGURATIONS[configuration], 1):
        names += [f"conv{group}_{place}" for place in range(1, len(sizes) + 1)] + [f"pool{group}"]
    return (*names, "fc6", "fc7")


class VGG(nn.Module):
    """VGG for pictures of 224×224 (any size from 32 up; fc6 then has another shape).

    Attributes:
      configuration: a key of `CONFIGURATIONS`.
      num_classes: number of outputs.
      batch_norm: batch normalisation after each convolution, as later published weights have; not in the paper.
      initialiser: a key of `INITIALISERS`.
      dropout: share of fc6's and fc7's units dropped in training.
      maps: of "conv1_1" … "conv5_3" (rectified), "pool1" … "pool5", "fc6", "fc7": those that are returned by name in
        place of the classes' outputs; the layers after the last of them are left out.
      dtype: of the computation; parameters are float32.

    fc6 sees pool5 flattened as (height, width, channels). Published weights flatten channels first.

    Raises:
      UserError: an unknown configuration, initialiser or map; a picture too small for pool5.
    """

    configuration: str = "D"
    num_classes: int = 1000
    batch_norm: bool = False
    initialiser: str = "normal"
    dropout: float = 0.5
    maps: tuple[str, ...] = ()
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool = False) -> Float[Array, "n k"] | Maps:
        if self.configuration not in CONFIGURATIONS:
            known = ", ".join(CONFIGURATIONS)
            raise UserError(f'the configuration of VGG is "{self.configuration}"; it must be one of {known}')
        if self.initialiser not in INITIALISERS:
            known = " or ".join(f'"{name}"' for name in INITIALISERS)
            raise UserError(f'the initialiser of VGG is "{self.initialiser}"; it must be {known}')
        check_maps(self, map_names(self.configuration))
        init, found = INITIALISERS[self.initialiser], {}
        for group, sizes in enumerate(CONFIGURATIONS[self.configuration], 1):
            for place, size in enumerate(sizes, 1):
                layer = f"{group}_{place}"
                conv = Conv(
                    WIDTHS[group - 1], size, padding=size // 2, kernel_init=init, dtype=self.dtype, name=f"conv{layer}"
                )
                x = conv(x)
                if self.batch_norm:
                    x = BatchNorm(name=f"bn{layer}")(x, train=train)
                x = found[f"conv{layer}"] = relu(x)
                if (maps := chosen(self, found)) is not None:
                    return maps
                if self.configuration == "A-LRN" and layer == "1_1":
                    x = LRN(name="norm1")(x)
            x = found[f"pool{group}"] = MaxPool(2, 2, name=f"pool{group}")(x)
            if (maps := chosen(self, found)) is not None:
                return maps
        x = x.reshape(x.shape[0], -1)
        for name in ("fc6", "fc7"):
            x = found[name] = relu(Dense(4096, kernel_init=init, dtype=self.dtype, name=name)(x))
            if (maps := chosen(self, found)) is not None:
                return maps
            x = Dropout(self.dropout, name=f"drop{name[2:]}")(x, train=train)
        return Dense(self.num_classes, kernel_init=init, dtype=self.dtype, name="fc8")(x).astype(jnp.float32)
