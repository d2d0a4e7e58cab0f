"""Non-maximum suppression by hand, and against the textbook's loop over boxes."""

import functools
from contextlib import nullcontext

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.ops.forms import plain_forms
from cnnlab.ops.nms import class_wise_nms, nms

NAN, INF = float("nan"), float("inf")


# IoU of neighbours: 0.6, of the first and the last: 1/3.
CHAIN = [[0, 0, 8, 10], [2, 0, 10, 10], [4, 0, 12, 10]]


def slow_nms(boxes, scores, valid, threshold, limit, classes=None):
    """The textbook: the best of those left is kept, and all that overlap it too much go, until none is left."""
    boxes, scores = boxes.tolist(), scores.tolist()
    left = [i for i, (x0, y0, x1, y1) in enumerate(boxes) if valid[i] and x1 > x0 and y1 > y0]
    kept = []
    while left and len(kept) < limit:
        best = min(left, key=lambda i: (-scores[i], i))
        kept.append(best)
        left = [
            i
            for i in left
            if i != best
            and not (overlap(boxes[i], boxes[best]) > threshold and (classes is None or classes[i] == classes[best]))
        ]
    return kept


def overlap(a, b):
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    common = width * height
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def drawn(*shape, spread=60, seed=0):
    """Boxes with whole corners, whose IoUs are exact, scores with many ties, classes, and which are valid."""
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, spread, (*shape, 2))
    boxes = np.concatenate([corner, corner + rng.integers(0, 20, (*shape, 2))], -1).astype(np.float32)
    scores = rng.integers(0, shape[-1] // 2 + 1, shape).astype(np.float32) / shape[-1]
    return boxes, scores, rng.integers(0, 4, shape), rng.random(shape) < 0.9


def indices(result):
    """What is kept, as a list; that only the first places are filled, and the others 0, is checked."""
    index, filled = (np.asarray(x) for x in result)
    assert (np.diff(filled.astype(int)) <= 0).all()
    assert not index[~filled].any()
    return index[filled].tolist()


# Compiled once for each shape and limit.
free = jax.jit(nms, static_argnames="limit")
of_classes = jax.jit(class_wise_nms, static_argnames="limit")


def run(boxes, scores, threshold=0.5, limit=10, valid=None, classes=None):
    """What is kept of up to six boxes, padded to six."""
    missing = 6 - len(boxes)
    boxes, scores = np.array(boxes + [CHAIN[0]] * missing, np.float32), np.array(scores + [1] * missing, np.float32)
    valid = np.array((valid or [True] * len(boxes))[: 6 - missing] + [False] * missing)
    if classes is None:
        return indices(free(boxes, scores, valid, threshold, limit=limit))
    return indices(of_classes(boxes, scores, np.array(classes + [0] * missing), valid, threshold, limit=limit))


def test_a_box_that_went_suppresses_nothing():
    assert run(CHAIN, [0.9, 0.8, 0.7]) == [0, 2]
    assert run(CHAIN, [0.8, 0.9, 0.7]) == [1]
    assert run(CHAIN, [0.7, 0.8, 0.9]) == [2, 0]


def test_an_iou_equal_to_the_threshold_does_not_suppress():
    half = [[0, 0, 2, 2], [0, 0, 2, 1]]
    assert run(half, [0.9, 0.8], threshold=0.5) == [0, 1]
    assert run(half, [0.9, 0.8], threshold=0.499) == [0]


def test_equal_scores_go_by_index():
    assert run(CHAIN, [0.5, 0.5, 0.5]) == [0, 2]
    assert run(CHAIN[::-1], [0.5, 0.5, 0.5]) == [0, 2]
    assert run([[0, 0, 1, 1], [2, 0, 3, 1], [4, 0, 5, 1]], [0.0, -0.0, 0.0]) == [0, 1, 2]


def test_the_limit_keeps_the_best():
    apart = [[10 * i, 0, 10 * i + 5, 5] for i in range(5)]
    scores = [0.1, 0.5, 0.3, 0.4, 0.2]
    assert run(apart, scores, limit=3) == [1, 3, 2]
    assert run(apart, scores, limit=10) == [1, 3, 2, 4, 0]
    assert run(apart, scores, limit=0) == []


def test_what_is_not_valid_neither_stays_nor_suppresses():
    assert run(CHAIN, [0.8, 0.9, 0.7], valid=[True, False, True]) == [0, 2]
    assert run(CHAIN, [0.8, 0.9, 0.7], valid=[False, False, False]) == []


def test_scores_that_are_not_numbers_and_infinite_ones():
    assert run(CHAIN, [0.8, NAN, 0.7]) == [0, 2]
    assert run(CHAIN, [NAN, NAN, NAN]) == []
    apart = [[10 * i, 0, 10 * i + 5, 5] for i in range(4)]
    assert run(apart, [-INF, -3e38, INF, NAN]) == [2, 1, 0]
    assert run(apart, [-INF, 0, -INF, 0], valid=[True, False, True, True]) == [3, 0, 2]


@pytest.mark.parametrize(
    "bad", [[0, 0, 0, 0], [2, 0, 10, 0], [10, 0, 2, 10], [10, 10, 2, 0], [NAN, 0, 10, 10], [2, 0, INF, 10], [NAN] * 4]
)
def test_boxes_without_area_and_those_that_are_not_numbers(bad):
    assert run([CHAIN[0], bad, CHAIN[2]], [0.8, 0.9, 0.7]) == [0, 2]


def test_none():
    index, filled = nms(jnp.zeros((2, 0, 4)), jnp.zeros((2, 0)), jnp.zeros((2, 0), bool), 0.5, 3)
    assert index.shape == filled.shape == (2, 3)
    assert not filled.any()


def test_no_class_suppresses_another():
    same = [[0, 0, 8, 8]] * 5
    assert run(same, [0.1, 0.2, 0.3, 0.4, 0.5], classes=[0, 1, 0, 7, 1]) == [4, 3, 2]
    far = [[1e7, 0, 1e7 + 8, 8], [1e7 + 2, 0, 1e7 + 10, 8], [1e7 + 2, 0, 1e7 + 10, 8]]
    assert run(far, [0.9, 0.8, 0.7], classes=[80, 80, 2]) == [0, 2]


@pytest.mark.parametrize(
    ("count", "form"), [(1, nullcontext), (64, nullcontext), (65, nullcontext), (300, nullcontext), (300, plain_forms)]
)
def test_the_textbooks_boxes_are_kept(count, form):
    boxes, scores, classes, valid = drawn(3, count)
    with form():
        # Wrapped anew, so that each form is traced.
        own_free = jax.jit(functools.partial(nms, limit=count))
        own_of_classes = jax.jit(functools.partial(class_wise_nms, limit=count))
        for threshold in (0.0, 0.25, 0.6):
            found = own_free(boxes, scores, valid, threshold=threshold)
            by_class = own_of_classes(boxes, scores, classes, valid, threshold=threshold)
            for p in range(3):
                one = (boxes[p], scores[p], valid[p], threshold, count)
                assert indices(jax.tree.map(lambda x, p=p: x[p], found)) == slow_nms(*one)
                assert indices(jax.tree.map(lambda x, p=p: x[p], by_class)) == slow_nms(*one, classes[p])


def test_limits_between_blocks():
    boxes, scores, _, valid = drawn(2, 400, spread=400)
    everything = [slow_nms(*one, 0.25, 400) for one in zip(boxes, scores, valid, strict=True)]
    assert min(map(len, everything)) > 200
    for limit in (64, 350):
        index, filled = free(boxes, scores, valid, 0.25, limit=limit)
        for p in range(2):
            assert indices((index[p], filled[p])) == everything[p][:limit]


def test_a_batch_may_have_more_axes_and_pictures_with_nothing():
    boxes, scores, classes, valid = drawn(2, 3, 70)
    valid[1, 2] = False
    index, filled = of_classes(boxes, scores, classes, valid, 0.5, limit=20)
    assert index.shape == filled.shape == (2, 3, 20)
    for i in range(2):
        for j in range(3):
            one = of_classes(boxes[i, j], scores[i, j], classes[i, j], valid[i, j], 0.5, limit=20)
            assert indices(one) == indices((index[i, j], filled[i, j]))


def test_other_counts_compile_nothing_anew():
    traced = []

    @jax.jit
    def count(boxes, scores, valid):
        traced.append(boxes.shape)
        return nms(boxes, scores, valid, 0.5, 50)[1].sum()

    boxes, scores, _, _ = drawn(200)
    counts = [int(count(boxes, scores, np.arange(200) < n)) for n in (0, 10, 200)]
    assert counts[0] == 0 < counts[1] < counts[2]
    assert len(traced) == 1


def test_a_gradient_passes_by():
    boxes, scores, _, valid = drawn(40)

    def chosen(scores):
        index, filled = free(boxes, scores, valid, 0.5, limit=10)
        return jnp.where(filled, scores[index], 0).sum()

    index, filled = free(boxes, scores, valid, 0.5, limit=10)
    expected = np.zeros(40)
    expected[indices((index, filled))] = 1
    np.testing.assert_array_equal(jax.grad(chosen)(jnp.array(scores)), expected)
