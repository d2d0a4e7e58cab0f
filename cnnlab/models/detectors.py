"""Fast, Faster and Mask R-CNN put together as in the papers, and small enough to learn from scratch on a laptop.

Each function takes the class, `FastRCNN`, `FasterRCNN` or `MaskRCNN`, and the number of object classes.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
from jax.typing import DTypeLike

from cnnlab.models.fast_rcnn import FastRCNN, LastStage, TwoLayers
from cnnlab.models.faster_rcnn import FasterRCNN
from cnnlab.models.fpn import FPN
from cnnlab.models.mask_rcnn import MaskRCNN
from cnnlab.models.resnet import ResNet
from cnnlab.models.vgg import VGG
from cnnlab.models.zfnet import ZFNet

Kind = type[FastRCNN]


def _only_faster(kind: Kind, **fields: Any) -> dict[str, Any]:
    return fields if issubclass(kind, FasterRCNN) else {}


def _only_mask(kind: Kind, **fields: Any) -> dict[str, Any]:
    return fields if issubclass(kind, MaskRCNN) else {}


def vgg16(kind: Kind, num_classes: int, dtype: DTypeLike | None = None) -> FastRCNN:
    """VGG-16 as in both papers: conv5_3's maps, regions pooled to 7×7, fc6 and fc7."""
    backbone = VGG("D", maps=("conv5_3",), dtype=dtype)
    head = TwoLayers(4096, dropout=0.5, dtype=dtype)
    return kind(num_classes, backbone, head, dtype=dtype, **_only_faster(kind, rpn_channels=512))


def zf(kind: Kind, num_classes: int, dtype: DTypeLike | None = None) -> FastRCNN:
    """ZF Net, the smaller net of Faster R-CNN's paper: conv5's maps, regions pooled to 6×6, fc6 and fc7."""
    backbone, head = ZFNet(maps=("conv5",), dtype=dtype), TwoLayers(4096, dropout=0.5, dtype=dtype)
    return kind(num_classes, backbone, head, pooled=6, dtype=dtype, **_only_faster(kind, rpn_channels=256))


def resnet50(kind: Kind, num_classes: int, dtype: DTypeLike | None = None) -> FastRCNN:
    """ResNet-50 without a pyramid (He et al. 2015, appendix A): conv4's maps; conv5 judges regions of 14×14.

    Batch normalisation keeps what it was trained to: begin with published weights.
    """
    backbone = ResNet(50, stride_on_3x3=True, maps=("conv4",), frozen_norm=True, dtype=dtype)
    head = LastStage(stride_on_3x3=True, frozen_norm=True, dtype=dtype)
    return kind(
        num_classes, backbone, head, pooling="align", pooled=14, dtype=dtype, **_only_faster(kind, rpn_channels=512)
    )


def resnet50_fpn(kind: Kind, num_classes: int, epsilon: float = 1e-5, dtype: DTypeLike | None = None) -> FastRCNN:
    """ResNet-50 with a feature pyramid, as torchvision has it; with 90 classes its published weights fit.

    Args:
      kind, num_classes: see above.
      epsilon: of the backbone's batch normalisation, which is frozen: 0 with torchvision's weights of COCO.
      dtype: of the computation.
    """
    backbone = ResNet(
        50,
        stride_on_3x3=True,
        maps=("conv2", "conv3", "conv4", "conv5"),
        frozen_norm=True,
        epsilon=epsilon,
        dtype=dtype,
    )
    of_proposals = _only_faster(
        kind, sizes=tuple((float(size),) for size in (32, 64, 128, 256, 512)), rounded=True, rpn_channels=256
    )
    return kind(
        num_classes,
        backbone,
        TwoLayers(1024, dtype=dtype),
        strides=(4, 8, 16, 32),
        neck=FPN(256, dtype=dtype),
        pooling="align",
        dtype=dtype,
        **of_proposals,
    )


def small(
    kind: Kind,
    num_classes: int,
    width: int = 32,
    channels: int = 64,
    sizes: tuple[float, ...] = (16.0, 32.0, 64.0),
    axis_name: str | None = None,
    dtype: DTypeLike | None = None,
) -> FastRCNN:
    """ResNet-18 of fewer maps with a feature pyramid on three stages: learns from scratch on two cores.

    Args:
      kind, num_classes: see above.
      width: of the first stage; see `ResNet`.
      channels: of the pyramid; the head has four times as many units, the masks' two layers half as many channels.
      sizes: of the anchors on the maps of strides 4, 8 and 16, in pixels.
      axis_name: of the devices that batch normalisation spans; None: each device by itself.
      dtype: of the computation.
    """
    backbone = ResNet(18, width=width, maps=("conv2", "conv3", "conv4"), axis_name=axis_name, dtype=dtype)
    return kind(
        num_classes,
        backbone,
        TwoLayers(4 * channels, dtype=dtype),
        strides=(4, 8, 16),
        neck=FPN(channels, coarser=False, dtype=dtype),
        pooling="align",
        dtype=dtype,
        **_only_faster(kind, sizes=tuple((size,) for size in sizes), rpn_channels=channels),
        **_only_mask(kind, mask_channels=channels // 2, mask_layers=2),
    )


DETECTORS: dict[str, Callable[..., nn.Module]] = {
    "vgg16": vgg16,
    "zf": zf,
    "resnet50": resnet50,
    "resnet50_fpn": resnet50_fpn,
    "small": small,
}
