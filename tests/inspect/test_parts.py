"""Parts as people write them, what is wrong with them, and where they lie in the pictures that are read."""

import functools
import json

import numpy as np
import pytest
from PIL import Image

from cnnlab.data.pictures import read_picture
from cnnlab.errors import UserError
from cnnlab.inspect.parts import boxes_of_files, random_boxes, stored_box, thirds, written_parts

READ = functools.partial(read_picture, shape=(28, 28, 1))


@pytest.fixture
def files(tmp_path):
    """Two pictures of 60 × 30."""
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for i, path in enumerate(paths):
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (30, 60), dtype=np.uint8)).save(path)
    return paths


def test_nine_equal_parts():
    parts = thirds(28, 30)
    assert list(parts)[:4] == ["top left", "top centre", "top right", "middle left"]
    assert parts["top left"] == (0, 0, 9, 10)
    assert parts["bottom right"] == (19, 20, 28, 30)
    hidden = np.zeros((28, 30), int)
    for y0, x0, y1, x1 in parts.values():
        hidden[y0:y1, x0:x1] += 1
    assert (hidden == 1).all()


def test_random_places_of_the_parts_sizes():
    parts = np.array([[[0, 0, 2, 3], [1, 1, 5, 2]], [[0, 0, 6, 8], [0, 0, 6, 8]]])
    found = random_boxes(np.random.default_rng(0), parts, 6, 8, 200)
    assert found.shape == (200, 2, 4)
    np.testing.assert_array_equal(
        (found[..., 2:] - found[..., :2])[:3], [[[2, 3], [4, 1]], [[6, 8]] * 2, [[2, 3], [4, 1]]]
    )
    assert (found[..., :2] >= 0).all()
    assert (found[..., 2:] <= [6, 8]).all()
    assert {tuple(box[:2]) for box in found[::2, 0].tolist()} == {(y, x) for y in range(5) for x in range(6)}
    again = random_boxes(np.random.default_rng(0), parts, 6, 8, 200)
    np.testing.assert_array_equal(again, found)


def test_boxes_follow_a_picture_that_is_scaled_and_cropped():
    cropped = functools.partial(read_picture, shape=(20, 20, 3), crop=True)
    assert stored_box(cropped, (60, 120), (30, 60, 60, 90)) == (10, 10, 20, 20)
    assert stored_box(cropped, (60, 120), (0, 0, 60, 120)) == (0, 0, 20, 20)
    assert stored_box(cropped, (60, 120), (0, 0, 10, 20)) == (0, 0, 0, 0)
    stretched = functools.partial(read_picture, shape=(20, 20, 1), invert=True)
    assert stored_box(stretched, (60, 120), (30, 60, 60, 90)) == (10, 10, 20, 15)


def test_boxes_for_each_picture(files, tmp_path):
    path = tmp_path / "parts.json"
    path.write_text(json.dumps({"eye": {"b.png": [15, 30, 30.0, 60], "a.png": [0, 0, 15, 30]}}))
    found = boxes_of_files(path, files, READ)
    assert {name: boxes.tolist() for name, boxes in found.items()} == {"eye": [[0, 0, 14, 14], [14, 14, 28, 28]]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("eye", 'config.correspondence.parts has "eye"; a part is NAME=Y0:X0:Y1:X1'),
        ("eye=1:2:3", 'has "eye=1:2:3"'),
        ("eye=1:2:3:x", 'has "eye=1:2:3:x"'),
        ("eye=0:0:2:2;eye=0:0:3:3", 'has two parts "eye"'),
        ("eye=0:0:29:2", 'part "eye": the box 0:0:29:2 must lie in the picture, 28 high and 28 wide'),
        ("eye=4:0:4:2", "the box 4:0:4:2 must lie in the picture"),
    ],
)
def test_parts_that_are_wrong(text, message):
    with pytest.raises(UserError) as raised:
        written_parts(text, 28, 28)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read (No such file or directory)"),
        (b'{"eye":\n {"a.png": [1, 2}}', "parts.json, line 2, column "),
        (b"\xff\xfe", "is no text"),
        (b"[1]", "must be like"),
        (b"{}", "must be like"),
        (b'{"eye": {"a.png": [0, 0, 9, 9], "c.png": [0, 0, 9, 9]}}', 'part "eye" has a box for c.png'),
        (b'{"eye": {"a.png": [0, 0, 9, 9]}}', 'part "eye" has no box for b.png'),
        (
            b'{"eye": {"a.png": [0, 0, 31, 9], "b.png": [0, 0, 9, 9]}}',
            "0:0:31:9 must lie in the picture, 30 high and 60",
        ),
        (b'{"eye": {"a.png": [0, 0, NaN, 9], "b.png": [0, 0, 9, 9]}}', "must lie in the picture"),
        (b'{"eye": {"a.png": "here", "b.png": [0, 0, 9, 9]}}', 'is [y0, x0, y1, x1] in pixels, not "here"'),
    ],
)
def test_files_of_parts_that_are_wrong(files, tmp_path, content, message):
    path = tmp_path / "parts.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as raised:
        boxes_of_files(path, files, READ)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_pictures_of_one_name(files, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.png").write_bytes(files[0].read_bytes())
    path = tmp_path / "parts.json"
    path.write_text(json.dumps({"eye": {"a.png": [0, 0, 9, 9]}}))
    with pytest.raises(UserError, match=r"--input names two pictures a\.png"):
        boxes_of_files(path, [files[0], other / "a.png"], READ)
