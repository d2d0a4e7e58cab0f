"""RoI pooling by hand, and against loops over single places of the maps; gradients against those of the loops."""

import math
from contextlib import nullcontext

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.errors import UserError
from cnnlab.ops.forms import plain_forms
from cnnlab.ops.roi_pooling import multilevel_roi_align, pyramid_level, roi_align, roi_max_pool

FORMS = pytest.mark.parametrize("form", [nullcontext, plain_forms])
NUMBERED = jnp.arange(24.0).reshape(1, 4, 6, 1)


def pooled(rois, size, scale=1.0, features=NUMBERED):
    """The bins of some RoIs of one picture's map of one channel."""
    return np.asarray(roi_max_pool(features, jnp.array([rois], jnp.float32), size, scale))[0, ..., 0].tolist()


def aligned(rois, size, **options):
    return np.asarray(roi_align(NUMBERED, jnp.array([rois], jnp.float32), size, 1.0, **options))[0, ..., 0].tolist()


def drawn_rois(shape, reach, seed=0):
    """Corners anywhere from well outside maps of `reach` pixels to well outside, some turned inside out or empty."""
    rois = np.random.default_rng(seed).uniform(-0.4 * reach, 1.4 * reach, (*shape, 4)).astype(np.float32)
    rois[:, 0] = 0
    rois[:, 1] = [0, 0, reach, reach]
    return rois


