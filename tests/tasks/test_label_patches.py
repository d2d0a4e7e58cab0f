"""The task of road finders: learning, devices, windows and whole pictures, what a prediction writes."""

import dataclasses
import functools
import io
import json
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image

from cnnlab import parallel
from cnnlab.data.aerial import AerialScenes
from cnnlab.data.augment import keys_of
from cnnlab.data.draws import split
from cnnlab.data.road_folders import one_picture
from cnnlab.data.road_patches import PatchSource, Tiling, WindowSource, turned
from cnnlab.metrics.roads import RoadMetrics, curve_of
from cnnlab.published import IMAGENET
from cnnlab.rngs import stream_key
from cnnlab.tasks.label_noise import cross_entropy
from cnnlab.tasks.label_patches import LabelPatches

TILING = Tiling(24, 8, 4, 4)


class Tiny(nn.Module):
    """Sees all of a tile in blocks of 4×4."""

    @nn.compact
    def __call__(self, x, *, train=False):
        x = nn.relu(nn.Conv(8, (4, 4), (4, 4), "VALID")(x))
        return nn.Dense(64)(x.reshape(len(x), -1)).reshape(-1, 8, 8, 1)


@functools.cache
def task():
    return LabelPatches(Tiny(), optax.sgd(0.1, momentum=0.9), IMAGENET.normalise, TILING)


@functools.cache
def fresh():
    return jax.jit(task().init)(stream_key(0, "init"), {"image": np.zeros((1, 24, 24, 3), np.uint8)})


@functools.cache
def step():
    return jax.jit(functools.partial(task().train_step, reduce=parallel.identity))


def batch_of(count):
    source = PatchSource(AerialScenes("train", 4, 64), TILING, 3)
    batch = {name: jnp.asarray(array) for name, array in source.batch(np.arange(count)).items()}
    return {**batch, "position": jnp.arange(count)}


def test_it_learns_a_few_patches():
    state, batch, losses = fresh(), batch_of(4), []
    for n in range(60):
        state, metrics = step()(state, batch, jax.random.key(n))
        losses.append(float(metrics["loss"]))
    assert np.mean(losses[-10:]) < 0.7 * losses[0]
    assert 0 <= float(metrics["pixel_error"]) <= 1


def test_the_loss_is_that_of_the_turned_patches_middles():
    run, batch, rng = task(), batch_of(2), jax.random.key(3)
    params = fresh().params
    loss, (metrics, _) = jax.jit(run.loss_fn)(params, {}, batch, rng)
    found, wrong, turn = [], [], jax.jit(functools.partial(turned, size=24))
    apply = jax.jit(lambda x: Tiny().apply({"params": params}, IMAGENET.normalise(x))[..., 0])
    for i in range(2):
        keys = split(keys_of(jax.random.fold_in(rng, 0), batch["position"][i : i + 1]), 3)
        for k, key in enumerate(keys):
            one = turn(key, {name: batch[name][i, k][None] for name in ("image", "segmentation")})
            logits = apply(one["image"])
            labels = one["segmentation"][:, 8:16, 8:16]
            found.append(float(cross_entropy(logits, labels)[0]))
            wrong.append(float(((logits > 0) != (labels > 0)).mean()))
    assert float(loss) == pytest.approx(np.mean(found), rel=1e-4)
    assert float(metrics["pixel_error"]) == pytest.approx(np.mean(wrong), abs=1e-6)


def test_one_and_four_devices_agree():
    """Four shares of a batch along an axis of the devices' name, as under pmap."""
    run, state, batch, key = task(), fresh(), batch_of(4), stream_key(0, "train")
    whole, metrics = step()(state, batch, key)
    shared = jax.tree.map(lambda x: x.reshape(4, 1, *x.shape[1:]), batch)
    own = functools.partial(run.train_step, reduce=lambda tree: jax.lax.pmean(tree, parallel.AXIS))
    four = jax.jit(jax.vmap(own, axis_name=parallel.AXIS, in_axes=(None, 0, None)))(state, shared, key)
    first = jax.tree.map(lambda x: x[0], four)
    pairs = zip(jax.tree.leaves((whole.params, metrics)), jax.tree.leaves((first[0].params, first[1])), strict=True)
    assert max(float(jnp.abs(one - other).max()) for one, other in pairs) < 1e-5
    assert float(jnp.abs(whole.params["Dense_0"]["kernel"] - state.params["Dense_0"]["kernel"]).max()) > 1e-4


