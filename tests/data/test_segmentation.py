"""Pictures with label maps: batches by hand, resized to the nearest label, drawings, what cannot be read."""

import numpy as np
import pytest
from PIL import Image

from cnnlab.data.canvas import Resizing
from cnnlab.data.label_maps import plain_table
from cnnlab.data.segmentation import DrawnLabels, SegmentationSource, labels_of, pairs, resized_labels
from cnnlab.data.shapes import CLASS_NAMES, ShapesSource, draw
from cnnlab.data.source import Source
from cnnlab.errors import UserError


def files(folder, *sizes):
    found = []
    for i, (height, width) in enumerate(sizes):
        picture, mask = folder / f"{i}.jpg", folder / f"{i}.png"
        Image.fromarray(np.full((height, width, 3), 10 * i + 5, np.uint8)).save(picture)
        labels = np.zeros((height, width), np.uint8)
        labels[:, width // 2 :] = 1
        labels[0] = 255
        Image.fromarray(labels).save(mask)
        found.append((picture, mask))
    return found


def source(folder, *sizes, resizing=None):
    return SegmentationSource(pairs(files(folder, *sizes), plain_table("ab")), ("a", "b"), resizing or Resizing(0, 64))


def test_a_batch_by_hand(tmp_path):
    found = source(tmp_path, (20, 40), (64, 30))
    assert isinstance(found, Source)
    batch = found.batch(np.array([0, 1]))
    kinds = {name: (array.shape, array.dtype) for name, array in batch.items()}
    assert kinds == {
        "image": ((2, 64, 64, 3), np.uint8),
        "size": ((2, 2), np.int32),
        "original": ((2, 2), np.int32),
        "segmentation": ((2, 64, 64), np.uint8),
    }
    assert batch["size"].tolist() == batch["original"].tolist() == [[20, 40], [64, 30]]
    labels = batch["segmentation"][0]
    assert (labels[0] == 255).all()
    assert (labels[1:20, :20] == 0).all()
    assert (labels[1:20, 20:40] == 1).all()
    assert (labels[20:] == 255).all()
    assert (labels[:, 40:] == 255).all()
    assert found.canvas(np.array([0])) == (32, 64)
    assert found.labels(1).shape == found.picture(1).shape[:2] == (64, 30)


def test_large_pictures_and_their_labels_are_made_smaller(tmp_path):
    batch = source(tmp_path, (32, 128)).batch(np.array([0]))
    assert batch["size"].tolist() == [[16, 64]]
    assert batch["original"].tolist() == [[32, 128]]
    assert (batch["segmentation"][0, 1:16, :32] == 0).all()
    assert (batch["segmentation"][0, 1:16, 32:64] == 1).all()


def test_labels_are_never_mixed():
    labels = np.array([[0, 0, 9, 9], [0, 0, 9, 9], [4, 4, 7, 7], [4, 4, 7, 7]], np.uint8)
    assert resized_labels(labels, (2, 2)).tolist() == [[0, 9], [4, 7]]
    assert set(np.unique(resized_labels(labels, (7, 9)))) == {0, 4, 7, 9}
    assert resized_labels(labels, (4, 4)) is labels


def test_drawings():
    found = DrawnLabels(ShapesSource("test", 5, 64))
    batch = found.batch(np.array([3, 1]))
    scene = draw("test", 3, 64)
    assert found.class_names == ("background", *CLASS_NAMES)
    assert (batch["image"][0] == scene.picture).all()
    assert (batch["segmentation"][0] == labels_of(scene)).all()
    for thing, mask in zip(scene.things, scene.masks(), strict=True):
        assert (batch["segmentation"][0][mask] == 1 + CLASS_NAMES.index(thing.shape)).all()
    assert (batch["segmentation"][0] == 0).sum() == (scene.instances == 0).sum()
    assert (found.labels(1) == batch["segmentation"][1]).all()


def test_masks_are_read_before_the_training(tmp_path):
    found = files(tmp_path, (4, 4), (4, 4))
    Image.fromarray(np.full((4, 4), 7, np.uint8)).save(found[1][1])
    with pytest.raises(UserError, match=r"1.png has the value 7 in row 0, column 0"):
        pairs(found, plain_table("ab"))
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(found[1][1])
    with pytest.raises(UserError, match=r"1.png is 5×4, and its picture 4×4"):
        pairs(found, plain_table("ab"))


def test_pictures_that_cannot_be_read_are_named_once_and_masked(tmp_path, capsys):
    found = source(tmp_path, (8, 8), (8, 8))
    (tmp_path / "1.jpg").write_bytes((tmp_path / "1.jpg").read_bytes()[:200])
    for _ in range(2):
        assert found.batch(np.array([0, 1]))["mask"].tolist() == [1, 0]
    assert capsys.readouterr().err.count("left out: ") == 1
    assert not found.picture(1).any()
