"""Boxes by hand, and against loops over single boxes in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.ops import boxes

NAN, INF = float("nan"), float("inf")
SQUARE = [0.0, 0.0, 4.0, 4.0]
# Empty, without width, turned inside out either way and both, not numbers, not finite, too large.
WITHOUT_AREA = [
    [0, 0, 0, 0],
    [1, 1, 1, 5],
    [3, 0, 1, 2],
    [0, 3, 2, 1],
    [3, 3, 1, 1],
    [0, 0, NAN, 2],
    [NAN, NAN, NAN, NAN],
    [0, 0, INF, 2],
    [-INF, -INF, INF, INF],
    [INF, INF, INF, INF],
    [-3e38, -3e38, 3e38, 3e38],
]


def drawn(*shape, seed=0):
    """Boxes with whole corners in 0..30, so that sums and products of sides are exact."""
    corners = np.random.default_rng(seed).integers(0, 30, (*shape, 2, 2))
    corners.sort(-2)
    corners[..., 1, :] += 1
    return corners.reshape(*shape, 4).astype(np.float32)


def slow_overlap(a, b):
    """Intersection, union and the smallest box around both, of two boxes with area."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    common = width * height if width > 0 and height > 0 else 0
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
    around = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return common, union, around


def test_area_and_who_has_one():
    all_boxes = jnp.array([SQUARE, [-2, 1, 1, 1.5], *WITHOUT_AREA])
    assert boxes.area(all_boxes).tolist() == [16, 1.5] + [0] * len(WITHOUT_AREA)
    assert boxes.has_area(all_boxes).tolist() == [True, True] + [False] * len(WITHOUT_AREA)
    assert boxes.area(jnp.array([0, 0, 2, 3])).item() == 6


def test_overlaps_by_hand():
    others = jnp.array([[2.0, 2, 6, 6], [1, 1, 2, 3], [4, 0, 8, 4], [5, 5, 6, 6], SQUARE])
    np.testing.assert_allclose(boxes.intersection(jnp.array([SQUARE]), others), [[4, 2, 0, 0, 16]])
    np.testing.assert_allclose(boxes.iou(jnp.array([SQUARE]), others), [[1 / 7, 1 / 8, 0, 0, 1]], rtol=1e-6)
    # Around: 6×6, 4×4, 8×4, 6×6, 4×4.
    expected = [[1 / 7 - 8 / 36, 1 / 8, 0, -19 / 36, 1]]
    np.testing.assert_allclose(boxes.giou(jnp.array([SQUARE]), others), expected, rtol=1e-6)


def test_overlaps_of_many_are_those_of_each_two():
    a, b = drawn(2, 7), drawn(2, 5, seed=1)
    found = [np.asarray(f(jnp.array(a), jnp.array(b))) for f in (boxes.intersection, boxes.iou, boxes.giou)]
    assert found[0].shape == (2, 7, 5)
    for p in range(2):
        for i in range(7):
            for j in range(5):
                common, union, around = slow_overlap(a[p, i].astype(np.float64), b[p, j].astype(np.float64))
                expected = [common, common / union, common / union - (around - union) / around]
                np.testing.assert_allclose([x[p, i, j] for x in found], expected, rtol=1e-6, atol=1e-7)


def test_boxes_without_area_overlap_nothing_and_give_no_nan():
    bad, good = jnp.array(WITHOUT_AREA, jnp.float32), jnp.array([SQUARE, [0, 0, 1, 1]])
    for a, b in ((bad, good), (good, bad), (bad, bad)):
        assert (boxes.intersection(a, b) == 0).all()
        assert (boxes.iou(a, b) == 0).all()
        assert jnp.isfinite(boxes.giou(a, b)).all()
        assert (boxes.giou(a, b) <= 0).all()
    finite = jnp.array([box for box in WITHOUT_AREA if np.abs(box).max() < 9], jnp.float32)
    for f in (boxes.iou, boxes.giou):
        assert jnp.isfinite(jax.grad(lambda a, f=f: f(a, good).sum())(finite)).all()


def test_no_boxes():
    none, some = jnp.zeros((2, 0, 4)), jnp.zeros((2, 3, 4))
    assert boxes.iou(none, some).shape == (2, 0, 3)
    assert boxes.iou(some, none).shape == (2, 3, 0)


def test_giou_has_a_slope_where_boxes_are_apart():
    apart = jnp.array([[10.0, 0, 12, 4]])
    grad = jax.grad(lambda a: boxes.giou(a, jnp.array([SQUARE])).sum())(apart)
    assert grad[0, 0] < 0  # nearer is better
    assert not jax.grad(lambda a: boxes.iou(a, jnp.array([SQUARE])).sum())(apart).any()


