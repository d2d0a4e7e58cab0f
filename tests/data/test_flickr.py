"""Flickr's files of sentences in all their forms, its lists of pictures, and what is wrong with either."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnlab.data.annotations import Findings
from cnnlab.data.flickr import read, sentence_file, sentence_lines, split_lists
from cnnlab.data.folders import held_out
from cnnlab.errors import UserError

TOKENS = "a.jpg#0\tA red circle .\na.jpg#1\tA circle , red\nb.jpg#0\tA blue star\n"
TABLE = 'image,caption\na.jpg,A red circle .\na.jpg,"A circle , red"\nb.jpg,A blue star\n'
PIPES = (
    "image_name| comment_number| comment\na.jpg| 0| A red circle .\na.jpg| 1| A circle , red\nb.jpg| 0| A blue star\n"
)
READ = [("a.jpg", "A red circle ."), ("a.jpg", "A circle , red"), ("b.jpg", "A blue star")]


def pictures(place, *names):
    place.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.fromarray(np.full((4, 4, 3), 90, np.uint8)).save(place / name)


def build(folder, lines=TOKENS, name="Flickr8k.token.txt", names=("a.jpg", "b.jpg"), train="a.jpg\n", test="b.jpg\n"):
    """A folder as Flickr8k's is unpacked."""
    text = folder / "Flickr8k_text"
    text.mkdir(parents=True, exist_ok=True)
    (text / name).write_text(lines)
    pictures(folder / "Flickr8k_Dataset" / "Flicker8k_Dataset", *names)
    for split, content in (("train", train), ("test", test)):
        if content is not None:
            (text / f"Flickr_8k.{split}Images.txt").write_text(content)
    return text / name


@pytest.mark.parametrize(
    "lines", [TOKENS, TABLE, PIPES, TOKENS.replace("\n", "\r\n"), f"\ufeff{TABLE}", TABLE + "\n\n"]
)
def test_every_form(tmp_path, lines):
    path = tmp_path / "captions.txt"
    path.write_bytes(lines.encode())
    found = list(sentence_lines(path))
    assert [one[1:] for one in found] == READ
    first = 1 if lines.startswith("a.jpg") else 2
    assert [one[0] for one in found] == [first, first + 1, first + 2]


def test_odd_rows_of_tables(tmp_path):
    path = tmp_path / "captions.txt"
    path.write_text('image,caption\na.jpg,A man, walking , slowly\na.jpg,"A ""big""\nman"\nb.jpg,\n')
    assert list(sentence_lines(path)) == [
        (2, "a.jpg", "A man, walking , slowly"),  # commas that nobody quoted
        (3, "a.jpg", 'A "big"\nman'),
        (5, "b.jpg", ""),
    ]
    # As one line of Flickr30k's re-release is.
    path.write_text('image_name| comment_number| comment\na.jpg| 4   A "dog runs .\nb.jpg| 0| A | b\n')
    assert list(sentence_lines(path)) == [(2, "a.jpg", 'A "dog runs .'), (3, "b.jpg", "A | b")]


@pytest.mark.parametrize(
    ("lines", "wrong"),
    [
        ("a.jpg#0\ta\na.jpg#1 b\n", ':2: "a.jpg#1 b" is not name.jpg#0, a tab and a sentence'),
        ("a.jpg a circle\n", ':1: "a.jpg a circle" is neither name.jpg#0, a tab and a sentence, nor a header with'),
        ("image,words\na.jpg,b\n", "nor a header with a column caption or comment or sentence"),
        ("image,caption\na.jpg\n", ':2: "a.jpg" has not the 2 columns of line 1'),
        ("caption,image\na man, walking,a.jpg\n", ':2: "a man, walking,a.jpg" has not the 2 columns'),
        ('image,caption\na.jpg,x\na.jpg,"A man\nb.jpg,A dog\n', ':3: the table is broken: a quote (") that opens here'),
        ('image,caption\na.jpg,"A man" walks\n', ":2: the table is broken"),
    ],
)
def test_broken_lines(tmp_path, lines, wrong):
    path = tmp_path / "captions.txt"
    path.write_text(lines)
    with pytest.raises(UserError) as caught:
        list(sentence_lines(path))
    assert str(caught.value).startswith(f"{path}:")
    assert wrong in str(caught.value)


