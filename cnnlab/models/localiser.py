"""Localisation by regression: Simonyan, Zisserman 2014 (VGG), appendix A. One network says what is seen and where.

The paper's net ends in a fully connected layer of 4 numbers, the box, in place of the class scores: one box for all
classes (single-class regression, SCR) or one for each (per-class regression, PCR). The classes come from another net;
here both layers stand on the same features and are learnt together.
"""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from cnnlab.models.alexnet import AlexNet
from cnnlab.models.maps import Maps, check_maps, chosen
from cnnlab.models.resnet import ResNet
from cnnlab.models.vgg import VGG
from cnnlab.models.zfnet import ZFNet
from cnnlab.ops.activations import relu
from cnnlab.ops.batch_norm import BatchNorm
from cnnlab.ops.conv import Conv
from cnnlab.ops.dense import Dense
from cnnlab.ops.dropout import Dropout
from cnnlab.ops.pooling import MaxPool

MIDDLE = (0.5, 0.5, 0.5, 0.5)  # what the boxes are before anything is learnt; the paper does not say
Scores = Float[Array, "n k"]
Boxes = Float[Array, "n b 4"]


def middle_init(key: Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Float[Array, " b4"]:
    """Biases of the last layer: a box half as wide and high as the picture, in its middle, for each class."""
    return jnp.tile(jnp.array(MIDDLE, dtype), shape[0] // 4)


class Localiser(nn.Module):
    """Class scores and boxes from the features of any backbone.

    Attributes:
      num_classes: number of scores.
      backbone: gives the maps that its attribute `maps` names; the last of them is used: "fc7" of VGG, AlexNet and
        ZFNet, as in the paper; or a map (n, h, w, c), of which the scores see the mean over all places, and the boxes
        all, flattened as (height, width, channels), for what is where is lost in a mean.
      per_class: a box for each class (PCR) instead of one for all (SCR).
      hidden: rectified units between a flattened map and the boxes; 0: none.
      dropout: share of the features dropped in training, before both layers.
      dtype: of the computation; parameters are float32.

    Returns:
      The scores, and b boxes, where b is 1 or, with `per_class`, the number of classes: centre x, y, width and height
      as shares of the input's width and height. They are outputs of a linear layer, so they may lie outside, and a
      width may be negative.
    """

    num_classes: int
    backbone: nn.Module
    per_class: bool = False
    hidden: int = 0
    dropout: float = 0.0
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool = False) -> tuple[Scores, Boxes]:
        found = self.backbone(x, train=train)[self.backbone.maps[-1]]
        seen = Dropout(self.dropout, name="drop")(found, train=train)
        where = seen.reshape(seen.shape[0], -1)
        if self.hidden:
            where = relu(Dense(self.hidden, dtype=self.dtype, name="fc")(where))
        what = seen.mean((1, 2)) if seen.ndim == 4 else seen
        scores = Dense(self.num_classes, dtype=self.dtype, name="scores")(what)
        count = self.num_classes if self.per_class else 1
        # From small weights, as VGG's: what begins far from the middle would have to be unlearnt.
        small = nn.initializers.normal(0.01)
        boxes = Dense(4 * count, kernel_init=small, bias_init=middle_init, dtype=self.dtype, name="boxes")(where)
        return scores.astype(jnp.float32), boxes.reshape(-1, count, 4).astype(jnp.float32)


class Small(nn.Module):
    """Four convolutions with batch normalisation, small enough to learn from scratch on a laptop.

    Attributes:
      width: maps of conv1, 5×5 with stride 2; each of conv2 … conv4, 3×3, has twice as many as the one before, and
        pooling after it, 2×2 with stride 2.
      maps: of "conv1" (rectified), "pool2" … "pool4": those that are returned by name; the layers after the last of
        them are left out.
      dtype: of the computation; parameters are float32.

    Raises:
      UserError: an unknown map; a picture too small for pool4.
    """

    width: int = 16
    maps: tuple[str, ...] = ("pool4",)
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool = False) -> Maps:
        check_maps(self, ("conv1", "pool2", "pool3", "pool4"))
        found = {}
        for n in (1, 2, 3, 4):
            size, stride = (5, 2) if n == 1 else (3, 1)
            features = self.width * 2 ** (n - 1)
            x = Conv(features, size, stride, size // 2, use_bias=False, dtype=self.dtype, name=f"conv{n}")(x)
            x = found[f"conv{n}"] = relu(BatchNorm(name=f"bn{n}")(x, train=train))
            if n > 1:
                x = found[f"pool{n}"] = MaxPool(2, 2, name=f"pool{n}")(x)
            if (maps := chosen(self, found)) is not None:
                return maps
        return found


def on_small(num_classes: int, per_class: bool = False, dtype: DTypeLike | None = None) -> Localiser:
    """`Small`: the mean of its last maps for the scores, all of them through a hidden layer for the boxes."""
    return Localiser(num_classes, Small(dtype=dtype), per_class, hidden=256, dtype=dtype)


def on_vgg(configuration: str, num_classes: int, per_class: bool = False, dtype: DTypeLike | None = None) -> Localiser:
    """VGG as in the paper (which has configuration D): the last layer sees fc7. For 224×224 pixels."""
    backbone = VGG(configuration, initialiser="glorot", maps=("fc7",), dtype=dtype)
    return Localiser(num_classes, backbone, per_class, dropout=0.5, dtype=dtype)


def on_alexnet(variant: str, num_classes: int, per_class: bool = False, dtype: DTypeLike | None = None) -> Localiser:
    """AlexNet, the last layer on fc7. "paper" is for 227×227 pixels, "one_column" for 224×224."""
    # The paper's fc7 has its dropout behind it already, that of one column needs none.
    return Localiser(num_classes, AlexNet(variant, maps=("fc7",), dtype=dtype), per_class, dtype=dtype)


def on_zfnet(num_classes: int, per_class: bool = False, dtype: DTypeLike | None = None) -> Localiser:
    """ZF Net, the last layer on fc7. For 224×224 pixels."""
    return Localiser(num_classes, ZFNet(maps=("fc7",), dtype=dtype), per_class, dropout=0.5, dtype=dtype)


def on_resnet(depth: int, num_classes: int, per_class: bool = False, dtype: DTypeLike | None = None) -> Localiser:
    """ResNet's conv5: its mean for the scores, all of it through a hidden layer for the boxes. For any size."""
    return Localiser(num_classes, ResNet(depth, maps=("conv5",), dtype=dtype), per_class, hidden=1024, dtype=dtype)


LOCALISERS: dict[str, Callable[..., Localiser]] = {
    "small": on_small,
    "alexnet": functools.partial(on_alexnet, "paper"),
    "alexnet_one_column": functools.partial(on_alexnet, "one_column"),
    "zfnet": on_zfnet,
    "vgg11": functools.partial(on_vgg, "A"),
    "vgg13": functools.partial(on_vgg, "B"),
    "vgg16": functools.partial(on_vgg, "D"),
    "vgg19": functools.partial(on_vgg, "E"),
    "resnet18": functools.partial(on_resnet, 18),
    "resnet34": functools.partial(on_resnet, 34),
}
