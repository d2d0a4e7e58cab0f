"""Outlines and masks: by hand, beside pycocotools, and there and back."""

import re
import sys

import numpy as np
import pytest
from pycocotools import mask as tool

from cnnlab.data.outlines import check_fits, mask_of, outline_of, polygons_of, run_lengths
from cnnlab.data.shapes import draw
from cnnlab.errors import UserError


def test_a_polygons_edges_are_those_of_pixels():
    mask = mask_of((np.array([1, 0, 3, 0, 3, 2, 1, 2], np.float32),), 3, 4)
    assert mask.dtype == bool
    assert mask.astype(int).tolist() == [[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]


def test_several_polygons_hold_what_any_of_them_holds():
    left, right = np.array([0, 0, 2, 0, 2, 2, 0, 2.0]), np.array([1, 0, 3, 0, 3, 1, 1, 1.0])
    assert mask_of((left, right), 2, 4).astype(int).tolist() == [[1, 1, 1, 0], [1, 1, 0, 0]]
    assert not mask_of((), 2, 4).any()


def test_run_lengths_go_down_the_columns():
    mask = mask_of({"counts": [1, 2, 3], "size": [2, 3]}, 2, 3)
    assert mask.astype(int).tolist() == [[0, 1, 0], [1, 0, 0]]
    assert mask_of({"counts": [0, 6], "size": [2, 3]}, 2, 3).all()


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_packed_run_lengths_are_pycocotools(share):
    mask = np.random.default_rng(0).random((70, 90)) < share
    packed = tool.encode(np.asfortranarray(mask.astype(np.uint8)))
    for counts in (packed["counts"], packed["counts"].decode()):
        assert np.array_equal(mask_of({"counts": counts, "size": [70, 90]}, 70, 90), mask)
    large = np.zeros((3000, 2), bool)
    large[1000:1200, 1] = True
    assert run_lengths(tool.encode(np.asfortranarray(large.astype(np.uint8)))["counts"]) == [4000, 200, 1800]


def there_and_back(mask):
    polygons = polygons_of(mask)
    assert all(len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in polygons)
    return mask_of(tuple(np.array(polygon) for polygon in polygons), *mask.shape)


@pytest.mark.parametrize(
    "rows",
    [
        ["1"],
        ["111", "111"],
        ["10", "01"],
        ["01", "10"],
        ["111", "101", "111"],
        ["11111", "10001", "10101", "10001", "11111"],
        ["1111111", "1010101", "1111111", "1000001", "1111111"],
        ["0000", "0110", "0100", "0000"],
    ],
)
def test_outlines_give_the_mask_back(rows):
    mask = np.array([[c == "1" for c in row] for row in rows])
    assert np.array_equal(there_and_back(mask), mask)


def test_outlines_of_drawn_shapes_and_of_noise_give_them_back():
    for index in range(5):
        for mask in draw("test", index, 128).masks():
            assert np.array_equal(there_and_back(mask), mask)
    random = np.random.default_rng(1)
    for share in (0.1, 0.5, 0.9):
        mask = random.random((40, 50)) < share
        assert np.array_equal(there_and_back(mask), mask)


def test_an_outline_has_no_more_points_than_it_needs():
    mask = np.zeros((20, 30), bool)
    mask[5:15, 10:25] = True
    (polygon,) = polygons_of(mask)
    corners = {(10, 5.5), (10.5, 5), (24.5, 5), (25, 5.5), (25, 14.5), (24.5, 15), (10.5, 15), (10, 14.5)}
    assert set(zip(polygon[::2], polygon[1::2], strict=True)) == corners
    assert len(polygon) == 16
    assert polygons_of(np.zeros((3, 3), bool)) == []
    assert len(polygons_of(np.eye(3, dtype=bool))) == 3


def test_outlines_as_json_has_them():
    first, second = outline_of([[1, 2, 11, 2, 11, 22], [0, 0, 1, 1, 0.5, 3]], "f, annotation 1")
    assert first.tolist() == [1, 2, 11, 2, 11, 22]
    assert second.dtype == np.float32
    lengths = {"counts": [3, 3], "size": [2, 3]}
    assert outline_of(lengths, "f") == lengths
    assert [outline_of(nothing, "f") for nothing in (None, [], {})] == [None] * 3


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([[1, 2, 3, 4]], "polygon 1 has 4 numbers; they must be x and y of three points or more"),
        ([[0, 0, 1, 0, 1, 1], [1, 2, 3, 4, 5, 6, 7]], "polygon 2 has 7 numbers; they must be x and y of three points"),
        ([1, 2, 3, 4, 5, 6], "polygon 1 is 1; it must be a list of numbers, x y x y …"),
        ([[1, 2, "3", 4, 5, 6]], "polygon 1 is [1, 2, '3', 4, 5, 6]; it must be a list of numbers"),
        ([[1, 2, float("nan"), 4, 5, 6]], "polygon 1 is [1, 2, nan, 4, 5, 6]; it must be a list of numbers"),
        ({"counts": [1, 4], "size": [2, 3]}, "its run lengths are of 5 pixels, and a picture of 3×2 has 6"),
        ({"counts": [7, -1], "size": [2, 3]}, "its run lengths, [7, -1], are neither whole numbers nor COCO's packed"),
        ({"counts": "152N", "size": [2, 3]}, "its run lengths are of 11 pixels"),
        ({"counts": "15~", "size": [2, 3]}, "its run lengths, 15~, are neither whole numbers nor COCO's packed"),
        ({"counts": "15o", "size": [2, 3]}, "its run lengths, 15o, are neither whole numbers nor COCO's packed"),
        ({"counts": [6], "size": [6]}, "the size of its run lengths is [6]; it must be height and width"),
        ({"size": [2, 3]}, "segmentation is {'size': [2, 3]}; it must be a list of polygons, or have counts and size"),
    ],
)
def test_wrong_outlines_get_one_line(segmentation, message):
    with pytest.raises(UserError, match=re.escape(f"a.json, annotation 7: {message}")) as raised:
        outline_of(segmentation, "a.json, annotation 7")
    assert "\n" not in str(raised.value)


def test_run_lengths_of_another_picture():
    with pytest.raises(UserError, match="f: its run lengths are for a picture of 3×2, and its picture is 4×2"):
        check_fits({"counts": [3, 3], "size": [2, 3]}, 2, 4, "f")
    check_fits({"counts": [3, 3], "size": [2, 3]}, 2, 3, "f")
    check_fits((np.zeros(6),), 2, 3, "f")
    check_fits(None, 2, 3, "f")


def test_polygons_need_pycocotools(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(UserError, match=re.escape("pip install -e '.[detection]'")):
        mask_of((np.array([0, 0, 1, 0, 1, 1.0]),), 2, 2)
    assert mask_of({"counts": [3, 3], "size": [2, 3]}, 2, 3).sum() == 3
