"""scikit-learn's digits: the split, the scale, and that the pictures are the data set's."""

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from cnnlab.data.digits import CLASS_NAMES, TEST_EXAMPLES, TRAIN_EXAMPLES, digits


@pytest.mark.parametrize(("split", "count"), [("train", 1438), ("test", 359)])
def test_shapes_and_classes(split, count):
    source = digits(split)
    batch = source.batch(np.arange(len(source)))
    assert len(source) == count == {"train": TRAIN_EXAMPLES, "test": TEST_EXAMPLES}[split]
    assert (batch["image"].shape, batch["image"].dtype) == ((count, 28, 28, 1), np.uint8)
    assert batch["label"].dtype == np.int32
    assert source.class_names == CLASS_NAMES == tuple("0123456789")
    assert set(batch["label"]) == set(range(10))


def test_the_splits_share_no_picture_and_hold_all():
    # At size 8 nothing is interpolated, so the pictures are the data set's own, times 255/16.
    found = [digits(split, size=8).arrays for split in ("train", "test")]
    pictures = np.concatenate([arrays["image"] for arrays in found]).reshape(-1, 64)
    labels = np.concatenate([arrays["label"] for arrays in found])
    data = load_digits()

    def sort(pictures, labels):
        return sorted((*row, label) for row, label in zip(pictures.tolist(), labels.tolist(), strict=True))

    assert sort(np.round(pictures * (16 / 255)).astype(int), labels) == sort(data.data.astype(int), data.target)


def test_the_split_is_always_the_same_and_white_is_ink():
    first, again = digits("test").arrays, digits("test").arrays
    np.testing.assert_array_equal(first["image"], again["image"])
    assert first["image"].min() == 0
    assert first["image"].max() == 255
    assert first["image"][:, :3, :3].mean() < 16 < 100 < first["image"][:, 8:20, 8:20].mean()


def test_pictures_are_enlarged_bicubically():
    small, large = (
        digits("test", size=8).arrays["image"][7, :, :, 0],
        digits("test", size=20).arrays["image"][7, :, :, 0],
    )
    expected = Image.fromarray(small).resize((20, 20), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(large, np.asarray(expected))
