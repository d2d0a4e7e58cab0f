"""Mask R-CNN: He, Gkioxari, Dollár, Girshick, 2017. Faster R-CNN with a third branch: masks of regions, one a class.

With ResNet-50, a feature pyramid and 90 classes: 44,401,393 parameters, and torchvision's published weights fit.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from cnnlab.models.fast_rcnn import Pyramid
from cnnlab.models.faster_rcnn import FasterRCNN
from cnnlab.ops.activations import relu
from cnnlab.ops.conv import Conv
from cnnlab.ops.conv_transpose import ConvTranspose
from cnnlab.ops.roi_pooling import multilevel_roi_align


class MaskHead(nn.Module):
    """3×3 convolutions, a transposed one that doubles the size, and a 1×1 to a map for each class (figure 4, right).

    Attributes:
      outputs: maps.
      channels: of the convolutions.
      layers: 3×3 convolutions, "conv1", "conv2" …
      dtype: of the computation; parameters are float32.
    """

    outputs: int
    channels: int
    layers: int
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n p p c"]) -> Float[Array, "n s s k"]:
        fields = {"kernel_init": nn.initializers.he_normal(), "dtype": self.dtype}
        for number in range(1, self.layers + 1):
            x = relu(Conv(self.channels, 3, padding=1, name=f"conv{number}", **fields)(x))
        x = relu(ConvTranspose(self.channels, 2, 2, 0, name="up", **fields)(x))
        init = nn.initializers.normal(0.001)  # as the other last layers
        return Conv(self.outputs, 1, kernel_init=init, dtype=self.dtype, name="maps")(x)


class MaskRCNN(FasterRCNN):
    """Mask R-CNN (section 3).

    Attributes:
      num_classes, backbone, head, strides, neck, pooling, pooled, dtype: see `FastRCNN`.
      sizes, ratios, rounded, rpn_channels: see `FasterRCNN`.
      mask_channels, mask_layers: see `MaskHead`.
      mask_pooled: rows and columns of a region pooled for its masks, which are twice as large.
    """

    mask_channels: int = 256
    mask_layers: int = 4
    mask_pooled: int = 14

    def setup(self) -> None:
        super().setup()
        # The background's map is never looked at; published weights have one.
        self.mask_head = MaskHead(self.num_classes + 1, self.mask_channels, self.mask_layers, self.dtype)

    def __call__(self, x: Float[Array, "n h w c"], *, train: bool = False) -> tuple[Array, ...]:
        """`propose`'s, `classify`'s and `outline`'s outputs, of one region a picture: see `FasterRCNN`."""
        maps = self.maps(x, train=train)
        whole = jnp.tile(jnp.array([0.0, 0.0, x.shape[2], x.shape[1]]), (len(x), 1, 1))
        return *self.rpn(maps), *self.classify(maps, whole, train=train), self.outline(maps, whole)

    def pool_for_masks(self, maps: Pyramid, boxes: Float[Array, "n r 4"]) -> Float[Array, "n r p p c"]:
        """Each region's part of its picture's maps, by RoIAlign, in finer bins than for its class."""
        size, scales = (self.mask_pooled, self.mask_pooled), tuple(1 / stride for stride in self.strides)
        return multilevel_roi_align(maps[: len(self.strides)], boxes, size, scales, sampling=2)

    def masks(self, pooled: Float[Array, "n r p p c"]) -> Float[Array, "n r s s k"]:
        """`outline` of regions that are already pooled."""
        n, r = pooled.shape[:2]
        found = self.mask_head(pooled.reshape(n * r, *pooled.shape[2:])).astype(jnp.float32)
        return found.reshape(n, r, *found.shape[1:])

    def outline(self, maps: Pyramid, boxes: Float[Array, "n r 4"]) -> Float[Array, "n r s s k"]:
        """Where in each region the object is, were it of the background or a class: logits, s = 2 `mask_pooled`."""
        return self.masks(self.pool_for_masks(maps, boxes))
