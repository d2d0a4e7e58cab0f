"""Testing on several views and with several nets, with a network whose logits are the picture's pixels."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnlab import parallel
from cnnlab.data import crops
from cnnlab.errors import UserError
from cnnlab.models.dense import Dense, dense_scores
from cnnlab.models.vgg import VGG
from cnnlab.ops.conv import conv2d
from cnnlab.tasks.classification import Classification, half_squared_error
from cnnlab.testing import average_probabilities, average_views, score

KEY = jax.random.key(0)


def logits_of(pictures):
    """One logit a pixel, in tenths."""
    return pictures.reshape(len(pictures), -1) / 10


def softmax(logits):
    powers = np.exp(np.asarray(logits, np.float64))
    return powers / powers.sum(-1, keepdims=True)


class Pixels(nn.Module):
    """`logits_of` with a trainable offset; the pictures come divided already."""

    @nn.compact
    def __call__(self, x, *, train=False):
        x = x.reshape(len(x), -1)
        return x + self.param("offset", nn.initializers.zeros, x.shape[-1:])


def random_views(n, v, classes=7):
    return np.random.default_rng(0).integers(0, 60, (n, v, 1, classes, 1)).astype(np.uint8)


@pytest.mark.parametrize("at_once", [1, 5, 12, 20, 1000])
@pytest.mark.parametrize("looped", [False, True])
def test_the_mean_of_the_softmax(at_once, looped, monkeypatch):
    monkeypatch.setattr("cnnlab.testing.loops", lambda: looped)
    seen = []

    def watched(pictures):
        seen.append(len(pictures))
        return logits_of(pictures)

    views = random_views(2, 12)
    mean = jax.jit(lambda v: average_views(watched, v, 7 * at_once))(views)
    wanted = softmax(views.reshape(2, 12, 7) / 10).mean(1)
    np.testing.assert_allclose(np.exp(mean), wanted, rtol=1e-5)
    np.testing.assert_allclose(jax.nn.softmax(mean), wanted, rtol=1e-5)
    together = {1: 2, 5: 4, 12: 12, 20: 12, 1000: 24}[at_once]
    assert set(seen) == {together}
    assert looped or sum(seen) == 24


def test_equal_views_give_the_plain_answer():
    view = random_views(3, 1)
    plain = jax.nn.log_softmax(logits_of(jnp.asarray(view[:, 0])))
    np.testing.assert_allclose(average_views(logits_of, jnp.asarray(view)), plain, rtol=1e-6)
    np.testing.assert_allclose(average_views(logits_of, jnp.asarray(view.repeat(10, 1))), plain, rtol=1e-5)


def test_views_of_several_sizes_count_alike():
    def mean_colour(pictures):
        return pictures.mean((1, 2)) / 10

    views = np.array([[10, 40, 0], [30, 0, 20], [5, 5, 50]], np.uint8)
    large = np.broadcast_to(views[:2, None, None], (2, 4, 4, 3))[None]
    small = np.broadcast_to(views[2:, None, None], (1, 2, 2, 3))[None]
    mean = average_views(mean_colour, [jnp.asarray(large), jnp.asarray(small)])
    np.testing.assert_allclose(np.exp(mean)[0], softmax(views / 10).mean(0), rtol=1e-5)


def test_a_probability_too_small_for_a_float_keeps_its_loss_finite():
    views = jnp.array([0, 200], jnp.uint8).reshape(1, 1, 1, 2, 1)
    logits = average_views(lambda pictures: 10 * logits_of(pictures), views)
    assert logits[0].tolist() == pytest.approx([-200, 0])


def test_the_task_tests_on_views():
    # Weighted, or a picture's mirror image would make two classes equal.
    weights = np.array([[1.0, 0.8], [0.9, 0.7]])[:, :, None] / 10
    task = Classification(Pixels(), optax.sgd(0.5), lambda image: image * jnp.asarray(weights), tuple("abcd"))
    with_views = dataclasses.replace(task, views=functools.partial(crops.ten_crops, size=2))
    image = np.random.default_rng(1).integers(0, 60, (5, 3, 4, 1)).astype(np.uint8)
    label = np.array([0, 1, 2, 3, 0], np.int32)
    batch = {"image": image, "label": label, "mask": np.ones(5, np.float32), "index": np.arange(5)}
    batch = {name: jnp.asarray(value) for name, value in batch.items()}
    state = task.init(KEY, {"image": batch["image"][:, :2, :2]})
    views = np.asarray(crops.ten_crops(batch["image"], 2))
    probabilities = softmax((views * weights).reshape(5, 10, 4)).mean(1)
    outputs = jax.device_get(with_views.eval_step(state, batch))
    own = probabilities[range(5), label]
    np.testing.assert_allclose(outputs["loss"], -np.log(own), rtol=1e-5)
    np.testing.assert_allclose(outputs["probability"], probabilities.max(1), rtol=1e-5)
    assert outputs["predicted"].tolist() == probabilities.argmax(1).tolist()
    assert outputs["rank"].tolist() == (probabilities > own[:, None]).sum(1).tolist()
    np.testing.assert_allclose(with_views.predict_step(state, batch), probabilities, rtol=1e-5)
    # The scores of the same probabilities on the host are the same.
    metrics = with_views.metrics()
    metrics.add(outputs)
    assert score(probabilities.astype(np.float32), label).compute() == pytest.approx(metrics.compute(), rel=1e-5)


def test_a_task_without_views_and_training_are_as_before():
    image = jnp.asarray(np.random.default_rng(1).integers(0, 60, (5, 2, 2, 1)).astype(np.uint8))
    batch = {"image": image, "label": jnp.array([0, 1, 2, 3, 0]), "position": jnp.arange(5)}
    task = Classification(Pixels(), optax.sgd(0.5), lambda image: image / 10, tuple("abcd"))

    def never(pictures):
        raise AssertionError("views are for testing")

    state = task.init(KEY, batch)
    np.testing.assert_array_equal(task.logits(state, image), logits_of(image))
    loss, _ = task.loss_fn(state.params, {}, batch, KEY)
    assert dataclasses.replace(task, views=never).loss_fn(state.params, {}, batch, KEY)[0] == loss
    once = dataclasses.replace(task, views=lambda pictures: pictures[:, None])
    np.testing.assert_allclose(once.predict_step(state, batch), task.predict_step(state, batch), rtol=1e-5)


def test_with_views_the_loss_is_of_the_mean_probabilities_whatever_was_trained():
    image = jnp.asarray(np.random.default_rng(1).integers(0, 60, (5, 2, 2, 1)).astype(np.uint8))
    batch = {"image": image, "label": jnp.array([0, 1, 2, 3, 0]), "mask": jnp.ones(5), "index": jnp.arange(5)}
    task = Classification(Pixels(), optax.sgd(0.5), lambda image: image / 10, tuple("abcd"), loss=half_squared_error)
    state = task.init(KEY, batch)
    assert np.allclose(task.eval_step(state, batch)["loss"], half_squared_error(logits_of(image), batch["label"]))
    mirrored = dataclasses.replace(task, views=lambda pictures: crops.with_mirrors(pictures[:, None]))
    probabilities = np.asarray(mirrored.predict_step(state, batch))
    wanted = -np.log(probabilities[np.arange(5), batch["label"]])
    np.testing.assert_allclose(mirrored.eval_step(state, batch)["loss"], wanted, rtol=1e-5)


def test_googlenets_views_of_three_squares():
    task = Classification(Pixels(), optax.sgd(0.5), lambda image: image / 100, tuple(map(str, range(49))))
    task = dataclasses.replace(task, views=functools.partial(crops.googlenet_crops, size=7))
    squares = jnp.asarray(np.random.default_rng(2).integers(0, 256, (2, 3, 11, 11, 1)).astype(np.uint8))
    state = task.init(KEY, {"image": squares[:, 0, :7, :7]})
    wanted = softmax(np.asarray(crops.googlenet_crops(squares, 7)).reshape(2, 144, 49) / 100).mean(1)
    np.testing.assert_allclose(task.predict_step(state, {"image": squares}), wanted, rtol=1e-4)


def test_vgg_dense_at_several_scales():
    model = VGG("A", num_classes=3, initialiser="glorot")
    task = Classification(model, optax.identity(), lambda image: image / 64 - 2, ("ant", "bee", "cat"))
    images = jnp.asarray(np.random.default_rng(3).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8))
    state = jax.jit(task.init)(KEY, {"image": images[:, :32, :32]})
    views = functools.partial(crops.mirrored_scales, sizes=(64, 32))
    dense = dataclasses.replace(task, model=Dense(model), views=views)
    probabilities = jax.jit(dense.predict_step)(state, {"image": images})
    scores = jax.jit(functools.partial(dense_scores, model))
    wanted = [softmax(scores(state.variables, task.preprocess(v[:, i]))) for v in views(images) for i in range(2)]
    assert np.std(wanted, 0).max() > 1e-4
    np.testing.assert_allclose(probabilities, np.mean(wanted, 0), rtol=1e-4)


def test_ensembles_by_hand():
    one = np.array([[0.6, 0.4, 0.0], [0.2, 0.5, 0.3]], np.float32)
    other = np.array([[0.0, 0.6, 0.4], [0.4, 0.3, 0.3]], np.float32)
    mean = average_probabilities([one, other])
    np.testing.assert_allclose(mean, [[0.3, 0.5, 0.2], [0.3, 0.4, 0.3]], rtol=1e-6)
    metrics = score(mean, np.array([1, 2]))
    assert metrics.compute()["error"] == 0.5
    assert metrics.compute()["loss"] == pytest.approx(-np.log([0.5, 0.3]).mean())
    assert [row["index"] for row in score(mean, np.array([1, 2]), np.array([7, 9])).worst()] == [9]
    assert np.isfinite(score(one, np.array([2, 2])).compute()["loss"])


def test_top5_of_an_ensemble():
    falling = np.array([[0.3, 0.2, 0.15, 0.12, 0.1, 0.08, 0.05]] * 7, np.float32)
    assert score(falling, np.arange(7)).compute()["top5_error"] == pytest.approx(2 / 7)


def test_errors():
    with pytest.raises(UserError, match="these are of 2 pictures and 3 classes and 3 pictures and 3 classes"):
        average_probabilities([np.zeros((2, 3)), np.zeros((3, 3))])
    with pytest.raises(UserError, match="these are of nothing"):
        average_probabilities([])


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="on GPUs and TPUs a loop bounds the memory")
@pytest.mark.parametrize("options", [None, parallel.CPU_OPTIONS])
def test_more_views_need_no_more_memory(options):
    kernel = jax.random.normal(KEY, (3, 3, 3, 64))

    def net(pictures):
        return conv2d(pictures / 255.0, kernel).max((1, 2))

    def memory(v):
        views = jax.ShapeDtypeStruct((2, v, 48, 48, 3), jnp.uint8)
        program = jax.jit(lambda views: average_views(net, views, at_once=2 * 48 * 48)).lower(views)
        return program.compile(options).memory_analysis().temp_size_in_bytes

    assert memory(10) < 1.5 * memory(2)
