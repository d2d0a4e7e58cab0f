"""Preparing TFDS data sets: downloads that fail, and tfrecord made readable without TensorFlow."""

import importlib.util
import json
import re
import struct

import numpy as np
import pytest

from cnnlab.data.prepare import prepare, read_tfrecord
from cnnlab.data.tfds_source import tfds_source
from cnnlab.errors import UserError
from tests.data.test_tfds_source import SHAPE, build, picture, place, record  # noqa: F401 (place is a fixture)


def frame(content: bytes) -> bytes:
    """A record of a tfrecord file; nothing here reads the checksums."""
    return struct.pack("<Q", len(content)) + b"0123" + content + b"4567"


def test_read_tfrecord(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(frame(b"one") + frame(b"") + frame(b"three" * 1000))
    assert list(read_tfrecord(path)) == [b"one", b"", b"three" * 1000]


@pytest.mark.parametrize("cut", [1, 5, 8, 20])
def test_a_tfrecord_cut_short_is_said(tmp_path, cut):
    path = tmp_path / "file"
    path.write_bytes((frame(b"one") + frame(b"three"))[:-cut])
    with pytest.raises(UserError, match="ends in the midst of a record"):
        list(read_tfrecord(path))


def test_what_stands_as_tfrecord_becomes_readable_and_stays(place, capsys):  # noqa: F811
    folder = build(place, [picture(i) for i in range(5)], file_format="tfrecord")
    shard = folder / "greys-train.tfrecord-00000-of-00001"
    shard.write_bytes(b"".join(frame(record(picture(10 * i), i % 2)) for i in range(5)))
    before = shard.read_bytes()
    prepare("greys")
    assert "greys is prepared" in capsys.readouterr().out
    batch = tfds_source("greys", "train", SHAPE, "lenet_mnist").batch(np.arange(5))
    assert batch["image"][:, 0, 0, 0].tolist() == [0, 10, 20, 30, 40]
    assert batch["label"].tolist() == [0, 1, 0, 1, 0]
    assert shard.read_bytes() == before
    assert json.loads((folder / "dataset_info.json").read_text())["fileFormat"] == "tfrecord"
    prepare("greys")  # once more changes nothing
    assert json.loads((folder / "dataset_info.json").read_text())["alternativeFileFormats"] == ["array_record"]


def test_a_damaged_tfrecord_leaves_nothing_half_prepared(place):  # noqa: F811
    folder = build(place, [picture(0)], file_format="tfrecord")
    (folder / "greys-train.tfrecord-00000-of-00001").write_bytes(frame(b"content")[:-2])
    with pytest.raises(UserError, match="ends in the midst of a record"):
        prepare("greys")
    with pytest.raises(UserError, match="stands as tfrecord"):
        tfds_source("greys", "train", SHAPE, "lenet_mnist")


def test_a_damaged_description_is_said(place):  # noqa: F811
    folder = build(place, [picture(0)])
    (folder / "dataset_info.json").write_text("{")
    with pytest.raises(UserError, match=r"dataset_info\.json is damaged"):
        tfds_source("greys", "train", SHAPE, "lenet_mnist")


def test_preparing_without_tensorflow_names_the_extra(place, monkeypatch):  # noqa: F811
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *args: None if name == "tensorflow" else find(name, *args)
    )
    with pytest.raises(UserError, match=re.escape("needs TensorFlow: pip install -e '.[prepare]'")):
        prepare("mnist")


def test_a_failed_download_is_one_line(place, monkeypatch):  # noqa: F811
    import tensorflow_datasets as tfds

    def fail(*args, **kwargs):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *args: object())
    monkeypatch.setattr(tfds, "builder", fail)
    with pytest.raises(UserError, match=re.escape(f"mnist could not be prepared in {place}: no route to host")):
        prepare("mnist")
