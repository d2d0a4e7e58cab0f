"""The classifier of a workdir as a judge: its own probabilities and features, however many pictures there are."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab import configs, loop, parallel, workdirs
from cnnlab.checkpoint import Checkpoints
from cnnlab.data.digits import digits
from cnnlab.errors import UserError
from cnnlab.inspect.layers import run
from cnnlab.judge import Judge, judge_of
from tests.small import small_experiment

PICTURES = digits("test").arrays["image"][:12]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A workdir with a network that has not learnt anything: who judges how well is no matter here."""
    path, experiment = tmp_path_factory.mktemp("judge"), small_experiment()
    workdirs.claim(path, experiment)
    checkpoints = Checkpoints(path / "checkpoints")
    checkpoints.save(0, parallel.replicate(loop.fresh_state(experiment)), [])
    checkpoints.close()
    return path


def test_it_says_what_the_classifier_says(folder, monkeypatch):
    experiment = small_experiment()
    state, task = loop.restored_state(experiment, folder), experiment.task
    logits, layers = run(task.model, state.variables, task.preprocess(jnp.asarray(PICTURES)))
    monkeypatch.setattr("cnnlab.judge.BATCH", 5)  # the last of three batches has two pictures
    judge = judge_of(str(folder))
    features, probabilities = judge(PICTURES)
    assert features.shape == (12, 84)
    assert judge.class_names == tuple("0123456789")
    np.testing.assert_allclose(features, layers["F6"], atol=1e-5)
    expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)


def test_pictures_of_another_shape(folder):
    with pytest.raises(UserError, match=r"judges pictures of 28×28×1, and these are 32×32×3"):
        judge_of(str(folder))(np.zeros((2, 32, 32, 3), np.uint8))


def test_folders_without_a_classifier(tmp_path):
    assert judge_of("") is None
    message = r"config\.judge is .*, which holds no classifier: name the workdir of a trained one$"
    with pytest.raises(UserError, match=message):
        judge_of(str(tmp_path))
    for name in ("gan_mnist", "faster_rcnn_shapes", "lesson_depth"):  # the last is a series
        module = configs.load(name)
        (tmp_path / name).mkdir()
        workdirs.claim(tmp_path / name, module.build(module.get_config()))
        with pytest.raises(UserError, match=message):
            judge_of(str(tmp_path / name))


class Single(nn.Module):
    """A layer, and nothing before it."""

    @nn.compact
    def __call__(self, x, *, train=False):
        return nn.Dense(10, name="output")(x.reshape(len(x), -1))


def test_a_network_without_features(folder, monkeypatch):
    experiment = small_experiment()
    experiment = dataclasses.replace(experiment, task=dataclasses.replace(experiment.task, model=Single()))
    monkeypatch.setattr(loop, "restored_state", lambda experiment, folder: loop.fresh_state(experiment))
    with pytest.raises(UserError, match=r"judge is .*, whose network has no layer before the last to take features"):
        Judge(folder, experiment)(PICTURES)
