"""Selective search finds what is drawn, in the same order every time."""

import sys

import numpy as np
import pytest

from cnnlab.data.selective_search import selective_search
from cnnlab.errors import UserError


def picture(width=64):
    array = np.full((48, width, 3), 90, np.uint8)
    array[10:30, 20:44] = (200, 40, 40)
    return array


def test_a_square_is_found():
    pytest.importorskip("cv2")
    boxes = selective_search(picture())
    assert np.abs(boxes - [20, 10, 44, 30]).max(1).min() <= 1
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert (boxes <= [64, 48, 64, 48]).all()


def test_order_and_limit():
    pytest.importorskip("cv2")
    noisy = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8).repeat(3, 0).repeat(3, 1)
    first, again = selective_search(noisy), selective_search(noisy)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, selective_search(noisy, seed=1))
    assert np.array_equal(selective_search(noisy, limit=5), first[:5])


def test_wide_pictures_are_searched_smaller():
    pytest.importorskip("cv2")
    wide = picture().repeat(20, 0).repeat(20, 1)
    boxes = selective_search(wide)
    assert np.abs(boxes - [400, 200, 880, 600]).max(1).min() <= 10


def test_without_opencv(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UserError, match=r"pip install -e '.\[detection\]'"):
        selective_search(picture())
