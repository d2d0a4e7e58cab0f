"""VOC folders: a small one by hand, its edges by hand, and all that may be wrong with one."""

import re

import numpy as np
import pytest
from PIL import Image

from cnnlab.data import voc
from cnnlab.errors import UserError


def thing(name, box, difficult=None, more=""):
    numbers = "".join(
        f"<{tag}>{value}</{tag}>" for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    hard = "" if difficult is None else f"<difficult>{difficult}</difficult>"
    return f"<object>\n<name>{name}</name>{hard}{more}\n<bndbox>{numbers}</bndbox>\n</object>\n"


def xml(*things, size=(40, 20)):
    width, height = size
    head = f"<annotation>\n<size><width>{width}</width><height>{height}</height></size>\n"
    return head + "".join(things) + "</annotation>\n"


def build(folder, annotations, split="train"):
    """A VOC folder with 40×20 pictures and the given XML texts by name, all in one split."""
    for place in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / place).mkdir(parents=True, exist_ok=True)
    for name, text in annotations.items():
        (folder / "Annotations" / f"{name}.xml").write_text(text)
        Image.fromarray(np.zeros((20, 40, 3), np.uint8)).save(folder / "JPEGImages" / f"{name}.jpg")
    (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{name}\n" for name in annotations))
    return folder


def test_a_folder_is_read_with_its_edges_from_0(tmp_path):
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    first = xml(thing("dog", (1, 1, 40, 20)), thing("cat", (5, 6, 10, 12), 1, part), thing("dog", (2.5, 3, 4, 5), 0))
    folder = build(tmp_path, {"b": first, "a": xml(thing(" cat ", (3, 4, 5, 6)))})
    assert voc.class_names_of(folder, "train") == ("cat", "dog")
    one, two = voc.read(folder, "train", ("cat", "dog"))
    assert one.picture == folder / "JPEGImages" / "b.jpg"
    assert (one.height, one.width, one.number, two.number) == (20, 40, 0, 1)
    # The first and the last pixel, from 1, of the whole picture are its edges 0 and 40, 0 and 20.
    assert one.boxes.tolist() == [[0, 0, 40, 20], [4, 5, 10, 12], [1.5, 2, 4, 5]]
    assert one.label.tolist() == [1, 0, 1]
    assert one.ignored.tolist() == [False, True, False]
    assert one.area.tolist() == [800, 42, 7.5]
    assert two.boxes.tolist() == [[2, 3, 5, 6]]


def test_zero_area_swapped_and_empty_are_told_with_file_and_line(tmp_path, capsys):
    swapped = xml(thing("dog", (1, 1, 9, 9)), thing("dog", (7, 7, 7, 7)), thing("dog", (10, 12, 5, 6)))
    folder = build(tmp_path, {"a": swapped, "b": xml()})
    one, two = voc.read(folder, "train", ("dog",))
    # Exchanged corners give the same edges as those in order: 4 5 10 12.
    assert one.boxes.tolist() == [[0, 0, 9, 9], [4, 5, 10, 12]]
    assert two.boxes.shape == (0, 4)
    path = folder / "Annotations"
    assert capsys.readouterr().err.splitlines() == [
        f"{path / 'a.xml'}:9: the box 7 7 7 7 has no area and is left out",
        f"{path / 'a.xml'}:13: the box 10 12 4 5 has its corners exchanged; taken as 4 5 10 12",
        f"{path / 'b.xml'}: has no object; its picture is background",
    ]


def test_counting_from_0_costs_a_pixel_and_no_word(tmp_path, capsys):
    folder = build(tmp_path, {"a": xml(thing("dog", (0, 0, 39, 19)))})
    assert voc.read(folder, "train", ("dog",))[0].boxes.tolist() == [[0, 0, 39, 19]]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("size", [(0, 0), ("", "")])
def test_a_missing_size_is_the_pictures(tmp_path, size):
    folder = build(tmp_path, {"a": xml(thing("dog", (1, 1, 9, 9)), size=size)})
    one = voc.read(folder, "train", ("dog",))[0]
    assert (one.height, one.width) == (20, 40)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation>\n<object>\n</annotation>", r":3: the XML is broken, at column 3 \(mismatched tag\)"),
        ("", r":1: the XML is broken, at column 1 \(no element found\)"),
        (xml(thing("dgo", (1, 1, 9, 9))), r":4: 'dgo' is none of the 1 classes; did you mean dog\?"),
        (xml(thing("", (1, 1, 9, 9))), ":3: <object> has no <name>"),
        (xml("<object>\n<name>dog</name>\n</object>"), ":3: <object> has no <bndbox>"),
        (xml(thing("dog", (1, "", 9, 9))), ":5: <bndbox> has no <ymin>"),
        (xml(thing("dog", (1, "x", 9, 9))), ":5: <ymin> is 'x', which is no number"),
        (xml(thing("dog", (1, "nan", 9, 9))), ":5: the box 0 nan 9 9 is not four numbers"),
        (xml(thing("dog", (50, 1, 60, 9))), ":5: the box 49 0 60 9 lies outside its picture of 40×20"),
        (xml(thing("dog", (1, 1, 9, 9)), size=(20, 40)), " is for a picture of 20×40, and .*a.jpg is 40×20"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_line(tmp_path, text, message):
    folder = build(tmp_path, {"a": text})
    with pytest.raises(UserError, match=re.escape(str(folder / "Annotations" / "a.xml")) + message):
        voc.read(folder, "train", ("dog",))


def test_pictures_without_annotations_and_annotations_without_pictures(tmp_path):
    good = xml(thing("dog", (1, 1, 9, 9)))
    folder = build(tmp_path, {"a": good, "b": good, "c": good})
    (folder / "Annotations" / "b.xml").unlink()
    with pytest.raises(UserError, match=r"the picture b of .*train\.txt has no .*b\.xml, as 1 of 3 have none"):
        voc.read(folder, "train", ("dog",))
    (folder / "Annotations" / "b.xml").write_text(good)
    (folder / "JPEGImages" / "c.jpg").unlink()
    with pytest.raises(UserError, match=r"the annotation .*c\.xml of .*train\.txt has no picture in .*JPEGImages"):
        voc.read(folder, "train", ("dog",))


def test_pictures_of_any_kind_are_found(tmp_path):
    folder = build(tmp_path, {"a": xml(thing("dog", (1, 1, 9, 9)))})
    (folder / "JPEGImages" / "a.jpg").rename(folder / "JPEGImages" / "a.JPEG")
    assert voc.read(folder, "train", ("dog",))[0].picture.name == "a.JPEG"


@pytest.mark.parametrize(
    ("there", "pair"),
    [
        (("train", "val"), ("train", "val")),
        (("train", "test"), ("train", "test")),
        (("train", "val", "trainval", "test"), ("trainval", "test")),
        (("train", "val", "trainval"), ("train", "val")),
    ],
)
def test_the_splits(tmp_path, there, pair):
    for split in there:
        build(tmp_path, {f"{split}1": xml()}, split)
    assert voc.is_voc(tmp_path)
    assert voc.splits_of(tmp_path) == pair


def test_lists_that_are_wrong(tmp_path):
    folder = build(tmp_path, {"a": xml()})
    with pytest.raises(UserError, match=r"Main should hold train\.txt and test\.txt \(or val\.txt\)"):
        voc.splits_of(folder)
    with pytest.raises(UserError, match=r"val\.txt cannot be read"):
        voc.listed(folder, "val")
    path = folder / "ImageSets" / "Main" / "train.txt"
    path.write_text("a 1\n\nb -1\n")
    assert voc.listed(folder, "train") == ["a", "b"]
    path.write_text("a\nb\na\n")
    with pytest.raises(UserError, match=re.escape(f"{path}:3: a stands in line 1 already")):
        voc.listed(folder, "train")
    path.write_text("\n")
    with pytest.raises(UserError, match="lists no picture"):
        voc.listed(folder, "train")


def test_pictures_in_both_splits(tmp_path):
    build(tmp_path, {"a": xml(), "b": xml(), "c": xml()})
    build(tmp_path, {"c": xml(), "b": xml()}, "test")
    with pytest.raises(UserError, match=r"^b is in .*train\.txt and in test\.txt, as are 1 others"):
        voc.check_apart(tmp_path, "train", "test")


def test_no_object_is_no_class(tmp_path):
    folder = build(tmp_path, {"a": xml()})
    with pytest.raises(UserError, match="has an object: there is no class"):
        voc.class_names_of(folder, "train")


def test_vocs_own_classes():
    assert len(voc.NAMES) == 20
    assert tuple(sorted(voc.NAMES)) == voc.NAMES
    assert voc.NAMES[0] == "aeroplane"
    assert voc.NAMES[14] == "person"
