"""Proposals and findings against the same done box by box, in numpy."""

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.ops import boxes as box_ops
from cnnlab.ops.proposals import detect, propose, rows


def textbook(boxes, scores, classes, threshold, limit):
    """The kept indices, one by one."""
    kept = []
    for i in np.argsort(-scores, kind="stable"):
        overlaps = [
            float(box_ops.iou(jnp.array([boxes[i]]), jnp.array([boxes[k]]))[0, 0])
            for k in kept
            if classes[k] == classes[i]
        ]
        if all(x <= threshold for x in overlaps):
            kept.append(i)
    return kept[:limit]


def grid(count, step, side):
    corners = np.array([[step * (i % 8), step * (i // 8)] for i in range(count)], np.float32)
    return jnp.asarray(np.concatenate([corners, corners + side], 1))


def test_proposals_are_those_of_the_textbook():
    random = np.random.default_rng(0)
    anchors = [grid(32, 8.0, 16.0), grid(16, 16.0, 40.0)]
    scores = jnp.asarray(random.normal(size=(2, 48)), jnp.float32)
    offsets = jnp.asarray(random.normal(size=(2, 48, 4)) * 0.3, jnp.float32)
    size = jnp.array([[60, 50], [40, 64]])
    found, valid = jax.jit(lambda *a: propose(*a, anchors, size, before=20, after=12))(scores, offsets)
    assert found.shape == (2, 12, 4)
    for picture in range(2):
        candidates, best, level = [], [], []
        for number, part in enumerate((slice(0, 32), slice(32, 48))):
            own = np.asarray(scores[picture, part])
            order = np.argsort(-own, kind="stable")[:20]
            boxes = box_ops.decode(offsets[picture, part][order], anchors[number][order])
            candidates.append(np.asarray(box_ops.clip(boxes, size[picture])))
            best.append(own[order])
            level.append(np.full(len(order), number))
        candidates, best, level = map(np.concatenate, (candidates, best, level))
        sides = candidates[:, 2:] - candidates[:, :2]
        there = (sides >= 1e-3).all(1)
        candidates, best, level = candidates[there], best[there], level[there]
        kept = textbook(candidates, best, level, 0.7, 12)
        assert np.asarray(valid[picture]).sum() == len(kept)
        assert np.allclose(found[picture, : len(kept)], candidates[kept], atol=1e-5)
        assert not found[picture, len(kept) :].any()


def test_findings_by_hand():
    # Two regions on one object, one beside it; class 1 is sure of the first two, class 2 of the third.
    regions = jnp.array(
        [[[0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 11.0, 10.0], [20.0, 20.0, 40.0, 30.0], [0.0, 0.0, 9.0, 9.0]]]
    )
    scores = jnp.array([[[0.8, 0.1], [0.7, 0.02], [0.04, 0.66], [0.98, 0.01]]])
    offsets = jnp.zeros((1, 4, 2, 4)).at[0, 2, 1].set(jnp.array([1.0, 0.0, 0.0, 0.0]))
    valid = jnp.array([[True, True, True, False]])  # the last is not there, sure as it is
    boxes, score, label = detect(
        scores, offsets, regions, valid, jnp.array([[30, 35]]), (10.0, 10.0, 5.0, 5.0), limit=4, threshold=0.5
    )
    # The second class-0 region overlaps the first by 0.82; the first region is weakly of class 1 as well.
    assert label.tolist() == [[0, 1, 1, -1]]
    # A tenth of the width to the right, and cut off at the picture's edge.
    assert np.allclose(boxes[0, 0], [0, 0, 10, 10])
    assert np.allclose(boxes[0, 1], [22, 20, 35, 30])
    assert np.allclose(score, [[0.8, 0.66, 0.1, 0]])


def test_nothing_is_found_where_all_is_background():
    boxes, score, label = detect(
        jnp.full((1, 3, 2), 0.05),
        jnp.zeros((1, 3, 2, 4)),
        jnp.ones((1, 3, 4)),
        jnp.ones((1, 3), bool),
        jnp.array([[9, 9]]),
        (1.0,) * 4,
    )
    assert (label == -1).all()
    assert not score.any()
    assert not boxes.any()


def test_rows_of_each_picture():
    array = jnp.arange(12).reshape(2, 3, 2)
    assert rows(array, jnp.array([[2], [0]])).tolist() == [[[4, 5]], [[6, 7]]]
