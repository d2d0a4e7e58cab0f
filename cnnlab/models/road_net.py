"""Road finders: what lies in the middle of an aerial patch, from the patch and its surroundings.

Mnih, Hinton 2010 ("Learning to detect roads in high-resolution aerial images") and 2012 ("Learning to label aerial
images from noisy data"): 64×64 pixels of context give 16×16 labels; rectified units, and no weight is shared between
places. Layer sizes are ours, small enough for a laptop.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from cnnlab.errors import UserError
from cnnlab.ops.conv import Conv
from cnnlab.ops.dense import Dense
from cnnlab.ops.locally_connected import LocallyConnected

HE = nn.initializers.he_normal()


class RoadNet(nn.Module):
    """Two layers of small receptive fields, one that sees all, and a logit for each label.

    "untied" is the papers' kind: each place has weights of its own. "convolutional" shares them, and takes as many
    multiply-adds.

    Attributes:
      kind: "untied" or "convolutional".
      context: side of the patch, in pixels.
      labels: side of its middle that is labelled.
      features: of the first two layers.
      hidden: units of the third.
      num_classes: kinds of things that each have a label at each place; roads are one.
      dtype: of the computation; parameters are float32.

    Raises:
      UserError: an unknown kind, or a patch of another size.
    """

    kind: str = "untied"
    context: int = 64
    labels: int = 16
    features: tuple[int, int] = (32, 48)
    hidden: int = 512
    num_classes: int = 1
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool = False) -> Float[Array, "n l l k"]:
        """The logits of each label."""
        if self.kind not in KINDS:
            raise UserError(f'config.net is "{self.kind}"; it must be {" or ".join(KINDS)}')
        if x.shape[1:3] != (self.context, self.context):
            height, width = x.shape[1:3]
            raise UserError(f"a patch is {height}×{width}; the net's are {self.context}×{self.context}")
        layer = KINDS[self.kind]
        for i, (features, window, stride) in enumerate(zip(self.features, (12, 4), (4, 2), strict=True), 1):
            x = nn.relu(layer(features, window, stride, kernel_init=HE, dtype=self.dtype, name=f"fields{i}")(x))
        x = nn.relu(Dense(self.hidden, kernel_init=HE, dtype=self.dtype, name="hidden")(x.reshape(x.shape[0], -1)))
        x = Dense(self.labels**2 * self.num_classes, dtype=self.dtype, name="labels")(x)
        return x.reshape(x.shape[0], self.labels, self.labels, self.num_classes).astype(jnp.float32)


KINDS = {"untied": LocallyConnected, "convolutional": Conv}
