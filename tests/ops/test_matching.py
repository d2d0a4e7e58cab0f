"""Matching and drawing by hand, and against loops over single anchors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.ops.matching import match, sample


def slow_match(iou, low, high, valid_truth, best_for_each_truth, valid):
    """The paper's rules for one picture, anchor by anchor."""
    truths, anchors = iou.shape
    index, label = np.zeros(anchors, int), np.zeros(anchors, int)
    for a in range(anchors):
        if not valid[a]:
            label[a] = -1
            continue
        best = -1.0
        for t in range(truths):
            if valid_truth[t] and iou[t, a] > best:
                best, index[a] = iou[t, a], t
        label[a] = 1 if best >= high else 0 if best < low else -1
    if best_for_each_truth:
        for t in range(truths):
            if valid_truth[t] and (iou[t] * valid).max() > 0:
                label[(iou[t] == iou[t][valid].max()) & valid] = 1
    return index, label


def test_by_hand():
    iou = jnp.array(
        [
            [0.9, 0.7, 0.5, 0.1, 0.0, 0.3],
            [0.1, 0.0, 0.6, 0.2, 0.0, 0.2],
        ]
    )
    truths = jnp.array([True, True])
    index, label = match(iou, 0.3, 0.7, truths)
    assert index.tolist() == [0, 0, 1, 1, 0, 0]
    assert label.tolist() == [1, 1, -1, 0, 0, -1]  # 0.7 is positive, 0.3 no longer negative
    index, label = match(iou, 0.3, 0.7, truths, best_for_each_truth=True)
    assert index.tolist() == [0, 0, 1, 1, 0, 0]
    assert label.tolist() == [1, 1, 1, 0, 0, -1]


def test_all_that_are_best_for_a_truth_are_positive_for_their_own():
    iou = jnp.array([[0.4, 0.4, 0.2], [0.5, 0.1, 0.9]])
    index, label = match(iou, 0.3, 0.7, jnp.array([True, True]), True)
    assert label.tolist() == [1, 1, 1]
    assert index.tolist() == [1, 0, 1]  # the first is the best for truth 0 but has more of truth 1, as in torchvision


def test_a_truth_that_nothing_overlaps_makes_nothing_positive():
    iou = jnp.array([[0.0, 0.0, 0.0], [0.0, 0.2, 0.1]])
    assert match(iou, 0.3, 0.7, jnp.array([True, True]), True)[1].tolist() == [0, 1, 0]


def test_padding_matches_nothing():
    iou = jnp.array([[0.5, 0.1], [1.0, 1.0]])
    index, label = match(iou, 0.3, 0.5, jnp.array([True, False]), True)
    assert (index.tolist(), label.tolist()) == ([0, 0], [1, 0])
    for none in (match(iou, 0.3, 0.5, jnp.array([False, False]), True), match(iou[:0], 0.3, 0.5, jnp.zeros(0, bool))):
        assert [x.tolist() for x in none] == [[0, 0], [0, 0]]


def test_anchors_that_do_not_count_are_best_for_no_truth():
    iou = jnp.array([[0.9, 0.4, 0.2]])
    index, label = match(iou, 0.3, 0.7, jnp.array([True]), True, jnp.array([False, True, True]))
    assert (index.tolist(), label.tolist()) == ([0, 0, 0], [-1, 1, 0])


def test_no_anchors():
    index, label = match(jnp.zeros((2, 3, 0)), 0.3, 0.7, jnp.ones((2, 3), bool), True)
    assert index.shape == label.shape == (2, 0)


@pytest.mark.parametrize("best_for_each_truth", [False, True])
def test_against_loops(best_for_each_truth):
    rng = np.random.default_rng(0)
    iou = (rng.integers(0, 11, (20, 4, 30)) / 10).astype(np.float32)  # with many ties, and values at the thresholds
    iou[:, :, :5] = 0
    truths, valid = rng.random((20, 4)) < 0.7, rng.random((20, 30)) < 0.8
    low, high = float(np.float32(0.3)), float(np.float32(0.7))
    run = jax.jit(lambda *args: match(args[0], low, high, args[1], best_for_each_truth, args[2]))
    index, label = run(iou, truths, valid)
    for p in range(20):
        expected = slow_match(iou[p], low, high, truths[p], best_for_each_truth, valid[p])
        np.testing.assert_array_equal(label[p], expected[1])
        np.testing.assert_array_equal(np.where(valid[p], index[p], 0), expected[0])


