"""The segmentation task: losses and confusions by hand, void and padding, devices, predictions of the stored size."""

import dataclasses
import functools
import io
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image

from cnnlab import parallel
from cnnlab.data.augment import horizontal_flip
from cnnlab.data.segmentation import DrawnLabels
from cnnlab.data.shapes import ShapesSource
from cnnlab.models.fcn import FCN
from cnnlab.ops.batch_norm import BatchNorm
from cnnlab.ops.conv import Conv
from cnnlab.published import IMAGENET
from cnnlab.rngs import stream_key
from cnnlab.tasks.segmentation import Segmentation, confusion, pixel_loss

NAMES = ("background", "circle", "cross", "square", "star", "triangle")


class Tiny(nn.Module):
    """Maps of every 8th and 16th pixel, of two convolutions and batch normalisation."""

    maps: tuple[str, ...] = ("a", "b")

    @nn.compact
    def __call__(self, x, *, train):
        a = nn.relu(BatchNorm(axis_name=parallel.AXIS)(Conv(8, 8, 8)(x), train=train))
        return {"a": a, "b": nn.relu(Conv(16, 2, 2)(a))}


@functools.cache
def task():
    net = FCN(6, Tiny(), (8, 16), (3.5, 7.5))
    return Segmentation(net, optax.adam(1e-2), IMAGENET.normalise, NAMES, horizontal_flip)


def batch_of(count, size=32):
    source = DrawnLabels(ShapesSource("train", 100, size, 3))
    batch = source.batch(np.arange(count))
    return {**batch, "position": np.arange(count, dtype=np.int32)}


@functools.cache
def fresh():
    return jax.jit(task().init)(stream_key(0, "init"), batch_of(1))


def test_the_loss_is_a_mean_over_pixels_that_count():
    logits = jnp.array([[[[0.0, 0], [2, 0], [5, 1]]], [[[1.0, 1], [0, 3], [0, 0]]]])
    labels = jnp.array([[[0, 1, 255]], [[255, 1, 255]]])
    first = (np.log(2) + np.log(1 + np.exp(2))) / 2
    np.testing.assert_allclose(pixel_loss(logits, labels), [first, np.log(1 + np.exp(-3))], rtol=1e-5)
    assert pixel_loss(logits, jnp.full((2, 1, 3), 255)).tolist() == [0, 0]


def test_confusions_by_hand():
    labels = jnp.array([[[0, 0, 2], [1, 255, 2]], [[255, 255, 255], [1, 1, 1]]])
    found = jnp.array([[[0, 1, 2], [1, 0, 0]], [[0, 1, 2], [2, 2, 1]]])
    expected = [[[1, 1, 0], [0, 1, 0], [1, 0, 1]], [[0, 0, 0], [0, 1, 2], [0, 0, 0]]]
    assert confusion(labels, found, 3).tolist() == expected


def test_what_lies_beyond_the_picture_is_not_seen():
    batch = {**batch_of(2), "size": np.array([[32, 32], [20, 17]])}
    x = task().inputs(jax.tree.map(jnp.asarray, batch))
    assert float(jnp.abs(x[1, 20:]).max()) == float(jnp.abs(x[1, :, 17:]).max()) == 0
    assert float(jnp.abs(x[0, 20:]).max()) > 0


def test_it_learns_a_few_drawings():
    run, state, batch = task(), fresh(), batch_of(4)
    step = jax.jit(functools.partial(run.train_step, reduce=parallel.identity))
    before = None
    for n in range(30):
        state, metrics = step(state, batch, jax.random.key(n))
        before = before or float(metrics["loss"])
    assert float(metrics["loss"]) < before / 2
    assert 0 <= float(metrics["pixel_error"]) <= 1


