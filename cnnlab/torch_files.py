"""PyTorch's .pth files, read without PyTorch and without running any code that they may hold.

`torch.save` writes a pickle that says which tensors there are, and beside it their numbers, a storage for one or more
tensors: in a zip archive since version 1.6, one after the other in a plain file before. A pickle can name any function
of Python for its reader to call; here it gets at the few that make tensors and at none else.
"""

import functools
import io
import math
import pickle
import struct
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from cnnlab.errors import UserError

MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of a file from before version 1.6
VERSION = 1001  # the second

DTYPES = {
    "Float": "float32",
    "Double": "float64",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "Long": "int64",
    "Int": "int32",
    "Short": "int16",
    "Char": "int8",
    "Byte": "uint8",
    "Bool": "bool",
}
WRAPPERS = ("state_dict", "model")  # where training scripts put the state dict beside other things


class Storage(NamedTuple):
    """A row of numbers that tensors are views of: its name in the file, dtype and length, and where a view begins."""

    key: str
    dtype: str
    size: int
    start: int


class Tensor:
    """A tensor as its pickle describes it: elements of a storage from `offset` on, a stride for each dimension."""

    def __init__(self, storage: Storage, offset: int, shape: Iterable[int], strides: Iterable[int], *_: Any):
        self.storage, self.offset = storage, storage.start + offset
        self.shape, self.strides = tuple(shape), tuple(strides)

    def __setstate__(self, state: tuple) -> None:
        # The oldest files make an empty tensor and fill it; where a Parameter holds a tensor, its flags come this way.
        if isinstance(state[0], Storage):
            self.__init__(*state)


