"""Mask R-CNN's task: what its masks learn from, what it finds, what people and JSON see."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from cnnlab.data.augment import horizontal_flip
from cnnlab.data.outlines import mask_of
from cnnlab.data.shapes import ShapesSource
from cnnlab.loop import metrics_of
from cnnlab.models.fast_rcnn import TwoLayers
from cnnlab.models.mask_rcnn import MaskRCNN
from cnnlab.ops.masks import mask_targets
from cnnlab.parallel import identity
from cnnlab.tasks.detection_losses import Sampled
from cnnlab.tasks.mask_detection import MaskDetection, of_class
from tests.tasks.test_detection import NAMES, Colours
from tests.tasks.test_detection import task_of as detection_of

SOURCE = ShapesSource("test", 4, 64, 4, 14)


def task_of(**fields):
    model = MaskRCNN(
        5,
        Colours(),
        TwoLayers(16),
        (8,),
        pooling="align",
        pooled=3,
        sizes=((16.0, 32.0),),
        rpn_channels=8,
        mask_channels=4,
        mask_layers=1,
        mask_pooled=5,
    )
    rules = dataclasses.replace(detection_of().rules, limit=7)
    return MaskDetection(model, optax.sgd(0.1), lambda x: x / 127.5 - 1, NAMES, rules, **fields)


@pytest.fixture(scope="module")
def batch():
    found = {**ShapesSource("train", 4, 64, 4, 14).batch(np.arange(4)), "position": np.arange(4, dtype=np.int32)}
    return {name: jnp.asarray(array) for name, array in found.items()}


@pytest.fixture(scope="module")
def state(batch):
    return jax.jit(task_of().init)(jax.random.key(0), {"image": batch["image"]})


def test_a_step_adds_the_masks_loss_and_all_of_their_head_learns(batch, state):
    task = task_of(augment=horizontal_flip)
    stepped, metrics = jax.jit(lambda *a: task.train_step(*a, identity))(state, batch, jax.random.key(0))
    assert int(stepped.step) == 1
    assert set(metrics) == {"loss", "rpn", "rpn_boxes", "classes", "classes_boxes", "accuracy", "masks"}
    assert np.isclose(metrics["loss"], sum(float(v) for k, v in metrics.items() if k not in ("loss", "accuracy")))
    assert float(metrics["masks"]) == pytest.approx(np.log(2), abs=0.02)  # as it begins undecided
    before, after = state.params["mask_head"], stepped.params["mask_head"]
    changed = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), before, after)
    assert min(jax.tree.leaves(changed)) > 0


class Fixed(nn.Module):
    """In place of a bound model: of class k the logit of every pixel is k, but the first picture's are 9 more."""

    asked: list

    def outline(self, maps, boxes):
        self.asked.append(boxes.shape)
        n, r, _ = boxes.shape
        found = jnp.broadcast_to(jnp.arange(6.0), (n, r, 10, 10, 6))
        return found + 9.0 * (jnp.arange(n) == 0)[:, None, None, None, None]


def test_masks_are_learnt_of_positive_regions_their_own_class_and_their_own_object(batch):
    # Picture 0: its object 0 alone. Picture 1: objects 1 and 0. Others: none. The rest is background or padding.
    count = 16
    zeros = np.zeros((4, count), int)
    positive, label, matched = zeros.astype(bool), zeros.copy(), zeros.copy()
    own = [(0, 0, 0), (1, 0, 1), (1, 1, 0)]
    for picture, row, thing in own:
        positive[picture, row], matched[picture, row] = True, thing
        label[picture, row] = int(batch["label"][picture, thing]) + 1
    rest = {"index": jnp.asarray(zeros), "valid": jnp.asarray(positive), "target": jnp.zeros((4, count, 4))}
    drawn = Sampled(positive=jnp.asarray(positive), label=jnp.asarray(label), matched=jnp.asarray(matched), **rest)
    regions = np.tile(np.array([4.0, 6.0, 50.0, 40.0], np.float32), (4, count, 1))
    asked = []
    found = task_of().losses_on_objects(Fixed(asked), (), jnp.asarray(regions), drawn, batch)["masks"]
    assert asked == [(4, 4, 4)]  # a quarter of 16 regions may be positive
    expected = np.zeros(4)
    for picture, row, thing in own:
        window, box, region = batch["masks"][picture, thing], batch["boxes"][picture, thing], regions[picture, row]
        target = np.asarray(mask_targets(window[None], box[None], jnp.asarray(region)[None], 10))[0]
        logit = float(label[picture, row]) + (9 if picture == 0 else 0)
        wrong = np.where(target, np.log1p(np.exp(-logit)), np.log1p(np.exp(logit))).mean()
        expected[picture] += wrong / positive[picture].sum()
    assert np.allclose(found, expected, rtol=1e-5)
    assert found[2] == found[3] == 0