def saved(folder, truth=True):
    scene = AerialScenes("test", 1, 90).scene(0)
    (folder / "sat").mkdir(parents=True)
    path = folder / "sat" / "a.png"
    Image.fromarray(scene.picture[:, :77]).save(path)
    if truth:
        (folder / "map").mkdir()
        Image.fromarray(np.uint8(255 * scene.truth[:, :77])).save(folder / "map" / "a.tif")
    return path, scene.truth[:, :77]


def evaluated(run, picture):
    """A picture's windows, and what evaluation adds up of them."""
    source, metrics = WindowSource(picture, TILING), run.metrics()
    metrics.source = source
    score = jax.jit(run.eval_step)
    for index in range(len(source)):
        batch = {**source.batch(np.array([index])), "mask": np.ones(1, np.float32), "index": np.array([index])}
        metrics.add(jax.device_get(score(fresh(), batch)))
    return source, metrics


def test_a_prediction_is_what_evaluation_scores(tmp_path):
    path, truth = saved(tmp_path)
    run, picture = task(), one_picture(path)
    (row,) = run.predict_each(fresh(), [picture])
    assert row["probability"].shape == (90, 77)
    np.testing.assert_array_equal(row["truth"], truth)
    source, metrics = evaluated(run, picture)
    np.testing.assert_array_equal(metrics.first[0].probability, row["probability"])
    scores = metrics.compute()
    assert scores["break_even"] == pytest.approx(row["break_even"])
    assert (scores["precision"], scores["recall"]) == pytest.approx((row["precision"], row["recall"]))
    assert set(run.draw(fresh(), metrics, source)) == {"precision_recall", "findings"}
    assert curve_of(row["probability"] / 255.0, truth).break_even()[0] == pytest.approx(row["break_even"], abs=0.05)


def test_what_a_prediction_writes(tmp_path):
    path, _ = saved(tmp_path, truth=False)
    run, picture = task(), one_picture(path)
    (row,) = run.predict_each(fresh(), [picture])
    assert set(row) == {"roads", "probability"}
    assert run.say(row).startswith("roads on ")
    found = run.written("a", row)
    assert list(found) == ["probability/a.png"]
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(found["probability/a.png"]))), row["probability"])
    assert run.annotate(picture, row).axes
    assert run.draw_predictions([picture], ["a"], [row]).axes
    said = run.say({"roads": 0.125, "precision": 0.5, "recall": 0.25, "break_even": 0.375})
    assert said == "roads on 12.5% of the picture  precision 50.0%  recall 25.0%  break_even 37.5%"


def test_a_map_without_a_road_leaves_no_nan_behind(tmp_path):
    path, truth = saved(tmp_path)
    Image.fromarray(np.zeros(truth.shape, np.uint8)).save(tmp_path / "map" / "a.tif")
    run, picture = task(), one_picture(path)
    (row,) = run.predict_each(fresh(), [picture])
    assert set(row) == {"roads", "truth", "precision", "probability"}
    assert row["precision"] == float(row["roads"] == 0)  # whatever is found is wrong
    assert not row["truth"].any()
    plain = {name: value for name, value in row.items() if not isinstance(value, np.ndarray)}
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert "nan" not in run.say(row)
    assert run.annotate(picture, row).axes
    source, metrics = evaluated(run, picture)
    scores = metrics.compute()
    assert scores["break_even"] == 0.0
    assert all(math.isfinite(value) for value in scores.values())
    assert set(run.draw(fresh(), metrics, source)) == {"precision_recall", "findings"}


def test_the_loss_is_given_a_rim_of_the_map():
    given = []

    def loss(logits, labels):
        given.append((logits.shape, labels.shape))
        return cross_entropy(logits, labels[:, 2:-2, 2:-2])

    plain, wide = task(), dataclasses.replace(task(), loss=loss, reach=2)
    values = [jax.jit(run.loss_fn)(fresh().params, {}, batch_of(2), jax.random.key(0))[0] for run in (plain, wide)]
    assert given == [((6, 8, 8), (6, 12, 12))]
    assert float(values[0]) == pytest.approx(float(values[1]), rel=1e-5)


def test_windows_are_described_by_their_roads():
    sums = TILING.counts[None] * np.float32(0.6)
    sums[:, : TILING.span // 2] = 0
    assert task().describe(sums)[0]["roads"] == pytest.approx(0.5)
    assert isinstance(task().metrics(), RoadMetrics)
