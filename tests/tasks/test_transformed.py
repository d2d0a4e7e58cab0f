"""Classification through a spatial transformer: its figures, its devices, inspection, predicted files."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from cnnlab import configs, parallel
from cnnlab.data.pipeline import train_batch
from cnnlab.data.source import Head
from cnnlab.errors import UserError
from cnnlab.inspect import transformers
from cnnlab.inspect.subject import Subject
from cnnlab.loop import initial_state
from cnnlab.rngs import stream_key
from cnnlab.tasks.classification import Classification
from experiments import stn_mnist


def experiment_of(**fields):
    config = stn_mnist.get_config()
    config.update({"data": "digits", "body": "fcn", "parameters": 60_000, "batch_size": 8, "eval_batch_size": 8})
    config.update(fields)
    return stn_mnist.build(config)


@functools.cache
def trained():
    experiment = experiment_of(transformer="tps", parallel=2)
    return experiment, initial_state(experiment)


def test_the_figures_of_a_test():
    experiment, state = trained()
    test = Head(experiment.test_data(), 8)
    metrics, batch = experiment.task.metrics(), test.batch(np.arange(8))
    batch = {**batch, "mask": np.ones(8, np.float32), "index": np.arange(8)}
    metrics.add(jax.device_get(jax.jit(experiment.task.eval_step)(state, batch)))
    drawn = experiment.task.draw(state, metrics, test)
    assert {"confusion", "transformer"} <= set(drawn)
    assert len(drawn["transformer"].axes) == 8 * 3
    again = experiment.task.draw_inputs(state, batch["image"][:2], ["a", "b"])
    assert [axes.get_title() for axes in again["transformer"].axes][::3] == ["a", "b"]


def test_inspection():
    experiment, state = trained()
    drawn = transformers.draw(Subject(experiment, lambda: state, count=3), ConfigDict())
    assert list(drawn) == ["transformer"]
    assert len(drawn["transformer"].axes) == 3 * 3
    plain = experiment_of(transformer="none")
    assert type(plain.task) is Classification
    with pytest.raises(UserError, match="stn_mnist has no spatial transformer to show"):
        transformers.draw(Subject(plain, lambda: initial_state(plain), count=1), ConfigDict())


def test_four_devices_update_as_one():
    experiment = experiment_of(distortion="RTS")
    task, source = experiment.task, experiment.train_data()
    batch = train_batch(source, 0, 0, 8, slice(0, 8))
    state, key = initial_state(experiment), stream_key(0, "train", 0)
    one, metrics = jax.jit(functools.partial(task.train_step, reduce=parallel.identity))(state, batch, key)
    step = jax.vmap(
        functools.partial(task.train_step, reduce=lambda tree: jax.lax.pmean(tree, "devices")),
        axis_name="devices",
        in_axes=(None, 0, None),
    )
    four, losses = jax.jit(step)(state, jax.tree.map(lambda x: x.reshape(4, 2, *x.shape[1:]), dict(batch)), key)
    assert float(losses["loss"][0]) == pytest.approx(float(metrics["loss"]), rel=1e-4)
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(four.params), strict=True):
        np.testing.assert_allclose(a, b[0], atol=1e-4)


def test_files_are_read_as_digits(tmp_path):
    digit = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)
    Image.fromarray(digit).save(tmp_path / "digit.png")
    placed = stn_mnist.read_digit(tmp_path / "digit.png", 42, False)
    assert placed.shape == (42, 42, 1)
    np.testing.assert_array_equal(placed[7:35, 7:35, 0], digit)
    assert placed.sum() == digit.sum(dtype=int)
    np.testing.assert_array_equal(stn_mnist.read_digit(tmp_path / "digit.png", 28, True)[..., 0], 255 - digit)
    whole = np.random.default_rng(1).integers(0, 256, (42, 42), np.uint8)
    Image.fromarray(whole).save(tmp_path / "whole.png")
    np.testing.assert_array_equal(stn_mnist.read_digit(tmp_path / "whole.png", 42, False)[..., 0], whole)
    (tmp_path / "torn.png").write_bytes((tmp_path / "whole.png").read_bytes()[:100])
    with pytest.raises(UserError, match=r"torn\.png is not a whole picture"):
        stn_mnist.read_digit(tmp_path / "torn.png", 42, False)


def test_wrong_words_are_told():
    cases = [
        (
            {"distortion": "RST"},
            'config.distortion is "RST"; it must be one of R, RTS, P, E, cluttered; did you mean RTS',
        ),
        ({"transformer": "spline"}, 'config.transformer is "spline"; it must be one of none, affine, projective, tps'),
        ({"body": "vgg"}, 'config.body is "vgg"; it must be one of cnn, fcn'),
        ({"data": "fashion"}, 'config.data is "fashion"; it must be one of mnist, digits'),
        ({"initial": (0.0,) * 6}, "config.initial is singular"),
        ({"initial": (1.0,)}, "config.initial has 1 numbers; an affine transform takes 6"),
        ({"initial": ("1,0,0,0,x,0",)}, "config.initial is .* must be numbers"),
        ({"transformer": "none", "parallel": 2}, "are of a transformer, and config.transformer is none"),
        ({"parameters": 50}, "50 parameters are too few"),
        ({"optimizer": "adagrad"}, 'it must be "sgd" or "adam"'),
    ]
    for fields, words in cases:
        with pytest.raises(UserError, match=words) as error:
            experiment_of(**fields)
        assert "\n" not in str(error.value)


def test_the_papers_descent_and_slower_localisers():
    config = configs.load("stn_mnist").get_config()
    config.update(data="digits", optimizer="sgd", learning_rate=0.01, steps=150_000, rates="transformer=0.1")
    experiment = stn_mnist.build(config)
    assert experiment.steps == 150_000
    assert experiment.picture_shape == (28, 28, 1)
    params = {"transformer": {"theta1": {"bias": jnp.zeros(1)}}, "output": {"bias": jnp.zeros(1)}}
    task = experiment.task
    grads = jax.tree.map(jnp.ones_like, params)
    updates, _ = task.optimizer.update(grads, task.optimizer.init(params), params)
    assert float(updates["output"]["bias"][0]) == pytest.approx(-0.01)
    assert float(updates["transformer"]["theta1"]["bias"][0]) == pytest.approx(-0.001)
