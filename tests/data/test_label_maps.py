"""Label maps: indices, palettes and colours, tables of classes, and all that can be wrong with them."""

import io

import numpy as np
import pytest
from PIL import Image

from cnnlab.data.label_maps import ClassTable, palette, plain_table, png_of, read_labels, read_table
from cnnlab.errors import UserError

TABLE = "name,r,g,b\nsky,128,128,128\nroad, 128, 64, 128\nVoid,0,0,0\ncar,64,0,128\n"
LABELS = np.array([[0, 1, 2], [2, 1, 255]], np.uint8)


def table(folder, text=TABLE):
    path = folder / "classes.csv"
    path.write_text(text)
    return read_table(path)


def saved(folder, array, mode=None, colours=None):
    image = Image.fromarray(np.asarray(array, np.uint8), mode)
    if colours is not None:
        image.putpalette(np.asarray(colours, np.uint8).tobytes())
    image.save(folder / "mask.png")
    return folder / "mask.png"


def test_a_table_of_colours(tmp_path):
    found = table(tmp_path)
    assert found == ClassTable(
        ("sky", "road", "car"),
        (0, 1, 3),
        ((128, 128, 128), (128, 64, 128), (64, 0, 128)),
        (2,),
        ((0, 0, 0),),
        tmp_path / "classes.csv",
    )


def test_a_table_of_names(tmp_path):
    found = table(tmp_path, "ground\n\ntree\nunlabelled\n")
    assert (found.names, found.values, found.colours, found.void_values) == (("ground", "tree"), (0, 1), (), (2,))


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("sky,1,2\nroad,1,2,3", r':1: "sky,1,2" is no class'),
        ("sky,1,2,3\nroad,1,2,300", r':2: "road,1,2,300" is no class'),
        ("sky,1,2,3\nsky,1,2,4", r':2: the class "sky,1,2,4" has the name or the colour of another'),
        ("sky,1,2,3\nroad,1,2,3", r":2: .* has the name or the colour of another"),
        ("sky,1,2,3\nroad", "has colours for some of its classes only"),
        ("name\nsky\nvoid", "has 1 classes; there must be two or more"),
        ("", "has 0 classes"),
    ],
)
def test_tables_that_are_none(tmp_path, text, wrong):
    with pytest.raises(UserError, match=wrong):
        table(tmp_path, text)


def test_grey_values_are_the_tables_lines(tmp_path):
    mask = saved(tmp_path, [[0, 1, 2], [3, 3, 255]])
    assert read_labels(mask, table(tmp_path)).tolist() == [[0, 1, 255], [2, 2, 255]]
    assert read_labels(saved(tmp_path, LABELS), plain_table("abc")).tolist() == LABELS.tolist()


def test_colours_are_the_tables(tmp_path):
    colours = [[[128, 128, 128], [128, 64, 128]], [[0, 0, 0], [64, 0, 128]]]
    assert read_labels(saved(tmp_path, colours), table(tmp_path)).tolist() == [[0, 1], [255, 2]]


def test_a_palette_is_its_indices_or_where_there_is_a_table_its_colours(tmp_path):
    colours = [[64, 0, 128], [128, 128, 128], [0, 0, 0]]
    mask = saved(tmp_path, [[0, 1], [2, 1]], "P", colours)
    assert read_labels(mask, plain_table("abc")).tolist() == [[0, 1], [2, 1]]
    assert read_labels(mask, table(tmp_path)).tolist() == [[2, 0], [255, 0]]


def test_what_is_written_is_read(tmp_path):
    (tmp_path / "found.png").write_bytes(png_of(LABELS, palette(3)))
    image = Image.open(tmp_path / "found.png")
    assert image.mode == "P"
    assert image.getpalette()[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]
    assert image.getpalette()[-3:] == [224, 224, 192]  # VOC's void
    assert read_labels(tmp_path / "found.png", plain_table("abc")).tolist() == LABELS.tolist()


def test_values_of_no_class_are_named_with_their_place(tmp_path):
    mask = saved(tmp_path, [[0, 1], [38, 75]])
    wrong = (
        r"mask.png has the value 38 in row 1, column 0, and 1 other odd values: the 3 classes have 0 to 2.*grey tones"
    )
    with pytest.raises(UserError, match=wrong):
        read_labels(mask, plain_table("abc"))


def test_colours_of_no_class_are_named_with_their_place(tmp_path):
    mask = saved(tmp_path, [[[128, 128, 128], [1, 2, 3]]])
    with pytest.raises(UserError, match=r"the colour 1 2 3 in row 0, column 1, and 50.00% of its pixels .*classes.csv"):
        read_labels(mask, table(tmp_path))


def test_colours_without_a_table(tmp_path):
    mask = saved(tmp_path, np.zeros((2, 2, 3)))
    with pytest.raises(UserError, match=r"is a picture of colours, and there is no table of them: put a classes.csv"):
        read_labels(mask, plain_table("abc"))


def test_a_mask_of_another_size_or_none(tmp_path):
    with pytest.raises(UserError, match="is 3×2, and its picture 4×2: they must be alike"):
        read_labels(saved(tmp_path, LABELS), plain_table("abc"), (2, 4))
    (tmp_path / "broken.png").write_bytes((tmp_path / "mask.png").read_bytes()[:40])
    with pytest.raises(UserError, match=r"the mask .*broken.png cannot be read"):
        read_labels(tmp_path / "broken.png", plain_table("abc"))


def test_wide_numbers(tmp_path):
    content = io.BytesIO()
    Image.fromarray(np.array([[0, 2]], np.uint16)).save(content, "PNG")
    (tmp_path / "wide.png").write_bytes(content.getvalue())
    assert read_labels(tmp_path / "wide.png", plain_table("abc")).tolist() == [[0, 2]]
    Image.fromarray(np.array([[0, 300]], np.uint16)).save(tmp_path / "wide.png")
    with pytest.raises(UserError, match="has the value 300"):
        read_labels(tmp_path / "wide.png", plain_table("abc"))
