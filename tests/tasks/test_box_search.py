"""Boxes of a search: where they lie, that the net's windows are theirs, and which are the object's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.data.augment import keys_of
from cnnlab.errors import UserError
from cnnlab.models.sliding import STRIDE, WINDOW
from cnnlab.tasks.box_search import all_boxes, drawn, edges, field, judged, scales_between, step_of, window

SCALES = scales_between(0.7, 1.4, 5)


def test_scales_by_hand():
    np.testing.assert_allclose(SCALES, [0.7, 0.832446, 0.989949, 1.177254, 1.4], atol=1e-5)
    assert scales_between(1.0, 1.0, 1) == (1.0,)
    assert scales_between(1.0, 1.0, 5) == (1.0,)
    np.testing.assert_allclose(step_of(SCALES), np.log(2) / 4, rtol=1e-5)


@pytest.mark.parametrize("wrong", [(0.0, 1.0, 2), (1.4, 0.7, 5), (0.7, 1.4, 1), (1.0, 1.0, 0), (1.0, float("inf"), 2)])
def test_scales_out_of_range(wrong):
    with pytest.raises(UserError, match="they must be positive, ascending, and at least two"):
        scales_between(*wrong)


@pytest.mark.parametrize("size", [40, 60, 61, 101])
@pytest.mark.parametrize("scale", [*SCALES, 1.0])
def test_boxes_cover_the_picture(size, scale):
    boxes = all_boxes(size, scale)
    assert boxes.shape == (len(edges(size, scale)),) * 2 + (4,)
    assert boxes.min() >= -1e-3
    assert boxes.max() <= size + 1e-3
    np.testing.assert_allclose(boxes[..., 2:] - boxes[..., :2], 28 * scale, rtol=1e-5)
    # Wherever an object of the scale lies within, a box is never off by more than half a stride.
    starts = np.linspace(0, size - 28 * scale, 500)
    off = np.abs(starts[:, None] - edges(size, scale)).min(1) / scale
    assert off.max() <= STRIDE / 2 + 0.01


def test_a_box_of_the_pictures_size_fits_and_no_larger_one():
    assert len(edges(28, 1.0)) == 1
    with pytest.raises(UserError, match="boxes of scale 1 are 28×28, and the pictures are 27×27: a box must fit"):
        edges(27, 1.0)


@pytest.mark.parametrize("scale", SCALES)
def test_the_nets_windows_are_the_boxes(scale):
    pictures = jnp.asarray(np.random.default_rng(0).integers(0, 256, (2, 60, 60, 1), dtype=np.uint8))
    whole, boxes = field(pictures, scale), all_boxes(60, scale)
    assert whole.shape[1] == WINDOW + STRIDE * (len(boxes) - 1)
    last = len(boxes) - 1
    for i, j in ((0, 0), (1, last), (last, last // 2)):
        box = jnp.broadcast_to(jnp.asarray(boxes[i, j]), (2, 4))
        part = whole[:, STRIDE * i : STRIDE * i + WINDOW, STRIDE * j : STRIDE * j + WINDOW]
        np.testing.assert_allclose(window(pictures, box), part, atol=0.05)


def test_a_window_is_the_box_with_its_margin():
    picture = jnp.asarray(np.random.default_rng(0).integers(0, 256, (1, 40, 40, 1), dtype=np.uint8))
    box = jnp.array([[5.0, 7.0, 33.0, 35.0]])
    np.testing.assert_allclose(window(picture, box), picture[:, 5:37, 3:35], atol=1e-3)


def test_which_boxes_are_the_objects():
    truth = np.array([10.0, 20.0, 66.0, 76.0])  # 28 pixels of 2
    step = 0.2

    def of(right, factor):
        middle, side = np.array([38.0 + right, 48.0]), 56 * np.exp(factor * step)
        box = np.concatenate([middle - side / 2, middle + side / 2])
        good, bad = judged(jnp.asarray(box[None], jnp.float32), jnp.asarray(truth[None], jnp.float32), step)
        return bool(good[0]), bool(bad[0])

    assert of(0, 0) == of(-4.9, 0.5) == (True, False)  # up to 2.5 of the net's pixels
    assert of(5.2, 0) == of(0, 0.7) == of(-7.9, 0.9) == (False, False)
    assert of(8.2, 0) == of(0, -1.1) == (False, True)


def test_what_is_learnt_from():
    keys = keys_of(jax.random.key(0), jnp.arange(500))
    truth = jnp.tile(jnp.array([[12.0, 20.0, 40.0, 48.0]]), (500, 1))
    draw = jax.jit(functools.partial(drawn, size=60, scales=SCALES))
    found = draw(keys, truth)
    anywhere = found[-1]
    shares = [(1.0, 0.0), (0.005, 0.9), (0.005, 0.9), (0.0, 0.95)]
    for boxes, (objects, background) in zip(found, shares, strict=True):
        own, off = (float(each.mean()) for each in judged(boxes, truth, step_of(SCALES)))
        assert own >= objects
        assert off >= background
    assert float(anywhere.min()) >= -1e-3
    assert float(anywhere.max()) <= 60.001
    side = anywhere[:, 2] - anywhere[:, 0]
    assert 0.7 * 28 - 0.01 <= float(side.min()) < 0.72 * 28
    assert 1.38 * 28 < float(side.max()) <= 1.4 * 28 + 0.01
    share = [draw(keys[i : i + 250], truth[:250]) for i in (0, 250)]
    for whole, one, two in zip(found, *share, strict=True):
        np.testing.assert_array_equal(whole, np.concatenate([one, two]))
