"""Sets with boxes by their names: shapes, folders as VOC's and COCO's, TFDS's, and names of nothing."""

import re

import numpy as np
import pytest

from cnnlab.data import coco, detected, voc
from cnnlab.data.canvas import Resizing
from cnnlab.errors import UserError
from tests.data import test_coco, test_voc

RULE = Resizing(16, 32, 8)


def choose(data, objects=0, classes=()):
    return detected.choose(str(data), RULE, objects, classes, "faster_rcnn_voc")


def test_shapes_are_drawn_at_the_shorter_side():
    data = detected.choose("shapes", Resizing(64, 100), 0, (), "x")
    train, test = data.train(), data.test()
    assert (len(train), len(test)) == (detected.DRAWN["train"], detected.DRAWN["test"])
    assert data.class_names == train.class_names
    assert data.prepare is None
    assert train.batch(np.array([0]))["image"].shape == (1, 64, 64, 3)
    assert train.batch(np.array([0]))["label"].shape == (1, detected.DRAWN_MOST)
    assert not np.array_equal(train.picture(0), test.picture(0))
    few = detected.choose("shapes", Resizing(64, 100), 2, ("old",), "x").test()
    assert few.batch(np.array([0]))["label"].shape == (1, 2)


def voc_folder(folder, *names):
    things = [test_voc.thing(name, (1, 1, 9, 9)) for name in names]
    test_voc.build(folder, {"a": test_voc.xml(*things), "b": test_voc.xml(things[0])}, "trainval")
    return test_voc.build(folder, {"c": test_voc.xml(things[-1])}, "test")


def test_a_voc_folder(tmp_path):
    data = choose(voc_folder(tmp_path, "WBC", "RBC", "RBC"))
    assert data.class_names == ("RBC", "WBC")
    train, test = data.train(), data.test()
    assert (len(train), len(test), train.class_names) == (2, 1, ("RBC", "WBC"))
    assert train.batch(np.arange(2))["label"].tolist() == [[1, 0, 0], [1, -1, -1]]
    assert test.batch(np.array([0]))["label"].tolist() == [[0]]
    assert choose(tmp_path, 5).train().batch(np.array([0]))["label"].shape == (1, 5)
    with pytest.raises(UserError, match=r"a\.jpg has 3 objects, and config\.objects is 2: 3 holds all"):
        choose(tmp_path, 2).train()


def test_a_folder_of_vocs_own_classes_has_all_twenty(tmp_path):
    assert choose(voc_folder(tmp_path, "dog", "person")).class_names == voc.NAMES


def test_a_class_of_the_test_set_that_was_never_trained(tmp_path):
    folder = voc_folder(tmp_path, "WBC")
    test_voc.build(folder, {"c": test_voc.xml(test_voc.thing("RBC", (1, 1, 9, 9)))}, "test")
    data = choose(folder)
    data.train()
    with pytest.raises(UserError, match=r"c\.xml:4: 'RBC' is none of the 1 classes; did you mean WBC\?"):
        data.test()


def test_a_picture_to_train_and_to_test_on(tmp_path):
    folder = voc_folder(tmp_path, "dog")
    (folder / "ImageSets" / "Main" / "test.txt").write_text("c\nb\n")
    with pytest.raises(UserError, match=r"^b is in .*trainval\.txt and in test\.txt"):
        choose(folder)


def test_pictures_without_any_object(tmp_path):
    folder = voc_folder(tmp_path, "dog")
    test_voc.build(folder, {"c": test_voc.xml()}, "test")
    assert choose(folder).test().batch(np.array([0]))["label"].tolist() == [[-1]]


def test_a_coco_folder(tmp_path):
    test_coco.build(tmp_path, annotations=[test_coco.thing(), test_coco.thing(2, category=3)])
    test_coco.build(tmp_path, annotations=[test_coco.thing()], split="val2017", pictures="val2017")
    data = choose(tmp_path)
    assert data.class_names == ("cat", "dog")
    assert data.train().batch(np.array([0]))["label"].tolist() == [[1, 0]]
    assert data.test().batch(np.array([0]))["label"].tolist() == [[1]]


def test_a_folder_whose_classes_are_known_is_read_when_it_is_called_for(tmp_path):
    folder = voc_folder(tmp_path, "WBC", "RBC")
    (folder / "Annotations" / "a.xml").write_text("<broken")
    data = choose(folder, classes=("RBC", "WBC"))
    assert data.class_names == ("RBC", "WBC")
    with pytest.raises(UserError, match=r"a\.xml:1: the XML is broken"):
        data.train()
    with pytest.raises(UserError, match=r"a\.xml:1: the XML is broken"):
        choose(folder)


def test_a_folder_that_is_gone_is_missed_when_it_is_called_for(tmp_path):
    data = choose(tmp_path / "gone", classes=("RBC", "WBC"))
    assert data.class_names == ("RBC", "WBC")
    for read in (data.train, data.test):
        with pytest.raises(UserError, match=re.escape(f'config.data is "{tmp_path / "gone"}": it must be "shapes"')):
            read()


@pytest.mark.parametrize(("name", "classes"), [("voc", voc.NAMES), ("voc/2012", voc.NAMES), ("coco", coco.NAMES)])
def test_tfds_sets_are_read_when_they_are_called_for(tmp_path, monkeypatch, name, classes):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    data = choose(name)
    assert data.class_names == classes
    assert data.prepare is not None
    for read in (data.train, data.test):
        with pytest.raises(UserError, match=r"is not in .*--experiment=faster_rcnn_voc --mode=prepare"):
            read()


def test_what_is_no_data(tmp_path):
    with pytest.raises(
        UserError, match=r'it must be "shapes", one of voc, coco, voc/2007, voc/2012, coco/2017 of TFDS'
    ):
        choose(tmp_path)
    with pytest.raises(UserError, match=r"config\.objects is -1; it must be 0"):
        choose("shapes", -1)


def test_masks_where_they_are_asked_for(tmp_path):
    shapes = detected.choose("shapes", Resizing(64, 64), 0, (), "x", 8)
    assert shapes.train().batch(np.array([0]))["masks"].shape == (1, detected.DRAWN_MOST, 8, 8)
    things = [test_coco.thing(1, segmentation=test_coco.SQUARE)]
    for split in ("train2017", "val2017"):
        test_coco.build(tmp_path / "coco", annotations=things, split=split, pictures=split)
    data = detected.choose(str(tmp_path / "coco"), RULE, 0, (), "x", 8)
    assert data.train().batch(np.array([0]))["masks"].shape == (1, 1, 8, 8)
    assert data.test().masks(0).sum() == 10 * 20
    data = detected.choose("coco", RULE, 0, (), "x", 8)
    assert data.prepare is None
    with pytest.raises(UserError, match="coco/2017 of TFDS has boxes and no outlines: masks need a folder as COCO's"):
        data.train()
    data = detected.choose(str(voc_folder(tmp_path / "voc", "dog")), RULE, 0, (), "x", 8)
    with pytest.raises(UserError, match=r"the object in the box .* has no outline, and masks are made of outlines"):
        data.train()
