"""Files as `torch.save` writes them, made without PyTorch."""

import contextlib
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import jax.numpy as jnp
import numpy as np

from cnnlab.torch_files import DTYPES, MAGIC, VERSION


def _named(path: str) -> type:
    """A class that pickles by this name."""
    module, name = path.rsplit(".", 1)
    return type(name, (), {"__module__": module, "__qualname__": name, "__new__": lambda cls, *_: object.__new__(cls)})


NAMES = {
    path: _named(path)
    for path in (
        "torch._utils._rebuild_tensor",
        "torch._utils._rebuild_tensor_v2",
        "torch._utils._rebuild_parameter",
        "torch.nn.parameter.Parameter",
        "torch.nn.modules.linear.Linear",
        *(f"torch.{kind}{what}" for kind in DTYPES for what in ("Storage", "Tensor")),
    )
}


@contextlib.contextmanager
def _pretend() -> Iterator[None]:
    """Modules in which the pickler finds those names."""
    modules: dict[str, Any] = {}
    for path, value in NAMES.items():
        module, name = path.rsplit(".", 1)
        setattr(modules.setdefault(module, types.ModuleType(module)), name, value)
    with mock.patch.dict(sys.modules, modules):
        yield


class Reduced(NamedTuple):
    """Pickles as a call of `function`, a key of `NAMES`, and then a state."""

    function: str
    arguments: tuple
    state: Any = None


class Store(NamedTuple):
    """Pickles as the storage that holds an array's numbers, or as a view of it that begins at `start`."""

    root: np.ndarray
    start: int | None = None


class _Pickler(pickle.Pickler):
    def __init__(self, file: Any, legacy: bool):
        super().__init__(file, protocol=2)
        self.legacy, self.roots = legacy, []

    def persistent_id(self, obj: Any) -> tuple | None:
        if not isinstance(obj, Store):
            return None
        root = obj.root
        places = [i for i, known in enumerate(self.roots) if known is root]
        if not places:
            places = [len(self.roots)]
            self.roots.append(root)
        kind = next(kind for kind, dtype in DTYPES.items() if jnp.dtype(dtype) == root.dtype)
        pid = ("storage", NAMES[f"torch.{kind}Storage"], str(places[0]), "cpu", root.size)
        view = None if obj.start is None else (f"{places[0]}-view", obj.start, root.size - obj.start)
        return (*pid, view) if self.legacy else pid

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, Reduced):
            return NAMES[obj.function], obj.arguments, obj.state
        if isinstance(obj, np.ndarray):
            return NAMES["torch._utils._rebuild_tensor_v2"], (*fields(obj), False, OrderedDict())
        return NotImplemented


def fields(array: np.ndarray) -> tuple[Store, int, tuple[int, ...], tuple[int, ...]]:
    """What a tensor is rebuilt from: storage, offset, shape, strides."""
    return Store(array), 0, array.shape, tuple(step // array.itemsize for step in array.strides)


def save(path: Path, content: Any, legacy: bool = False, big: bool = False) -> Path:
    """Writes `content`, in which each array is a tensor with a storage of its own.

    Args:
      path: the file.
      content: dicts, lists, plain values, arrays, `Reduced`.
      legacy: in the form from before version 1.6.
      big: as a big-endian machine would.
    """
    with _pretend(), path.open("wb") as file:
        if legacy:
            for value in (MAGIC, VERSION, {"protocol_version": VERSION, "little_endian": not big}):
                pickle.dump(value, file, protocol=2)
            pickler = _Pickler(file, legacy)
            pickler.dump(content)
            pickle.dump([str(i) for i in range(len(pickler.roots))], file, protocol=2)
            for root in pickler.roots:
                file.write(root.size.to_bytes(8, "big" if big else "little") + _bytes(root, big))
            return path
        with zipfile.ZipFile(file, "w") as archive:
            with archive.open("archive/data.pkl", "w") as entry:
                pickler = _Pickler(entry, legacy)
                pickler.dump(content)
            archive.writestr("archive/byteorder", "big" if big else "little")
            for i, root in enumerate(pickler.roots):
                archive.writestr(f"archive/data/{i}", _bytes(root, big))
    return path


def _bytes(array: np.ndarray, big: bool) -> bytes:
    return (array.byteswap() if big else array).tobytes()
