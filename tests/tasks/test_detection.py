"""The detector's task: what it learns from, the same on parts of a batch, what it finds and where, what people see."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from cnnlab.data.augment import horizontal_flip
from cnnlab.data.canvas import cropped, within
from cnnlab.data.shapes import ShapesSource
from cnnlab.errors import UserError
from cnnlab.models.fast_rcnn import FastRCNN, TwoLayers
from cnnlab.models.faster_rcnn import FasterRCNN
from cnnlab.parallel import identity
from cnnlab.tasks.detection import Detection, Rules, to_original

NAMES = ("circle", "cross", "square", "star", "triangle")


class Colours(nn.Module):
    """A backbone that learns one convolution: every eighth pixel of the picture."""

    maps: tuple[str, ...] = ("map",)

    @nn.compact
    def __call__(self, x, *, train=False):
        return {"map": nn.relu(nn.Conv(8, (8, 8), (8, 8), name="conv")(x))}


def task_of(kind=FasterRCNN, **fields):
    extra = {"sizes": ((16.0, 32.0),), "rpn_channels": 8} if kind is FasterRCNN else {}
    model = kind(5, Colours(), TwoLayers(16), (8,), pooling="align", pooled=3, **extra)
    rules = Rules(
        anchors=32,
        cross_boundary=True,
        regions=16,
        train_before=40,
        train_proposals=20,
        test_before=40,
        test_proposals=9,
    )
    return Detection(model, optax.sgd(0.1), lambda x: x / 127.5 - 1, NAMES, rules, **fields)


@pytest.fixture(scope="module")
def batch():
    found = ShapesSource("train", 4, 64, 4).batch(np.arange(4))
    found = {**found, "position": np.arange(4, dtype=np.int32), "proposals": found["boxes"] + 1}
    return {name: jnp.asarray(array) for name, array in found.items()}


@pytest.fixture(scope="module")
def state(batch):
    return jax.jit(task_of().init)(jax.random.key(0), {"image": batch["image"]})


def gradients(task, state, batch, key):
    return jax.jit(jax.grad(lambda params: task.loss_fn(params, {}, batch, key)[0]))(state.params)


def test_a_batch_in_parts_is_the_same_batch(batch, state):
    """So however many devices share a batch, they learn the same."""
    task, key = task_of(augment=horizontal_flip), jax.random.key(3)
    whole = gradients(task, state, batch, key)
    parts = [gradients(task, state, {k: v[i : i + 2] for k, v in batch.items()}, key) for i in (0, 2)]
    mean = jax.tree.map(lambda a, b: (a + b) / 2, *parts)
    pairs = zip(jax.tree.leaves(whole), jax.tree.leaves(mean), strict=True)
    assert max(float(jnp.abs(a - b).max()) for a, b in pairs) < 1e-6


def test_every_part_learns(batch, state):
    found = gradients(task_of(), state, batch, jax.random.key(0))
    assert all(float(jnp.abs(leaf).max()) > 0 for leaf in jax.tree.leaves(found))


def test_a_step_and_its_figures(batch, state):
    task = task_of()
    state = dataclasses.replace(state, opt_state=task.init_optimizer(state.params, state.model_state))
    stepped, metrics = jax.jit(lambda *a: task.train_step(*a, identity))(state, batch, jax.random.key(0))
    assert int(stepped.step) == 1
    assert set(metrics) == {"loss", "rpn", "rpn_boxes", "classes", "classes_boxes", "accuracy"}
    assert np.isclose(metrics["loss"], sum(float(v) for k, v in metrics.items() if k not in ("loss", "accuracy")))


def test_the_boxes_loss_can_weigh_more(batch, state):
    task = task_of()
    heavy = dataclasses.replace(task, rules=dataclasses.replace(task.rules, box_weight=3.0))
    key = jax.random.key(0)
    (loss, (parts, _)), (more, _) = (jax.jit(one.loss_fn)(state.params, {}, batch, key) for one in (task, heavy))
    assert np.isclose(more - loss, 2 * (parts["rpn_boxes"] + parts["classes_boxes"]), atol=1e-5)


def test_only_proposals_or_only_classes_are_learnt(batch, state):
    alone = gradients(task_of(learn_classes=False), state, batch, jax.random.key(0))
    assert not np.any(alone["scores"]["kernel"])
    assert np.any(alone["rpn"]["conv"]["kernel"])
    alone = gradients(task_of(learn_proposals=False), state, batch, jax.random.key(0))
    assert not np.any(alone["rpn"]["conv"]["kernel"])
    assert np.any(alone["scores"]["kernel"])


def test_what_lies_beyond_a_picture_is_nothing(batch):
    small = {"image": batch["image"], "size": jnp.array([[64, 64], [40, 64], [64, 30], [8, 8]])}
    x = task_of().inputs(small)
    assert not np.any(x[1, 40:])
    assert not np.any(x[2, :, 30:])
    assert np.array_equal(x[0], batch["image"][0] / 127.5 - 1)
    assert int(within(small["size"], (64, 64)).sum()) == 64 * 64 + 40 * 64 + 64 * 30 + 64


def test_boxes_are_given_in_pixels_of_the_stored_picture():
    boxes = jnp.array([[[4.0, 8.0, 10.0, 16.0]]])
    moved = to_original(boxes, {"size": jnp.array([[32, 20]]), "original": jnp.array([[64, 10]])})
    assert moved.tolist() == [[[2, 16, 5, 32]]]


def test_findings(batch, state):
    outputs = jax.jit(task_of().eval_step)(state, {**batch, "mask": np.ones(4), "index": np.arange(4)})
    there = np.asarray(outputs["predicted"]) >= 0
    score, boxes = np.asarray(outputs["score"]), np.asarray(outputs["boxes"])
    assert there.any()
    assert (score[there] > 0.05).all()
    assert not score[~there].any()
    assert (np.diff(score, axis=1) <= 0).all()
    assert (boxes[there] >= 0).all()
    assert (boxes[there] <= 64).all()


def test_proposals_of_the_batch_are_used_where_it_has_some(batch, state):
    task = task_of()
    plain = {name: batch[name] for name in ("image", "size", "original")}
    one = {**plain, "proposals": jnp.tile(jnp.array([10.0, 10.0, 30.0, 30.0]), (4, 2, 1))}
    own, given = (jax.jit(task.predict_step)(state, fields) for fields in (plain, one))
    assert int((given["label"][0] >= 0).sum()) < int((own["label"][0] >= 0).sum())


def test_fast_rcnn_learns_from_the_batchs_proposals(batch):
    task = task_of(FastRCNN)
    state = jax.jit(task.init)(jax.random.key(0), {"image": batch["image"]})
    loss, (metrics, _) = jax.jit(task.loss_fn)(state.params, {}, batch, jax.random.key(0))
    assert set(metrics) == {"classes", "classes_boxes", "accuracy"}
    assert np.isfinite(loss)


def test_what_people_and_json_see():
    task = task_of()
    outputs = {
        "boxes": np.array([[[1.004, 2, 3, 4], [0, 0, 0, 0]], [[0, 0, 0, 0]] * 2]),
        "score": np.array([[0.75, 0], [0, 0]]),
        "label": np.array([[2, -1], [-1, -1]]),
    }
    found, nothing = task.describe(outputs)
    assert json.loads(json.dumps(found)) == {"boxes": [[1.0, 2.0, 3.0, 4.0]], "classes": ["square"], "scores": [0.75]}
    assert task.say(found) == "square 75%"
    assert task.say(nothing) == "nothing found"
    canvas = {"image": np.zeros((64, 64, 3), np.uint8), "size": np.array([32, 48]), "original": np.array([64, 96])}
    assert cropped(canvas).shape == (32, 48, 3)
    (patch, *_) = [p for p in task.annotate(canvas, found).axes[0].patches if p.get_linewidth() < 2]
    # Stored pixels are twice those shown; pixel (0, 0) has its centre in (0, 0) on the axes.
    assert np.allclose([*patch.get_xy(), patch.get_width()], [0.5 - 0.5, 1 - 0.5, 1])
    assert len(task.draw_predictions([canvas] * 2, ["a", "b"], [found, nothing]).axes) == 2


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("anchors", 0, "at least 1"),
        ("overlap", 1.5, "at most 1"),
        ("code", (1.0,), "four numbers"),
        ("anchor_low", 0.8, "above anchor_high"),
    ],
)
def test_rules_that_cannot_be(field, value, said):
    with pytest.raises(UserError, match=f"config.rules.{field} .*{said}"):
        Rules(**{field: value})


def test_where_only_proposals_are_learnt_they_are_what_is_found(batch, state):
    task = task_of(learn_classes=False)
    outputs = jax.jit(task.eval_step)(state, {**batch, "mask": jnp.ones(4), "index": jnp.arange(4)})
    assert set(np.unique(outputs["predicted"])) <= {-1, 0}
    assert set(np.unique(outputs["label"])) <= {-1, 0}
    assert (outputs["label"] == -1).sum() == (batch["label"] == -1).sum()
    assert task.metrics().class_names == ("object",)
