"""TFDS's voc and coco: records by hand, and small data sets of their features, written and read without TensorFlow."""

import io
import json
import re

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image

from cnnlab.data import detected, voc
from cnnlab.data.canvas import Resizing
from cnnlab.data.detection import DetectionSource
from cnnlab.data.pictures import CorruptPicture
from cnnlab.data.tfds_objects import Records
from cnnlab.data.tfds_source import open_split
from cnnlab.errors import UserError


def picture(size=(20, 40), grey=90, **options):
    buffer = io.BytesIO()
    Image.fromarray(np.full((*size, 3), grey, np.uint8)).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def shares(*boxes, size=(20, 40)):
    """ymin xmin ymax xmax as shares, of boxes x0 y0 x1 y1 in pixels."""
    height, width = size
    rows = [(y0 / height, x0 / width, y1 / height, x1 / width) for x0, y0, x1, y1 in boxes]
    return np.array(rows, np.float32).reshape(-1, 4)


def of_voc(*boxes, label=(), hard=()):
    objects = {"bbox": shares(*boxes), "label": np.array(label, np.int64), "is_difficult": np.array(hard, bool)}
    return {"image": picture(), "objects": objects}


def test_voc_records_give_what_the_folder_gives():
    records = Records([of_voc((1, 1, 40, 20), (5, 6, 10, 12), label=(1, 0), hard=(False, True))], "voc/2007", True)
    one = records[0]
    assert len(records) == 1
    assert (one.height, one.width, one.number) == (20, 40, 0)
    np.testing.assert_allclose(one.boxes, [[0, 0, 40, 20], [4, 5, 10, 12]], atol=1e-5)
    np.testing.assert_allclose(one.area, [800, 42], atol=1e-3)
    assert one.label.tolist() == [1, 0]
    assert one.ignored.tolist() == [False, True]


def test_coco_records_have_crowds_and_areas_and_count_from_0():
    objects = {
        "bbox": shares((1.5, 2, 3, 4)),
        "label": np.array([7]),
        "is_crowd": np.array([True]),
        "area": np.array([2]),
    }
    one = Records([{"image": picture(), "image/id": 42, "objects": objects}], "coco/2017", False)[0]
    np.testing.assert_allclose(one.boxes, [[1.5, 2, 3, 4]], atol=1e-5)
    assert (one.area.tolist(), one.ignored.tolist(), one.label.tolist(), one.number) == ([2], [True], [7], 42)


def test_what_is_wrong_is_told_once(capsys):
    records = Records([of_voc((5, 5, 5, 5), (2, 2, 9, 9), label=(0, 1), hard=(0, 0))], "voc/2007", True)
    for _ in range(3):
        assert records[0].label.tolist() == [1]
    assert capsys.readouterr().err == "voc/2007, picture 0: the box 5 5 5 5 has no area and is left out\n"


def test_a_turned_picture_has_its_upright_size():
    exif = Image.Exif()
    exif[0x0112] = 6
    record = {**of_voc((2, 2, 9, 9), label=(0,), hard=(0,)), "image": picture(exif=exif)}
    assert (Records([record], "voc/2007", True)[0].height, Records([record], "voc/2007", True)[0].width) == (40, 20)


def test_unreadable_records_are_masked(capsys):
    good = of_voc((1, 1, 40, 20), label=(1,), hard=(False,))
    cut = {**good, "image": picture()[:-20]}
    records = Records([good, {**good, "image": b"no picture"}, cut], "voc/2007", True)
    with pytest.raises(CorruptPicture, match="picture 1 of voc/2007 is not a whole picture"):
        records[1]
    source = DetectionSource(records, voc.NAMES, Resizing(16, 32, 8), 2)
    for _ in range(2):
        batch = source.batch(np.array([0, 1, 2]))
        assert batch["mask"].tolist() == [1, 0, 0]
        assert batch["label"].tolist() == [[1, -1], [-1, -1], [1, -1]]
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert said[0] == "left out: picture 1 of voc/2007 is not a whole picture (1 so far)"
    assert said[1].startswith("left out: picture 2 is not whole (")


def test_more_objects_than_the_padding_are_found_when_the_picture_comes():
    box = (2, 2, 9, 9)
    records = Records([of_voc(box, box, box, label=(0, 0, 0), hard=(0, 0, 0))], "voc/2007", True)
    source = DetectionSource(records, voc.NAMES, Resizing(16, 32, 8), 2)
    with pytest.raises(UserError, match=r"picture 0 has 3 objects, and config\.objects is 2: 3 holds all"):
        source.batch(np.array([0]))


