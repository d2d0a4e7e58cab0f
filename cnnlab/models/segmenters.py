"""Fully convolutional networks put together as in the paper, as torchvision has them, and small enough for a laptop.

Each function takes the number of classes, the background among them, and `finest`, the stride of the finest maps that
are judged: 32, 16 or 8 (FCN-32s, FCN-16s, FCN-8s).
"""

import functools
from collections.abc import Callable, Sequence
from fractions import Fraction

import flax.linen as nn
from jax.typing import DTypeLike

from cnnlab.errors import UserError
from cnnlab.models.alexnet import AlexNet
from cnnlab.models.fcn import FCN, ConvHead, FullyConvolutional
from cnnlab.models.googlenet import GoogLeNet
from cnnlab.models.resnet import ResNet
from cnnlab.models.vgg import VGG
from cnnlab.ops.receptive_field import Field, extend

AROUND = 100  # zeros around the picture in the paper, those of the first convolution among them
STRIDES = (32, 16, 8)  # that maps have
Layer = tuple[int, int, int]  # filter, stride, padding


def middle(layers: Sequence[Layer], around: int = 0) -> Fraction:
    """In which pixel of the picture the middle of a map's first place lies, after some layers.

    >>> middle([(2, 2, 0)] * 5), middle([(7, 2, 3)])
    (Fraction(31, 2), Fraction(0, 1))
    """
    field = functools.reduce(lambda field, layer: extend(field, *layer), layers, Field())
    return field.start + Fraction(field.size - 1, 2) - around


def _coarser(names: Sequence[str], finest: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The maps of strides `finest` to 32, the finest first, and their strides.

    Args:
      names: of the maps of strides 8, 16 and 32.
      finest: 32, 16 or 8.

    Raises:
      UserError: it is none of these.
    """
    if finest not in STRIDES:
        raise UserError(f"the finest maps of an FCN are {finest} pixels apart; that must be 32, 16 or 8")
    count = STRIDES.index(finest) + 1
    return tuple(names[-count:]), STRIDES[count - 1 :: -1]


def vgg16(num_classes: int, finest: int = 8, around: int = AROUND - 1, dtype: DTypeLike | None = None) -> FCN:
    """FCN on VGG-16, the paper's: pool3, pool4, and pool5 through fc6 and fc7.

    Args:
      num_classes, finest, dtype: see above.
      around: zeros around the picture: 99, and 1 of conv1_1, as in the paper; 0: fc6 has 3 around its map instead,
        which is faster.
    """
    names, strides = _coarser(("pool3", "pool4", "pool5"), finest)
    pools = [middle([(2, 2, 0)] * number, around) for number in (3, 4, 5)][-len(names) :]
    pools[-1] += 3 * 32 if around else 0  # fc6 loses three places on each side where it is not padded
    head = FullyConvolutional(7, 0 if around else 3, dtype=dtype)
    backbone = VGG("D", maps=names, initialiser="glorot", dtype=dtype)
    return FCN(num_classes, backbone, strides, tuple(pools), head, around=around, dtype=dtype)


def alexnet(num_classes: int, finest: int = 32, variant: str = "one_column", dtype: DTypeLike | None = None) -> FCN:
    """FCN-32s on AlexNet: pool5 through fc6 and fc7.

    Args:
      num_classes, dtype: see above.
      finest: 32; AlexNet's earlier maps are too far from the classes, and the paper has no other.
      variant: see `AlexNet`; weights are published for "one_column".

    Raises:
      UserError: finer maps.
    """
    if finest != 32:
        raise UserError(f"AlexNet is judged every 32 pixels only, not every {finest}")
    padding = {"one_column": 2, "paper": 0}[variant]  # of conv1
    layers = [(11, 4, padding), (3, 2, 0), (5, 1, 2), (3, 2, 0), *[(3, 1, 1)] * 3, (3, 2, 0), (6, 1, 0)]
    return FCN(
        num_classes,
        AlexNet(variant, maps=("pool5",), dtype=dtype),
        (32,),
        (middle(layers, AROUND - padding),),
        FullyConvolutional(6, dtype=dtype),
        around=AROUND - padding,
        dtype=dtype,
    )


def googlenet(num_classes: int, finest: int = 8, variant: str = "published", dtype: DTypeLike | None = None) -> FCN:
    """FCN on GoogLeNet: inception3b, 4e and 5b, without its auxiliary heads.

    Args:
      num_classes, finest, dtype: see above. The paper has 32.
      variant: see `GoogLeNet`; weights are published for "published".
    """
    names, strides = _coarser(("inception3b", "inception4e", "inception5b"), finest)
    # conv1, pool1 and pool2 (and pool3, of 3) centre on even pixels; the published pool4, of 2, does not.
    layers, pools = [(7, 2, 3), (3, 2, 0), (3, 2, 0)], [(3, 2, 0), (3 if variant == "paper" else 2, 2, 0)]
    centres = [middle([*layers, *pools[:count]]) for count in range(3)][-len(names) :]
    backbone = GoogLeNet(variant=variant, auxiliary=False, maps=names, dtype=dtype)
    return FCN(num_classes, backbone, strides, tuple(centres), dtype=dtype)


def resnet50(num_classes: int, finest: int = 8, dtype: DTypeLike | None = None) -> FCN:
    """FCN on ResNet-50: conv3, conv4 and conv5, whose places lie on every 8th, 16th and 32nd pixel from the first."""
    names, strides = _coarser(("conv3", "conv4", "conv5"), finest)
    return FCN(
        num_classes,
        ResNet(50, stride_on_3x3=True, maps=names, dtype=dtype),
        strides,
        (0,) * len(names),
        rest=1,
        dtype=dtype,
    )


def dilated_resnet50(num_classes: int, finest: int = 8, dtype: DTypeLike | None = None) -> FCN:
    """torchvision's fcn_resnet50: the last two stages dilated, one set of scores every 8 pixels, an auxiliary head.

    35,322,218 parameters with 21 classes, and its published weights fit. Maps are taken to cover the pixels from the
    first on, as there.

    Raises:
      UserError: `finest` is not 8.
    """
    if finest != 8:
        raise UserError(f"the dilated ResNet is judged every 8 pixels, not every {finest}")
    backbone = ResNet(50, stride_on_3x3=True, maps=("conv4", "conv5"), output_stride=8, dtype=dtype)
    heads = [ConvHead(features, dtype=dtype) for features in (512, 256)]
    return FCN(num_classes, backbone, (8, 8), (3.5, 3.5), *heads, multiple=8, dtype=dtype)


def small(
    num_classes: int, finest: int = 8, width: int = 32, axis_name: str | None = None, dtype: DTypeLike | None = None
) -> FCN:
    """FCN on ResNet-18 of fewer maps: learns from scratch on two cores.

    Args:
      num_classes, finest, dtype: see above.
      width: of the first stage; see `ResNet`.
      axis_name: of the devices that batch normalisation spans; None: each device by itself.
    """
    names, strides = _coarser(("conv3", "conv4", "conv5"), finest)
    backbone = ResNet(18, width=width, maps=names, axis_name=axis_name, dtype=dtype)
    head = ConvHead(8 * width, dropout=0.0, axis_name=axis_name, dtype=dtype)
    return FCN(num_classes, backbone, strides, (0,) * len(names), head, rest=1, dtype=dtype)


SEGMENTERS: dict[str, Callable[..., nn.Module]] = {
    "vgg16": vgg16,
    "alexnet": alexnet,
    "googlenet": googlenet,
    "resnet50": resnet50,
    "dilated_resnet50": dilated_resnet50,
    "small": small,
}
