"""COCO's captions: what is read, and what is wrong with a file."""

import functools
import json

import numpy as np
import pytest
from PIL import Image

from cnnlab.data import coco
from cnnlab.data.annotations import Findings
from cnnlab.data.coco_captions import is_coco, read
from cnnlab.errors import UserError


def picture(path, size=(20, 40)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), 90, np.uint8)).save(path)


def caption(of=1, text="A red circle.", number=7):
    return {"image_id": of, "id": number, "caption": text}


def build(folder, captions, split="train2017", images=(1,), missing=()):
    """A file of captions, and the pictures of its images."""
    listed = [{"id": i, "file_name": f"{i}.png", "height": 20, "width": 40} for i in images]
    for i in images:
        if i not in missing:
            picture(folder / split / f"{i}.png")
    path = folder / "annotations" / f"captions_{split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": listed, "annotations": captions}, indent=1))
    return path


def test_pictures_have_their_sentences(tmp_path, capsys):
    captions = [caption(2, "b"), caption(1, "c", 8), caption(2, "d", 9)]
    path = build(tmp_path, captions, images=(1, 2))
    first, second = read(path, Findings())
    assert (first.picture, first.number) == (tmp_path / "train2017" / "1.png", 1)
    assert (first.sentences, first.places) == (("c",), (f"{path}, annotation 8",))
    assert (second.sentences, second.number) == (("b", "d"), 2)
    assert capsys.readouterr().err == ""


def test_pictures_without_sentences_are_told(tmp_path, capsys):
    path = build(tmp_path, [caption()], images=(1, 5))
    picture(tmp_path / "train2017" / "unlisted.png")
    assert [one.number for one in read(path, Findings())] == [1]
    assert capsys.readouterr().err.splitlines() == [
        f"{path}, image 5: 5.png has no sentence and is left out",
        f"{path}: {tmp_path / 'train2017' / 'unlisted.png'} has no sentence and is left out",
    ]


@pytest.mark.parametrize(
    ("captions", "fields", "wrong"),
    [
        ([caption(3)], {}, "annotation 7 is for the image 3, which is not among the 1 images there"),
        ([{"id": 4, "image_id": 1}], {}, 'annotation 4 has no "caption"'),
        ([{"caption": "a", "id": 4}], {}, 'annotation 4 has no "image_id"'),
        ([3], {}, 'annotation 1 has no "image_id"'),
        ([caption(text=5)], {}, "annotation 7: the caption is 5; it must be a text"),
        ([caption()], {"images": (1, 1)}, "the image id 1 stands there twice"),
        ([caption()], {"images": (1, 2), "missing": (1,)}, "image 1 has no picture: there is no"),
        ([], {}, "has no images with captions"),
    ],
)
def test_what_is_wrong(tmp_path, captions, fields, wrong):
    path = build(tmp_path, captions, **fields)
    with pytest.raises(UserError) as caught:
        read(path, Findings())
    assert str(caught.value).startswith(str(path))
    assert wrong in str(caught.value)
    assert "\n" not in str(caught.value)


def test_broken_files(tmp_path):
    path = build(tmp_path, [caption()])
    path.write_text('{"images": [],\n "annotations": [}')
    with pytest.raises(UserError, match=rf"{path}:2: the JSON is broken, at column 18"):
        read(path, Findings())
    path.write_bytes(b'{"images": [],\n\n "annotations": ["caf\xe9"]}')
    with pytest.raises(UserError, match=rf"{path}:3: the byte 0xe9 is no UTF-8"):
        read(path, Findings())
    for other in ("[]", '{"images": []}', '{"annotations": [], "images": 3}'):
        path.write_text(other)
        with pytest.raises(
            UserError, match=rf'{path} has no list "(images|annotations)": it should be COCO\'s captions'
        ):
            read(path, Findings())


def test_the_files_of_a_folder(tmp_path):
    files_of = functools.partial(coco.files_of, kind="captions")
    assert not is_coco(tmp_path)
    first = build(tmp_path, [caption()])
    with pytest.raises(UserError, match=r"should hold captions_train\*\.json and captions_val"):
        files_of(tmp_path)
    second = build(tmp_path, [caption()], "val2017")
    assert is_coco(tmp_path)
    assert files_of(tmp_path) == (first, second)
    test = build(tmp_path, [caption()], "test2017")
    assert files_of(tmp_path) == (first, test)
    build(tmp_path, [caption()], "train2014")
    with pytest.raises(UserError, match=r"has captions_train2014\.json and captions_train2017\.json: leave one"):
        files_of(tmp_path)
