"""One object a picture: the largest that counts, canvases alike, what has no object or cannot be read."""

import numpy as np
import pytest
from PIL import Image

from cnnlab.data import pipeline
from cnnlab.data.canvas import Resizing
from cnnlab.data.detection import DetectionSource
from cnnlab.data.one_object import largest, one_object
from cnnlab.data.shapes import ShapesSource
from cnnlab.data.source import Source
from cnnlab.errors import UserError
from tests.data.test_detection import annotation, png, source_of


def test_the_largest_counts():
    boxes = np.array(
        [[[0, 0, 2, 2], [1, 1, 4, 3], [0, 0, 9, 9]], [[0, 0, 1, 2], [0, 0, 2, 1], [0, 0, 0, 0]]], np.float32
    )
    label = np.array([[1, 2, 0], [3, 4, -1]], np.int32)
    none = np.zeros((2, 3), bool)
    box, found = largest(boxes, label, none)
    assert box.tolist() == [[0, 0, 9, 9], [0, 0, 1, 2]]  # of equal ones the first
    assert found.tolist() == [0, 3]
    box, found = largest(boxes, label, np.array([[False, False, True], [True, True, False]]))
    assert box.tolist() == [[1, 1, 4, 3], [0, 0, 0, 0]]
    assert found.tolist() == [2, -1]
    assert (box.dtype, found.dtype) == (np.float32, np.int32)


def test_a_folders_pictures(tmp_path, capsys):
    # Of the source's three pictures the last has no object; the first one's largest is ignored.
    source = one_object(source_of(tmp_path, resizing=Resizing(20, 20, multiple=1)), 20)
    assert isinstance(source, Source)
    assert "left out: 1 of 3 pictures without an object that counts, " in capsys.readouterr().err
    assert len(source) == 2
    assert source.class_names == ("cat", "dog")
    batch = source.batch(np.array([1, 0]))
    assert "mask" not in batch
    assert batch["image"].shape == (2, 20, 20, 3)
    assert batch["size"].tolist() == [[20, 10], [10, 20]]
    assert batch["original"].tolist() == [[60, 30], [20, 40]]
    assert batch["label"].tolist() == [1, 0]
    assert batch["boxes"].tolist() == [[[1, 2, 3, 4]], [[2.5, 5, 5, 10]]]  # thirds and halves
    assert source.picture(1).shape == (60, 30, 3)


def test_the_index_skips_what_is_left_out(tmp_path):
    blank = annotation(png(tmp_path / "blank.png", (10, 10)), (10, 10), [], [])
    full = annotation(png(tmp_path / "full.png", (10, 10), 77), (10, 10), [[0, 0, 5, 5]], [0])
    source = one_object(DetectionSource([blank, full], ("cat",), Resizing(10, 10, 1), 1), 10)
    batch = pipeline.eval_batch(source, 0, 2, slice(None))
    assert batch["index"].tolist() == [0, 0]
    assert batch["mask"].tolist() == [1, 0]  # the second is padding
    assert (batch["image"][0] == 77).all()
    assert (source.picture(0) == 77).all()


def test_what_cannot_be_read_is_masked(tmp_path):
    whole = png(tmp_path / "whole.png", (10, 10), 50)
    broken = tmp_path / "broken.png"
    broken.write_bytes(whole.read_bytes()[:30])
    annotations = [annotation(path, (10, 10), [[0, 0, 5, 5]], [0]) for path in (broken, whole)]
    source = one_object(DetectionSource(annotations, ("cat",), Resizing(10, 10, 1), 1), 10)
    assert source.batch(np.arange(2))["mask"].tolist() == [0, 1]


class Records:
    """A source whose objects cannot be counted beforehand: every other picture has one."""

    class_names = ("cat",)

    def __len__(self):
        return 4

    def batch(self, indices, canvas):
        odd = indices % 2
        boxes = np.array([0, 0, 4, 4], np.float32) * odd[:, None, None]
        size = np.full((len(indices), 2), 8, np.int32)
        image = np.zeros((len(indices), *canvas, 3), np.uint8) + indices.astype(np.uint8)[:, None, None, None]
        label = (odd - 1)[:, None].astype(np.int32)
        ignored = np.zeros(label.shape, bool)
        return {"image": image, "size": size, "original": size, "boxes": boxes, "label": label, "ignored": ignored}


def test_pictures_that_turn_out_to_have_no_object_are_masked_and_never_trained_on(capsys):
    source = one_object(Records(), 8)
    assert len(source) == 4
    batch = source.batch(np.arange(4))
    assert batch["mask"].tolist() == [0, 1, 0, 1]
    assert batch["label"].tolist() == [-1, 0, -1, 0]
    source.batch(np.arange(4))
    assert capsys.readouterr().err.count("\n") == 1
    train = pipeline.train_batch(source, 0, 0, 4, slice(None))
    assert (train["label"] == 0).all()
    assert (train["image"] % 2 == 1).all()


def test_no_object_at_all(tmp_path):
    one = annotation(png(tmp_path / "a.png", (10, 10)), (10, 10), [[0, 0, 5, 5]], [0], [True])
    with pytest.raises(UserError, match="not one of the 1 pictures has an object"):
        one_object(DetectionSource([one], ("cat",), Resizing(10, 10, 1), 1), 10)


@pytest.mark.parametrize("size", [50, 64])
def test_drawn_shapes_one_a_picture_on_canvases_of_any_size(size):
    drawn = ShapesSource("test", 20, size, 1)
    source = one_object(drawn, size)
    batch = source.batch(np.arange(20))
    assert batch["image"].shape == (20, size, size, 3)
    assert (batch["label"] >= 0).all()
    assert "mask" not in batch
    scene = drawn.scene(3)
    assert batch["boxes"][3, 0].tolist() == list(scene.things[0].box)
    np.testing.assert_array_equal(batch["image"][3], scene.picture)
    assert Image.fromarray(source.picture(3)).size == (size, size)