def test_found_masks_are_of_the_found_class(batch, state):
    task, params = task_of(), dict(state.params)
    bias = jnp.linspace(-2.0, 2.0, 6)  # so that classes' maps differ
    params["mask_head"] = {**params["mask_head"], "maps": {**params["mask_head"]["maps"], "bias": bias}}
    state = dataclasses.replace(state, params=params)
    found = jax.jit(task.predict_step)(state, batch)
    there = np.asarray(found["label"]) >= 0
    assert there.any()
    assert found["masks"].shape == (4, 7, 10, 10)
    assert found["masks"].dtype == jnp.uint8
    without = jax.jit(detection_of().predict_step)(state, batch)
    assert np.allclose(found["boxes"], without["boxes"][:, :7], atol=1e-4)

    def logits(model, batch):
        return model.outline(model.maps(task.inputs(batch)), found["boxes"])

    maps = np.asarray(task.model.apply(state.variables, batch, method=logits))
    for i, k in np.argwhere(there):
        own = 255 / (1 + np.exp(-maps[i, k, :, :, found["label"][i, k] + 1]))
        assert np.abs(own - np.asarray(found["masks"][i, k], float)).max() < 0.6


def test_findings_in_testing_are_scored_by_boxes_and_masks(batch, state):
    task = task_of()
    test = SOURCE.batch(np.arange(4))
    outputs = jax.jit(task.eval_step)(state, {**test, "mask": np.ones(4, np.float32), "index": np.arange(4)})
    outputs = jax.device_get(outputs)
    assert {"mask", "index", "boxes", "score", "predicted", "true_boxes", "masks", "original"} <= set(outputs)
    metrics = metrics_of(task, SOURCE)
    metrics.add(outputs)
    assert {"AP50", "mask_AP50", "count"} <= set(metrics.compute())
    # What is there, found: the windows are 14×14.
    n, m = test["label"].shape
    perfect = {
        **outputs,
        "boxes": test["boxes"],
        "score": np.ones((n, m), np.float32),
        "predicted": test["label"],
        "masks": test["masks"],
    }
    metrics = metrics_of(task, SOURCE)
    metrics.add(perfect)
    scores = metrics.compute()
    assert scores["AP"] == pytest.approx(1)
    assert scores["mask_AP50"] == 1
    assert scores["mask_AP75"] == pytest.approx(1)
    figures = task.draw(state, metrics, SOURCE)
    assert set(figures) == {"precision_recall", "mask_precision_recall", "worst_mistakes", "findings"}


def test_layers_for_the_benchmark(batch, state):
    task = task_of()
    assert jax.eval_shape(task.layers_step, state, batch)["masks"].shape == (4, 7, 10, 10, 6)


def test_what_people_and_json_see():
    task = task_of()
    left = np.zeros((10, 10), np.uint8)
    left[:, :5] = 255
    outputs = {
        "boxes": np.array([[[10.0, 20, 30, 40], [50, 50, 50.2, 60]], [[0, 0, 0, 0]] * 2]),
        "score": np.array([[0.75, 0.6], [0, 0]]),
        "label": np.array([[2, 1], [-1, -1]]),
        "masks": np.array([[left, left], [left, left]]),
        "original": np.array([[64, 96], [64, 96]]),
    }
    found, nothing = task.describe(outputs)
    assert (found["classes"], found["scores"]) == (["square", "cross"], [0.75, 0.6])
    ((polygon,), none) = found["polygons"]
    expected = np.zeros((64, 96), bool)
    expected[20:40, 10:20] = True
    assert np.array_equal(mask_of((np.array(polygon),), 64, 96), expected)
    assert none == []  # narrower than a pixel
    assert nothing["polygons"] == []
    assert task.say(found) == "square 75%  cross 60%"
    made = json.loads(task.collected([Path("x/a.jpg"), Path("b.jpg")], [found, nothing])["polygons.json"])
    assert [(one["id"], one["file_name"], one["height"], one["width"]) for one in made["images"]] == [
        (1, "a.jpg", 64, 96),
        (2, "b.jpg", 64, 96),
    ]
    (thing,) = made["annotations"]
    assert (thing["image_id"], thing["category_id"], thing["score"]) == (1, 3, 0.75)
    assert thing["segmentation"] == [polygon]
    assert thing["bbox"] == [10, 20, 10, 20]
    assert [one["name"] for one in made["categories"]] == list(NAMES)
    canvas = {"image": np.zeros((64, 64, 3), np.uint8), "size": np.array([32, 48]), "original": np.array([64, 96])}
    shown = task.annotate(canvas, found).axes[0].get_images()[0].get_array()
    # Shown at half the size: the mask's pixels are tinted, the others black.
    assert shown.shape == (32, 48, 3)
    assert np.argwhere(shown.any(-1)).min(0).tolist() == [10, 5]
    assert np.argwhere(shown.any(-1)).max(0).tolist() == [19, 9]
    assert len(task.draw_predictions([canvas] * 2, ["a", "b"], [found, nothing]).axes) == 2


def test_of_each_region_the_map_of_its_class():
    maps = jax.random.normal(jax.random.key(0), (2, 3, 4, 4, 5))
    label = jnp.array([[0, 4, 2], [1, 1, 3]])
    found = of_class(maps, label)
    for i, r in np.ndindex(2, 3):
        assert np.allclose(found[i, r], maps[i, r, :, :, label[i, r]])