def test_broken_utf8(tmp_path):
    path = tmp_path / "captions.txt"
    path.write_bytes(b"a.jpg#0\tok\na.jpg#1\tcaf\xe9\n")
    with pytest.raises(UserError, match=rf"{path}:2: the byte 0xe9 is no UTF-8"):
        list(sentence_lines(path))


def test_a_folder_with_lists(tmp_path, capsys):
    path = build(tmp_path)
    (path.parent / "Flickr8k.lemma.token.txt").write_text("no sentences")
    assert sentence_file(tmp_path) == path
    train, test = read(tmp_path, 0.2, Findings())
    assert [(one.picture.name, one.sentences) for one in train] == [("a.jpg", ("A red circle .", "A circle , red"))]
    assert [(one.picture.name, one.sentences, one.number) for one in test] == [("b.jpg", ("A blue star",), 1)]
    assert train[0].places == (f"{path}:1", f"{path}:2")
    assert capsys.readouterr().err == ""


def test_what_lists_leave_out_is_told(tmp_path, capsys):
    lines = TOKENS + "c.jpg#0\tA cross\nd.jpg.1#0\tA picture that is not there\n"
    path = build(tmp_path, lines, names=("a.jpg", "b.jpg", "c.jpg", "e.jpg"), train="a.jpg\ngone.jpg\n", test="b\n")
    train, test = read(tmp_path, 0.2, Findings())
    assert (len(train), len(test)) == (1, 1)
    lists = path.parent
    assert capsys.readouterr().err.splitlines() == [
        f"{lists / 'Flickr_8k.trainImages.txt'}:2: gone.jpg has no sentence and is left out",
        f"{path}: 2 pictures are in neither Flickr_8k.trainImages.txt nor Flickr_8k.testImages.txt",
        f"{path}: {tmp_path / 'Flickr8k_Dataset' / 'Flicker8k_Dataset' / 'e.jpg'} has no sentence and is left out",
    ]


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"test": "a.jpg\n"}, r"a\.jpg is in .*trainImages\.txt and in .*testImages\.txt: test pictures must not be"),
        ({"test": None}, r"should hold one list \*trainImages\.txt and one \*testImages\.txt; it has .*train"),
        ({"test": "z.jpg\n"}, r"testImages\.txt names no picture that has sentences"),
        ({"names": ("a.jpg",)}, r"token\.txt:3: there is no picture .*b\.jpg: put it there, or take its sentences out"),
        ({"names": ()}, r"token\.txt has the picture a\.jpg, and it is in no folder of"),
        ({"lines": "\n"}, "nor a header|has no sentences"),
    ],
)
def test_what_is_wrong_with_a_folder(tmp_path, fields, wrong):
    build(tmp_path, **fields)
    with pytest.raises(UserError, match=wrong) as caught:
        read(tmp_path, 0.2, Findings())
    assert "\n" not in str(caught.value)


def test_a_folder_without_lists_keeps_a_picture_on_its_side(tmp_path):
    def sides(count):
        names = [f"p{i}.jpg" for i in range(count)]
        lines = "".join(f"{name}#0\tA star\n" for name in names)
        build(tmp_path, lines, "results_20130124.token", names, None, None)
        return [{one.picture.name for one in side} for side in read(tmp_path, 0.3, Findings())]

    train, test = sides(20)
    more_train, more_test = sides(30)
    assert train <= more_train
    assert test <= more_test
    assert 0 < len(test) < 15
    assert test == {f"p{i}.jpg" for i in range(20) if held_out(Path(f"p{i}.jpg"), 0.3)}
    assert not more_train & more_test
    assert len(more_train | more_test) == 30
    assert split_lists(tmp_path) is None


def test_shares_and_folders_that_are_none(tmp_path):
    build(tmp_path, train=None, test=None)
    with pytest.raises(UserError, match=r"has 2 pictures, too few to hold out 1%"):
        read(tmp_path, 0.01, Findings())
    with pytest.raises(UserError, match=r"is 2\.0; it must lie between 0 and 1"):
        read(tmp_path, 2.0, Findings())
    (tmp_path / "other.token").write_text(TOKENS)
    (tmp_path / "more.token").write_text(TOKENS)
    (tmp_path / "Flickr8k_text" / "Flickr8k.token.txt").unlink()
    with pytest.raises(UserError, match=r"has several files of sentences, .*more\.token and .*other\.token"):
        sentence_file(tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert sentence_file(empty) is None
    with pytest.raises(UserError, match=r"has no file of sentences: it should hold one of \*\.token\.txt"):
        read(empty, 0.2, Findings())
