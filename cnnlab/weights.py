"""Published weights in and out: torchvision's state dicts for AlexNet, VGG, GoogLeNet, Inception-v3 and ResNet.

    variables = model.init(rng, x)
    variables = load_torchvision("timm/resnet50.tv_in1k", model, variables)
    x = convention(model).normalise(pictures)

PyTorch's layout is channels first: filters are (out, in, height, width), weights of fully connected layers (out, in),
and a map is flattened as (channels, height, width). Here it is channels last.
"""

import dataclasses
import importlib
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import PyTree

from cnnlab.data.preprocess import Convention
from cnnlab.errors import UserError
from cnnlab.models.alexnet import AlexNet
from cnnlab.models.googlenet import GoogLeNet
from cnnlab.models.inception_v3 import InceptionV3
from cnnlab.models.resnet import ResNet
from cnnlab.models.vgg import CONFIGURATIONS, VGG
from cnnlab.torch_files import read_torch
from cnnlab.writer import write_whole

IMAGENET = Convention(size=224, resize=256, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
HALVES = dataclasses.replace(IMAGENET, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))

LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}

TIMM_VGG = {"pre_logits.fc1.": "classifier.0.", "pre_logits.fc2.": "classifier.3.", "head.fc.": "classifier.6."}

GOOGLENET_BRANCHES = {
    "1x1": "branch1",
    "3x3_reduce": "branch2.0",
    "3x3": "branch2.1",
    "5x5_reduce": "branch3.0",
    "5x5": "branch3.1",
    "pool_proj": "branch4.1",
}

# A hub id: owner/name, or owner/name/file. Two parts that end as files do are a path.
HUB_ID = re.compile(r"([\w-][\w.-]*/[\w.-]+)(?:/(.+))?")
FILE_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")


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
    """

    layer: Callable[[str], str]
    convention: Convention
    heads: tuple[str, ...]
    flattened: Mapping[str, tuple[int, int, int]] = dataclasses.field(default_factory=dict)
    auxiliary: tuple[str, ...] = ()
    aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)


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


def torch_names(model: nn.Module, variables: PyTree) -> dict[tuple[str, ...], str]:
    """Each variable's path, from its collection on, and its name in torchvision's state dict."""
    name = published(model).layer
    return {path: f"{name(_layer(path))}.{LEAVES[path[-1]]}" for path in flatten_dict(variables)}


def _layer(path: tuple[str, ...]) -> str:
    return "/".join(path[1:-1])


def torchvision_name(name: str, aliases: Mapping[str, str]) -> str:
    """A name of another library's file, as torchvision has it.

    >>> torchvision_name("head.fc.bias", TIMM_VGG)
    'classifier.6.bias'
    """
    old = next((old for old in aliases if name.startswith(old)), "")
    return aliases.get(old, "") + name.removeprefix(old)


def _torch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape[::-1]


def _check_maps(model: nn.Module, variables: Mapping[tuple[str, ...], Any]) -> None:
    """Raises a `UserError` if a fully connected layer sees a map of another size than the published weights'."""
    for layer, map_shape in published(model).flattened.items():
        kernel = variables.get(("params", *layer.split("/"), "kernel"))
        if kernel is not None and kernel.shape[0] != math.prod(map_shape):
            size = convention(model).size
            raise UserError(
                f"{layer} of this {type(model).__name__} sees {kernel.shape[0]} values, and in its published weights "
                f"{math.prod(map_shape)}: give it pictures of {size}×{size}"
            )


def to_torch(array: np.ndarray, flattened: tuple[int, int, int] | None = None) -> np.ndarray:
    """One of our arrays in PyTorch's layout.

    Args:
      array: filters (height, width, in, out), a matrix (in, out), or one number a channel.
      flattened: (channels, height, width) of the map that the matrix's inputs are, if they are one.
    """
    if flattened and array.ndim == 2:
        channels, height, width = flattened
        array = array.reshape(height, width, channels, -1).transpose(2, 0, 1, 3).reshape(array.shape)
    return array.transpose((3, 2, 0, 1) if array.ndim == 4 else None)


