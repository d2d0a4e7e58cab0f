"""How published weights are named and laid out: torchvision's state dicts of the networks that have some here."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import NoReturn

import flax.linen as nn

from cnnlab.data.preprocess import Convention
from cnnlab.errors import UserError
from cnnlab.models.alexnet import AlexNet
from cnnlab.models.fast_rcnn import TwoLayers
from cnnlab.models.faster_rcnn import FasterRCNN
from cnnlab.models.fcn import FCN, ConvHead
from cnnlab.models.fpn import FPN
from cnnlab.models.googlenet import GoogLeNet
from cnnlab.models.inception_v3 import InceptionV3
from cnnlab.models.mask_rcnn import MaskRCNN
from cnnlab.models.resnet import ResNet
from cnnlab.models.vgg import CONFIGURATIONS, VGG

IMAGENET = Convention(size=224, resize=256, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
HALVES = dataclasses.replace(IMAGENET, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))

LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}

TIMM_VGG = {"pre_logits.fc1.": "classifier.0.", "pre_logits.fc2.": "classifier.3.", "head.fc.": "classifier.6."}

# Names in the older of torchvision's detection files.
OLD_FPN = {
    f"backbone.fpn.{kind}_blocks.{level}.{leaf}": f"backbone.fpn.{kind}_blocks.{level}.0.{leaf}"
    for kind in ("inner", "layer")
    for level in range(4)
    for leaf in ("weight", "bias")
} | {f"rpn.head.conv.{leaf}": f"rpn.head.conv.0.0.{leaf}" for leaf in ("weight", "bias")}
OLD_MASKS = {f"roi_heads.mask_head.mask_fcn{i + 1}.": f"roi_heads.mask_head.{i}.0." for i in range(4)}

GOOGLENET_BRANCHES = {
    "1x1": "branch1",
    "3x3_reduce": "branch2.0",
    "3x3": "branch2.1",
    "5x5_reduce": "branch3.0",
    "5x5": "branch3.1",
    "pool_proj": "branch4.1",
}


@dataclasses.dataclass(frozen=True)
class Published:
    """How a network's published weights are named and laid out.

    Attributes:
      layer: our path of a layer, as in "conv2_1/conv1" → its name in the state dict.
      convention: the input that the weights expect.
      heads: our paths of the classifiers.
      flattened: fully connected layers that see a flattened map, and that map's (channels, height, width).
      auxiliary: beginnings of the names of layers that a file may hold and a model may leave out.
      aliases: beginnings of names in other libraries' files, and what they are in torchvision's.
      transposed: transposed convolutions, whose filters PyTorch keeps with the input's channels first.
    """

    layer: Callable[[str], str]
    convention: Convention
    heads: tuple[str, ...]
    flattened: Mapping[str, tuple[int, int, int]] = dataclasses.field(default_factory=dict)
    auxiliary: tuple[str, ...] = ()
    aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)
    transposed: tuple[str, ...] = ()


def published(model: nn.Module) -> Published:
    """What there is to know about the weights published for a network.

    Raises:
      UserError: there are none for this variant, or for this network.
    """
    match model:
        case AlexNet(variant="one_column"):
            return Published(alexnet_names().__getitem__, IMAGENET, ("fc8",), {"fc6": (256, 6, 6)})
        case VGG(configuration="A" | "B" | "D" | "E"):
            names = vgg_names(model.configuration, model.batch_norm)
            return Published(names.__getitem__, IMAGENET, ("fc8",), {"fc6": (512, 7, 7)}, aliases=TIMM_VGG)
        case ResNet(plain=False, option="B") if model.stride_on_3x3 or model.depth < 50:
            return Published(resnet_name, IMAGENET, ("fc",))
        case GoogLeNet(variant="published"):
            heads = ("classifier", "auxiliary4a/classifier", "auxiliary4d/classifier")
            flattened = {"auxiliary4a/fc": (128, 4, 4), "auxiliary4d/fc": (128, 4, 4)}
            return Published(googlenet_name, HALVES, heads, flattened, ("aux1.", "aux2."))
        case InceptionV3():
            large = dataclasses.replace(HALVES, size=299, resize=342)
            return Published(inception_v3_name, large, ("fc", "AuxLogits/fc"), auxiliary=("AuxLogits.",))
        case MaskRCNN(backbone=ResNet(stride_on_3x3=True), neck=FPN(), head=TwoLayers(), rounded=True):
            return Published(
                faster_rcnn_name,
                IMAGENET,
                ("scores", "offsets", "mask_head/maps"),
                {"head/fc6": (256, 7, 7)},
                aliases={**OLD_FPN, **OLD_MASKS},
                transposed=("mask_head/up",),
            )
        case FasterRCNN(backbone=ResNet(stride_on_3x3=True), neck=FPN(), head=TwoLayers(), rounded=True):
            return Published(
                faster_rcnn_name, IMAGENET, ("scores", "offsets"), {"head/fc6": (256, 7, 7)}, aliases=OLD_FPN
            )
        case FCN(backbone=ResNet(stride_on_3x3=True, output_stride=8), head=ConvHead()):
            return Published(fcn_name, IMAGENET, ("score", "auxiliary_score"), auxiliary=("aux_classifier.",))
        case AlexNet():
            _refuse(model, 'variant="one_column" has them')
        case VGG():
            _refuse(model, 'configuration="A", "B", "D" and "E" have them')
        case ResNet():
            _refuse(model, 'plain=False, option="B", stride_on_3x3=True has them')
        case GoogLeNet():
            _refuse(model, 'variant="published" has them')
    _refuse(model, "AlexNet, VGG, GoogLeNet, InceptionV3 and ResNet have them")


def _refuse(model: nn.Module, instead: str) -> NoReturn:
    raise UserError(f"no weights are published for this {type(model).__name__}: {instead}")


def convention(model: nn.Module) -> Convention:
    """The input that a network's published weights expect; channels are red, green, blue.

    Raises:
      UserError: no weights are published for it.

    >>> convention(InceptionV3()).size
    299
    """
    return published(model).convention


def alexnet_names() -> dict[str, str]:
    """Our layers → torchvision's, which number convolutions, rectifiers and poolings in one row."""
    names = {f"conv{i}": f"features.{place}" for i, place in enumerate((0, 3, 6, 8, 10), 1)}
    return names | {"fc6": "classifier.1", "fc7": "classifier.4", "fc8": "classifier.6"}


