"""Cached proposals: found once, taken up where a run stopped, kept apart by source and settings, padded in batches."""

import numpy as np
import pytest

from cnnlab.data import proposals
from cnnlab.data.proposals import WithProposals, find_all
from cnnlab.data.shapes import ShapesSource


@pytest.fixture
def source():
    return ShapesSource("train", 5, 32, 3)


def finder(calls):
    def find(picture):
        calls.append(picture.shape)
        return np.array([[0, 0, len(calls), 2]] * len(calls), np.float32)

    return find


def test_found_once_and_the_same_from_the_disk(source, tmp_path, monkeypatch):
    monkeypatch.setattr(proposals, "PART", 2)
    calls = []
    first = find_all(source, finder(calls), "a", "looking", tmp_path)
    assert [len(own) for own in first] == [1, 2, 3, 4, 5]
    again = find_all(source, finder(calls), "a", "looking", tmp_path)
    assert len(calls) == 5
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_a_stopped_or_damaged_search_does_only_what_is_missing(source, tmp_path, monkeypatch):
    monkeypatch.setattr(proposals, "PART", 2)
    calls = []

    def fails(picture):
        if len(calls) == 3:
            raise KeyboardInterrupt
        return finder(calls)(picture)

    with pytest.raises(KeyboardInterrupt):
        find_all(source, fails, "a", "looking", tmp_path)
    (part,) = tmp_path.rglob("*.npz")  # the part that was begun is not there in half
    del calls[:]
    find_all(source, finder(calls), "a", "looking", tmp_path)
    assert len(calls) == 3
    part.write_bytes(part.read_bytes()[:40])
    find_all(source, finder(calls), "a", "looking", tmp_path)
    assert len(calls) == 5


def test_other_settings_and_pictures_are_kept_apart(source, tmp_path):
    calls = []
    find_all(source, finder(calls), "a", "looking", tmp_path)
    find_all(source, finder(calls), "b", "looking", tmp_path)
    find_all(ShapesSource("test", 5, 32, 3), finder(calls), "a", "looking", tmp_path)
    assert len(calls) == 15


def test_batches_have_them_padded(source):
    own = [np.full((index, 4), index + 1, np.float32) for index in range(5)]
    whole = WithProposals(source, own, most=3)
    batch = whole.batch(np.array([0, 2, 4]))
    assert batch["proposals"].shape == (3, 3, 4)
    assert batch["proposals"][..., 0].tolist() == [[0, 0, 0], [3, 3, 0], [5, 5, 5]]
    assert np.array_equal(batch["image"], source.batch(np.array([0, 2, 4]))["image"])
    assert len(whole) == 5
    assert whole.class_names == source.class_names


def test_boxes_are_scaled_with_their_picture():
    class Resized:
        class_names = ()

        def __len__(self):
            return 1

        def canvas(self, indices):
            return 20, 10

        def batch(self, indices, canvas=None):
            return {"size": np.array([[20, 10]]), "original": np.array([[40, 30]])}

    batch = WithProposals(Resized(), [np.array([[3.0, 4.0, 30.0, 40.0]], np.float32)], most=1).batch(np.array([0]))
    assert np.allclose(batch["proposals"], [[[1, 2, 10, 20]]])