def test_encode_by_hand():
    # From centre (5, 10), 10 wide and 20 high, to centre (8, 5), 20 wide and 10 high.
    t = boxes.encode(jnp.array([-2.0, 0, 18, 10]), jnp.array([0.0, 0, 10, 20]))
    np.testing.assert_allclose(t, [0.3, -0.25, np.log(2), -np.log(2)], rtol=1e-6)
    weighted = boxes.encode(jnp.array([-2.0, 0, 18, 10]), jnp.array([0.0, 0, 10, 20]), (10.0, 10.0, 5.0, 5.0))
    np.testing.assert_allclose(weighted, t * jnp.array([10, 10, 5, 5]), rtol=1e-6)


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)])
def test_decode_undoes_encode(weights):
    truth, anchors = jnp.array(drawn(3, 8)), jnp.array(drawn(3, 8, seed=1))
    back = boxes.decode(boxes.encode(truth, anchors, weights), anchors, weights)
    np.testing.assert_allclose(back, truth, atol=1e-4)


def test_decode_for_every_class_of_a_region():
    anchors, t = jnp.array(drawn(2, 3)), jax.random.normal(jax.random.key(0), (2, 3, 5, 4))
    found = boxes.decode(t, anchors[:, :, None])
    assert found.shape == t.shape
    np.testing.assert_allclose(found[:, :, 3], boxes.decode(t[:, :, 3], anchors), rtol=1e-5, atol=1e-4)


def test_decoded_sides_grow_at_most_62_and_a_half_times():
    found = boxes.decode(jnp.array([0.0, 0, 1e9, 1000]), jnp.array([0.0, 0, 8, 16]))
    np.testing.assert_allclose(found, [4 - 250, 8 - 500, 4 + 250, 8 + 500], rtol=1e-5)
    assert jnp.isfinite(boxes.decode(jnp.full(4, -1e30), jnp.array([0.0, 0, 8, 16]))).all()
    # The weights come first, the limit then.
    weighted = boxes.decode(jnp.array([0.0, 0, 8, 0]), jnp.array([0.0, 0, 2, 2]), (1.0, 1.0, 8.0, 1.0))
    np.testing.assert_allclose(weighted, [1 - np.e, 0, 1 + np.e, 2], rtol=1e-6)


def test_boxes_without_area_are_coded_as_zeros():
    bad = jnp.array(WITHOUT_AREA, jnp.float32)
    good = jnp.broadcast_to(jnp.array(SQUARE), bad.shape)
    for a, b in ((bad, good), (good, bad), (bad, bad)):
        assert (boxes.encode(a, b) == 0).all()
    finite = jnp.array([box for box in WITHOUT_AREA if np.abs(box).max() < 9], jnp.float32)
    grad = jax.grad(lambda a: boxes.encode(a, jnp.broadcast_to(jnp.array(SQUARE), a.shape)).sum())(finite)
    assert not grad.any()


def test_clip_and_inside_take_each_pictures_size():
    both = jnp.array([[[-3.0, 1, 5, 9], [1, 1, 2, 2], [9, 9, 12, 12]]] * 2)
    size = jnp.array([[8, 4], [10, 6]])
    assert boxes.clip(both, size).tolist() == [
        [[0, 1, 4, 8], [1, 1, 2, 2], [4, 8, 4, 8]],
        [[0, 1, 5, 9], [1, 1, 2, 2], [6, 9, 6, 10]],
    ]
    assert not boxes.has_area(boxes.clip(both, size))[:, 2].any()
    assert boxes.inside(both, size).tolist() == [[False, True, False]] * 2
    edges = jnp.array(
        [[0.0, 0, 4, 8], [-0.1, 0, 4, 8], [0, -0.1, 4, 8], [0, 0, 4.1, 8], [0, 0, 4, 8.1], [0, 0, NAN, 1]]
    )
    assert boxes.inside(edges, size[0]).tolist() == [True, False, False, False, False, False]


def test_flip_twice_is_nothing():
    size = jnp.array([[31, 31], [40, 50]])
    some = jnp.array(drawn(2, 6))
    flipped = boxes.flip(some, size)
    assert flipped[1, 0].tolist() == [50 - some[1, 0, 2], some[1, 0, 1], 50 - some[1, 0, 0], some[1, 0, 3]]
    np.testing.assert_allclose(boxes.flip(flipped, size), some, atol=1e-5)
    assert not boxes.flip(jnp.array(WITHOUT_AREA, jnp.float32), jnp.array([10, 10])).any()


def test_scale_takes_height_and_width_apart():
    some = jnp.array([[[1.0, 2, 3, 4]], [[1.0, 2, 3, 4]], [[0.0, 0, 0, 0]]])
    old, new = jnp.array([[10, 20], [10, 20], [0, 0]]), jnp.array([[20, 20], [5, 40], [7, 7]])
    assert boxes.scale(some, old, new).tolist() == [[[1, 4, 3, 8]], [[2, 1, 6, 2]], [[0, 0, 0, 0]]]
    np.testing.assert_allclose(boxes.scale(boxes.scale(some, old, new), new, old)[:2], some[:2], rtol=1e-6)
