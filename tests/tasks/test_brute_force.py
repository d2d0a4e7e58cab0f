"""Brute-force normalisation: the search against windows scored one by one, learning, devices, what people are shown."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnlab import loop, parallel
from cnnlab.data.augment import fixed
from cnnlab.data.clutter import clutter, digit_bank
from cnnlab.data.digits import CLASS_NAMES, digits
from cnnlab.data.source import ArraySource
from cnnlab.models.sliding import SlidingNet
from cnnlab.rngs import stream_key
from cnnlab.tasks.box_search import all_boxes, window
from cnnlab.tasks.brute_force import BruteForce, log_odds

SCALES = (0.8, 1.25)


def scaled(pictures):
    return pictures / 255


@functools.cache
def cluttered():
    bank = digit_bank(digits("train"), 50)
    return functools.partial(clutter, bank=bank, size=44, pieces=4, scale=(0.8, 1.25))


@functools.cache
def task():
    net = SlidingNet(11, (4, 6, 8), 16)
    return BruteForce(net, optax.adam(3e-3), scaled, CLASS_NAMES, SCALES, cluttered())


@functools.cache
def fresh():
    return jax.jit(task().init)(stream_key(0, "init"), {"image": np.zeros((1, 44, 44, 1), np.uint8)})


@functools.cache
def held_out():
    source = digits("test")
    few = ArraySource({name: array[:6] for name, array in source.arrays.items()}, source.class_names)
    return fixed(few, cluttered())


def batch_of(count):
    return {**digits("train").batch(np.arange(count)), "position": np.arange(count, dtype=np.int32)}


def evaluated():
    mask, index = np.ones(6, np.float32), np.arange(6, dtype=np.int32)
    return {**held_out().arrays, "mask": mask, "index": index}


@jax.jit
def searched(state, pictures):
    return task().search(state, pictures)


def one_by_one(run, state, pictures):
    """Scores (boxes, n, k) and boxes (boxes, 4) of all windows, each cut out and seen alone."""
    boxes = np.concatenate([all_boxes(pictures.shape[1], scale).reshape(-1, 4) for scale in run.scales])

    @jax.jit
    def see(box):
        seen = window(pictures, jnp.tile(box, (len(pictures), 1)))
        return run.model.apply(state.variables, run.preprocess(seen))[:, 0, 0]

    logits = np.stack([see(jnp.asarray(box)) for box in boxes]).astype(np.float64)
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return np.log(p / (1 - p))[..., :-1], boxes


def test_log_odds_by_hand():
    logits = jnp.array([[1.0, -2.0, 0.5], [60.0, 0.0, 0.0]])
    p = jax.nn.softmax(logits[0])
    np.testing.assert_allclose(log_odds(logits)[0], jnp.log(p / (1 - p)), rtol=1e-5)
    np.testing.assert_allclose(log_odds(logits)[1, 0], 60 - np.log(2), rtol=1e-6)  # where the probability rounds to 1


def test_the_search_is_all_windows_one_by_one():
    pictures = jnp.asarray(held_out().arrays["image"][:2])
    score, boxes = searched(fresh(), pictures)
    assert score.shape == (2, 10)
    assert boxes.shape == (2, 10, 4)
    each, where = one_by_one(task(), fresh(), pictures)
    np.testing.assert_allclose(score, each.max(0), atol=1e-3)
    chosen = np.abs(where[:, None, None] - np.asarray(boxes)).max(-1).argmin(0)
    np.testing.assert_allclose(np.take_along_axis(each, chosen[None], 0)[0], each.max(0), atol=1e-3)
    assert len(np.unique(chosen)) > 3


def test_it_learns_a_few_digits_and_where_they_are():
    run, state, batch = task(), fresh(), batch_of(16)
    step = jax.jit(functools.partial(run.train_step, reduce=parallel.identity))
    losses = []
    for n in range(60):
        state, metrics = step(state, batch, stream_key(0, "train", n))
        losses.append(float(metrics["loss"]))
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:5])
    assert 0 <= float(metrics["error"]) <= 1


def test_one_and_four_devices_agree():
    """Four shares of a batch along an axis of the devices' name, as under pmap."""
    run, state, batch = dataclasses.replace(task(), optimizer=optax.sgd(0.1)), fresh(), batch_of(8)
    state = dataclasses.replace(state, opt_state=run.init_optimizer(state.params, state.model_state))
    key = stream_key(0, "train")
    whole, metrics = jax.jit(functools.partial(run.train_step, reduce=parallel.identity))(state, batch, key)
    shared = jax.tree.map(lambda x: jnp.asarray(x).reshape(4, 2, *x.shape[1:]), batch)
    step = functools.partial(run.train_step, reduce=lambda tree: jax.lax.pmean(tree, parallel.AXIS))
    four = jax.jit(jax.vmap(step, axis_name=parallel.AXIS, in_axes=(None, 0, None)))(state, shared, key)
    first = jax.tree.map(lambda x: x[0], four)
    pairs = zip(jax.tree.leaves((whole.params, metrics)), jax.tree.leaves((first[0].params, first[1])), strict=True)
    assert max(float(jnp.abs(one - other).max()) for one, other in pairs) < 1e-5


