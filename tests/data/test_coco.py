"""COCO's instances: a small file by hand, and all that may be wrong with one."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from cnnlab.data import coco
from cnnlab.errors import UserError

CATEGORIES = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]
SQUARE = [[1, 2, 11, 2, 11, 22, 1, 22]]


def thing(identity=1, image=10, category=7, box=(1, 2, 10, 20), **more):
    return {"id": identity, "image_id": image, "category_id": category, "bbox": list(box), **more}


def image(identity=10, name="a.jpg", **more):
    return {"id": identity, "file_name": name, "height": 50, "width": 40, **more}


def build(folder, images=None, annotations=(), categories=CATEGORIES, split="train2017", pictures="train2017"):
    """A COCO folder with 40×50 pictures; returns the file of instances."""
    images = [image()] if images is None else images
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    (folder / pictures).mkdir(parents=True, exist_ok=True)
    for one in images:
        if isinstance(one, dict) and "file_name" in one:
            Image.new("RGB", (40, 50)).save(folder / pictures / one["file_name"])
    path = folder / "annotations" / f"instances_{split}.json"
    path.write_text(json.dumps({"images": images, "annotations": list(annotations), "categories": categories}))
    return path


def test_a_file_is_read_with_labels_in_the_order_of_the_ids(tmp_path, capsys):
    crowd = {"counts": [0, 5, 1995], "size": [50, 40]}
    things = [
        thing(1, 11, 3, (0, 0, 40, 50)),
        thing(2, 10, 7, area=120.5, segmentation=SQUARE, iscrowd=0),
        thing(3, 11, 7, (1.5, 2, 3, 4), iscrowd=1, segmentation=crowd),
    ]
    path = build(tmp_path, [image(), image(11, "b.png")], things)
    assert coco.categories_of(coco.parse(path), path) == {3: "cat", 7: "dog"}
    one, two = coco.read(path, ("cat", "dog"))
    assert (one.picture, one.number, one.height, one.width) == (tmp_path / "train2017" / "a.jpg", 10, 50, 40)
    assert one.boxes.tolist() == [[1, 2, 11, 22]]
    assert one.area.tolist() == [120.5]
    assert one.label.tolist() == [1]
    assert [polygon.tolist() for polygon in one.outlines[0]] == SQUARE
    assert two.boxes.tolist() == [[0, 0, 40, 50], [1.5, 2, 4.5, 6]]
    assert two.label.tolist() == [0, 1]
    assert two.ignored.tolist() == [False, True]
    assert two.area.tolist() == [2000, 12]
    assert two.outlines == (None, crowd)
    assert capsys.readouterr().err == ""


def test_what_is_put_right_left_out_and_empty_is_told(tmp_path, capsys):
    things = [thing(1, box=(5, 5, 0, 9)), thing(2, box=(15, 5, -5, 9)), thing(3, box=(30, 5, 30, 9))]
    path = build(tmp_path, [image(), image(11, "b.png")], things)
    Image.new("RGB", (40, 50)).save(tmp_path / "train2017" / "c.jpg")
    one, two = coco.read(path, ("cat", "dog"))
    assert one.boxes.tolist() == [[10, 5, 15, 14], [30, 5, 40, 14]]
    assert two.boxes.shape == (0, 4)
    assert capsys.readouterr().err.splitlines() == [
        f"{path}, annotation 1: the box 5 5 5 14 has no area and is left out",
        f"{path}, annotation 2: the box 15 5 10 14 has its corners exchanged; taken as 10 5 15 14",
        f"{path}, annotation 3: the box 30 5 60 14 reaches over the edge of its picture of 40×50; cut off",
        f"{path}, image 11: b.png has no annotation; it is background",
        f"{tmp_path / 'train2017' / 'c.jpg'}: is not in {path} and is left out",
    ]


@pytest.mark.parametrize(
    ("things", "message"),
    [
        ([thing(5, image=99)], ", annotation 5 is for the image 99, which is not among the 1 images there"),
        ([thing(5, category=1)], ", annotation 5 is of the category 1, which is not among the 2 categories there"),
        ([thing(5, box=(1, 2, 3))], r", annotation 5: bbox is \[1, 2, 3\]; it must be four numbers"),
        ([thing(5, box=(1, 2, "3", 4))], ", annotation 5: bbox is .* it must be four numbers"),
        ([thing(5, box=(1, 2, float("nan"), 4))], ", annotation 5: the box 1 2 nan 6 is not four numbers"),
        ([thing(5, box=(41, 2, 9, 4))], ", annotation 5: the box 41 2 50 6 lies outside its picture of 40×50"),
        (
            [thing(5, segmentation=[[1, 2, 3, 4]])],
            ", annotation 5: polygon 1 has 4 numbers; .* three points or more",
        ),
        (
            [thing(5, segmentation={"counts": [2, 4], "size": [2, 3]})],
            ", annotation 5: its run lengths are for a picture of 3×2, and its picture is 40×50",
        ),
        ([{"id": 5, "image_id": 10, "bbox": [0, 0, 1, 1]}], ': annotation 1 has no "category_id"'),
        ([{}], ': annotation 1 has no "image_id"'),
    ],
)
def test_annotations_that_are_wrong(tmp_path, things, message):
    path = build(tmp_path, annotations=things)
    with pytest.raises(UserError, match=re.escape(str(path)) + message):
        coco.read(path, ("cat", "dog"))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([image(), image(10, "b.jpg")], ": the image id 10 stands there twice"),
        ([], " has no images"),
        ([{"id": 10}], ': image 10 has no "file_name"'),
        ([image(height=40, width=50)], ", image 10 is for a picture of 50×40, and .*a.jpg is 40×50"),
    ],
)
def test_images_that_are_wrong(tmp_path, images, message):
    path = build(tmp_path, images)
    with pytest.raises(UserError, match=re.escape(str(path)) + message):
        coco.read(path, ("cat", "dog"))


def test_a_missing_picture(tmp_path):
    path = build(tmp_path, [image(), image(11, "b.jpg")], [thing()])
    (tmp_path / "train2017" / "b.jpg").unlink()
    with pytest.raises(UserError, match=r"image 11 has no picture: there is no .*train2017/b\.jpg"):
        coco.read(path, ("cat", "dog"))


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        ([*CATEGORIES, {"id": 9, "name": "cat"}], 'category 3, id 9 "cat", stands there twice'),
        ([*CATEGORIES, {"id": 7, "name": "cow"}], 'category 3, id 7 "cow", stands there twice'),
        ([], "has no categories"),
        ([{"id": 1}], 'category 1 has no "name"'),
        ([*CATEGORIES, {"id": 9, "name": "cow"}], "are not the 2 classes that are trained on: cow is in one only"),
        ([{"id": 2, "name": "dog"}, CATEGORIES[1]], "that are trained on: they are in another order"),
    ],
)
def test_categories_that_are_wrong(tmp_path, categories, message):
    path = build(tmp_path, categories=categories)
    with pytest.raises(UserError, match=message):
        coco.read(path, ("cat", "dog"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"images": [],\n "annotations": [,]}', r":2: the JSON is broken, at column 18 \(Expecting value\)"),
        (b"\xff", ": byte 0 is no UTF-8"),
        (b"[]", ' has no list "images"'),
        (b'{"images": [], "annotations": {}}', ' has no list "annotations"'),
    ],
)
def test_broken_json_is_named_with_file_and_line(tmp_path, content, message):
    path = build(tmp_path)
    path.write_bytes(content)
    with pytest.raises(UserError, match=re.escape(str(path)) + message):
        coco.parse(path)


@pytest.mark.parametrize("pictures", ["train2017", "images/train2017", "images", "."])
def test_where_pictures_may_lie(tmp_path, pictures):
    path = build(tmp_path, annotations=[thing()], pictures=pictures)
    assert coco.read(path, ("cat", "dog"))[0].picture == tmp_path / pictures / "a.jpg"


def test_pictures_that_lie_nowhere(tmp_path):
    path = build(tmp_path)
    (tmp_path / "train2017" / "a.jpg").unlink()
    (tmp_path / "train2017").rmdir()
    with pytest.raises(UserError, match=r"has the picture a\.jpg, and it is neither in .*train2017, nor in"):
        coco.read(path, ("cat", "dog"))


def test_the_files_of_a_folder(tmp_path):
    assert not coco.is_coco(tmp_path)
    train = build(tmp_path)
    with pytest.raises(UserError, match=r"should hold instances_train\*\.json and instances_val\*\.json"):
        coco.files_of(tmp_path)
    val = build(tmp_path, split="val2017")
    assert coco.is_coco(tmp_path)
    assert coco.files_of(tmp_path) == (train, val)
    test = build(tmp_path, split="test")
    assert coco.files_of(tmp_path) == (train, test)
    build(tmp_path, split="train2014")
    with pytest.raises(UserError, match=r"has instances_train2014\.json and instances_train2017\.json"):
        coco.files_of(tmp_path)


def test_cocos_own_categories():
    assert len(coco.NAMES) == len(set(coco.NAMES)) == len(coco.IDS) == len(set(coco.IDS)) == 80
    known = {1: "person", 13: "stop sign", 27: "backpack", 44: "bottle", 67: "dining table", 90: "toothbrush"}
    assert {i: coco.NAMES[coco.IDS.index(i)] for i in known} == known
    assert all(name == name.strip() and "\n" not in name for name in coco.NAMES)


def test_numbers_of_polygons_are_floats(tmp_path):
    path = build(tmp_path, annotations=[thing(segmentation=SQUARE)])
    assert coco.read(path, ("cat", "dog"))[0].outlines[0][0].dtype == np.float32