def slow_max_pool(features, rois, size, scale, g):
    """Of all bins the maximum; and what the cotangent g of the bins gives the features."""
    _, height, width, c = features.shape
    out, back = np.zeros((*rois.shape[:2], *size, c), np.float32), np.zeros_like(features)
    for i, r in np.ndindex(rois.shape[:2]):
        # To the nearest whole number, a half away from 0.
        x0, y0, x1, y1 = (int(math.copysign(math.floor(abs(v) + 0.5), v)) for v in (rois[i, r] * scale).tolist())
        tall, wide = max(y1 - y0 + 1, 1), max(x1 - x0 + 1, 1)
        for p, q, k in np.ndindex(*size, c):
            rows = range(y0 + p * tall // size[0], y0 + -(-(p + 1) * tall // size[0]))
            columns = range(x0 + q * wide // size[1], x0 + -(-(q + 1) * wide // size[1]))
            there = [(y, x) for y in rows if 0 <= y < height for x in columns if 0 <= x < width]
            if there:
                best = max(there, key=lambda at: features[i, at[0], at[1], k])
                out[i, r, p, q, k] = features[i, *best, k]
                back[i, *best, k] += g[i, r, p, q, k]
    return out, back


def slow_weights(roi, size, shape, scale, sampling, is_aligned):
    """What share each place of a map has in each bin of a RoI (p, q, h, w)."""
    weights = np.zeros((*size, *shape))
    x0, y0, x1, y1 = (v * scale - 0.5 * is_aligned for v in roi.tolist())
    tall, wide = y1 - y0, x1 - x0
    if not is_aligned:
        tall, wide = max(tall, 1), max(wide, 1)
    for p, q, i, j in np.ndindex(*size, sampling, sampling):
        y = y0 + (p + (i + 0.5) / sampling) * tall / size[0]
        x = x0 + (q + (j + 0.5) / sampling) * wide / size[1]
        if not (-1 <= y <= shape[0] and -1 <= x <= shape[1]):
            continue
        for row, column in np.ndindex(*shape):
            near = [
                max(0, 1 - abs(min(max(v, 0), length - 1) - at))
                for v, at, length in ((y, row, shape[0]), (x, column, shape[1]))
            ]
            weights[p, q, row, column] += near[0] * near[1] / sampling**2
    return weights


def both(function, features, g):
    """The value of a function of the features, and their gradient where the value's is g, in one program."""

    @jax.jit
    def run(features, g):
        out, back = jax.vjp(function, features)
        return out, back(g)[0]

    return jax.tree.map(np.asarray, run(features, g))


def test_max_pool_by_hand():
    # The whole map, 4 rows of 6: two bins down and three across.
    assert pooled([[0, 0, 5, 3]], (2, 3)) == [[[7, 9, 11], [19, 21, 23]]]
    # Three rows in two bins share the middle one; both corners belong to it.
    assert pooled([[0, 0, 2, 2]], (2, 1)) == [[[8], [14]]]
    # A single place is in every bin.
    assert pooled([[3, 2, 3, 2]], (2, 2)) == [[[15, 15], [15, 15]]]


def test_max_pool_rounds_a_half_away_from_zero():
    assert pooled([[0.5, 0.5, 0.5, 0.5], [1.5, 0.49, 1.5, 0.49], [2.5, 0, 2.5, 0]], (1, 1)) == [[[7]], [[2]], [[3]]]
    assert pooled([[-0.5, 0, -0.5, 0], [-0.49, 0, -0.49, 0]], (1, 1)) == [[[0]], [[0]]]
    assert pooled([[8, 16, 24, 16]], (1, 1), scale=1 / 16) == [[[8]]]
    largest_below_half = float(np.nextafter(np.float32(0.5), np.float32(0)))
    assert pooled([[largest_below_half, 0, 0, 0]], (1, 1)) == [[[0]]]


def test_bins_without_a_place_are_0():
    down = NUMBERED - 100
    assert pooled([[-2, 0, 1, 0]], (1, 2), features=down) == [[[0, -99]]]
    outside = [[-9, -9, -5, -5], [6, 0, 9, 3], [0, 4, 5, 9], [np.nan, 0, 1, 1], [0, 0, 1, np.nan]]
    assert pooled(outside, (1, 1), features=down) == [[[0]]] * 5
    assert pooled([[-np.inf, -np.inf, np.inf, np.inf], [-1e30, 0, 1e30, 0]], (1, 1), features=down) == [
        [[-77]],
        [[-95]],
    ]
    assert pooled([[3, 2, 0, 0]], (1, 1), features=down) == [[[-85]]]  # turned inside out: the one place of its corner


@FORMS
@pytest.mark.parametrize(("size", "scale"), [((7, 7), 0.5), ((3, 2), 1.0), ((1, 5), 0.3)])
def test_max_pool_against_loops(form, size, scale):
    rng = np.random.default_rng(0)
    features = rng.integers(-4, 4, (2, 9, 11, 3)).astype(np.float32)  # with many equal ones
    rois = drawn_rois((2, 8), 10 / scale)
    g = rng.normal(size=(2, 8, *size, 3)).astype(np.float32)
    with form():
        out, back = both(lambda x: roi_max_pool(x, jnp.array(rois), size, scale), features, g)
    expected = slow_max_pool(features, rois, size, scale, g)
    np.testing.assert_array_equal(out, expected[0])
    np.testing.assert_allclose(back, expected[1], atol=1e-5)


def test_align_by_hand():
    # The only point of each is its middle.
    assert aligned([[1, 1, 3, 3]], (1, 1), sampling=1) == [[[14]]]
    assert aligned([[1, 1, 3, 3]], (1, 1), sampling=1, aligned=True) == [[[14 - 3.5]]]
    # A value linear in the place is that of the bin's middle, however many points there are.
    assert (
        aligned([[1, 1, 3, 3]], (2, 2)) == aligned([[1, 1, 3, 3]], (2, 2), sampling=1) == [[[10.5, 11.5], [16.5, 17.5]]]
    )
    # Empty: 1×1 in the first form, a point in the aligned one.
    assert aligned([[2, 1, 2, 1]], (1, 1), sampling=1) == [[[8 + 3.5]]]
    assert aligned([[2, 1, 2, 1]], (1, 1), sampling=1, aligned=True) == [[[8 - 3.5]]]


def test_the_outermost_values_of_align_reach_one_further():
    def at(x, y):
        return aligned([[x - 0.5, y - 0.5, x + 0.5, y + 0.5]], (1, 1), sampling=1)[0][0][0]

    assert [at(x, 0) for x in (-1, -0.5, 0, 0.5, 5, 5.5, 6)] == [0, 0, 0, 0.5, 5, 5, 5]
    assert [at(0, y) for y in (-1, 3, 4)] == [0, 18, 18]
    assert [at(4, y) for y in (-1.125, -1, 4, 4.125)] == [0, 4, 22, 0]
    assert [at(x, 3) for x in (-1.125, -1, 6, 6.125)] == [0, 18, 23, 0]
    assert at(math.nan, 3) == at(3, math.nan) == at(math.inf, 3) == at(1e30, 3) == 0


@FORMS
@pytest.mark.parametrize(("size", "sampling", "is_aligned"), [((7, 7), 2, False), ((3, 2), 1, True), ((2, 3), 3, True)])
def test_align_against_loops(form, size, sampling, is_aligned):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2, 5, 6, 4)).astype(np.float32)
    rois = drawn_rois((2, 5), 12)
    g = rng.normal(size=(2, 5, *size, 4)).astype(np.float32)
    with form():
        out, back = both(lambda x: roi_align(x, jnp.array(rois), size, 0.5, sampling, is_aligned), features, g)
    weights = np.stack([[slow_weights(roi, size, (5, 6), 0.5, sampling, is_aligned) for roi in one] for one in rois])
    np.testing.assert_allclose(out, np.einsum("nrpqhw,nhwc->nrpqc", weights, features), atol=1e-5)
    np.testing.assert_allclose(back, np.einsum("nrpqhw,nrpqc->nhwc", weights, g), atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (4, 1), (2, 2)])