def build(place, records, splits, classes=voc.NAMES):
    """The data set voc/2007 with TFDS's own features, and `records` in each of the splits."""
    import tensorflow_datasets as tfds

    folder = place / "voc" / "2007" / "5.0.0"
    folder.mkdir(parents=True)
    things = {
        "label": tfds.features.ClassLabel(names=classes),
        "bbox": tfds.features.BBoxFeature(),
        "is_difficult": np.bool_,
    }
    features = {"image": tfds.features.Image(), "objects": tfds.features.Sequence(things)}
    tfds.features.FeaturesDict(features).save_config(folder)
    infos = [
        {
            "name": split,
            "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
            "numBytes": "100",
            "shardLengths": [str(len(records))],
        }
        for split in splits
    ]
    info = {"name": "voc", "version": "5.0.0", "fileFormat": "array_record", "moduleName": "none", "splits": infos}
    (folder / "dataset_info.json").write_text(json.dumps({**info, "configName": "2007"}))
    for split in splits:
        writer = ArrayRecordWriter(str(folder / f"voc-{split}.array_record-00000-of-00001"), "group_size:1")
        for record in records:
            writer.write(record)
        writer.close()
    return folder


def serialized(image, bbox, label, hard):
    from tensorflow_datasets.proto import tf_example_pb2

    example = tf_example_pb2.Example()
    example.features.feature["image"].bytes_list.value.append(image)
    example.features.feature["objects/bbox"].float_list.value.extend(bbox.ravel().tolist())
    example.features.feature["objects/label"].int64_list.value.extend(label)
    example.features.feature["objects/is_difficult"].int64_list.value.extend(hard)
    return example.SerializeToString()


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty TFDS_DATA_DIR."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    return tmp_path


RECORDS = (
    (picture(), shares((1, 1, 40, 20), (5, 6, 10, 12)), [14, 0], [0, 1]),
    (picture((30, 15), 30), shares((3, 4, 5, 6), size=(30, 15)), [19], [0]),
    (picture(), shares(), [], []),
)


def test_a_prepared_data_set_is_read(place):
    build(place, [serialized(*record) for record in RECORDS], ("train", "validation", "test"))
    data = detected.choose("voc", Resizing(16, 32, 8), 0, (), "faster_rcnn_voc")
    train, test = data.train(), data.test()
    assert (data.class_names, len(train), len(test)) == (voc.NAMES, 6, 3)
    batch = test.batch(np.array([0, 1, 2]))
    assert batch["size"].tolist() == [[16, 32], [32, 16], [16, 32]]
    assert batch["label"][:, :3].tolist() == [[14, 0, -1], [19, -1, -1], [-1, -1, -1]]
    assert batch["label"].shape == (3, detected.RECORDS_MOST)
    np.testing.assert_allclose(batch["boxes"][0, :2], np.array([[0, 0, 40, 20], [4, 5, 10, 12]]) * 0.8, atol=1e-4)
    assert batch["ignored"][0, :3].tolist() == [False, True, False]
    assert np.abs(test.picture(1).astype(int) - 30).max() <= 2


def test_other_classes_than_the_known(place):
    build(place, [serialized(*RECORDS[0])], ("train", "validation", "test"), ("yak", *voc.NAMES[1:]))
    with pytest.raises(UserError, match=r"the prepared voc/2007 has other classes than the 20 known: \('yak'"):
        detected.choose("voc/2007", Resizing(), 0, (), "faster_rcnn_voc").test()


def test_missing_data_and_splits(place):
    how = re.escape(f"python launch.py --experiment=faster_rcnn_voc --mode=prepare --data_dir={place}")
    with pytest.raises(UserError, match=f"the data set voc/2007 is not in .*{how}"):
        open_split("voc/2007", "test", "faster_rcnn_voc", within="objects")
    folder = build(place, [serialized(*RECORDS[0])], ("train",))
    with pytest.raises(UserError, match="the data set voc/2007 has no split 'test'; it has train"):
        open_split("voc/2007", "test", "faster_rcnn_voc", within="objects")
    next(folder.glob("*array_record*")).unlink()
    with pytest.raises(UserError, match=re.escape(f"the data set in {folder} cannot be read")):
        open_split("voc/2007", "train", "faster_rcnn_voc", within="objects")
    info = json.loads((folder / "dataset_info.json").read_text())
    (folder / "dataset_info.json").write_text(json.dumps({**info, "fileFormat": "tfrecord"}))
    with pytest.raises(UserError, match=re.escape(f"{folder} stands as tfrecord")):
        open_split("voc/2007", "train", "faster_rcnn_voc", within="objects")
