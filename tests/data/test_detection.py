"""Pictures of mixed sizes: the papers' rule by hand, canvases, padding, scaled boxes, what cannot be read."""

import dataclasses
import io
import re

import numpy as np
import pytest
from PIL import Image

from cnnlab.data.annotations import Annotation
from cnnlab.data.canvas import Resizing, on_canvas, read_resized
from cnnlab.data.detection import DetectionSource, Relabelled, padded
from cnnlab.data.pictures import CorruptPicture
from cnnlab.data.proposals import WithProposals
from cnnlab.data.source import Head, Source
from cnnlab.data.tfds_objects import Records
from cnnlab.errors import UserError


def annotation(picture, size, boxes, labels, ignored=None):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    label = np.array(labels, np.int32)
    hidden = np.zeros(len(label), bool) if ignored is None else np.array(ignored)
    return Annotation(picture, *size, boxes, label, hidden, (boxes[:, 2:] - boxes[:, :2]).prod(-1))


def png(path, size, grey=200):
    Image.fromarray(np.full((*size, 3), grey, np.uint8)).save(path)
    return path


def source_of(folder, most=3, resizing=None):
    """A lying picture of 20×40 with two objects, a standing one of 60×30 with one, a small square one with none."""
    annotations = [
        annotation(
            png(folder / "lying.png", (20, 40)), (20, 40), [[0, 0, 40, 20], [5, 10, 10, 20]], [1, 0], [True, False]
        ),
        annotation(png(folder / "standing.png", (60, 30), 100), (60, 30), [[3, 6, 9, 12]], [1]),
        annotation(png(folder / "square.png", (8, 8), 50), (8, 8), [], []),
    ]
    return DetectionSource(annotations, ("cat", "dog"), resizing or Resizing(16, 30, 8), most)


def test_a_batch_by_hand(tmp_path):
    source = source_of(tmp_path)
    assert isinstance(source, Source)
    assert (len(source), source.class_names) == (3, ("cat", "dog"))
    batch = source.batch(np.array([0, 1]))
    kinds = {name: (array.shape, array.dtype) for name, array in batch.items()}
    assert kinds == {
        "image": ((2, 32, 32, 3), np.uint8),
        "size": ((2, 2), np.int32),
        "original": ((2, 2), np.int32),
        "boxes": ((2, 3, 4), np.float32),
        "label": ((2, 3), np.int32),
        "ignored": ((2, 3), bool),
        "area": ((2, 3), np.float32),
    }
    # 20×40 · 0.75 = 15×30, as 16×32 would be too long; 60×30 · 0.5 = 30×15.
    assert batch["size"].tolist() == [[15, 30], [30, 15]]
    assert batch["original"].tolist() == [[20, 40], [60, 30]]
    assert batch["boxes"].tolist() == [
        [[0, 0, 30, 15], [3.75, 7.5, 7.5, 15], [0, 0, 0, 0]],
        [[1.5, 3, 4.5, 6], [0, 0, 0, 0], [0, 0, 0, 0]],
    ]
    assert batch["label"].tolist() == [[1, 0, -1], [1, -1, -1]]
    assert batch["ignored"].tolist() == [[True, False, False], [False, False, False]]
    assert batch["area"].tolist() == [[800, 50, 0], [36, 0, 0]]
    for image, grey, (height, width) in zip(batch["image"], (200, 100), batch["size"], strict=True):
        assert (image[:height, :width] == grey).all()
        assert not image[height:].any()
        assert not image[:, width:].any()


def test_boxes_go_back_to_the_stored_pictures_pixels(tmp_path):
    source = source_of(tmp_path)
    batch = source.batch(np.arange(3))
    back = batch["boxes"] * (batch["original"] / batch["size"])[:, None, [1, 0, 1, 0]]
    assert back[0, :2].tolist() == [[0, 0, 40, 20], [5, 10, 10, 20]]
    assert back[1, 0].tolist() == [3, 6, 9, 12]


def test_the_canvas_is_the_batchs_or_the_callers(tmp_path):
    source = source_of(tmp_path)
    assert source.canvas(np.array([2])) == (16, 16)
    assert source.canvas(np.array([0])) == (16, 32)
    assert source.canvas(np.array([1, 2])) == (32, 16)
    assert source.batch(np.array([2]))["image"].shape == (1, 16, 16, 3)
    small, wide = source.batch(np.array([2])), source.batch(np.array([2]), source.canvas(np.array([0, 2])))
    assert wide["image"].shape == (1, 16, 32, 3)
    np.testing.assert_array_equal(wide["image"][:, :, :16], small["image"])
    assert not wide["image"][:, :, 16:].any()
    np.testing.assert_array_equal(wide["boxes"], small["boxes"])


def test_more_objects_than_the_padding_holds_are_never_dropped(tmp_path):
    with pytest.raises(UserError, match=r"lying\.png has 2 objects, and config\.objects is 1: 2 holds all"):
        source_of(tmp_path, most=1)


def test_unreadable_pictures_are_named_once_and_masked(tmp_path, capsys):
    source = source_of(tmp_path)
    assert "mask" not in source.batch(np.array([0, 1, 2]))
    (tmp_path / "standing.png").write_bytes(b"no picture")
    for _ in range(2):
        batch = source.batch(np.array([0, 1]))
        assert batch["mask"].tolist() == [1, 0]
        assert batch["image"][0, 0, 0, 0] == 200
        assert not batch["image"][1].any()
        assert batch["label"].tolist() == [[1, 0, -1], [1, -1, -1]]
    assert not source.picture(1).any()
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert re.match(r"left out: .*standing\.png is not a whole picture .*\(1 so far\)", said[0])


