"""The classifier of a workdir as a judge: its own probabilities and features, however many pictures there are."""

import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab import loop, parallel, workdirs
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
    features, _ = Judge(folder, "C5")(PICTURES)
    np.testing.assert_allclose(features, np.asarray(layers["C5"]).reshape(12, -1), atol=1e-5)


def test_pictures_of_another_shape(folder):
    with pytest.raises(UserError, match=r"judges pictures of 28×28×1, and these are 32×32×3"):
        judge_of(str(folder))(np.zeros((2, 32, 32, 3), np.uint8))


def test_no_judge_and_no_run(tmp_path):
    assert judge_of("") is None
    with pytest.raises(UserError, match=r"config\.judge is .*, which holds no run: train a classifier"):
        judge_of(str(tmp_path))