def test_align_on_the_smallest_maps(shape):
    features = np.random.default_rng(0).normal(size=(2, *shape, 2)).astype(np.float32)
    rois = drawn_rois((2, 6), 4)
    out, back = both(
        lambda x: roi_align(x, jnp.array(rois), (2, 2), 1.0), features, np.ones((2, 6, 2, 2, 2), np.float32)
    )
    weights = np.stack([[slow_weights(roi, (2, 2), shape, 1.0, 2, False) for roi in one] for one in rois])
    np.testing.assert_allclose(out, np.einsum("nrpqhw,nhwc->nrpqc", weights, features), atol=1e-6)
    np.testing.assert_allclose(back, np.broadcast_to(weights.sum((1, 2, 3))[..., None], back.shape), atol=1e-5)


def test_levels_by_hand():
    sides = [1, 56, 111, 112, 223, 224, 447, 448, 895, 896, 5000]
    rois = jnp.array([[10, 20, 10 + side, 20 + side] for side in sides], jnp.float32)
    assert pyramid_level(rois, (1 / 4, 1 / 8, 1 / 16, 1 / 32)).tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3, 3, 3]
    assert pyramid_level(rois, (1 / 8, 1 / 16)).tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1]
    assert pyramid_level(rois, (1 / 16,)).tolist() == [0] * 11
    # It is the root of the area that counts; nothing, and what is not a number, belongs to the finest.
    odd = jnp.array([[0, 0, 448, 112], [0, 0, 1000, 10], [0, 0, 0, 0], [9, 9, 0, 0], [0, 0, math.nan, 9]], jnp.float32)
    assert pyramid_level(odd, (1 / 4, 1 / 8, 1 / 16, 1 / 32)).tolist() == [2, 0, 0, 0, 0]


@FORMS
def test_each_region_is_pooled_from_its_own_map(form):
    rng = np.random.default_rng(0)
    scales = (1 / 8, 1 / 16, 1 / 32)
    maps = [rng.normal(size=(2, h, w, 3)).astype(np.float32) for h, w in ((13, 20), (7, 10), (4, 5))]
    rois = drawn_rois((2, 6), 100)
    rois[:, 2:, 2:] = rois[:, 2:, :2] + np.array([[20, 20], [160, 150], [230, 230], [460, 460]], np.float32)
    level = np.asarray(pyramid_level(jnp.array(rois), scales))
    assert set(level.flat) == {0, 1, 2}
    g = rng.normal(size=(2, 6, 2, 3, 3)).astype(np.float32)
    with form():
        out, back = both(lambda maps: multilevel_roi_align(maps, jnp.array(rois), (2, 3), scales), maps, g)
        parts = [
            both(lambda x, s=s: roi_align(x, jnp.array(rois), (2, 3), s), x, g)
            for x, s in zip(maps, scales, strict=True)
        ]
    for i, r in np.ndindex(2, 6):
        np.testing.assert_allclose(out[i, r], parts[level[i, r]][0][i, r], atol=1e-6)
    for number, x in enumerate(maps):
        own = np.where((level == number)[..., None, None, None], g, 0)
        expected = both(lambda x, s=scales[number]: roi_align(x, jnp.array(rois), (2, 3), s), x, own)[1]
        np.testing.assert_allclose(back[number], expected, atol=1e-5)


def test_half_precision_maps_give_half_precision_bins():
    features = NUMBERED.astype(jnp.bfloat16)
    rois = jnp.array([[[1.0, 1, 3, 3]]])
    for function in (roi_align, roi_max_pool):
        run = lambda x, function=function: function(x, rois, (2, 2), 1.0)
        out, back = jax.vjp(run, features)
        assert out.dtype == back(out)[0].dtype == jnp.bfloat16
        np.testing.assert_allclose(out.astype(jnp.float32), run(NUMBERED), rtol=1e-2)


def test_no_gradient_goes_to_the_regions():
    rois = jnp.array([[[1.0, 1, 3, 3]]])
    for function in (roi_align, roi_max_pool):
        run = lambda rois, function=function: function(NUMBERED, rois, (2, 2), 1.0).sum()
        assert not jax.grad(run)(rois).any()
        with plain_forms():
            assert not jax.grad(run)(rois).any()


def test_no_regions():
    none = jnp.zeros((1, 0, 4))
    for function in (roi_align, roi_max_pool):
        run = lambda x, function=function: function(x, none, (2, 2), 1.0)
        assert run(NUMBERED).shape == (1, 0, 2, 2, 1)
        assert not jax.grad(lambda x, run=run: run(x).sum())(NUMBERED).any()


def test_wrong_uses_are_named():
    rois = jnp.zeros((1, 1, 4))
    with pytest.raises(UserError, match="1 or more, not 0"):
        roi_align(NUMBERED, rois, (2, 2), 1.0, sampling=0)
    with pytest.raises(UserError, match="half the scale"):
        multilevel_roi_align((NUMBERED, NUMBERED), rois, (2, 2), (1 / 4, 1 / 16))