def vgg_names(configuration: str, batch_norm: bool) -> dict[str, str]:
    """Our layers → torchvision's, which number convolutions, rectifiers and poolings in one row.

    >>> vgg_names("A", batch_norm=False)["conv3_2"]
    'features.8'
    """
    names, place = {"fc6": "classifier.0", "fc7": "classifier.3", "fc8": "classifier.6"}, 0
    for group, sizes in enumerate(CONFIGURATIONS[configuration], 1):
        for number in range(1, len(sizes) + 1):
            names[f"conv{group}_{number}"] = f"features.{place}"
            if batch_norm:
                names[f"bn{group}_{number}"] = f"features.{place + 1}"
            place += 3 if batch_norm else 2
        place += 1
    return names


def resnet_name(layer: str) -> str:
    """Our layer → torchvision's, which counts stages from 1 and blocks from 0.

    >>> resnet_name("conv2_1/bn3"), resnet_name("conv5_3/shortcut_bn"), resnet_name("bn1")
    ('layer1.0.bn3', 'layer4.2.downsample.1', 'bn1')
    """
    if "/" not in layer:
        return layer
    block, part = layer.split("/")
    stage, number = map(int, block.removeprefix("conv").split("_"))
    part = {"shortcut": "downsample.0", "shortcut_bn": "downsample.1"}.get(part, part)
    return f"layer{stage - 1}.{number - 1}.{part}"


def googlenet_name(layer: str) -> str:
    """Our layer → torchvision's.

    >>> googlenet_name("inception3a/5x5_reduce/conv"), googlenet_name("auxiliary4d/classifier")
    ('inception3a.branch3.0.conv', 'aux2.fc2')
    """
    first, *rest = layer.split("/")
    if first.startswith("inception"):
        return ".".join([first, GOOGLENET_BRANCHES[rest[0]], *rest[1:]])
    if first.startswith("auxiliary"):
        beside = {"auxiliary4a": "aux1", "auxiliary4d": "aux2"}[first]
        return ".".join([beside, {"fc": "fc1", "classifier": "fc2"}.get(rest[0], rest[0]), *rest[1:]])
    return ".".join([{"conv2_reduce": "conv2", "conv2": "conv3", "classifier": "fc"}.get(first, first), *rest])


def inception_v3_name(layer: str) -> str:
    """Our layer → torchvision's: they are the same.

    >>> inception_v3_name("Mixed_5b/branch1x1/conv")
    'Mixed_5b.branch1x1.conv'
    """
    return layer.replace("/", ".")


def faster_rcnn_name(layer: str) -> str:
    """Our layer → torchvision's, which counts a pyramid's levels from 0, and the mask head's convolutions likewise.

    >>> faster_rcnn_name("backbone/conv2_1/bn3"), faster_rcnn_name("neck/lateral1"), faster_rcnn_name("rpn/scores")
    ('backbone.body.layer1.0.bn3', 'backbone.fpn.inner_blocks.0.0', 'rpn.head.cls_logits')
    """
    part, _, rest = layer.partition("/")
    if part == "backbone":
        return f"backbone.body.{resnet_name(rest)}"
    if part == "neck":
        kind = "inner" if rest.startswith("lateral") else "layer"
        return f"backbone.fpn.{kind}_blocks.{int(rest[-1]) - 1}.0"
    if part == "head":
        return f"roi_heads.box_head.{rest}"
    if part == "rpn":
        return "rpn.head." + {"conv": "conv.0.0", "scores": "cls_logits", "offsets": "bbox_pred"}[rest]
    if part == "mask_head":
        last = {"up": "mask_predictor.conv5_mask", "maps": "mask_predictor.mask_fcn_logits"}
        return "roi_heads." + (last.get(rest) or f"mask_head.{int(rest.removeprefix('conv')) - 1}.0")
    return "roi_heads.box_predictor." + {"scores": "cls_score", "offsets": "bbox_pred"}[part]


def fcn_name(layer: str) -> str:
    """Our layer → that of torchvision's fully convolutional networks, which number a head's parts in one row.

    >>> fcn_name("backbone/conv2_1/bn3"), fcn_name("head/bn"), fcn_name("auxiliary_score")
    ('backbone.layer1.0.bn3', 'classifier.1', 'aux_classifier.4')
    """
    part, _, rest = layer.partition("/")
    if part == "backbone":
        return f"backbone.{resnet_name(rest)}"
    head = "aux_classifier" if part.startswith("auxiliary") else "classifier"
    return f"{head}.{ {'conv': 0, 'bn': 1}.get(rest, 4) }"
