"""Batches of captioned pictures: files, records and drawings."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from cnnlab.data import pipeline
from cnnlab.data.annotations import Annotation, Findings
from cnnlab.data.captions import CaptionRecords, CaptionSource, DrawnCaptions, checked, tokens_of
from cnnlab.data.described import Described
from cnnlab.data.sentences import is_true, sentences
from cnnlab.data.shapes import CLASS_NAMES, draw, kinds_at_places
from cnnlab.data.source import Source
from cnnlab.data.text import END, START, UNK, build, words_of
from cnnlab.errors import UserError

VOCABULARY = build([("a", "red", "circle", "star")], minimum=1)
A, CIRCLE, RED, STAR = (VOCABULARY.number(word) for word in ("a", "circle", "red", "star"))


def picture(size=(20, 40), grey=90):
    buffer = io.BytesIO()
    Image.fromarray(np.full((*size, 3), grey, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def described(content, *said):
    return Described(content, said, tuple(f"f:{i}" for i in range(1, len(said) + 1)), 42)


def source_of(*found, words=4, **fields):
    made = [checked(one, words, False, Findings(), None) for one in found]
    return CaptionSource(made, VOCABULARY, 16, words, **fields)


def test_batches(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(picture((10, 30), 200))
    source = source_of(described(picture(), "A red circle.", "a STAR"), described(path, "a blue star"))
    assert isinstance(source, Source)
    assert (len(source), source.class_names) == (2, ())
    batch = source.batch(np.array([1, 0]))
    kinds = {name: (array.shape, array.dtype) for name, array in batch.items()}
    assert kinds == {
        "image": ((2, 16, 16, 3), np.uint8),
        "size": ((2, 2), np.int32),
        "original": ((2, 2), np.int32),
        "tokens": ((2, 5, 6), np.int32),
        "length": ((2, 5), np.int32),
    }
    assert (batch["image"][0] == 200).all()  # the whole square, without an edge
    assert (batch["image"][1] == 90).all()
    assert batch["original"].tolist() == [[10, 30], [20, 40]]
    assert batch["tokens"][0, 0].tolist() == [START, A, UNK, STAR, END, 0]
    assert batch["tokens"][1, :3].tolist() == [[START, A, RED, CIRCLE, END, 0], [START, A, STAR, END, 0, 0], [0] * 6]
    assert batch["length"].tolist() == [[5, 0, 0, 0, 0], [5, 4, 0, 0, 0]]
    assert source.sentences(0) == ("A red circle.", "a STAR")
    assert source.number(0) == 42
    assert source.picture(1).shape == (10, 30, 3)


def test_pictures_are_stretched_whole():
    left = np.zeros((10, 40, 3), np.uint8)
    left[:, :20] = 255
    buffer = io.BytesIO()
    Image.fromarray(left).save(buffer, "PNG")
    image = source_of(described(buffer.getvalue(), "a")).batch(np.array([0]))["image"][0]
    assert (image[:, :7] > 250).all()
    assert (image[:, 9:] < 5).all()


def test_more_than_five_sentences_are_told_and_kept_for_scores(capsys):
    source = source_of(described(picture(), *["a star"] * 7))
    assert capsys.readouterr().err == "f:1: the picture has 7 sentences; batches have the first 5\n"
    assert len(source.sentences(0)) == 7
    assert source.batch(np.array([0]))["length"].tolist() == [[4] * 5]


def test_empty_sentences_are_told_and_left_out(capsys):
    source = source_of(described(picture(), " ", "a star", "..."))
    assert source.sentences(0) == ("a star",)
    assert capsys.readouterr().err.splitlines() == [
        'f:1: the sentence "" has no words and is left out',
        'f:3: the sentence "..." has no words and is left out',
    ]
    with pytest.raises(UserError, match=r"^f:1: the sentence has 5 words, and config\.words is 4"):
        source_of(described(picture(), "a a a a a"))


def test_pictures_that_cannot_be_read_are_named_once_and_replaced(tmp_path, capsys):
    gone = tmp_path / "gone.png"
    source = source_of(described(picture(), "a star"), described(gone, "a circle"), described(b"no picture", "a"))
    for _ in range(2):
        batch = source.batch(np.array([0, 1, 2]))
        assert batch["mask"].tolist() == [1, 0, 0]
        assert batch["length"][:, 0].tolist() == [4, 4, 3]
    assert not source.picture(1).any()
    assert len(capsys.readouterr().err.splitlines()) == 2
    whole = pipeline.train_batch(source, 0, 0, 3, slice(0, 3))
    assert (whole["image"] == 90).all()
    assert (whole["tokens"] == batch["tokens"][0]).all()
    assert "mask" not in whole


def test_boxes_lie_on_the_square():
    boxes = np.array([[0, 0, 40, 20], [10, 5, 20, 10]], np.float32)
    one = Annotation(b"", 20, 40, boxes, np.array([1, 0]), np.array([False, True]), np.array([800.0, 50.0]))
    made = [checked(described(picture(), "a star"), 4, False, Findings(), one)]
    source = CaptionSource(made, VOCABULARY, 16, 4, ("x", "y"), 3)
    batch = source.batch(np.array([0]))
    assert batch["boxes"][0].tolist() == [[0, 0, 16, 16], [4, 4, 8, 8], [0, 0, 0, 0]]
    assert batch["label"].tolist() == [[1, 0, -1]]
    assert batch["ignored"].tolist() == [[False, True, False]]
    with pytest.raises(UserError, match=r"picture 0 has 2 objects, and config\.objects is 1"):
        CaptionSource(made, VOCABULARY, 16, 4, ("x", "y"), 1).batch(np.array([0]))


def test_tokens():
    batch = tokens_of([[("a", "star")] * 3, []], VOCABULARY, 2, each=2)
    assert batch["tokens"].tolist() == [[[START, A, STAR, END]] * 2, [[0] * 4] * 2]
    assert batch["length"].tolist() == [[4, 4], [0, 0]]
    with pytest.raises(UserError, match="has 2 words, and 3 tokens hold 1"):
        tokens_of([[("a", "star")]], VOCABULARY, 1)
    with pytest.raises(UserError, match="stretched to 0×0"):
        CaptionSource([], VOCABULARY, 0, 2)


def record(*texts, image=None, **fields):
    captions = {"text": np.array(texts, object), "id": np.arange(len(texts))}
    return {"image": image or picture(), "image/id": 391, "captions": captions, **fields}


def test_records(capsys):
    things = {
        "bbox": np.array([[0, 0.25, 0.5, 0.5]], np.float32),  # ymin xmin ymax xmax
        "label": np.array([3]),
        "is_crowd": np.array([False]),
        "area": np.array([100]),
    }
    found = [record(b"A red circle.", "a star", objects=things), record(b" .", objects=things)]
    found += [record(b"a", objects=things, image=b"no picture")]
    records = CaptionRecords(found, "coco_captions", 4, boxes=True)
    source = CaptionSource(records, VOCABULARY, 16, 4, ("x",) * 4, 2)
    assert len(source) == 3
    batch = source.batch(np.array([0, 1, 2]))
    assert batch["tokens"][0, 0].tolist() == [START, A, RED, CIRCLE, END, 0]
    assert batch["boxes"][0].tolist() == [[4, 0, 8, 8], [0, 0, 0, 0]]
    assert batch["label"][:, 0].tolist() == [3, 3, -1]
    assert batch["mask"].tolist() == [1, 0, 0]
    assert source.number(0) == 391
    assert source.sentences(1) == ()
    assert capsys.readouterr().err.splitlines() == [
        'coco_captions, picture 1, sentence 1: the sentence "." has no words and is left out',
        "left out: picture 2 of coco_captions is not a whole picture (1 so far)",
    ]


def test_records_that_are_wrong():
    with pytest.raises(UserError, match=r"coco_captions, picture 0, sentence 2: the byte 0xe9 is no UTF-8"):
        CaptionRecords([record(b"a", b"caf\xe9")], "coco_captions", 4)[0]
    long = CaptionRecords([record(b"a"), record(b"a a a")], "coco_captions", 2)
    assert long[0].words == (("a",),)
    with pytest.raises(UserError, match=r"picture 1, sentence 1: the sentence has 3 words, and config\.words is 2"):
        long[1]
    assert CaptionRecords([record(b"a b c")], "coco_captions", 2, cut=True)[0].words == (("a", "b"),)


def test_drawings():
    vocabulary = build((words_of(s) for i in range(100) for s in sentences("train", i, 64)), 1)
    source = DrawnCaptions("test", np.array([5, 3, 9]), vocabulary, 64, boxes=True)
    assert isinstance(source, Source)
    assert (len(source), source.class_names, source.number(2)) == (3, CLASS_NAMES, 9)
    for _ in range(2):
        batch = source.batch(np.array([2, 0]))
        for row, (index, number) in enumerate(((2, 9), (0, 5))):
            scene = draw("test", number, 64)
            count = len(scene.things)
            np.testing.assert_array_equal(batch["image"][row], scene.picture)
            said = [vocabulary.decode(tokens) for tokens in batch["tokens"][row]]
            assert said == [words_of(sentence) for sentence in source.sentences(index)]
            assert all(is_true(words, scene) for words in said)
            assert batch["length"][row].tolist() == [len(words) + 2 for words in said]
            assert batch["boxes"][row, :count].tolist() == [list(map(float, thing.box)) for thing in scene.things]
            assert batch["label"][row, count:].tolist() == [-1] * (6 - count)
    assert batch["tokens"].shape == (2, 5, 18)
    assert batch["size"].tolist() == batch["original"].tolist() == [[64, 64]] * 2
    plain = DrawnCaptions("test", np.array([5]), vocabulary, 64)
    assert not {"boxes", "kinds"} & plain.batch(np.array([0])).keys()
    named = dataclasses.replace(plain, places=4).batch(np.array([0]))
    np.testing.assert_array_equal(named["kinds"], kinds_at_places(draw("test", 5, 64), 4)[None])
