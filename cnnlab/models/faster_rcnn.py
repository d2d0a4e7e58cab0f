"""Faster R-CNN: Ren, He, Girshick, Sun, 2015. The network proposes its own regions: RPN (section 3.1) and Fast R-CNN.

With ResNet-50, a feature pyramid and 90 classes: 41,755,286 parameters, and torchvision's published weights fit.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from cnnlab.models.fast_rcnn import FastRCNN, Pyramid, map_shapes
from cnnlab.ops.activations import relu
from cnnlab.ops.anchors import cell_anchors, grid_anchors
from cnnlab.ops.conv import Conv

RATIOS = (0.5, 1.0, 2.0)  # height to width of the anchors


class RPN(nn.Module):
    """The region proposal network: a 3×3 convolution, then at each place a score and an offset for each anchor.

    One score an anchor, through a logistic function, where the paper has a softmax of two: the same functions.

    Attributes:
      anchors: at each place.
      channels: of the 3×3 convolution: 512 in the paper with VGG, 256 with ZF and feature pyramids.
      dtype: of the computation; parameters are float32.
    """

    anchors: int
    channels: int = 256
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, maps: Pyramid) -> tuple[Float[Array, "n a"], Float[Array, "n a 4"]]:
        """Scores (logits of "an object") and offsets of all anchors: by map, row, column and anchor of the place."""

        def conv(features: int, kernel: int, name: str) -> Conv:
            init = nn.initializers.normal(0.01)  # section 3.1.3
            return Conv(features, kernel, padding=kernel // 2, kernel_init=init, dtype=self.dtype, name=name)

        hidden, scores, offsets = (
            conv(self.channels, 3, "conv"),
            conv(self.anchors, 1, "scores"),
            conv(4 * self.anchors, 1, "offsets"),
        )
        found = []
        for x in maps:
            y = relu(hidden(x))
            found.append((scores(y).reshape(x.shape[0], -1), offsets(y).reshape(x.shape[0], -1, 4)))
        return tuple(jnp.concatenate(parts, 1).astype(jnp.float32) for parts in zip(*found, strict=True))


class FasterRCNN(FastRCNN):
    """Faster R-CNN.

    Attributes:
      num_classes, backbone, head, strides, neck, pooling, pooled, dtype: see `FastRCNN`; the strides are those of the
        maps that regions are pooled from. A coarser map after them has twice the last one's.
      sizes: for each map that the RPN looks at, the sides of its square anchors, in pixels.
      ratios: heights of the anchors in widths; each has the area of the square one.
      rounded: anchors as torchvision has them, for its published weights: of whole pixels, around the upper left corner
        of the pixels that a place stands for, and not around their middle.
      rpn_channels: see `RPN`.
    """

    sizes: tuple[tuple[float, ...], ...] = ((128.0, 256.0, 512.0),)
    ratios: tuple[float, ...] = RATIOS
    rounded: bool = False
    rpn_channels: int = 512

    def setup(self) -> None:
        super().setup()
        self.rpn = RPN(len(self.sizes[0]) * len(self.ratios), self.rpn_channels, self.dtype)

    def __call__(self, x: Float[Array, "n h w c"], *, train: bool = False) -> tuple[Array, ...]:
        """`propose`'s and `classify`'s outputs, of one region a picture: for a summary, and to initialise."""
        maps = self.maps(x, train=train)
        whole = jnp.tile(jnp.array([0.0, 0.0, x.shape[2], x.shape[1]]), (len(x), 1, 1))
        return *self.rpn(maps), *self.classify(maps, whole, train=train)

    def propose(self, maps: Pyramid) -> tuple[Float[Array, "n a"], Float[Array, "n a 4"]]:
        """The RPN's scores and offsets; see `RPN`."""
        return self.rpn(maps)

    def anchors(self, maps: Pyramid) -> tuple[Float[Array, "_ 4"], ...]:
        """The anchors of each map, in the order of the RPN's outputs."""
        strides = [*self.strides, *(2 * self.strides[-1],) * (len(maps) - len(self.strides))]
        cells = [cell_anchors(sizes, self.ratios, self.rounded) for sizes in self.sizes]
        first = 0.0 if self.rounded else 0.5
        return tuple(
            grid_anchors(shape, float(stride), cell, first)
            for shape, stride, cell in zip(map_shapes(maps), strides, cells, strict=True)
        )