def test_the_stored_picture(tmp_path):
    picture = source_of(tmp_path).picture(1)
    assert (picture.shape, picture.dtype) == ((60, 30, 3), np.uint8)
    assert (picture == 100).all()


def test_pictures_in_memory_are_decoded_too(tmp_path):
    path = png(tmp_path / "a.png", (20, 40))
    files, records = (
        DetectionSource([annotation(picture, (20, 40), [[5, 10, 10, 20]], [0])], ("cat",), Resizing(16, 30, 8), 1)
        for picture in (path, path.read_bytes())
    )
    for name, array in files.batch(np.array([0])).items():
        np.testing.assert_array_equal(array, records.batch(np.array([0]))[name])


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_file_is_read_upright_for_predictions(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.full((20, 40, 3), 90, np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    picture, original = read_resized(tmp_path / "a.jpg", Resizing(16, 30, 8))
    lying = orientation == 1
    assert original == ((20, 40) if lying else (40, 20))
    assert picture.shape == ((15, 30, 3) if lying else (30, 15, 3))
    assert np.abs(picture.astype(int) - 90).max() <= 2
    batch = on_canvas([picture], [original], (32, 32))
    assert batch["size"].tolist() == [list(picture.shape[:2])]


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(CorruptPicture, match=r"a\.jpg is not a whole picture"):
        read_resized(tmp_path / "a.jpg", Resizing())
    with pytest.raises(CorruptPicture, match=r"b\.jpg cannot be read"):
        read_resized(tmp_path / "b.jpg", Resizing())
    whole = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(whole, "PNG")
    (tmp_path / "c.png").write_bytes(whole.getvalue()[:2000])
    with pytest.raises(CorruptPicture, match=r"c\.png is not a whole picture"):
        read_resized(tmp_path / "c.png", Resizing())


def test_boxes_are_scaled_by_each_side_of_its_own():
    one = annotation(b"", (10, 100), [[10, 1, 30, 3]], [0])
    assert padded([one], np.array([[20, 50]], np.int32), 1)["boxes"].tolist() == [[[5, 2, 15, 6]]]


def test_padding_of_no_pictures():
    assert padded([], np.zeros((0, 2), np.int32), 4)["boxes"].shape == (0, 4, 4)


OUTLINES = ((np.array([0, 0, 20, 0, 20, 20, 0, 20], np.float32),), {"counts": [20 * 5 + 10, 5, 685], "size": [20, 40]})


def with_outlines(folder, outlines=OUTLINES):
    one = annotation(png(folder / "a.png", (20, 40)), (20, 40), [[0, 0, 40, 20], [5, 10, 10, 20]], [1, 0])
    return dataclasses.replace(one, outlines=outlines)


def test_masks_are_those_of_the_outlines_and_come_as_windows(tmp_path):
    empty = annotation(png(tmp_path / "b.png", (8, 8)), (8, 8), [], [])
    source = DetectionSource([with_outlines(tmp_path), empty], ("cat", "dog"), Resizing(16, 30, 8), 3, mask_window=4)
    first, second = source.masks(0)
    assert np.argwhere(first).max(0).tolist() == [19, 19]
    assert first.sum() == 400
    # Run lengths go down the columns: of column 5 the pixels 10 to 14.
    assert np.argwhere(second).tolist() == [[i, 5] for i in range(10, 15)]
    assert source.masks(1).shape == (0, 8, 8)
    masks = source.batch(np.arange(2))["masks"]
    assert (masks.shape, masks.dtype) == ((2, 3, 4, 4), np.uint8)
    assert (masks[0, 0] == [255, 255, 0, 0]).all()
    # Of the box 5 10 10 20 a fifth of the columns and half of the rows.
    assert (masks[0, 1, :2, 0] > 127).all()
    assert not masks[0, 1, 3].any()
    assert not masks[0, 1, :, 2:].any()
    assert not masks[0, 2].any()
    assert not masks[1].any()
    assert "masks" not in dataclasses.replace(source, mask_window=0).batch(np.arange(2))
    assert np.array_equal(Relabelled(source, ("x",), np.array([0, 0])).masks(0), source.masks(0))
    assert np.array_equal(WithProposals(source, [], 1).masks(0), source.masks(0))
    assert np.array_equal(Head(source, 1).masks(0), source.masks(0))


@pytest.mark.parametrize("outlines", [(), (OUTLINES[0], None)])
def test_masks_of_objects_without_an_outline(tmp_path, outlines):
    box = "0 0 40 20" if not outlines else "5 10 10 20"
    one = with_outlines(tmp_path, outlines)
    with pytest.raises(UserError, match=rf"a\.png: the object in the box {box} has no outline"):
        DetectionSource([one], ("cat", "dog"), Resizing(16, 30, 8), 3, mask_window=4)
    DetectionSource([one], ("cat", "dog"), Resizing(16, 30, 8), 3)


def test_masks_of_a_set_that_has_none():
    with pytest.raises(UserError, match="coco/2017 of TFDS has boxes and no outlines: masks need a folder as COCO's"):
        DetectionSource(Records([], "coco/2017", False), ("cat",), Resizing(16, 30, 8), 3, mask_window=4)
