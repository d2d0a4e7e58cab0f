"""Folders of pictures and road maps in every layout that is known, and what is wrong with others, in a line."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnlab.data import large_pictures
from cnnlab.data.pictures import CorruptPicture
from cnnlab.data.road_folders import RoadFolder, folders_of, mask_beside, one_picture, split_files
from cnnlab.data.road_patches import Tiling, WindowSource
from cnnlab.data.segmented import matched
from cnnlab.errors import UserError

ROADS = np.zeros((70, 80), np.uint8)
ROADS[20:30] = 255


def fill(images, masks, names, suffix=".png", roads=ROADS):
    images.mkdir(parents=True, exist_ok=True)
    masks.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        picture = np.full((70, 80, 3), 10 * i, np.uint8)
        picture[20:30] = 200
        Image.fromarray(picture).save(images / f"{name}{suffix}")
        Image.fromarray(roads).save(masks / f"{name}.tif")


LAYOUTS = {
    "massachusetts": [("train/sat", "train/map"), ("valid/sat", "valid/map"), ("test/sat", "test/map")],
    "named": [("mnih_roads_train_sat", "mnih_roads_train_map"), ("mnih_roads_test_sat", "mnih_roads_test_map")],
    "within": [
        ("mnih_roads_train/input", "mnih_roads_train/output"),
        ("mnih_roads_valid/input", "mnih_roads_valid/output"),
    ],
    "labels": [("train", "train_labels"), ("val", "val_labels"), ("test", "test_labels")],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_splits_of_every_layout(tmp_path, layout):
    places = LAYOUTS[layout]
    for i, (images, masks) in enumerate(places):
        fill(tmp_path / images, tmp_path / masks, [f"{i}a", f"{i}b"], ".tiff")
    train, test = split_files(tmp_path, 0.2)
    assert [picture.name for picture, _ in train] == ["0a.tiff", "0b.tiff"]
    last = len(places) - 1  # test rather than valid
    assert [(picture.name, mask.name) for picture, mask in test] == [
        (f"{last}{x}.tiff", f"{last}{x}.tif") for x in "ab"
    ]
    found = RoadFolder(test)
    assert (len(found), found.size(1), found.name(0)) == (2, (70, 80), str(test[0][0]))
    picture, roads = found.read(1, slice(15, 25), slice(3, 9))
    np.testing.assert_array_equal(picture[..., 0], np.where(roads, 200, 10))
    np.testing.assert_array_equal(roads, ROADS[15:25, 3:9] > 0)
    assert mask_beside(test[0][0]) == test[0][1]


def test_without_splits_a_share_is_held_out(tmp_path):
    fill(tmp_path / "sat", tmp_path / "map", [f"{i:02}" for i in range(20)])
    train, test = split_files(tmp_path, 0.3)
    assert len(train) + len(test) == 20
    assert 1 <= len(test) <= 12
    assert not {p for p, _ in train} & {p for p, _ in test}
    assert folders_of(tmp_path, "train") is None


def test_a_picture_with_its_truth_and_one_without(tmp_path):
    fill(tmp_path / "test" / "sat", tmp_path / "test" / "map", ["a"])
    known = one_picture(tmp_path / "test" / "sat" / "a.png")
    assert known.read(0, slice(0, 70), slice(0, 80))[1].sum() == 800
    alone = tmp_path / "a.png"
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(alone)
    unknown = one_picture(alone)
    assert unknown.mask is None
    assert not unknown.read(0, slice(0, 64), slice(0, 64))[1].any()


def test_masks_of_ones_and_of_three_channels_will_do(tmp_path):
    fill(tmp_path / "sat", tmp_path / "map", ["a", "b", "c", "d", "e", "f"], roads=ROADS // 255)
    for name in "ab":
        Image.fromarray(np.repeat(ROADS[..., None], 3, -1)).save(tmp_path / "map" / f"{name}.tif")
    for files in split_files(tmp_path, 0.5):
        folder = RoadFolder(files)
        for index in range(len(folder)):
            np.testing.assert_array_equal(folder.read(index, slice(0, 70), slice(0, 80))[1], ROADS > 0)


def broken(tmp_path, change):
    fill(tmp_path / "train" / "sat", tmp_path / "train" / "map", ["a", "b"])
    fill(tmp_path / "test" / "sat", tmp_path / "test" / "map", ["c"])
    change(tmp_path / "train")
    return RoadFolder(split_files(tmp_path, 0.2)[0])


def small_mask(folder):
    Image.fromarray(ROADS[:60]).save(folder / "map" / "b.tif")


def coloured(folder):
    colours = np.zeros((70, 80, 3), np.uint8)
    colours[20:30], colours[40:50, 3:] = (255, 0, 0), (0, 255, 0)
    Image.fromarray(colours).save(folder / "map" / "a.tif")


def toned(folder):
    Image.fromarray(np.tile(np.arange(80, dtype=np.uint8), (70, 1))).save(folder / "map" / "a.tif")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (small_mask, r"the mask .*b\.tif is 80×60, and its picture .*b\.png 80×70: they must be alike"),
        (coloured, r"a\.tif is not a mask of roads: it has the colour 255 0 0 in row 20, column 0"),
        (toned, r"a\.tif is not a mask of roads: it has the value 2 in row 0, column 2"),
        (lambda folder: (folder / "map" / "b.tif").unlink(), r"b\.png has no mask in .*map, as 1 of 2 have none"),
        (lambda folder: (folder / "sat" / "b.png").unlink(), r"the mask .*b\.tif has no picture"),
        (lambda folder: (folder / "sat" / "b.png").write_bytes(b"x"), r"b\.png is not a whole picture"),
        (lambda folder: (folder / "map" / "b.tif").write_bytes(b"x"), r"b\.tif is not a whole picture"),
        (lambda folder: (folder / "map").rename(folder / "maps"), "should hold sat/ and map/"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(tmp_path, change, message):
    with pytest.raises(UserError, match=message) as error:
        broken(tmp_path, change)
    assert "\n" not in str(error.value)


def test_a_later_mask_that_is_none_is_found_when_it_is_read(tmp_path):
    fill(tmp_path / "sat", tmp_path / "map", ["a", "b"])
    Image.fromarray(np.full((70, 80), 7, np.uint8)).save(tmp_path / "map" / "b.tif")
    pairs = [(tmp_path / "sat" / f"{name}.png", tmp_path / "map" / f"{name}.tif") for name in "ab"]
    with pytest.raises(UserError, match=r"b\.tif is not a mask of roads: it has the value 7 in row 0, column 0"):
        RoadFolder(pairs).read(1, slice(0, 9), slice(0, 9))
    colours = np.zeros((70, 80, 3), np.uint8)
    colours[40, 9] = 0, 255, 0
    Image.fromarray(colours).save(tmp_path / "map" / "b.tif")
    folder = RoadFolder(pairs)
    assert not folder.read(1, slice(0, 40), slice(0, 80))[1].any()
    with pytest.raises(
        UserError, match=r"b\.tif is not a mask of roads: it has the colour 0 255 0 in row 40, column 9"
    ):
        folder.read(1, slice(30, 50), slice(5, 20))
    with pytest.raises(UserError, match=r"the colour 0 255 0 in row 40, column 9"):
        folder.truth(1)
    with pytest.raises(CorruptPicture):
        one_picture(tmp_path / "nowhere.png")
    with pytest.raises(UserError, match="there is no folder"):
        split_files(tmp_path / "nowhere", 0.2)


def test_a_picture_in_the_current_folder_is_told_from_one_in_none(tmp_path, monkeypatch):
    fill(tmp_path / "sat", tmp_path / "map", ["a"])
    monkeypatch.chdir(tmp_path)
    assert mask_beside(Path("nothing.png")) is None
    assert mask_beside(Path("/a.png")) is None
    monkeypatch.chdir(tmp_path / "sat")
    for name in ("a.png", "./a.png", "../sat/a.png", "../map/../sat/a.png"):
        assert mask_beside(Path(name)) == tmp_path / "map" / "a.tif"
    assert one_picture(Path("a.png")).truth(0).sum() == 800
    (tmp_path / "map" / "sat").mkdir()
    Image.fromarray(ROADS).save(tmp_path / "map" / "sat" / "a.png")
    monkeypatch.chdir(tmp_path / "map" / "sat")
    assert mask_beside(Path("../../sat/a.png")) == tmp_path / "map" / "a.tif"


def test_prediction_finds_the_masks_that_training_pairs(tmp_path):
    (tmp_path / "sat").mkdir()
    (tmp_path / "map").mkdir()
    masks = {"a": "a.TIF", "b": "b_mask.png", "b_1": "b_1_mask.Png", "c.x": "c.x.bmp"}
    for picture, mask in masks.items():
        Image.fromarray(np.zeros((70, 80, 3), np.uint8)).save(tmp_path / "sat" / f"{picture}.png")
        Image.fromarray(ROADS).save(tmp_path / "map" / mask)
    paired = matched(tmp_path / "sat", tmp_path / "map")
    assert {picture.stem: mask.name for picture, mask in paired} == masks
    assert [mask_beside(picture) for picture, _ in paired] == [mask for _, mask in paired]
    Image.fromarray(ROADS).save(tmp_path / "map" / "a_2.png")
    assert mask_beside(tmp_path / "sat" / "a.png").name == "a.TIF"  # its own name comes first
    Image.fromarray(ROADS).save(tmp_path / "map" / "b_more.png")
    with pytest.raises(UserError, match=r"b\.png has two masks in .*map, b_mask\.png and b_more\.png"):
        mask_beside(tmp_path / "sat" / "b.png")


@pytest.mark.parametrize("kind", ["packed", "plain"])
def test_the_whole_map_is_read_without_its_picture(tmp_path, monkeypatch, kind):
    compression = {"packed": "tiff_lzw", "plain": None}[kind]
    fill(tmp_path / "sat", tmp_path / "map", ["a"])
    Image.fromarray(ROADS).save(tmp_path / "map" / "a.tif", compression=compression)
    pair = tmp_path / "sat" / "a.png", tmp_path / "map" / "a.tif"

    def read_picture(*_):
        raise AssertionError("a picture was read")

    monkeypatch.setattr(large_pictures, "read_picture", read_picture)
    for maps in (RoadFolder([pair]), one_picture(pair[0])):
        np.testing.assert_array_equal(WindowSource(maps, Tiling()).truth(0), ROADS > 0)
