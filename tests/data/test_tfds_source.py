"""TFDS data sets: a small one made by hand, real MNIST where it is, and what is said where data is missing."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image

from cnnlab.data import tfds_source as module
from cnnlab.data.source import ArraySource, Source
from cnnlab.data.tfds_source import RecordSource, tfds_source
from cnnlab.errors import UserError

ROOT = Path(__file__).parents[2]
SHAPE = (4, 4, 1)
FEATURES = {
    "pythonClassName": "tensorflow_datasets.core.features.features_dict.FeaturesDict",
    "featuresDict": {
        "features": {
            "image": {
                "pythonClassName": "tensorflow_datasets.core.features.image_feature.Image",
                "image": {"dtype": "uint8", "shape": {"dimensions": ["4", "4", "1"]}},
            },
            "label": {
                "pythonClassName": "tensorflow_datasets.core.features.class_label_feature.ClassLabel",
                "classLabel": {"numClasses": "2"},
            },
        }
    },
}


def picture(grey):
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 4), grey, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def record(image, label):
    """A serialized tf.train.Example."""
    from tensorflow_datasets.proto import tf_example_pb2

    example = tf_example_pb2.Example()
    example.features.feature["image"].bytes_list.value.append(image)
    example.features.feature["label"].int64_list.value.append(label)
    return example.SerializeToString()


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty TFDS_DATA_DIR."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    return tmp_path


def build(place, images, file_format="array_record", version="1.0.0"):
    """The data set "greys": the `images` as its split "train", labelled 0, 1, 0, 1 …"""
    folder = place / "greys" / version
    folder.mkdir(parents=True)
    split = {
        "name": "train",
        "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
        "numBytes": "100",
        "shardLengths": [str(len(images))],
    }
    info = {"name": "greys", "version": version, "fileFormat": file_format, "moduleName": "none", "splits": [split]}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    (folder / "features.json").write_text(json.dumps(FEATURES))
    (folder / "label.labels.txt").write_text("even\nodd\n")
    if file_format == "array_record":
        writer = ArrayRecordWriter(str(folder / "greys-train.array_record-00000-of-00001"), "group_size:1")
        for i, image in enumerate(images):
            writer.write(record(image, i % 2))
        writer.close()
    return folder


def test_a_split_in_memory(place):
    build(place, [picture(10 * i) for i in range(7)])
    source = tfds_source("greys", "train", SHAPE, "lenet_mnist")
    assert isinstance(source, ArraySource)
    assert (len(source), source.class_names) == (7, ("even", "odd"))
    assert source.arrays["image"][:, 3, 3, 0].tolist() == [0, 10, 20, 30, 40, 50, 60]
    assert source.arrays["label"].tolist() == [0, 1, 0, 1, 0, 1, 0]
    assert (source.arrays["image"].dtype, source.arrays["label"].dtype) == (np.uint8, np.int32)


def test_a_part_of_a_split_and_another_shape(place):
    build(place, [picture(10 * i) for i in range(7)])
    source = tfds_source("greys", "train[2:5]", (2, 3, 3), "lenet_mnist")
    assert source.arrays["image"].shape == (3, 2, 3, 3)
    assert source.arrays["image"][:, 0, 0, 2].tolist() == [20, 30, 40]


@pytest.mark.parametrize("block", [1, 3, 2000])
def test_many_blocks_are_one_array(place, monkeypatch, block):
    build(place, [picture(i) for i in range(8)])
    monkeypatch.setattr(module, "BLOCK", block)
    source = tfds_source("greys", "train", SHAPE, "lenet_mnist")
    assert source.arrays["image"][:, 0, 0, 0].tolist() == list(range(8))


def test_batch_by_batch_is_the_same(place, monkeypatch):
    build(place, [picture(10 * i) for i in range(7)])
    in_memory = tfds_source("greys", "train", SHAPE, "lenet_mnist")
    monkeypatch.setattr(module, "MEMORY_LIMIT", 7 * 16 - 1)
    lazy = tfds_source("greys", "train", SHAPE, "lenet_mnist")
    assert isinstance(lazy, RecordSource)
    assert isinstance(lazy, Source)
    assert (len(lazy), lazy.class_names) == (7, in_memory.class_names)
    indices = np.array([6, 0, 3, 3])
    expected, batch = in_memory.batch(indices), lazy.batch(indices)
    assert batch.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(batch[name], array)
        assert batch[name].dtype == array.dtype


@pytest.mark.parametrize("limit", [0, 1 << 30])
def test_pictures_are_stretched_or_cropped(place, monkeypatch, limit):
    buffer = io.BytesIO()
    Image.fromarray(np.repeat(np.array([[0, 100, 200, 0]], np.uint8), 2, 0)).save(buffer, "PNG")
    build(place, [buffer.getvalue()])
    monkeypatch.setattr(module, "MEMORY_LIMIT", limit)
    cropped, stretched = (
        tfds_source("greys", "train", (2, 2, 1), "lenet_mnist", crop=crop).batch(np.array([0]))["image"]
        for crop in (True, False)
    )
    assert cropped[0, 0, :, 0].tolist() == [100, 200]
    assert stretched[0, 0, :, 0].tolist() != [100, 200]


def test_undecodable_pictures_are_left_out_or_masked(place, monkeypatch):
    build(place, [picture(0), b"no picture", picture(20)])
    source = tfds_source("greys", "train", SHAPE, "lenet_mnist")
    assert source.arrays["image"][:, 0, 0, 0].tolist() == [0, 20]
    assert source.arrays["label"].tolist() == [0, 0]
    monkeypatch.setattr(module, "MEMORY_LIMIT", 0)
    batch = tfds_source("greys", "train", SHAPE, "lenet_mnist").batch(np.array([2, 1]))
    assert batch["mask"].tolist() == [1, 0]
    assert batch["label"].tolist() == [0, 1]


def test_no_decodable_picture_at_all(place):
    build(place, [b"no picture"] * 3)
    with pytest.raises(UserError, match="none of the 3 pictures of greys train can be decoded"):
        tfds_source("greys", "train", SHAPE, "lenet_mnist")


@pytest.mark.parametrize("split", ["holdout", "train[:9]", "train[x]"])
def test_a_split_that_there_is_not(place, split):
    build(place, [picture(0)] * 3)
    with pytest.raises(UserError, match=re.escape(f"the data set greys has no split '{split}'; it has train")):
        tfds_source("greys", split, SHAPE, "lenet_mnist")


def test_missing_data_says_how_to_prepare_it(place):
    how = f"python launch.py --experiment=lenet_mnist --mode=prepare --data_dir={place}"
    with pytest.raises(UserError, match=re.escape(how)):
        tfds_source("mnist", "train", SHAPE, "lenet_mnist")


def test_data_that_stands_as_tfrecord_says_so(place):
    folder = build(place, [picture(0)], file_format="tfrecord")
    with pytest.raises(UserError, match=re.escape(f"{folder} stands as tfrecord")) as raised:
        tfds_source("greys", "train", SHAPE, "lenet_mnist")
    assert "--mode=prepare" in str(raised.value)


@pytest.mark.parametrize("left", [None, 10])
def test_missing_and_truncated_record_files_say_how_to_prepare_them(place, left):
    folder = build(place, [picture(i) for i in range(3)])
    file = next(folder.glob("*array_record*"))
    if left is None:
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:left])
    with pytest.raises(UserError, match=re.escape(f"the data set in {folder} cannot be read")) as raised:
        tfds_source("greys", "train", SHAPE, "lenet_mnist")
    assert "--mode=prepare" in str(raised.value)


def test_reading_needs_no_tensorflow(place):
    build(place, [picture(0)])
    code = (
        "import sys; from cnnlab.data.tfds_source import tfds_source; "
        "print(len(tfds_source('greys', 'train', (4, 4, 1), 'x')), 'tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "False"]


def test_mnist(data_dir):
    if not (data_dir / "mnist").is_dir():
        pytest.skip(f"left out the check of real MNIST: {data_dir} holds no mnist")
    train = tfds_source("mnist", "train", (28, 28, 1), "lenet_mnist")
    test = tfds_source("mnist", "test", (28, 28, 1), "lenet_mnist")
    assert train.arrays["image"].shape == (60_000, 28, 28, 1)
    assert test.arrays["image"].shape == (10_000, 28, 28, 1)
    assert train.arrays["image"].dtype == np.uint8
    assert train.class_names == test.class_names == tuple("0123456789")
    assert train.arrays["label"][0] == 4
    # The data set's known counts of each digit, and its known mean ink.
    assert np.bincount(train.arrays["label"]).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(test.arrays["label"]).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert train.arrays["image"].mean() / 255 == pytest.approx(0.1307, abs=5e-5)
