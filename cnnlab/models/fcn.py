"""FCN: Long, Shelhamer, Darrell, "Fully convolutional networks for semantic segmentation", 2015.

A classifier whose fully connected layers are convolutions judges every place of a picture of any size. The scores of
its last maps, 32 pixels apart, are made finer by those of earlier maps (figure 3): FCN-32s, FCN-16s, FCN-8s.
"""

from collections.abc import Sequence
from fractions import Fraction

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from cnnlab.ops.activations import relu
from cnnlab.ops.batch_norm import BatchNorm
from cnnlab.ops.conv import Conv
from cnnlab.ops.conv_transpose import ConvTranspose
from cnnlab.ops.dropout import Dropout

Place = int | float | Fraction


class FullyConvolutional(nn.Module):
    """fc6 and fc7 of AlexNet or VGG as convolutions (section 3.1): each place of their output is what the classifier
    makes of the part of the picture that it sees.

    Attributes:
      kernel: of fc6: the side of the map that it sees in the classifier, 7 for VGG and 6 for AlexNet.
      padding: of fc6, zeros around its input.
      features: of each.
      dropout: share of them dropped in training.
      kernel_init: of the weights.
      dtype: of the computation; parameters are float32.
    """

    kernel: int = 7
    padding: int = 0
    features: int = 4096
    dropout: float = 0.5
    kernel_init: nn.initializers.Initializer = nn.initializers.he_normal()
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n h2 w2 k"]:
        for name, kernel, padding in (("fc6", self.kernel, self.padding), ("fc7", 1, 0)):
            init = self.kernel_init
            conv = Conv(self.features, kernel, padding=padding, kernel_init=init, dtype=self.dtype, name=name)
            x = Dropout(self.dropout, name=f"drop{name[-1]}")(relu(conv(x)), train=train)
        return x


class ConvHead(nn.Module):
    """A 3×3 convolution with batch normalisation, as torchvision has it on ResNet's maps.

    Attributes:
      features: of the convolution: a quarter of its input's in torchvision.
      dropout: share of them dropped in training.
      axis_name: of the devices that batch normalisation spans; None: each device by itself.
      dtype: of the computation; parameters are float32.
    """

    features: int
    dropout: float = 0.1
    axis_name: str | None = None
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n h w k"]:
        init = nn.initializers.he_normal()
        conv = Conv(self.features, 3, padding=1, use_bias=False, kernel_init=init, dtype=self.dtype, name="conv")
        x = relu(BatchNorm(axis_name=self.axis_name, name="bn")(conv(x), train=train))
        return Dropout(self.dropout, name="drop")(x, train=train)


class FCN(nn.Module):
    """A fully convolutional network: pictures to the logits of each pixel's class.

    Attributes:
      num_classes: with the background, which is a class as any other.
      backbone: gives the maps that its attribute `maps` names, the finest first. The last is judged; the others are
        skips, judged by a 1×1 convolution each that begins with zeros, and added in turn (section 4.2).
      strides: pixels from one place of a map to the next, each half of the one after it.
      centres: in which pixel the middle of a map's first place lies, (s − 1)/2 where it covers the first s pixels; of
        the last map after its head.
      head: the last map to features; None: it is judged as it is.
      auxiliary: in training, a head on the map before the last with a classifier of its own, instead of a skip.
      around: zeros put around the picture. The paper's 100 of conv1_1 are 99 here, as that layer has 1 itself.
      multiple: the picture's sides are filled up with zeros to a multiple of this, at the right and below,
      rest: and so many pixels more: 1 where places begin on the first pixel, so that the last lie on the last.
      dtype: of the computation; parameters are float32.

    Upsampling to the next skip is a transposed convolution that begins as bilinear interpolation and learns; that of
    the last scores to pixels is bilinear and stays so (section 4.3).
    """

    num_classes: int
    backbone: nn.Module
    strides: tuple[int, ...]
    centres: tuple[Place, ...]
    head: nn.Module | None = None
    auxiliary: nn.Module | None = None
    around: int = 0
    multiple: int = 32
    rest: int = 0
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], *, train: bool = False
    ) -> Float[Array, "n h w k"] | tuple[Float[Array, "n h w k"], Float[Array, "n h w k"]]:
        """The logits of each pixel; in training those of the auxiliary head beside them, where there is one."""
        shape = x.shape[1:3]
        found = self.backbone(surrounded(x, self.around, self.multiple, self.rest), train=train)
        *finer, last = (found[name] for name in self.backbone.maps)
        features = last if self.head is None else self.head(last, train=train)
        logits = self._judged(features, finer if self.auxiliary is None else [], shape)
        if self.auxiliary is None or not (train or self.is_initializing()):
            return logits
        beside = self._score("auxiliary_score", self.auxiliary(finer[-1], train=train))
        enlarged = enlarge(beside.astype(jnp.float32), self.strides[-2], self.centres[-2], shape)
        return (logits, enlarged) if train else logits

    def _score(self, name: str, x: Float[Array, "n h w c"], zeros: bool = False) -> Float[Array, "n h w k"]:
        init = nn.initializers.zeros if zeros else nn.initializers.normal(0.01)
        return Conv(self.num_classes, 1, kernel_init=init, dtype=self.dtype, name=name)(x)

    def _judged(self, features: Array, skips: Sequence[Array], shape: tuple[int, int]) -> Float[Array, "n h w k"]:
        y, stride, centre = self._score("score", features), self.strides[-1], self.centres[-1]
        places = zip(skips, self.backbone.maps, self.strides, self.centres, strict=False)
        for skip, name, finer, middle in reversed(list(places)):
            kernel, first = meeting(stride, centre, finer, middle)
            up = ConvTranspose(
                self.num_classes,
                kernel,
                stride=2,
                padding=1,
                use_bias=False,
                kernel_init=bilinear_init,
                dtype=self.dtype,
                name=f"up_{name}",
            )
            own = self._score(f"score_{name}", skip, zeros=True)
            y, stride, centre = _sum(up(y), own, first), finer, middle + max(first, 0) * finer
        return enlarge(y.astype(jnp.float32), stride, centre, shape)


