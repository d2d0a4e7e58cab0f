"""Regions of captioned pictures: boxes that were found in stored pictures, and what is cut out of these."""

import io
import pickle

import numpy as np
import pytest
from PIL import Image

from cnnlab.data import pipeline
from cnnlab.data.annotations import Findings
from cnnlab.data.captions import CaptionSource, DrawnCaptions, checked
from cnnlab.data.described import Described
from cnnlab.data.regions import Snippet, SnippetSource, WithRegions, cut, placed, stretched
from cnnlab.data.sentences import EACH
from cnnlab.data.source import Source
from cnnlab.data.text import END, START, build, words_of
from cnnlab.errors import UserError

VOCABULARY = build([("a", "red", "circle", "star")], minimum=1)
A, CIRCLE, RED, STAR = (VOCABULARY.number(word) for word in ("a", "circle", "red", "star"))
# 8 rows and 16 columns; each pixel is its own.
PICTURE = np.stack([*np.mgrid[:8, :16], np.zeros((8, 16))], -1).astype(np.uint8)


def stored(*pictures, size=20):
    """A source of pictures of their own sizes, stretched to size×size in batches."""
    found = []
    for picture in pictures:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "PNG")
        found.append(checked(Described(buffer.getvalue(), ("a star",), ("f:1",), 7), 4, False, Findings(), None))
    return CaptionSource(found, VOCABULARY, size, 4)


def boxes(*rows):
    return np.array(rows, np.float32).reshape(-1, 4)


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [
        ((0.0, 0.0, 1.0, 1.0), (0, 8), (0, 16)),
        ((0.25, 0.5, 0.75, 1.0), (4, 8), (4, 12)),
        ((0.26, 0.51, 0.74, 0.99), (4, 8), (4, 12)),  # all pixels that it touches
        ((0.5, 0.5, 0.5, 0.5), (4, 5), (8, 9)),  # one pixel at least
        ((1.0, 1.0, 1.0, 1.0), (7, 8), (15, 16)),
        ((-0.5, -0.5, 0.5, 2.0), (0, 8), (0, 8)),  # no further than the picture
    ],
)
def test_parts_of_pictures(box, rows, columns):
    found = cut(PICTURE, box)
    assert np.array_equal(found, PICTURE[slice(*rows), slice(*columns)])


@pytest.mark.parametrize("side", [96, 100, 128, 333])
def test_whole_pixels_stay_whole_as_shares(side):
    """Shares of float32, as tasks give them, fall beside the pixels' edges by a hair."""
    picture = np.zeros((side, side, 3), np.uint8)
    for low in range(0, side - 8, 7):
        box = np.array([low, low + 1, low + 5, low + 8], np.float32) / np.float32(side)
        assert cut(picture, tuple(box.tolist())).shape == (7, 5, 3)


def test_stretched():
    found = stretched(PICTURE, 16, 8)
    assert found.shape == (16, 8, 3)
    assert np.array_equal(stretched(PICTURE, 8, 16), PICTURE)
    wide = np.zeros((4, 40, 3), np.uint8)
    wide[:, 20:] = 255
    square = stretched(wide, 8, 8)
    assert (square[:, :3] == 0).all()
    assert (square[:, 5:] == 255).all()


def test_boxes_are_placed_on_the_resized_picture():
    found = placed(boxes((2, 3, 4, 6), (0, 0, 8, 8), (1, 1, 2, 2)), np.array([2.0, 0.5]), 2)
    assert found.dtype == np.float32
    assert found.tolist() == [[1, 6, 2, 12], [0, 0, 4, 16]]
    assert placed(boxes(), np.array([1.0, 1.0]), 3).tolist() == [[0] * 4] * 3


def test_regions_are_in_pixels_of_the_square():
    tall, wide = np.zeros((40, 10, 3), np.uint8), np.zeros((10, 80, 3), np.uint8)
    inner = stored(tall, wide, size=20)
    source = WithRegions(inner, [boxes((5, 20, 10, 40)), boxes((0, 0, 80, 5), (40, 5, 60, 10), (1, 1, 9, 9))], 2)
    assert isinstance(source, Source)
    assert (len(source), source.class_names) == (2, ())
    batch = source.batch(np.array([1, 0]))
    assert batch["boxes"].shape == (2, 2, 4)
    assert batch["boxes"].dtype == np.float32
    assert batch["boxes"][0].tolist() == [[0, 0, 20, 10], [10, 10, 15, 20]]
    assert batch["boxes"][1].tolist() == [[10, 10, 20, 20], [0, 0, 0, 0]]
    plain = inner.batch(np.array([1, 0]))
    assert all(np.array_equal(batch[name], plain[name]) for name in plain)


def test_what_else_the_source_has_is_there():
    inner = stored(PICTURE)
    source = WithRegions(inner, [boxes()], 3)
    assert np.array_equal(source.picture(0), PICTURE)
    assert source.sentences(0) == ("a star",)
    assert not hasattr(source, "scene")
    drawn = DrawnCaptions("test", np.arange(2), VOCABULARY, 32, 1)
    source = WithRegions(drawn, [boxes()] * 2, 3)
    assert source.scene(1).things == drawn.scene(1).things
    assert len(pickle.loads(pickle.dumps(source))) == 2


def snippets():
    inner = stored(PICTURE, np.full((30, 30, 3), 200, np.uint8))
    found = (
        Snippet(1, (0.0, 0.0, 0.5, 1.0), (("a", "star"), ("star",))),
        Snippet(0, (0.5, 0.0, 1.0, 1.0), (("a", "red", "circle"),)),
    )
    return SnippetSource(inner, found, VOCABULARY, 6, 3)


def test_snippets_are_captioned_pictures():
    source = snippets()
    assert isinstance(source, Source)
    assert (len(source), source.class_names) == (2, ())
    assert np.array_equal(source.picture(1), PICTURE[:, 8:])
    assert source.sentences(0) == ("a star", "star")
    batch = source.batch(np.array([1, 0]))
    kinds = {name: (array.shape, array.dtype) for name, array in batch.items()}
    assert kinds == {
        "image": ((2, 6, 6, 3), np.uint8),
        "size": ((2, 2), np.int32),
        "original": ((2, 2), np.int32),
        "tokens": ((2, EACH, 5), np.int32),
        "length": ((2, EACH), np.int32),
    }
    assert np.array_equal(batch["image"][0], stretched(PICTURE[:, 8:], 6, 6))
    assert (batch["image"][1] == 200).all()
    assert batch["original"].tolist() == [[8, 8], [30, 15]]
    assert batch["tokens"][0, 0].tolist() == [START, A, RED, CIRCLE, END]
    assert batch["tokens"][1, :2].tolist() == [[START, A, STAR, END, 0], [START, STAR, END, 0, 0]]
    assert batch["length"].tolist() == [[5, 0, 0, 0, 0], [4, 3, 0, 0, 0]]


def test_snippets_in_the_pipeline():
    padded = pipeline.eval_batch(snippets(), 0, 4, slice(0, 4))
    assert padded["mask"].tolist() == [1, 1, 0, 0]
    assert words_of(snippets().sentences(1)[0]) == VOCABULARY.decode(padded["tokens"][1, 0])


def test_phrases_that_are_too_long():
    source = SnippetSource(stored(PICTURE), (Snippet(0, (0.0, 0.0, 1.0, 1.0), (("a",) * 3,)),), VOCABULARY, 6, 2)
    with pytest.raises(UserError, match="has 3 words, and 4 tokens hold 2"):
        source.batch(np.array([0]))