def test_one_and_four_devices_agree():
    """Four shares of a batch along an axis of the devices' name, as under pmap, batch normalisation over all."""
    run, batch = task(), batch_of(4)
    run = dataclasses.replace(run, optimizer=optax.sgd(0.1))
    state = jax.jit(run.init)(stream_key(0, "init"), batch)
    key = stream_key(0, "train")
    whole, metrics = jax.jit(functools.partial(run.train_step, reduce=parallel.identity))(state, batch, key)
    shared = jax.tree.map(lambda x: jnp.asarray(x).reshape(4, 1, *x.shape[1:]), batch)
    step = functools.partial(run.train_step, reduce=lambda tree: jax.lax.pmean(tree, parallel.AXIS))
    four = jax.jit(jax.vmap(step, axis_name=parallel.AXIS, in_axes=(None, 0, None)))(state, shared, key)
    first = jax.tree.map(lambda x: x[0], four)
    pairs = zip(
        jax.tree.leaves((whole.variables, metrics)), jax.tree.leaves((first[0].variables, first[1])), strict=True
    )
    assert max(float(jnp.abs(one - other).max()) for one, other in pairs) < 1e-5


def outputs_of(run, state, batch):
    return jax.device_get(jax.jit(run.predict_step)(state, batch))


def test_predictions_have_the_size_of_the_stored_picture():
    batch = {**batch_of(2), "size": np.array([[32, 32], [20, 17]]), "original": np.array([[64, 64], [20, 17]])}
    run = task()
    rows = run.describe(outputs_of(run, fresh(), batch))
    assert [row["labels"].shape for row in rows] == [(64, 64), (20, 17)]
    for row in rows:
        assert sum(row["shares"]) == pytest.approx(1)
        assert row["shares"] == sorted(row["shares"], reverse=True)
        name, share = row["classes"][0], row["shares"][0]
        assert np.mean(row["labels"] == NAMES.index(name)) == pytest.approx(share)
    assert run.say({"classes": ["circle", "star"], "shares": [0.75, 0.25]}) == "circle 75.0%  star 25.0%"


def test_evaluation_counts_the_pixels_of_the_picture():
    batch = batch_of(2)
    batch["segmentation"][1, 20:] = 255
    batch |= {"mask": np.ones(2, np.float32), "index": np.arange(2)}
    outputs = jax.device_get(jax.jit(task().eval_step)(fresh(), batch))
    assert outputs["confusion"].sum((1, 2)).tolist() == [32 * 32, 20 * 32]
    same = confusion(jnp.asarray(batch["segmentation"]), jnp.asarray(outputs["predicted"]), 6)
    np.testing.assert_array_equal(outputs["confusion"], same)
    metrics = task().metrics()
    metrics.add(outputs)
    assert metrics.count == 2
    figures = task().draw(fresh(), metrics, DrawnLabels(ShapesSource("train", 100, 32, 3)))
    assert set(figures) == {"confusion", "findings", "worst_mistakes"}


def test_what_a_prediction_writes(tmp_path):
    labels = np.zeros((8, 10), np.uint8)
    labels[2:6, 3:9], labels[7, 0] = 3, 1
    row, run = {"classes": [], "shares": [], "labels": labels}, task()
    found = run.written("a", row)
    assert list(found) == ["labels/a.png"]
    assert (np.asarray(Image.open(io.BytesIO(found["labels/a.png"]))) == labels).all()
    content = json.loads(run.collected([tmp_path / "a.jpg"], [row])["polygons.json"])
    assert content["images"] == [{"id": 1, "file_name": "a.jpg", "height": 8, "width": 10}]
    assert [c["name"] for c in content["categories"]] == list(NAMES[1:])
    things = {thing["category_id"]: thing for thing in content["annotations"]}
    assert set(things) == {1, 3}  # circle and square
    assert things[3]["bbox"] == [3, 2, 6, 4]
    assert things[3]["area"] == pytest.approx(24, abs=0.5)
    picture = {"image": np.zeros((32, 32, 3), np.uint8), "size": np.array([8, 10]), "original": np.array([8, 10])}
    assert run.annotate(picture, row).axes
    assert run.draw_predictions([picture], ["a"], [row]).axes