def surrounded(x: Float[Array, "n h w c"], around: int, multiple: int, rest: int = 0) -> Float[Array, "n h2 w2 c"]:
    """Pictures with zeros around them, and more at the right and below, so that the sides within leave the rest.

    >>> surrounded(jnp.ones((1, 30, 33, 1)), 2, 32, 1).shape
    (1, 37, 37, 1)
    """
    sides = [(around, around + (rest - size) % multiple) for size in x.shape[1:3]]
    return jnp.pad(x, ((0, 0), *sides, (0, 0)))


def meeting(stride: int, centre: Place, finer: int, middle: Place) -> tuple[int, int]:
    """The upsampling by two after which scores lie where those of a finer map do.

    Args:
      stride, centre: of the scores; see `FCN`.
      finer, middle: the same of the map.

    Returns:
      The side of the transposed convolution's filters: 4 puts two places around each old one, 3 puts one on it and one
      between; and which of the map's places the first of the scores meets then, negative where the scores begin first.

    >>> meeting(32, 15.5, 16, 7.5), meeting(32, 0, 16, 0)
    ((4, 0), (3, 0))

    Raises:
      ValueError: neither does.
    """
    if stride == 2 * finer:
        for kernel, first in ((4, centre - Fraction(stride, 4)), (3, centre)):
            place = (first - middle) / finer
            if place == int(place):
                return kernel, int(place)
    raise ValueError(f"scores every {stride} pixels from {centre} on do not meet maps every {finer} from {middle} on")


def _sum(scores: Float[Array, "n h w k"], own: Float[Array, "n h2 w2 k"], first: int) -> Float[Array, "n h3 w3 k"]:
    """The sum where both are; `first` as `meeting` has it, of rows and columns."""
    scores, own = scores[:, max(-first, 0) :, max(-first, 0) :], own[:, max(first, 0) :, max(first, 0) :]
    height, width = (min(a, b) for a, b in zip(scores.shape[1:3], own.shape[1:3], strict=True))
    return scores[:, :height, :width] + own[:, :height, :width]


def bilinear_init(key: Array | None, shape: tuple[int, int, int, int], dtype: DTypeLike = jnp.float32) -> Array:
    """Filters of a transposed convolution by two that interpolate each channel by itself, and are the same each time.

    >>> bilinear_init(None, (4, 3, 1, 1))[:, :, 0, 0].tolist()
    [[0.125, 0.25, 0.125], [0.375, 0.75, 0.375], [0.375, 0.75, 0.375], [0.125, 0.25, 0.125]]
    """
    rows, columns = (1 - jnp.abs(jnp.arange(size) - (size - 1) / 2) / 2 for size in shape[:2])
    return (rows[:, None, None, None] * columns[:, None, None] * jnp.eye(*shape[2:])).astype(dtype)


def enlarge(
    scores: Float[Array, "n h w k"], stride: int, centre: Place, shape: tuple[int, int]
) -> Float[Array, "n h2 w2 k"]:
    """Scores of each pixel by bilinear interpolation of those every `stride` pixels; beyond the outermost they stay.

    Args:
      scores: the first of them of the pixel `centre`, in rows and columns.
      stride, centre: see `FCN`.
      shape: of the picture.

    >>> enlarge(jnp.array([0.0, 4.0]).reshape(1, 1, 2, 1), 4, 1.5, (1, 8))[0, 0, :, 0].tolist()
    [0.0, 0.0, 0.5, 1.5, 2.5, 3.5, 4.0, 4.0]
    """
    margin = 1 + int(max(0, centre) // stride)  # places that are put in front, so that the first pixel lies among them
    ends = [max(0, -(-(size - 1 - centre) // stride) + 1 - n) for size, n in zip(shape, scores.shape[1:3], strict=True)]
    sides = [(margin, int(end) + 1) for end in ends]
    scores = jnp.pad(scores, ((0, 0), *sides, (0, 0)), mode="edge")
    move = jnp.full(2, float(centre) - margin * stride + 0.5 - stride / 2, jnp.float32)
    size = (scores.shape[0], *shape, scores.shape[-1])
    # The method, without its smoothing for pictures made smaller.
    scale = jnp.full(2, float(stride), jnp.float32)
    return jax.image.scale_and_translate(scores, size, (1, 2), scale, move, "bilinear", antialias=False)