def drawn(positive, negative, count, share, seed=0):
    result = sample(jax.random.key(seed), jnp.array(positive), jnp.array(negative), count, share)
    return [np.asarray(x) for x in result]


@pytest.mark.parametrize(
    ("positives", "negatives", "expected"),
    [
        (50, 100, (8, 24)),  # enough of both
        (3, 100, (3, 29)),  # few positive ones: filled up with negative ones
        (50, 10, (8, 10)),  # few negative ones: not filled up with positive ones
        (0, 100, (0, 32)),
        (50, 0, (8, 0)),
        (0, 0, (0, 0)),
        (2, 3, (2, 3)),
    ],
)
def test_how_many_of_each_are_drawn(positives, negatives, expected):
    kind = np.array([1] * positives + [0] * negatives + [-1] * 40)
    kind = np.random.default_rng(0).permutation(kind)
    index, valid, is_positive = drawn(kind == 1, kind == 0, 32, 0.25)
    assert index.shape == valid.shape == is_positive.shape == (32,)
    assert (is_positive.sum(), (valid & ~is_positive).sum()) == expected
    assert (kind[index[is_positive]] == 1).all()
    assert (kind[index[valid & ~is_positive]] == 0).all()
    assert len(set(index[valid])) == valid.sum()
    assert not index[~valid].any()
    # Positive ones first, then the negative ones, then nothing.
    assert (np.diff(is_positive.astype(int)) <= 0).all()
    assert (np.diff(valid.astype(int)) <= 0).all()


def test_more_wanted_than_there_are():
    index, valid, is_positive = drawn([True, False], [False, True], 5, 0.5)
    assert index.tolist() == [0, 1, 0, 0, 0]
    assert valid.tolist() == [True, True, False, False, False]
    assert is_positive.tolist() == [True, False, False, False, False]


def test_what_is_both_counts_as_positive():
    index, valid, is_positive = drawn([True, False, True], [True, True, True], 4, 0.25)
    assert valid.tolist() == [True, True, False, False]
    assert index[0] in (0, 2)
    assert (index[1], is_positive.tolist()) == (1, [True, False, False, False])


def test_the_share_is_rounded_down():
    everything = [True] * 200
    assert drawn(everything, [False] * 200, 10, 0.25)[2].sum() == 2
    assert drawn(everything, [False] * 200, 100, 0.29)[2].sum() == 29
    assert drawn(everything, [False] * 200, 10, 0.0)[2].sum() == 0
    assert drawn(everything, [False] * 200, 10, 1.0)[2].sum() == 10


def test_each_is_drawn_as_often_and_each_key_draws_its_own():
    positive = jnp.arange(20) < 10
    run = jax.jit(jax.vmap(lambda key: sample(key, positive, ~positive, 8, 0.5)))
    index, valid, is_positive = run(jax.random.split(jax.random.key(0), 2000))
    assert valid.all()
    assert (is_positive.sum(1) == 4).all()
    counts = np.bincount(np.asarray(index).reshape(-1), minlength=20)
    assert np.abs(counts / 2000 - 0.4).max() < 0.05  # 4.6 standard deviations
    np.testing.assert_array_equal(run(jax.random.split(jax.random.key(0), 2000))[0], index)


def test_a_batch_draws_as_each_picture_alone():
    rng = np.random.default_rng(0)
    kind = jnp.array(rng.integers(-1, 2, (3, 50)))
    keys = jax.random.split(jax.random.key(1), 3)
    batch = sample(keys, kind == 1, kind == 0, 16, 0.5)
    for i in range(3):
        for one, many in zip(sample(keys[i], kind[i] == 1, kind[i] == 0, 16, 0.5), batch, strict=True):
            np.testing.assert_array_equal(one, many[i])
