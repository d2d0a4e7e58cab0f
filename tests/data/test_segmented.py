"""Sets of pictures with label maps: every layout of folders, VOC's, COCO's, and what is wrong with them."""

import json

import numpy as np
import pytest
from PIL import Image

from cnnlab.data import segmented
from cnnlab.data.canvas import Resizing
from cnnlab.errors import UserError

SIZE = Resizing(0, 64)


def picture(path, size=(16, 24)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((*size, 3), np.uint8)).save(path)


def mask(path, values=(0, 1), size=(16, 24)):
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = np.zeros(size, np.uint8)
    labels[: size[0] // 2], labels[size[0] // 2 :] = values[0], values[-1]
    Image.fromarray(labels).save(path)


def pair(images, masks, name, mask_name=None, **kinds):
    picture(images / f"{name}.png")
    mask(masks / f"{mask_name or name}.png", **kinds)


def choose(folder, share=0.3):
    return segmented.choose(str(folder), SIZE, (), share)


def test_shapes():
    found = segmented.choose("shapes", Resizing(0, 96), (), 0.2)
    assert (len(found.train()), len(found.test())) == (20_000, 500)
    assert found.test().batch(np.array([0]))["image"].shape == (1, 96, 96, 3)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        (("train/images", "train/masks"), ("val/images", "val/masks")),
        (("train/images", "train/labels"), ("test/images", "test/labels")),
        (("train", "trainannot"), ("test", "testannot")),
        (("train", "train_labels"), ("val", "val_labels")),
    ],
)
def test_folders_with_splits(tmp_path, train, test):
    for (images, masks), count in ((train, 3), (test, 2)):
        for i in range(count):
            pair(tmp_path / images, tmp_path / masks, f"a{i}", f"a{i}_L" if masks.endswith("_labels") else None)
    found = choose(tmp_path)
    assert (len(found.train()), len(found.test())) == (3, 2)
    assert found.class_names == ("class 0", "class 1")
    assert np.unique(found.train().labels(0)).tolist() == [0, 1]


def test_a_folder_without_splits_keeps_a_picture_on_its_side(tmp_path):
    for i in range(20):
        pair(tmp_path / "images", tmp_path / "masks", f"p{i}")
    first = {one.picture.name for one in choose(tmp_path).test().pictures}
    for i in range(20, 30):
        pair(tmp_path / "images", tmp_path / "masks", f"p{i}")
    found = choose(tmp_path)
    names = {one.picture.name for one in found.test().pictures}
    assert 0 < len(first) < 20
    assert first <= names
    assert len(found.train()) + len(found.test()) == 30
    assert not names & {one.picture.name for one in found.train().pictures}


def test_the_table_of_the_folder(tmp_path):
    for i in range(9):
        pair(tmp_path / "images", tmp_path / "masks", f"p{i}", values=(1, 2))
    (tmp_path / "classes.csv").write_text("void\nroad\ntree\n")
    found = choose(tmp_path)
    assert found.class_names == ("road", "tree")
    assert np.unique(found.train().labels(0)).tolist() == [0, 1]


def test_pictures_and_masks_that_stand_alone(tmp_path):
    for i in range(9):
        pair(tmp_path / "images", tmp_path / "masks", f"p{i}")
    picture(tmp_path / "images" / "bare.jpg")
    with pytest.raises(UserError, match=r"the picture .*bare.jpg has no mask in .*masks, as 1 of 10 have none"):
        choose(tmp_path)
    (tmp_path / "images" / "bare.jpg").unlink()
    mask(tmp_path / "masks" / "odd.png")
    with pytest.raises(UserError, match=r"the mask .*odd.png has no picture in .*images"):
        choose(tmp_path)
    (tmp_path / "masks" / "odd.png").unlink()
    mask(tmp_path / "masks" / "p1_2.png")
    with pytest.raises(UserError, match=r"p1.png has two masks, p1.png and p1_2.png"):
        choose(tmp_path)


def test_folders_that_are_none(tmp_path):
    with pytest.raises(UserError, match=r'config.data is ".*nowhere": it must be "shapes", or a folder'):
        choose(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r'config.data is ""'):
        segmented.choose("", SIZE, (), 0.2)
    with pytest.raises(UserError, match="should hold images/ and masks/"):
        choose(tmp_path)
    for i in range(9):
        pair(tmp_path / "images", tmp_path / "masks", f"p{i}", values=(0, 0))
    with pytest.raises(UserError, match="hold one class only"):
        choose(tmp_path)
    with pytest.raises(UserError, match="the share of pictures held out for testing is 2"):
        choose(tmp_path, 2.0)


def test_a_folder_that_was_read_before_need_not_be_there(tmp_path):
    found = segmented.choose(str(tmp_path / "gone"), SIZE, ("a", "b"), 0.2)
    assert found.class_names == ("a", "b")
    with pytest.raises(UserError, match=r"config.data is"):
        found.train()


def voc(folder, splits=("train", "val")):
    lists = folder / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for split in splits:
        (lists / f"{split}.txt").write_text(f"{split}0\n{split}1\n")
        for i in range(2):
            picture(folder / "JPEGImages" / f"{split}{i}.jpg")
            mask(folder / "SegmentationClass" / f"{split}{i}.png", (15, 255))
    return folder


def test_voc(tmp_path):
    found = choose(voc(tmp_path))
    assert len(found.class_names) == 21
    assert found.class_names[15] == "person"
    assert np.unique(found.test().labels(1)).tolist() == [15, 255]
    (tmp_path / "SegmentationClass" / "val1.png").unlink()
    with pytest.raises(UserError, match=r"val.txt names val1, and there is no .*SegmentationClass/val1.png"):
        found.test()


def coco(folder, crowd=0, outline=True):
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    for split in ("train", "val"):
        picture(folder / split / "0.jpg")
        squares = [(2, 2, 12, 10, 7, 0), (4, 4, 4, 4, 9, crowd)]  # the small one on the large one
        annotations = [
            {
                "id": i,
                "image_id": 1,
                "category_id": category,
                "bbox": [x, y, w, h],
                "area": w * h,
                "iscrowd": iscrowd,
                **({"segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]]} if outline else {}),
            }
            for i, (x, y, w, h, category, iscrowd) in enumerate(squares, 1)
        ]
        content = {
            "images": [{"id": 1, "file_name": "0.jpg", "height": 16, "width": 24}],
            "annotations": annotations[::-1],
            "categories": [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}],
        }
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(("crowd", "on_top"), [(0, 2), (1, 1)])
def test_coco_small_things_lie_on_large_ones_and_crowds_under_all(tmp_path, crowd, on_top):
    pytest.importorskip("pycocotools")
    found = choose(coco(tmp_path, crowd))
    assert found.class_names == ("background", "cat", "dog")
    labels = found.train().labels(0)
    expected = np.zeros((16, 24), np.uint8)
    expected[2:12, 2:14] = 1
    expected[4:8, 4:8] = on_top
    assert (labels == expected).all()


def test_coco_without_outlines(tmp_path):
    with pytest.raises(UserError, match="has objects without an outline"):
        choose(coco(tmp_path, outline=False)).train()