def test_evaluation_agrees_with_the_windows():
    batch = evaluated()
    found = jax.device_get(jax.jit(task().eval_step)(fresh(), batch))
    each, where = one_by_one(task(), fresh(), jnp.asarray(batch["image"]))
    best = each.max(0)
    np.testing.assert_array_equal(found["predicted"], best.argmax(-1))
    for i in range(6):
        label, predicted = batch["label"][i], best[i].argmax()
        box, true = where[each[:, i, predicted].argmax()], batch["boxes"][i, 0]
        np.testing.assert_allclose(found["box"][i], box, atol=1e-3)
        low, high = np.maximum(box[:2], true[:2]), np.minimum(box[2:], true[2:])
        common = np.prod(np.maximum(high - low, 0))
        areas = [np.prod(each[2:] - each[:2]) for each in (box, true)]
        assert found["overlap"][i] == pytest.approx(common / (sum(areas) - common), abs=1e-4)
        assert found["probability"][i] == pytest.approx(1 / (1 + np.exp(-best[i, predicted])), abs=1e-4)
        assert found["loss"][i] == pytest.approx(np.log1p(np.exp(-best[i, label])), abs=1e-3)
        assert found["rank"][i] == np.sum(best[i] > best[i, label])


def test_what_people_are_shown():
    run, batch = task(), evaluated()
    metrics = loop.metrics_of(run, held_out())
    metrics.add(jax.device_get(jax.jit(run.eval_step)(fresh(), batch)))
    assert {"error", "placed", "mean_iou"} < set(metrics.compute())
    figures = run.draw(fresh(), metrics, held_out())
    assert {"confusion", "boxes", "search"} <= set(figures)
    assert run.draw(fresh(), run.metrics(), held_out()) == {}


def test_a_prediction_is_in_pixels_of_the_stored_picture():
    run, images = task(), held_out().arrays["image"][:2]
    as_read = {"image": images, "original": np.array([[44, 44], [88, 132]], np.int32)}
    found = jax.device_get(jax.jit(run.predict_step)(fresh(), as_read))
    _, boxes = searched(fresh(), images)
    np.testing.assert_allclose(found["boxes"][0], boxes[0][found["classes"][0]], atol=1e-3)
    np.testing.assert_allclose(found["boxes"][1], boxes[1][found["classes"][1]] * np.array([3, 2, 3, 2]), atol=1e-3)
    rows = run.describe(found)
    for row in rows:
        assert len(row["classes"]) == len(row["boxes"]) == 5
        assert row["scores"] == sorted(row["scores"], reverse=True)
    row = {"classes": ["7", "1"], "scores": [0.9, 0.02], "boxes": [[4.2, 5.0, 20, 21], [0, 0, 16, 16]]}
    assert run.say(row) == "7 90.0% at 4 5 20 21  1 2.0%"
    pictures = [{name: array[i] for name, array in as_read.items()} for i in range(2)]
    sheet = run.draw_predictions(pictures, ["a", "b"], rows)
    assert [axes.get_title().split("\n")[0] for axes in sheet.axes] == ["a", "b"]
