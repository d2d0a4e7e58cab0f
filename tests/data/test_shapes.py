"""Drawn shapes: what is said of them is what is seen, splits are apart, and a drawing hangs on its index alone."""

import itertools
import time

import numpy as np
import pytest

from cnnlab.data import shapes
from cnnlab.data.shapes import (
    CLASS_NAMES,
    COLOURS,
    SIZES,
    SPLITS,
    VISIBLE,
    ShapesSource,
    draw,
    inside,
    kind,
    kinds_at_places,
)
from cnnlab.data.source import Source
from cnnlab.errors import UserError

SCENES = [draw("train", i) for i in range(60)]


def grid(size=301, reach=1.25):
    v, u = np.mgrid[-reach : reach : size * 1j, -reach : reach : size * 1j]
    return u, v, (2 * reach / (size - 1)) ** 2


@pytest.mark.parametrize(
    ("shape", "area"),
    [
        ("circle", np.pi),
        ("square", 2 * 1.2**2),  # the diagonal is 2.4
        ("triangle", 3 * np.sqrt(3) / 4 * 1.2**2),
        ("cross", 4 * 0.7 - 0.7**2),
        # A pentagram of outer radius R has the area R² · 5 sin(36°) · r / R, r = R cos 72° / cos 36° its inner radius.
        ("star", 1.2**2 * 5 * np.sin(np.radians(36)) * np.cos(np.radians(72)) / np.cos(np.radians(36))),
    ],
)
def test_shapes_have_their_areas_and_reach(shape, area):
    u, v, pixel = grid()
    mask = inside(shape, u, v)
    assert mask.sum() * pixel == pytest.approx(area, rel=0.02)
    assert np.hypot(u, v)[mask].max() == pytest.approx(1 if shape == "circle" else np.hypot(1, 0.35), abs=0.2)
    assert np.hypot(u, v)[mask].max() <= shapes.REACH + 1e-6
    assert np.mean(mask != mask[:, ::-1]) < 0.005  # upright: left and right are alike, but for rounding at the edge
    if shape in ("star", "triangle"):  # a tip points up
        assert v[mask].min() == pytest.approx(-1.2, abs=0.02)


def test_kinds_stand_where_their_things_centres_are():
    for scene in SCENES[:20]:
        found = kinds_at_places(scene, 5)
        assert found.shape == (5, 5, 90)
        assert found.sum() == len(scene.things)
        for thing in scene.things:
            number = (CLASS_NAMES.index(thing.shape), [*COLOURS].index(thing.colour), [*SIZES].index(thing.size))
            x, y = thing.centre
            assert found.reshape(5, 5, 5, 6, 3)[int(y / 25.6), int(x / 25.6)][number] >= 1
    assert {kind(thing) for scene in SCENES for thing in scene.things} <= set(range(90))


