"""Sampled regions and the losses, by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.tasks import detection_losses as losses
from cnnlab.tasks.detection_losses import Sampled, draw, head_loss, rpn_loss, smooth_l1, with_truth

TRUTH = (
    jnp.array([[0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 30.0, 30.0], [50.0, 50.0, 60.0, 60.0], [0.0] * 4]),
    jnp.array([2, 0, 1, -1]),
    jnp.array([False, False, True, False]),
)
REGIONS = jnp.array(
    [
        [0.0, 0.0, 10.0, 10.0],  # on the first object
        [0.0, 0.0, 10.0, 6.0],  # IoU 0.6 with it
        [0.0, 0.0, 10.0, 4.0],  # 0.4
        [20.0, 20.0, 30.0, 29.0],  # 0.9 with the second
        [50.0, 50.0, 60.0, 60.0],  # on the one to be ignored
        [100.0, 100.0, 110.0, 110.0],  # on nothing
        [0.0, 0.0, 0.0, 0.0],  # none
    ]
)
THERE = jnp.array([True] * 6 + [False])


def drawn(**how):
    settings = {"count": 16, "share": 0.5, "high": 0.5, "low": 0.5} | how
    return draw(jax.random.key(0), REGIONS, THERE, TRUTH, **settings)


def test_what_is_drawn():
    found = drawn()
    kinds = {int(i): int(label) for i, label, valid in zip(found.index, found.label, found.valid, strict=True) if valid}
    # Labels are classes + 1; the ignored object's region is neither, and what is not there is not drawn.
    assert kinds == {0: 3, 1: 3, 3: 1, 2: 0, 5: 0}
    assert (np.asarray(found.positive) == (np.asarray(found.label) > 0)).all()
    matched = {int(i): int(k) for i, k, p in zip(found.index, found.matched, found.positive, strict=True) if p}
    assert matched == {0: 0, 1: 0, 3: 1}


def test_the_least_overlap_of_a_negative():
    found = drawn(lowest=0.1)
    negatives = {int(i) for i, k, v in zip(found.index, found.label, found.valid, strict=True) if v and k == 0}
    assert negatives == {2}


def test_between_the_thresholds_is_neither_but_the_best_is_positive():
    found = drawn(high=0.95, low=0.3)
    kinds = {int(i): int(label) for i, label, valid in zip(found.index, found.label, found.valid, strict=True) if valid}
    assert kinds == {0: 3, 5: 0}
    found = drawn(high=0.95, low=0.3, best_for_each_truth=True)
    kinds = {int(i): int(label) for i, label, valid in zip(found.index, found.label, found.valid, strict=True) if valid}
    assert kinds == {0: 3, 3: 1, 5: 0}


def test_targets_are_coded_against_the_region():
    found = drawn(weights=(10.0, 10.0, 5.0, 5.0))
    at = int(np.argmax(np.asarray(found.index) == 3))
    # The object's centre is half a pixel below the region's, which is 9 high.
    assert np.allclose(found.target[at], [0, 10 * 0.5 / 9, 0, 5 * np.log(10 / 9)], atol=1e-5)
    assert not np.asarray(found.target)[~np.asarray(found.positive)].any()


def test_smooth_l1():
    x = jnp.array([-2.0, -0.05, 0.0, 0.1, 1.0])
    expected = [2 - 1 / 18, 4.5 * 0.0025, 0, 4.5 * 0.01, 1 - 1 / 18]
    assert np.allclose(smooth_l1(x, 1 / 9), expected, atol=1e-6)


def sampled(**fields):
    values = {
        "index": jnp.array([1, 0, 0]),
        "valid": jnp.array([True, True, False]),
        "positive": jnp.array([True, False, False]),
        "label": jnp.array([2, 0, 0]),
        "target": jnp.array([[1.0, 0.0, 0.0, 0.0], [0.0] * 4, [0.0] * 4]),
        "matched": jnp.array([0, 0, 0]),
    }
    return Sampled(**values | fields)


def test_loss_of_proposals():
    scores, offsets = jnp.array([0.0, 2.0]), jnp.array([[9.0] * 4, [0.0, 0.0, 0.0, 2.0]])
    of_scores, of_boxes = rpn_loss(scores, offsets, sampled(), beta=1.0)
    assert np.isclose(of_scores, (np.log(1 + np.exp(-2.0)) + np.log(2)) / 2)
    assert np.isclose(of_boxes, (0.5 + 1.5) / 2)


def test_loss_of_regions():
    logits = jnp.log(jnp.array([[0.2, 0.3, 0.5], [0.6, 0.2, 0.2], [0.9, 0.05, 0.05]]))
    offsets = jnp.full((3, 3, 4), 7.0).at[0, 2].set(jnp.array([1.0, 0.0, 0.0, -0.5]))
    of_classes, of_boxes = head_loss(logits, offsets, sampled())
    assert np.isclose(of_classes, -(np.log(0.5) + np.log(0.6)) / 2)
    assert np.isclose(of_boxes, 0.125 / 2)
    assert losses.accuracy_on_objects(logits, sampled()) == 1


def test_a_picture_without_regions_has_no_loss():
    none = sampled(valid=jnp.zeros(3, bool), positive=jnp.zeros(3, bool))
    assert head_loss(jnp.ones((3, 3)), jnp.ones((3, 3, 4)), none) == (0, 0)
    assert rpn_loss(jnp.ones(3), jnp.ones((3, 4)), none) == (0, 0)
    assert losses.accuracy_on_objects(jnp.ones((3, 3)), none) == 1


def test_the_objects_own_boxes_are_added():
    regions, there = with_truth(REGIONS[:2], THERE[:2], TRUTH)
    assert regions.shape == (6, 4)
    assert there.tolist() == [True, True, True, True, False, False]  # not the ignored one, nor the padding
