"""Published weights in and out: torchvision's state dicts, by the names that `published.py` has.

    variables = model.init(rng, x)
    variables = load_torchvision("timm/resnet50.tv_in1k", model, variables)
    x = convention(model).normalise(pictures)

PyTorch's layout is channels first: filters are (out, in, height, width), weights of fully connected layers (out, in),
and a map is flattened as (channels, height, width). Here it is channels last.
"""

import importlib
import math
import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import PyTree

from cnnlab.errors import UserError
from cnnlab.published import LEAVES, convention, published
from cnnlab.torch_files import read_torch
from cnnlab.writer import write_whole

# A hub id: owner/name, or owner/name/file. Two parts that end as files do are a path.
HUB_ID = re.compile(r"([\w-][\w.-]*/[\w.-]+)(?:/(.+))?")
FILE_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")


def torch_names(model: nn.Module, variables: PyTree) -> dict[tuple[str, ...], str]:
    """Each variable's path, from its collection on, and its name in torchvision's state dict."""
    name = published(model).layer
    return {path: f"{name(_layer(path))}.{LEAVES[path[-1]]}" for path in flatten_dict(variables)}


def _layer(path: tuple[str, ...]) -> str:
    return "/".join(path[1:-1])


def torchvision_name(name: str, aliases: Mapping[str, str]) -> str:
    """A name of another library's file, as torchvision has it.

    >>> torchvision_name("head.fc.bias", {"head.fc.": "classifier.6."})
    'classifier.6.bias'
    """
    old = next((old for old in aliases if name.startswith(old)), "")
    return aliases.get(old, "") + name.removeprefix(old)


def _torch_shape(shape: tuple[int, ...], transposed: bool = False) -> tuple[int, ...]:
    if len(shape) == 4 and transposed:
        return (*shape[2:], *shape[:2])
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


def to_torch(array: np.ndarray, flattened: tuple[int, int, int] | None = None, transposed: bool = False) -> np.ndarray:
    """One of our arrays in PyTorch's layout.

    Args:
      array: filters (height, width, in, out), a matrix (in, out), or one number a channel.
      flattened: (channels, height, width) of the map that the matrix's inputs are, if they are one.
      transposed: they are filters of a transposed convolution.
    """
    if flattened and array.ndim == 2:
        channels, height, width = flattened
        array = array.reshape(height, width, channels, -1).transpose(2, 0, 1, 3).reshape(array.shape)
    filters = (2, 3, 0, 1) if transposed else (3, 2, 0, 1)
    return array.transpose(filters if array.ndim == 4 else None)


def from_torch(
    array: np.ndarray, flattened: tuple[int, int, int] | None = None, transposed: bool = False
) -> np.ndarray:
    """The inverse of `to_torch`.

    >>> from_torch(np.array([[1, 2, 3, 4]]), flattened=(2, 1, 2)).tolist()
    [[1], [3], [2], [4]]
    """
    filters = (2, 3, 0, 1) if transposed else (2, 3, 1, 0)
    array = array.transpose(filters if array.ndim == 4 else None)
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
    turned = {path: _layer(path) in known.transposed for path in fresh}
    expected = {names[path]: _torch_shape(leaf.shape, turned[path]) for path, leaf in fresh.items()}
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
        path: jnp.asarray(from_torch(tensors[name], known.flattened.get(_layer(path)), turned[path]), jnp.float32)
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
        names[key]: np.ascontiguousarray(
            to_torch(array, known.flattened.get(_layer(key)), _layer(key) in known.transposed)
        )
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
        except (AttributeError, KeyError, TypeError) as error:  # numbers of eight bits, say, which numpy has none of
            raise UserError(f"{path} holds tensors of a type that cannot be read: {error}") from error
    elif begin.startswith((b"PK", b"\x80")):
        tensors = read_torch(path)
    else:
        raise UserError(f"{path} is neither a .safetensors nor a .pth file of PyTorch")
    # A network trained on several devices at once is saved inside another module.
    inside = all(name.startswith("module.") for name in tensors)
    return {name.removeprefix("module.") if inside else name: tensor for name, tensor in tensors.items()}


def is_detector(source: str) -> bool:
    """Whether a weights file is of a detector and not of a classifier.

    Raises:
      UserError: it cannot be read.
    """
    return any(name.startswith("backbone.") for name in read_state_dict(source))


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
    try:
        hub = _extra("huggingface_hub")
    except UserError as error:
        raise UserError(f"there is no run and no file {repository} here; to fetch it from the hub, {error}") from error
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