def test_boxes_and_areas_are_those_of_the_masks():
    for scene in SCENES:
        assert 1 <= len(scene.things) <= 6
        masks = scene.masks()
        assert masks.shape == (len(scene.things), 128, 128)
        assert set(np.unique(scene.instances)) <= set(range(len(scene.things) + 1))
        for thing, mask in zip(scene.things, masks, strict=True):
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            assert thing.box == (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
            assert thing.area == mask.sum()
            assert VISIBLE * thing.whole <= thing.area <= thing.whole


def test_masks_are_the_pixels_that_are_seen_in_their_colour():
    """Noise and jitter are under 22 grey levels, and a thing's pixels differ from one another by noise alone."""
    for scene in SCENES:
        for thing, mask in zip(scene.things, scene.masks(), strict=True):
            colours = scene.picture[mask].astype(int)
            assert np.abs(np.median(colours, 0) - COLOURS[thing.colour]).max() <= 15
            assert np.abs(colours - np.median(colours, 0)).max() <= 20


def test_what_is_drawn_later_lies_above():
    """A thing that hides pixels of another was drawn after it: the last is whole."""
    assert all(scene.things[-1].area == scene.things[-1].whole for scene in SCENES)
    assert any(thing.area < thing.whole for scene in SCENES for thing in scene.things)


def test_words_are_true():
    for scene in SCENES:
        for thing in scene.things:
            assert thing.shape in CLASS_NAMES
            assert thing.colour in COLOURS
            low, high = (128 * share for share in SIZES[thing.size])
            assert 0.7 * low**2 <= thing.whole <= 1.05 * np.pi * high**2
            if thing.area == thing.whole:
                x0, y0, x1, y1 = thing.box
                assert max(x1 - x0, y1 - y0) <= 2 * shapes.REACH * high + 2
                assert x0 < thing.centre[0] < x1
                assert y0 < thing.centre[1] < y1


def test_sizes_leave_room_between_their_words():
    ranges = list(SIZES.values())
    assert all(first[1] * 1.2 <= second[0] for first, second in itertools.pairwise(ranges))


def test_all_words_come_up_about_equally():
    things = [thing for i in range(300) for thing in draw("test", i, 64).things]
    for field, words in (("shape", CLASS_NAMES), ("colour", COLOURS), ("size", SIZES)):
        counts = np.array([sum(getattr(thing, field) == word for thing in things) for word in words])
        assert counts.min() > 0.7 * len(things) / len(words)
        assert counts.max() < 1.3 * len(things) / len(words)


def test_a_drawing_depends_on_split_and_index_alone():
    again = [draw("train", i) for i in reversed(range(60))][::-1]
    for scene, other in zip(SCENES, again, strict=True):
        np.testing.assert_array_equal(scene.picture, other.picture)
        assert scene.things == other.things
    seen = {draw(split, i).picture.tobytes() for split in SPLITS for i in range(60)}
    assert len(seen) == 120


def test_a_drawing_is_the_same_on_every_machine():
    words = ["blue triangle", "purple circle", "green circle", "yellow square", "red star", "purple square"]
    assert [f"{thing.colour} {thing.shape}" for thing in draw("train", 0).things] == words


def test_batches():
    source = ShapesSource("test", 10, 64, 4)
    assert isinstance(source, Source)
    assert (len(source), source.class_names) == (10, CLASS_NAMES)
    batch = source.batch(np.array([3, 0, 3]))
    kinds = {name: (array.shape, array.dtype) for name, array in batch.items()}
    assert kinds == {
        "image": ((3, 64, 64, 3), np.uint8),
        "size": ((3, 2), np.int32),
        "original": ((3, 2), np.int32),
        "boxes": ((3, 4, 4), np.float32),
        "label": ((3, 4), np.int32),
        "ignored": ((3, 4), bool),
        "area": ((3, 4), np.float32),
    }
    scene = source.scene(3)
    count = len(scene.things)
    for row in (0, 2):
        np.testing.assert_array_equal(batch["image"][row], scene.picture)
        assert batch["boxes"][row, :count].tolist() == [list(map(float, thing.box)) for thing in scene.things]
        assert [CLASS_NAMES[k] for k in batch["label"][row, :count]] == [thing.shape for thing in scene.things]
        assert batch["label"][row, count:].tolist() == [-1] * (4 - count)
        assert not batch["boxes"][row, count:].any()
        assert batch["area"][row, :count].tolist() == [thing.area for thing in scene.things]
    assert batch["size"].tolist() == batch["original"].tolist() == [[64, 64]] * 3
    assert not batch["ignored"].any()
    np.testing.assert_array_equal(source.picture(3), scene.picture)


def test_a_size_that_is_no_multiple_of_32_stands_on_a_canvas_that_is():
    batch = ShapesSource("test", 1, 72).batch(np.array([0]))
    assert batch["image"].shape == (1, 96, 96, 3)
    assert batch["size"].tolist() == [[72, 72]]
    assert not batch["image"][0, 72:].any()


@pytest.mark.parametrize("wrong", [("val", 1), ("train", 0), ("train", 1, 31), ("train", 1, 64, 0)])
def test_what_cannot_be_drawn(wrong):
    with pytest.raises(UserError, match="there must be 1 or more, of 32 or more"):
        ShapesSource(*wrong)


def test_drawing_is_fast():
    began = time.process_time()
    for i in range(50):
        draw("train", i)
    assert time.process_time() - began < 1.0  # a twelfth of a second on an idle core


def test_masks_come_as_windows_of_their_boxes():
    source = ShapesSource("test", 5, 64, 4, mask_window=8)
    batch = source.batch(np.arange(5))
    assert (batch["masks"].shape, batch["masks"].dtype) == ((5, 4, 8, 8), np.uint8)
    for index in range(5):
        masks = source.masks(index)
        assert np.array_equal(masks, source.scene(index).masks())
        for window, mask, box in zip(batch["masks"][index], masks, batch["boxes"][index], strict=False):
            x0, y0, x1, y1 = box.astype(int)
            assert mask[y0:y1, x0:x1].sum() == mask.sum()
            assert window.mean() / 255 == pytest.approx(mask[y0:y1, x0:x1].mean(), abs=0.06)
            assert window[0].any()
            assert window[:, -1].any()
        assert not batch["masks"][index, len(masks) :].any()
    assert "masks" not in ShapesSource("test", 5, 64, 4).batch(np.arange(1))