def read_torch(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a state dict, by name: `torch.load(path)` as NumPy arrays, strides and offsets honoured.

    Args:
      path: a file of `torch.save`, of a state dict or of a dict that holds one under "state_dict" or "model"; whatever
        else that dict holds is left out. Damaged numbers are noticed in a zip archive, whose checksums are checked;
        older files have none.

    Raises:
      UserError: the file asks for anything but tensors, is damaged or cut short, or holds no state dict.
    """
    try:
        with path.open("rb") as file:
            zipped = file.read(2) == b"PK"
            file.seek(0)
            content, numbers = (_open_zip if zipped else _open_legacy)(file, path)
            tensors = _state_dict(content, path)
            return {name: _view(numbers(tensor.storage), tensor) for name, tensor in tensors.items()}
    except UserError:
        raise
    except Exception as error:  # there is no telling what a parser makes of bytes that mean nothing
        raise UserError(f"{path} is damaged, cut short or not PyTorch's: {error or type(error).__name__}") from error


class _Unpickler(pickle.Unpickler):
    """Knows what tensors are made of, and refuses every other name."""

    def __init__(self, file: io.BufferedIOBase, path: Path):
        super().__init__(file, encoding="utf-8")
        self.path, self.storages, self.known = path, {}, _known()

    def find_class(self, module: str, name: str) -> Any:
        found = self.known.get(f"{module}.{name}")
        if found is None:
            raise UserError(
                f"{self.path} asks for {module}.{name}, which is no tensor, so it is not read: "
                "save the state_dict() alone, or as safetensors"
            )
        return found

    def persistent_load(self, pid: tuple) -> Storage:
        kind, dtype, key, _, size, *view = pid
        if kind != "storage":
            raise ValueError(f"a {kind} where storages are expected")
        start = view[0][1] if view and view[0] else 0
        storage = Storage(str(key), dtype, size, start)
        self.storages[storage.key] = storage
        return storage


def _known() -> dict[str, Any]:
    """What a pickle may name. Made anew for each file, because a pickle can change the attributes of what it gets."""

    class AnyTensor(Tensor):
        def __init__(self, *state: Any):
            if state:
                super().__init__(*state)

    class Parameter:
        def __new__(cls, data: Tensor, *_: Any) -> Tensor:
            return data

    known = {
        "collections.OrderedDict": OrderedDict,
        "torch.Size": lambda sizes: tuple(sizes),
        "torch._utils._rebuild_tensor": AnyTensor,
        "torch._utils._rebuild_tensor_v2": AnyTensor,
        "torch._utils._rebuild_parameter": lambda data, *_: data,
        "torch._utils._rebuild_parameter_with_state": lambda data, *_: data,
        "torch.nn.parameter.Parameter": Parameter,
    }
    for kind, dtype in DTYPES.items():
        for module in ("torch", "torch.cuda"):
            known[f"{module}.{kind}Storage"] = dtype
            known[f"{module}.{kind}Tensor"] = AnyTensor
    return known


Numbers = Callable[[Storage], np.ndarray]


def _open_zip(file: io.BufferedIOBase, path: Path) -> tuple[Any, Numbers]:
    """The pickle of a zip archive, and what reads a storage."""
    archive = zipfile.ZipFile(file)
    roots = [name.removesuffix("data.pkl") for name in archive.namelist() if name.split("/")[-1] == "data.pkl"]
    if len(roots) != 1:
        raise ValueError("a zip archive without the pickle that names its tensors")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
        raise ValueError("a compressed archive, which PyTorch does not write")
    (root,) = roots
    order = archive.read(f"{root}byteorder").decode() if f"{root}byteorder" in archive.namelist() else "little"
    content = _Unpickler(io.BytesIO(archive.read(f"{root}data.pkl")), path).load()

    @functools.cache
    def bytes_of(key: str) -> bytes:
        return archive.read(f"{root}data/{key}")

    return content, lambda storage: _numbers(bytes_of(storage.key), storage, order)


def _open_legacy(file: io.BufferedIOBase, path: Path) -> tuple[Any, Numbers]:
    """The pickle of a file from before version 1.6, and what reads a storage."""
    if _Unpickler(file, path).load() != MAGIC or _Unpickler(file, path).load() != VERSION:
        raise ValueError("a pickle that torch.save did not write")
    order = "little" if _Unpickler(file, path).load().get("little_endian", True) else "big"
    unpickler = _Unpickler(file, path)
    content = unpickler.load()
    places = {}
    for key in _Unpickler(file, path).load():
        storage = unpickler.storages[str(key)]
        (size,) = struct.unpack("<q" if order == "little" else ">q", file.read(8))
        if size != storage.size:
            raise ValueError(f"storage {key} has {size} numbers, not {storage.size}")
        places[storage.key] = file.tell()
        file.seek(size * jnp.dtype(storage.dtype).itemsize, 1)

    @functools.cache
    def bytes_of(key: str, length: int) -> bytes:
        file.seek(places[key])
        return file.read(length)

    def numbers(storage: Storage) -> np.ndarray:
        return _numbers(bytes_of(storage.key, storage.size * jnp.dtype(storage.dtype).itemsize), storage, order)

    return content, numbers


def _numbers(content: bytes, storage: Storage, order: str) -> np.ndarray:
    dtype = jnp.dtype(storage.dtype)
    if len(content) != storage.size * dtype.itemsize:
        raise ValueError(f"storage {storage.key} has {len(content)} bytes, not {storage.size * dtype.itemsize}")
    if order == sys.byteorder:
        return np.frombuffer(content, dtype)
    return np.frombuffer(content, f"u{dtype.itemsize}").byteswap().view(dtype)


def _state_dict(content: Any, path: Path) -> Mapping[str, Tensor]:
    for name in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    if not isinstance(content, Mapping) or not content:
        raise UserError(f"{path} holds a value of type {type(content).__name__}, not the tensors of a state_dict()")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise UserError(f"{path} is no state_dict(): {name} in it is of type {type(value).__name__}, not a tensor")
    return content


def _view(numbers: np.ndarray, tensor: Tensor) -> np.ndarray:
    """The tensor as a view of its storage, which it may not leave."""
    shape, strides, offset = tensor.shape, tensor.strides, tensor.offset
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if min((offset, *shape, *strides)) < 0 or (math.prod(shape) and last >= numbers.size):
        raise ValueError(f"a tensor of shape {shape} reaches beyond its storage of {numbers.size} numbers")
    steps = [step * numbers.itemsize for step in strides]
    return np.lib.stride_tricks.as_strided(numbers[offset:], shape, steps, writeable=False)