def from_torch(array: np.ndarray, flattened: tuple[int, int, int] | None = None) -> np.ndarray:
    """The inverse of `to_torch`.

    >>> from_torch(np.array([[1, 2, 3, 4]]), flattened=(2, 1, 2)).tolist()
    [[1], [3], [2], [4]]
    """
    array = array.transpose((2, 3, 1, 0) if array.ndim == 4 else None)
    if flattened and array.ndim == 2:
        array = array.reshape(*flattened, -1).transpose(1, 2, 0, 3).reshape(array.shape)
    return array


def load_torchvision(source: str, model: nn.Module, variables: PyTree, replace_head: bool = False) -> PyTree:
    """A network's variables with the values of a published state dict.

    Every tensor is accounted for, but for `num_batches_tracked`, a count that nothing here reads, and for auxiliary
    classifiers that the file has and the model leaves out (`auxiliary=False`).

    Args:
      source: a .safetensors or .pth file; or on the hub owner/name (its model.safetensors) or owner/name/file.
      model: the variant whose weights are published.
      variables: the model's, fresh, or just their shapes; they stay as they are.
      replace_head: keep their classifiers, auxiliary ones too, in order to learn other classes.

    Raises:
      UserError: no weights are published for the model; the file cannot be read; names are missing or left over, or
        shapes differ: all are listed.
    """
    known, fresh, names = published(model), flatten_dict(variables), torch_names(model, variables)
    _check_maps(model, fresh)
    expected = {names[path]: _torch_shape(leaf.shape) for path, leaf in fresh.items()}
    tensors = {torchvision_name(name, known.aliases): tensor for name, tensor in read_state_dict(source).items()}
    # Some files hold a fully connected layer as a convolution whose filters are as large as the map.
    tensors = {
        name: x.reshape(len(x), -1) if x.ndim == 4 and len(expected.get(name, ())) == 2 else x
        for name, x in tensors.items()
        if not name.endswith(".num_batches_tracked") and (name in expected or not name.startswith(known.auxiliary))
    }
    heads = {names[path] for path in fresh if _layer(path) in known.heads}
    if replace_head:
        names = {path: name for path, name in names.items() if name not in heads}
        expected, tensors = ({k: v for k, v in part.items() if k not in heads} for part in (expected, tensors))
    check_fit(f"{source} does not fit this {type(model).__name__}", tensors, expected, heads)
    loaded = {
        path: jnp.asarray(from_torch(tensors[name], known.flattened.get(_layer(path))), jnp.float32)
        for path, name in names.items()
    }
    return unflatten_dict({**fresh, **loaded})


def check_fit(
    problem: str, tensors: Mapping[str, np.ndarray], expected: Mapping[str, tuple[int, ...]], heads: set[str]
) -> None:
    """Raises a `UserError` that lists every tensor that is missing, left over, or not as expected.

    Args:
      problem: the message's beginning.
      tensors: those found, by name.
      expected: the shapes of those wanted.
      heads: those of the classifiers, which differ where the classes do.
    """
    missing = [name for name in expected if name not in tensors]
    left = [name for name in tensors if name not in expected]
    unlike = [name for name, tensor in tensors.items() if name in expected and tensor.shape != expected[name]]
    whole = [name for name, x in tensors.items() if name in expected and not jnp.issubdtype(x.dtype, jnp.floating)]
    found = {
        "missing": missing,
        "left over": left,
        "of another shape": [f"{name} {tensors[name].shape} instead of {expected[name]}" for name in unlike],
        "of no floating type": [f"{name} {tensors[name].dtype}" for name in whole],
    }
    classes = [
        (theirs, ours)
        for name in unlike
        if name in heads and tensors[name].ndim == len(expected[name])
        for theirs, ours in zip(tensors[name].shape, expected[name], strict=True)
        if theirs != ours
    ]
    if classes:
        theirs, ours = classes[0]
        problem += f", as it has {theirs} classes and not {ours}: replace the head (--config.replace_head=True)"
    lists = [f"{len(names)} {what}: {', '.join(names)}" for what, names in found.items() if names]
    if lists:
        raise UserError(f"{problem}; {'; '.join(lists)}")


