"""The checks of boxes: what is kept, put right, cut off, left out, and what ends the reading."""

import io
import re

import numpy as np
import pytest
from PIL import Image, ImageOps

from cnnlab.data.annotations import (
    SHOWN,
    Findings,
    Mark,
    agreed_size,
    check_count,
    checked,
    checked_box,
    label_of,
    picture_size,
)
from cnnlab.errors import UserError


def mark(box, label=0, **more):
    return Mark(box, label, False, "a.xml:7", **more)


def test_good_boxes_stay_as_they_are_and_nothing_is_said(tmp_path, capsys):
    marks = [mark((0, 0, 40, 20)), mark((1.5, 2.5, 3.0, 4.0), 2, area=1.25)]
    one = checked(tmp_path / "a.png", 20, 40, marks, Findings(), 9)
    assert one.boxes.tolist() == [[0, 0, 40, 20], [1.5, 2.5, 3, 4]]
    assert (one.boxes.dtype, one.label.dtype, one.ignored.dtype) == (np.float32, np.int32, bool)
    assert one.label.tolist() == [0, 2]
    assert one.area.tolist() == [800, 1.25]
    assert (one.height, one.width, one.number, one.outlines) == (20, 40, 9, ())
    assert capsys.readouterr().err == ""


def test_no_boxes_at_all(tmp_path):
    one = checked(tmp_path / "a.png", 20, 40, [], Findings())
    assert (one.boxes.shape, one.label.shape, one.area.shape) == ((0, 4), (0,), (0,))


def test_outlines_stay_beside_their_boxes(tmp_path):
    marks = [mark((1, 1, 1, 5), outline="left out"), mark((0, 0, 2, 2)), mark((0, 0, 3, 3), outline="kept")]
    one = checked(tmp_path / "a.png", 20, 40, marks, Findings())
    assert one.outlines == (None, "kept")
    assert one.label.tolist() == [0, 0]


@pytest.mark.parametrize("box", [(5, 5, 5, 5), (5, 1, 5, 9), (1, 5, 9, 5)])
def test_a_box_of_no_area_is_told_and_left_out(capsys, box):
    assert checked_box(box, 20, 40, "a.xml:7", Findings()) is None
    shown = " ".join(map(str, box))
    assert capsys.readouterr().err == f"a.xml:7: the box {shown} has no area and is left out\n"


@pytest.mark.parametrize("box", [(30, 5, 10, 15), (10, 15, 30, 5), (30, 15, 10, 5)])
def test_exchanged_corners_are_told_and_put_right(capsys, box):
    assert checked_box(box, 20, 40, "a.xml:7", Findings()) == (10, 5, 30, 15)
    assert "has its corners exchanged; taken as 10 5 30 15" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("box", "cut", "told"),
    [
        ((-1, 0, 10, 10), (0, 0, 10, 10), False),
        ((0, 0, 40.75, 10), (0, 0, 40, 10), False),
        ((0, -1.5, 10, 10), (0, 0, 10, 10), True),
        ((30, 10, 50, 25), (30, 10, 40, 20), True),
    ],
)
def test_what_reaches_over_the_edge_is_cut_off_and_told_unless_it_is_rounding(capsys, box, cut, told):
    assert checked_box(box, 20, 40, "a.xml:7", Findings()) == cut
    assert ("reaches over the edge of its picture of 40×20" in capsys.readouterr().err) == told


@pytest.mark.parametrize("box", [(40, 0, 50, 10), (-9, 0, 0, 10), (0, 20, 10, 30), (0, -9, 10, -1), (60, 60, 50, 50)])
def test_a_box_outside_ends_the_reading(box):
    with pytest.raises(UserError, match=r"a\.xml:7: the box .* lies outside its picture of 40×20"):
        checked_box(box, 20, 40, "a.xml:7", Findings())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_box_of_no_numbers_ends_the_reading(value):
    with pytest.raises(UserError, match=r"a\.xml:7: the box 0 0 \w+ 5 is not four numbers"):
        checked_box((0, 0, value, 5), 20, 40, "a.xml:7", Findings())


def test_the_first_of_a_kind_are_told_each_once_and_then_their_number(capsys):
    findings = Findings()
    for number in range(SHOWN + 5):
        findings.say(f"line {number}", "is odd", "lines are odd")
        findings.say("line 0", "is odd", "lines are odd")
    findings.say("line 99", "is even", "lines are even")
    findings.close()
    lines = capsys.readouterr().err.splitlines()
    assert lines[:SHOWN] == [f"line {number}: is odd" for number in range(SHOWN)]
    assert lines[SHOWN:] == [
        "line 99: is even",
        f"{SHOWN + 5} lines are odd, of which the first {SHOWN} are named above",
    ]


def test_an_unknown_class_names_the_nearest():
    assert label_of("dog", ("cat", "dog"), "a.xml:7") == 1
    with pytest.raises(UserError, match=r"a\.xml:7: 'dgo' is none of the 2 classes; did you mean dog\?"):
        label_of("dgo", ("cat", "dog"), "a.xml:7")
    with pytest.raises(UserError, match="'zebra' is none of the 2 classes: they are cat, dog"):
        label_of("zebra", ("cat", "dog"), "a.xml:7")


@pytest.mark.parametrize(("orientation", "size"), [(1, (20, 40)), (3, (20, 40)), (6, (40, 20)), (8, (40, 20))])
def test_a_pictures_size_is_that_of_the_upright_one(tmp_path, orientation, size):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg", exif=exif)
    assert picture_size(tmp_path / "a.jpg") == size
    assert picture_size(io.BytesIO((tmp_path / "a.jpg").read_bytes())) == size


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "raw.tif", "packed.tif"])
def test_a_pictures_size_is_what_it_is_decoded_to(tmp_path, name, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    packing = {"compression": "tiff_lzw"} if name == "packed.tif" else {}
    Image.new("RGB", (70, 80)).save(tmp_path / name, exif=exif, **packing)
    with Image.open(tmp_path / name) as image:
        width, height = ImageOps.exif_transpose(image).size
    assert (height, width) == ((70, 80) if orientation in (5, 6, 7, 8) else (80, 70))
    assert picture_size(tmp_path / name) == (height, width)


def test_what_is_no_picture_has_no_size(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    assert picture_size(tmp_path / "a.jpg") is None
    assert picture_size(tmp_path / "none.jpg") is None


def test_picture_and_annotation_must_agree_on_the_size(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (40, 20)).save(path)
    assert agreed_size(path, (20, 40), "a.xml") == agreed_size(path, None, "a.xml") == (20, 40)
    with pytest.raises(UserError, match=re.escape(f"a.xml is for a picture of 20×40, and {path} is 40×20")):
        agreed_size(path, (40, 20), "a.xml")
    path.write_bytes(b"no picture")
    assert agreed_size(path, (20, 40), "a.xml") == (20, 40)
    with pytest.raises(UserError, match=r"a\.xml tells no size of its picture"):
        agreed_size(path, None, "a.xml")


def test_more_objects_than_the_padding_holds(tmp_path):
    full = checked(tmp_path / "full.png", 20, 40, [mark((0, 0, 5, 5))] * 4, Findings())
    fuller = checked(tmp_path / "fuller.png", 20, 40, [mark((0, 0, 5, 5))] * 6, Findings())
    check_count([full, fuller], 6, "config.objects")
    with pytest.raises(
        UserError, match=re.escape(f"{tmp_path / 'full.png'} has 4 objects, and config.objects is 3: 6")
    ):
        check_count([full, fuller], 3, "config.objects")
