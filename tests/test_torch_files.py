"""The reader of .pth files: both forms of them, views of storages, old ways of saying tensor, and bad files."""

import os
import pickle
import zipfile
from collections import OrderedDict

import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.errors import UserError
from cnnlab.torch_files import read_torch
from tests.torch_pickles import Reduced, Store, fields, save

FORMS = pytest.mark.parametrize("legacy", [False, True])


def row(n: int, dtype: str = "float32") -> np.ndarray:
    return np.arange(n).astype(dtype)


@FORMS
@pytest.mark.parametrize("big", [False, True])
def test_every_type(tmp_path, legacy, big):
    kinds = ("float16", "bfloat16", "float32", "float64", "int64", "int32", "int16", "int8", "uint8", "bool")
    tensors = {kind: row(6, jnp.dtype(kind)).reshape(2, 3) * 1 for kind in kinds}
    read = read_torch(save(tmp_path / "x.pth", OrderedDict(tensors), legacy, big))
    assert list(read) == list(kinds)
    for kind, tensor in tensors.items():
        assert read[kind].dtype == tensor.dtype
        assert np.array_equal(read[kind], tensor)


@FORMS
def test_tensors_are_views_of_storages(tmp_path, legacy):
    base = row(24)

    def view(offset, shape, strides):
        arguments = (Store(base), offset, shape, strides, False, OrderedDict())
        return Reduced("torch._utils._rebuild_tensor_v2", arguments)

    tensors = {
        "transposed": view(0, (6, 4), (1, 6)),
        "column": view(3, (4,), (6,)),
        "later": view(20, (2, 2), (2, 1)),
        "spread": view(0, (5, 2), (0, 1)),
        "scalar": view(7, (), ()),
        "none": view(24, (0, 3), (3, 1)),
    }
    read = read_torch(save(tmp_path / "x.pth", tensors, legacy))
    assert np.array_equal(read["transposed"], np.arange(24).reshape(4, 6).T)
    assert read["column"].tolist() == [3, 9, 15, 21]
    assert read["later"].tolist() == [[20, 21], [22, 23]]
    assert read["spread"].tolist() == [[0, 1]] * 5
    assert read["scalar"].shape == ()
    assert read["scalar"] == 7
    assert read["none"].shape == (0, 3)


@FORMS
@pytest.mark.parametrize("wrapper", ["state_dict", "model"])
def test_a_checkpoint_around_the_state_dict(tmp_path, legacy, wrapper):
    content = {"epoch": 3, "optimizer": {"state": [row(2)]}, wrapper: OrderedDict(a=row(5))}
    read = read_torch(save(tmp_path / "x.pth", content, legacy))
    assert {name: x.tolist() for name, x in read.items()} == {"a": [0, 1, 2, 3, 4]}


@FORMS
def test_older_ways_to_say_tensor(tmp_path, legacy):
    x = row(6).reshape(2, 3) * 1
    tensor = Reduced("torch._utils._rebuild_tensor", fields(x))
    ways = {
        "first version": tensor,
        "empty, then filled": Reduced("torch.FloatTensor", (), fields(x)),
        "parameter": Reduced("torch._utils._rebuild_parameter", (x, True, OrderedDict())),
        "old parameter": Reduced("torch.nn.parameter.Parameter", (tensor,), (True, False, OrderedDict())),
    }
    read = read_torch(save(tmp_path / "x.pth", ways, legacy))
    assert list(read) == list(ways)
    assert all(np.array_equal(y, x) for y in read.values())


def test_a_view_of_an_old_storage(tmp_path):
    tensor = Reduced("torch._utils._rebuild_tensor", (Store(row(9), start=4), 1, (3,), (1,)))
    assert read_torch(save(tmp_path / "x.pth", {"a": tensor}, legacy=True))["a"].tolist() == [5, 6, 7]


class _Code:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@FORMS
@pytest.mark.parametrize("where", ["alone", "beside"])
def test_code_is_refused_and_not_run(tmp_path, legacy, where):
    mark = tmp_path / "mark"
    content = _Code(mark) if where == "alone" else {"state_dict": {"a": row(3)}, "hook": [_Code(mark)]}
    with pytest.raises(UserError, match=r"x\.pth asks for posix\.system, which is no tensor"):
        read_torch(save(tmp_path / "x.pth", content, legacy))
    assert not mark.exists()


def test_a_bare_pickle_is_not_run_either(tmp_path):
    (tmp_path / "x.pth").write_bytes(pickle.dumps(_Code(tmp_path / "mark")))
    with pytest.raises(UserError, match=r"posix\.system"):
        read_torch(tmp_path / "x.pth")
    assert not (tmp_path / "mark").exists()


@FORMS
@pytest.mark.parametrize("name", ["builtins.eval", "collections.Counter", "torch._utils._rebuild_qtensor", "os.path"])
def test_a_name_that_makes_no_tensor_is_refused(tmp_path, legacy, name):
    """Also where nothing is called; the pickle's bytes are written by hand: a global, then the end."""
    module, _, attribute = name.rpartition(".")
    content = f"\x80\x02c{module}\n{attribute}\n.".encode("latin1")
    path = tmp_path / "x.pth"
    if legacy:
        path.write_bytes(content)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", content)
    with pytest.raises(UserError, match=f"asks for {name}, which"):
        read_torch(path)


@FORMS
def test_a_module_is_refused_by_its_class(tmp_path, legacy):
    module = Reduced("torch.nn.modules.linear.Linear", (), {"weight": row(3)})
    with pytest.raises(UserError, match=r"torch\.nn\.modules\.linear\.Linear, .* save the state_dict\(\) alone"):
        read_torch(save(tmp_path / "x.pth", module, legacy))


@FORMS
def test_a_file_cut_short_anywhere(tmp_path, legacy):
    path = save(tmp_path / "x.pth", {"a": row(40), "b": row(3, "int64")}, legacy)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"is damaged, cut short or not PyTorch's: [^\n]+$"):
            read_torch(path)


def test_damaged_numbers_in_an_archive(tmp_path):
    path = save(tmp_path / "x.pth", {"a": row(40)})
    content = path.read_bytes().replace(row(40).tobytes(), row(40).tobytes()[:-1] + b"?")
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"damaged.*CRC"):
        read_torch(path)


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [(0, (7,), (1,)), (5, (2,), (1,)), (0, (2, 2), (5, 1)), (-1, (2,), (1,)), (2, (2,), (-1,)), (0, (2,), (1, 1))],
)
@FORMS
def test_a_tensor_stays_in_its_storage(tmp_path, legacy, offset, shape, strides):
    tensor = Reduced("torch._utils._rebuild_tensor", (Store(row(6)), offset, shape, strides))
    with pytest.raises(UserError, match="damaged"):
        read_torch(save(tmp_path / "x.pth", {"a": tensor}, legacy))


@FORMS
@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([1, 2], "holds a value of type list, not the tensors"),
        ({}, "holds a value of type dict, not the tensors"),
        ({"a": 5}, "a in it is of type int, not a tensor"),
        ({3: "x"}, "3 in it is of type str, not a tensor"),
        ({"state_dict": {"a": {"b": 1}}}, "a in it is of type dict, not a tensor"),
    ],
)
def test_what_is_no_state_dict(tmp_path, legacy, content, said):
    with pytest.raises(UserError, match=said):
        read_torch(save(tmp_path / "x.pth", content, legacy))


def test_a_foreign_archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
        archive.writestr("word/document.xml", "<xml/>")
    with pytest.raises(UserError, match="without the pickle that names its tensors"):
        read_torch(tmp_path / "x.pth")