def export_torchvision(model: nn.Module, variables: PyTree, path: Path) -> None:
    """Writes a network's variables as a state dict that torchvision's network of the same kind loads, strictly.

    In PyTorch: `net.load_state_dict(safetensors.torch.load_file(path))`. Values are kept bit for bit.

    Args:
      model: a variant whose weights are published, of any number of classes.
      variables: its variables.
      path: the .safetensors file, written whole or not at all.

    Raises:
      UserError: torchvision has no such network; another suffix; safetensors is not installed.
    """
    if path.suffix != ".safetensors":
        raise UserError(f"{path} is no .safetensors file, and no other kind is written")
    save = _extra("safetensors.numpy").save
    known, names = published(model), torch_names(model, variables)
    arrays = flatten_dict(jax.device_get(variables))
    _check_maps(model, arrays)
    tensors = {
        names[key]: np.ascontiguousarray(to_torch(array, known.flattened.get(_layer(key))))
        for key, array in arrays.items()
    }
    write_whole(path, save(tensors, {"format": "pt"}))


def read_state_dict(source: str) -> dict[str, np.ndarray]:
    """The tensors of a .safetensors or .pth file, or of one on the hub, by their names in PyTorch.

    Raises:
      UserError: there is no such file, or it is damaged, or of another kind.
    """
    path = find(source)
    with path.open("rb") as file:
        begin = file.read(9)
    if begin[8:] == b"{":
        try:
            tensors = _extra("safetensors.numpy").load_file(path)
        except _extra("safetensors").SafetensorError as error:
            raise UserError(f"{path} is damaged or cut short: {error}") from error
    elif begin.startswith((b"PK", b"\x80")):
        tensors = read_torch(path)
    else:
        raise UserError(f"{path} is neither a .safetensors nor a .pth file of PyTorch")
    # A network trained on several devices at once is saved inside another module.
    inside = all(name.startswith("module.") for name in tensors)
    return {name.removeprefix("module.") if inside else name: tensor for name, tensor in tensors.items()}


def find(source: str) -> Path:
    """A weights file: `source` itself, or what it names on the hub, downloaded where it is not yet kept.

    Raises:
      UserError: there is none; the hub cannot be reached.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return path
    parts = HUB_ID.fullmatch(source)
    if path.exists() or parts is None or (parts[2] is None and path.suffix in FILE_SUFFIXES):
        raise UserError(
            f"{source} is no weights file: name a .safetensors or .pth file, or one on the hub, "
            "as in timm/resnet50.tv_in1k or OWNER/NAME/FILE"
        )
    return _download(parts[1], parts[2] or "model.safetensors")


def _download(repository: str, file: str) -> Path:
    hub = _extra("huggingface_hub")
    errors = hub.errors
    try:
        return Path(hub.hf_hub_download(repository, file))
    except errors.LocalEntryNotFoundError as error:
        reason = "the hub cannot be reached and the file was not downloaded before"
        raise UserError(f"{file} of {repository}: {reason}") from error
    except errors.RepositoryNotFoundError as error:
        reason = "there is no such file here, and no such repository on the hub that is open to you"
        raise UserError(f"{repository}: {reason}") from error
    except errors.EntryNotFoundError as error:
        raise UserError(f"{repository} on the hub has no file {file}: name one, as OWNER/NAME/FILE") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{file} of {repository} cannot be fetched from the hub: {error}") from error


def _extra(module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"this needs {module.partition('.')[0]}: pip install -e '.[weights]'") from error
