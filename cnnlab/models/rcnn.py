"""R-CNN: Girshick, Donahue, Darrell, Malik, "Rich feature hierarchies for accurate object detection", 2013.

Each region of a picture is warped to a classifier's input and judged by itself: by a softmax while the classifier is
fine-tuned, by one linear SVM a class in the end, and moved by one ridge regression a class.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from cnnlab.data.warp import bilinear
from cnnlab.ops.dense import Dense


def warp_regions(
    x: Float[Array, "n h w c"], boxes: Float[Array, "n r 4"], size: int, context: int = 16, taps: int = 2
) -> Float[Array, "n r size size c"]:
    """Regions stretched to squares, with some of what is around them (appendix A, "warp").

    Args:
      x: pictures, 0 being their mean colour, which is also what lies beyond their edges.
      boxes: x0 y0 x1 y1 in their pixels.
      size: of the squares, in pixels.
      context: pixels of a square, at each side, that show what is around the region.
      taps: places each way that a pixel of a square is the mean of, so that large regions are smoothed.
    """
    n, r, _ = boxes.shape
    x0, y0, x1, y1 = jnp.moveaxis(boxes, -1, 0)
    place = (jnp.arange(size * taps) + 0.5) / taps  # in pixels of the square
    share = (place - context) / (size - 2 * context)
    across = x0[..., None] + share * (x1 - x0)[..., None]
    down = y0[..., None] + share * (y1 - y0)[..., None]
    shape = (n, r, size * taps, size * taps)
    across = jnp.broadcast_to(across[:, :, None, :], shape).reshape(n, -1, size * taps)
    down = jnp.broadcast_to(down[:, :, :, None], shape).reshape(n, -1, size * taps)
    found = bilinear(x, across, down, jnp.zeros(x.shape[-1], x.dtype))
    return found.reshape(n, r, size, taps, size, taps, -1).mean((3, 5))


class Judges(nn.Module):
    """A linear SVM and a ridge regression for each class.

    They are not learnt by gradients, so they lie in a collection of their own, "judges": "svm_kernel" and "svm_bias",
    "box_kernel" and "box_bias", and the number "scale" that features are divided by first. All begin as nothing.

    Attributes:
      num_classes: without the background.
    """

    num_classes: int

    @nn.compact
    def __call__(self, features: Float[Array, "n r f"]) -> tuple[Float[Array, "n r k"], Float[Array, "n r k 4"]]:
        """The margins, above 0 for "yes", and the offsets tx ty tw th to the object."""
        k, f = self.num_classes, features.shape[-1]
        shapes = {"svm_kernel": (f, k), "svm_bias": (k,), "box_kernel": (f, k, 4), "box_bias": (k, 4)}
        scale = self.variable("judges", "scale", jnp.ones, ()).value
        kernel, bias, box_kernel, box_bias = (
            self.variable("judges", name, jnp.zeros, shape).value for name, shape in shapes.items()
        )
        scaled = features / scale
        return scaled @ kernel + bias, jnp.einsum("nrf,fkt->nrkt", scaled, box_kernel) + box_bias


class RCNN(nn.Module):
    """R-CNN (figure 1).

    Attributes:
      num_classes: without the background.
      net: a classifier that returns one layer in place of its classes (`maps=("fc7",)`); of a map the mean is taken.
      size: that regions are warped to: 227 for AlexNet.
      context: pixels of it around the region, 16 in the paper.
      dtype: of the computation; parameters are float32.
    """

    num_classes: int
    net: nn.Module
    size: int = 227
    context: int = 16
    dtype: DTypeLike | None = None

    def setup(self) -> None:
        self.scores = Dense(self.num_classes + 1, kernel_init=nn.initializers.normal(0.01), dtype=self.dtype)
        self.judges = Judges(self.num_classes)

    def __call__(self, x: Float[Array, "n h w c"], *, train: bool = False) -> Float[Array, "n r k"]:
        """`classify` of one region a picture, all of it: what a summary lists, and what initialises every layer."""
        whole = jnp.array([0.0, 0.0, x.shape[2], x.shape[1]])
        features = self.features(x, jnp.tile(whole, (len(x), 1, 1)), train=train)
        self.judges(features)
        return self.classify(features)

    def features(
        self, x: Float[Array, "n h w c"], boxes: Float[Array, "n r 4"], *, train: bool = False
    ) -> Float[Array, "n r f"]:
        """The net's layer for each region."""
        regions = warp_regions(x, boxes, self.size, self.context)
        (found,) = self.net(regions.reshape(-1, *regions.shape[2:]), train=train).values()
        if found.ndim == 4:
            found = found.mean((1, 2))
        return found.reshape(*boxes.shape[:2], -1).astype(jnp.float32)

    def classify(self, features: Float[Array, "n r f"]) -> Float[Array, "n r k"]:
        """The logits of the background and each class, for fine-tuning."""
        return self.scores(features).astype(jnp.float32)

    def judge(self, features: Float[Array, "n r f"]) -> tuple[Float[Array, "n r k"], Float[Array, "n r k 4"]]:
        """What the SVMs and the regressions say; see `Judges`."""
        return self.judges(features)
