"""Examples kept in memory."""

import numpy as np

from cnnlab.data.source import ArraySource, Source


def test_a_batch_gathers_every_field():
    image = np.arange(12, dtype=np.uint8).reshape(3, 2, 2, 1)
    source = ArraySource({"image": image, "label": np.array([5, 6, 7])}, ("a", "b"))
    batch = source.batch(np.array([2, 0, 2]))
    assert len(source) == 3
    assert isinstance(source, Source)
    np.testing.assert_array_equal(batch["image"], np.stack([image[2], image[0], image[2]]))
    assert batch["label"].tolist() == [7, 5, 7]
    assert "mask" not in batch


def test_a_batch_is_a_copy():
    source = ArraySource({"label": np.array([1, 2])})
    source.batch(np.array([0]))["label"][0] = 9
    assert source.arrays["label"].tolist() == [1, 2]
