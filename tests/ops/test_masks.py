"""Masks of regions: targets beside a mask sampled directly, the loss by hand, masks put into pictures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.ops.masks import mask_loss, mask_targets, paste


def bilinear(values, y, x):
    """A value between the middles of the cells of a grid, the slow way."""
    h, w = values.shape
    y, x = np.clip(y - 0.5, 0, h - 1), np.clip(x - 0.5, 0, w - 1)
    i, j = min(int(y), h - 2), min(int(x), w - 2)
    top = values[i, j] * (1 - (x - j)) + values[i, j + 1] * (x - j)
    below = values[i + 1, j] * (1 - (x - j)) + values[i + 1, j + 1] * (x - j)
    return top * (1 - (y - i)) + below * (y - i)


def test_targets_are_the_window_sampled_at_the_bins_middles():
    random = np.random.default_rng(0)
    windows = random.integers(0, 256, (3, 5, 5), np.uint8)
    boxes = np.array([[2.0, 3.0, 12.0, 9.0], [0.0, 0.0, 7.5, 20.0], [4.0, 4.0, 5.0, 5.0]], np.float32)
    regions = np.array([[0.0, 2.0, 10.0, 12.0], [1.0, 3.0, 6.0, 11.0], [3.0, 3.0, 7.0, 6.0]], np.float32)
    found = np.asarray(jax.jit(mask_targets, static_argnums=3)(*map(jnp.asarray, (windows, boxes, regions)), 6))
    for k, (window, box, region) in enumerate(zip(windows, boxes, regions, strict=True)):
        for i in range(6):
            for j in range(6):
                x = region[0] + (j + 0.5) / 6 * (region[2] - region[0])
                y = region[1] + (i + 0.5) / 6 * (region[3] - region[1])
                within = box[0] <= x < box[2] and box[1] <= y < box[3]
                u, v = (x - box[0]) / (box[2] - box[0]) * 5, (y - box[1]) / (box[3] - box[1]) * 5
                assert found[k, i, j] == (within and bilinear(window.astype(float), v, u) >= 127.5)
    assert 0.1 < found.mean() < 0.9


def test_a_region_that_is_its_objects_box_has_its_window_as_target():
    window = np.random.default_rng(1).integers(0, 2, (1, 8, 8)) * 255
    box = jnp.array([[3.0, 5.0, 33.5, 21.0]])
    assert np.array_equal(mask_targets(jnp.asarray(window, jnp.uint8), box, box, 8), window > 0)


def test_half_covered_is_seen_and_nothing_is_without_a_box():
    half = jnp.full((1, 4, 4), 128, jnp.uint8)
    box = jnp.array([[0.0, 0.0, 4.0, 4.0]])
    assert mask_targets(half, box, box, 4).all()
    assert not mask_targets(half - 1, box, box, 4).any()
    assert not mask_targets(half, 0 * box, box, 4).any()
    assert not mask_targets(half, box, box + 4, 4).any()


def test_the_loss_is_of_positive_regions_alone():
    logits = jnp.array([[[0.0, 2.0], [-1.0, 3.0]], [[1.0, 1.0], [1.0, 1.0]], [[50.0, 0.0], [0.0, 0.0]]])
    targets = jnp.array([[[True, True], [False, False]], [[True, True], [True, False]], [[False] * 2] * 2])
    each = lambda x, t: np.log1p(np.exp(-x)) if t else np.log1p(np.exp(x))
    first = np.mean([each(0, 1), each(2, 1), each(-1, 0), each(3, 0)])
    second = np.mean([each(1, 1)] * 3 + [each(1, 0)])
    assert mask_loss(logits, targets, jnp.array([True, True, False])) == pytest.approx((first + second) / 2, rel=1e-5)
    assert mask_loss(logits, targets, jnp.array([True, False, False])) == pytest.approx(first, rel=1e-5)
    assert mask_loss(logits, targets, jnp.zeros(3, bool)) == 0
    slope = jax.grad(mask_loss)(logits, targets, jnp.array([True, False, False]))
    assert not slope[1:].any()
    assert slope[0].all()


def test_pasting_is_bilinear_at_the_middles_of_pixels():
    mask = np.random.default_rng(2).random((4, 4))
    box = np.array([2.3, -1.5, 17.8, 9.1])
    found = paste(mask, box, (8, 16))
    for i in range(8):
        for j in range(16):
            x, y = (j + 0.5 - 2.3) / 15.5 * 4, (i + 0.5 + 1.5) / 10.6 * 4
            within = 2.3 <= j + 0.5 < 17.8 and i + 0.5 < 9.1
            assert found[i, j] == (within and bilinear(mask, y, x) > 0.5)
    assert 0.1 < found.mean() < 0.9


def test_a_full_mask_fills_its_box_and_no_more():
    full = np.ones((28, 28))
    assert np.argwhere(paste(full, np.array([1.0, 2.0, 3.0, 4.0]), (6, 5))).tolist() == [[2, 1], [2, 2], [3, 1], [3, 2]]
    assert np.argwhere(paste(full, np.array([0.6, 0.4, 2.4, 1.6]), (6, 5))).tolist() == [[0, 1], [1, 1]]
    assert paste(full, np.array([-5.0, -5.0, 50.0, 50.0]), (6, 5)).all()
    for nothing in ([0, 0, 0, 0], [3, 3, 2, 2], [9, 9, 12, 12], [1.6, 1.6, 2.4, 2.4], [np.nan, 0, 1, 1]):
        assert not paste(full, np.array(nothing, float), (6, 5)).any()
    assert not paste(full / 2, np.array([0.0, 0, 5, 6]), (6, 5)).any()
