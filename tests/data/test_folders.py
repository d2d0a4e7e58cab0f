"""The user's own pictures: listing, splitting, reading, and what is said of pictures that cannot be read."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnlab.data import folders
from cnnlab.data.folders import FolderSource, Listing, folder_source, list_classes, split_listing
from cnnlab.data.source import ArraySource, Source
from cnnlab.errors import UserError

SHAPE = (4, 4, 1)


def put(path, grey=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 4), grey, np.uint8)).save(path)
    return path


def fill(folder, count=20, classes=("cat", "dog")):
    """Pictures of the greys 0, 1, 2 … in each class."""
    for name in classes:
        for grey in range(count):
            put(folder / name / f"{grey:02}.png", grey)
    return folder


def names(listing, folder):
    return {path.relative_to(folder).as_posix() for path in listing.paths}


def test_classes_are_sorted_and_files_listed_in_depth(tmp_path):
    put(tmp_path / "b" / "2.png")
    put(tmp_path / "b" / "1.PNG")
    put(tmp_path / "a" / "deeper" / "3.jpeg")
    put(tmp_path / "stray.png")
    put(tmp_path / ".hidden" / "4.png")
    (tmp_path / "a" / "notes.txt").write_text("no picture")
    listing = list_classes(tmp_path)
    assert listing.class_names == ("a", "b")
    assert listing.paths == (tmp_path / "a" / "deeper" / "3.jpeg", tmp_path / "b" / "1.PNG", tmp_path / "b" / "2.png")
    assert listing.labels == (0, 1, 1)


def test_a_subset():
    a, b, c = Path("a"), Path("b"), Path("c")
    listing = Listing((a, b, c), (0, 1, 0), ("x", "y"))
    assert listing.subset([2, 0]) == Listing((c, a), (0, 0), ("x", "y"))


def test_a_missing_folder(tmp_path):
    with pytest.raises(UserError, match=re.escape(f"there is no folder {tmp_path / 'none'}")):
        list_classes(tmp_path / "none")


def test_an_empty_folder(tmp_path):
    with pytest.raises(UserError, match="has 0 class folders: it should hold two or more folders"):
        list_classes(tmp_path)


def test_one_class(tmp_path):
    fill(tmp_path, classes=("cat",))
    with pytest.raises(UserError, match="has 1 class folders"):
        list_classes(tmp_path)


def test_classes_without_pictures(tmp_path):
    fill(tmp_path)
    (tmp_path / "bird").mkdir()
    (tmp_path / "wolf").mkdir()
    with pytest.raises(UserError, match="has no pictures in bird, wolf"):
        list_classes(tmp_path)


def test_the_split_holds_every_picture_once_and_about_the_share(tmp_path):
    fill(tmp_path, 100)
    train, test = (names(side, tmp_path) for side in split_listing(tmp_path, 0.2))
    assert not train & test
    assert train | test == names(list_classes(tmp_path), tmp_path)
    assert 20 <= len(test) <= 60  # of 200; three standard deviations are 17


def test_the_split_is_by_the_path_within_the_folder(tmp_path):
    sides = [split_listing(fill(tmp_path / place), 0.3) for place in ("one", "two/deeper")]
    assert names(sides[0][1], tmp_path / "one") == names(sides[1][1], tmp_path / "two/deeper")


def test_the_split_is_the_same_on_every_machine_and_in_every_version(tmp_path):
    # By sha256sum, the hashes of "cat/00.png" … "dog/02.png" begin with be, 4b, f2, 4f, cf, fb: a half is 80.
    fill(tmp_path, 3)
    _, test = split_listing(tmp_path, 0.5)
    assert names(test, tmp_path) == {"cat/01.png", "dog/00.png"}


def test_pictures_keep_their_side_when_others_are_added(tmp_path):
    train, test = (names(side, tmp_path) for side in split_listing(fill(tmp_path), 0.3))
    fill(tmp_path, 60, ("cat", "dog", "aardvark"))
    more_train, more_test = (names(side, tmp_path) for side in split_listing(tmp_path, 0.3))
    assert train < more_train
    assert test < more_test


def test_a_greater_share_holds_out_the_same_pictures_and_more(tmp_path):
    fill(tmp_path, 50)
    small, large = (names(split_listing(tmp_path, share)[1], tmp_path) for share in (0.1, 0.4))
    assert small < large


@pytest.mark.parametrize("share", [1e-9, 1 - 1e-9])
def test_too_few_pictures_to_split(tmp_path, share):
    with pytest.raises(UserError, match=f"has 40 pictures, too few to hold out {share:.0%}"):
        split_listing(fill(tmp_path, 20), share)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, float("nan")])
def test_the_share_lies_between_0_and_1(tmp_path, share):
    with pytest.raises(UserError, match="must lie between 0 and 1"):
        split_listing(fill(tmp_path, 20), share)


@pytest.mark.parametrize("name", ["test", "val", "valid", "validation"])
def test_train_and_test_folders_are_used(tmp_path, name):
    fill(tmp_path / "train", 3)
    fill(tmp_path / name, 2)
    train, test = split_listing(tmp_path, 0.5)
    assert (len(train.paths), len(test.paths)) == (6, 4)
    assert all(path.is_relative_to(tmp_path / "train") for path in train.paths)
    assert all(path.is_relative_to(tmp_path / name) for path in test.paths)
    assert train.class_names == test.class_names == ("cat", "dog")


def test_train_and_test_folders_of_different_classes(tmp_path):
    fill(tmp_path / "train", 2, ("cat", "dog", "emu"))
    fill(tmp_path / "test", 2, ("cat", "dog", "owl"))
    with pytest.raises(UserError, match="hold different classes: emu, owl is in one only"):
        split_listing(tmp_path, 0.5)


def test_a_class_called_test_without_train_is_a_class(tmp_path):
    fill(tmp_path, 20, ("rest", "test"))
    assert split_listing(tmp_path, 0.3)[0].class_names == ("rest", "test")


@pytest.mark.parametrize("invert", [False, True])
def test_in_memory_and_batch_by_batch_are_the_same(tmp_path, monkeypatch, invert):
    listing = list_classes(fill(tmp_path, 5))
    in_memory = folder_source(listing, SHAPE, invert)
    monkeypatch.setattr(folders, "MEMORY_LIMIT", 10 * 16 - 1)
    lazy = folder_source(listing, SHAPE, invert)
    assert isinstance(in_memory, ArraySource)
    assert isinstance(lazy, FolderSource)
    assert isinstance(lazy, Source)
    indices = np.array([9, 0, 3, 3])
    first, second = in_memory.batch(indices), lazy.batch(indices)
    assert first.keys() == second.keys() == {"image", "label"}
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
        assert first[name].dtype == second[name].dtype
    greys = np.array([4, 0, 3, 3])
    assert second["image"][:, 0, 0, 0].tolist() == (255 - greys if invert else greys).tolist()
    assert second["label"].tolist() == [1, 0, 0, 0]
    assert len(in_memory) == len(lazy) == 10
    assert in_memory.class_names == lazy.class_names == ("cat", "dog")


def test_pictures_as_large_as_the_limit_stay_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "MEMORY_LIMIT", 4 * 16)
    assert isinstance(folder_source(list_classes(fill(tmp_path, 2)), SHAPE), ArraySource)


def damage(folder, *where):
    for name in where:
        (folder / name).write_bytes(b"no picture")


def test_in_memory_unreadable_pictures_are_named_counted_and_left_out(tmp_path, capsys):
    listing = list_classes(fill(tmp_path, 3))
    damage(tmp_path, "cat/01.png", "dog/02.png")
    source = folder_source(listing, SHAPE)
    said = capsys.readouterr().err
    assert f"left out: {tmp_path / 'cat' / '01.png'} is not a whole picture" in said
    assert f"left out: {tmp_path / 'dog' / '02.png'} is not a whole picture" in said
    assert said.splitlines()[-1] == "2 of 6 pictures cannot be read and are left out"
    assert len(said.splitlines()) == 3
    assert source.arrays["image"][:, 0, 0, 0].tolist() == [0, 2, 0, 1]
    assert source.arrays["label"].tolist() == [0, 0, 1, 1]


def test_good_pictures_are_not_talked_about(tmp_path, capsys):
    folder_source(list_classes(fill(tmp_path, 3)), SHAPE)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_batch_by_batch_unreadable_pictures_are_named_once_and_masked(tmp_path, capsys):
    listing = list_classes(fill(tmp_path, 3))
    damage(tmp_path, "cat/01.png", "dog/02.png")
    source = FolderSource(listing, SHAPE)
    assert "mask" not in source.batch(np.array([0, 2]))
    for _ in range(2):
        batch = source.batch(np.array([0, 1, 2, 5]))
        assert batch["mask"].tolist() == [1, 0, 1, 0]
        assert batch["image"][:, 0, 0, 0].tolist() == [0, 0, 2, 0]
        assert batch["label"].tolist() == [0, 0, 0, 1]
    said = capsys.readouterr().err.splitlines()
    assert [line[-10:] for line in said] == ["(1 so far)", "(2 so far)"]
    assert str(tmp_path / "cat" / "01.png") in said[0]
    assert str(tmp_path / "dog" / "02.png") in said[1]


def test_no_readable_picture_at_all(tmp_path):
    listing = list_classes(fill(tmp_path, 2))
    damage(tmp_path, "cat/00.png", "cat/01.png", "dog/00.png", "dog/01.png")
    with pytest.raises(UserError, match=r"none of the 4 pictures near .*00\.png can be read"):
        folder_source(listing, SHAPE)


@pytest.mark.parametrize("limit", [0, 1 << 30])
def test_pictures_are_stretched_or_cropped(tmp_path, monkeypatch, limit):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.repeat(np.array([[0, 100, 200, 0]], np.uint8), 2, 0)).save(tmp_path / name / "a.png")
    monkeypatch.setattr(folders, "MEMORY_LIMIT", limit)
    listing = list_classes(tmp_path)
    cropped, stretched = (
        folder_source(listing, (2, 2, 1), crop=crop).batch(np.array([0]))["image"] for crop in (True, False)
    )
    assert cropped[0, 0, :, 0].tolist() == [100, 200]
    assert stretched[0, 0, :, 0].tolist() != [100, 200]
