"""Sets to train and to test on, from digits and from folders; TFDS ones make their sources late."""

import numpy as np
import pytest
from PIL import Image

from cnnlab.data import labelled
from cnnlab.data.digits import digits
from cnnlab.errors import UserError


def test_digits_in_colour():
    data = labelled.of_digits(20)
    train, test = data.train(), data.test()
    assert (len(train), len(test), data.train_examples) == (1438, 359, 1438)
    assert data.class_names == train.class_names == tuple("0123456789")
    assert train.arrays["image"].shape == (1438, 20, 20, 3)
    for channel in range(3):
        np.testing.assert_array_equal(test.arrays["image"][..., channel], digits("test", 20).arrays["image"][..., 0])
    assert data.prepare is None


@pytest.mark.parametrize("sides", [("train", "val"), ("",)])
def test_a_folder_is_cropped_and_split(tmp_path, sides):
    picture = np.repeat(np.array([[0, 100, 200, 0]], np.uint8), 2, 0)
    for side in sides:
        for i in range(20):
            path = tmp_path / side / ("cat", "dog")[i % 2] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path)
    data = labelled.of_folder(tmp_path, 0.3, 2)
    train, test = data.train(), data.test()
    assert data.class_names == ("cat", "dog")
    assert data.train_examples == len(train)
    assert len(train) + len(test) == 20 * len(sides)
    assert train.batch(np.array([0]))["image"][0, 1].tolist() == [[100] * 3, [200] * 3]


def test_a_tfds_set_is_read_when_it_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    data = labelled.of_tfds("imagenet2012", "validation", ("a", "b"), 7, 256, "alexnet_imagenet")
    assert (data.class_names, data.train_examples) == (("a", "b"), 7)
    assert data.prepare is not None
    for read in (data.train, data.test):
        with pytest.raises(UserError, match=r"imagenet2012 is not in .*--experiment=alexnet_imagenet --mode=prepare"):
            read()
