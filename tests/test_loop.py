"""The training loop: what it writes, resuming bit for bit, signals, and losses that are not finite."""

import dataclasses
import json
import os
import signal

import jax
import numpy as np
import pytest

from cnnlab import evaluate, loop, parallel, weights
from cnnlab.data.source import ArraySource
from cnnlab.errors import Diverged, Interrupted, UserError
from cnnlab.writer import read_rows
from tests.small import same, small_experiment


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run: the experiment and its workdir."""
    workdir = tmp_path_factory.mktemp("whole")
    experiment = small_experiment()
    loop.train(experiment, workdir)
    return experiment, workdir


def test_rows_of_a_run(whole):
    _, workdir = whole
    rows = read_rows(workdir / "metrics.jsonl")
    assert [(row["step"], row["split"]) for row in rows] == [
        (4, "test"),
        (5, "train"),
        (8, "test"),
        (10, "train"),
        (12, "train"),
        (12, "test"),
    ]
    assert all(row["count"] == 359 for row in rows if row["split"] == "test")


def test_files_of_a_run(whole):
    _, workdir = whole
    assert {path.name for path in (workdir / "figures").iterdir()} >= {"curves.png", "confusion.png", "filters.png"}
    assert list((workdir / "tensorboard").iterdir())
    assert json.loads((workdir / "config.json").read_text())["experiment"] == "lenet_digits"


def test_the_last_and_the_best_checkpoint_stay(whole):
    _, workdir = whole
    rows = [row for row in read_rows(workdir / "metrics.jsonl") if row["split"] == "test" and row["step"] % 3 == 0]
    best = min(rows, key=lambda row: (row["error"], -row["step"]))["step"]
    kept = {int(path.name) for path in (workdir / "checkpoints").iterdir()}
    assert kept == {9, 12, best}


def test_training_learns(tmp_path):
    experiment = small_experiment(steps=60, eval_every=100)
    assert loop.train(experiment, tmp_path)["error"] < 0.4


def test_metrics_are_the_means_of_the_steps(whole, tmp_path):
    """The reported loss is the mean over the steps since the last report, from a plain jitted loop."""
    experiment, workdir = whole
    step = jax.jit(lambda *args: experiment.task.train_step(*args, reduce=parallel.identity))
    state, losses = loop.initial_state(experiment), []
    batches = loop.train_batches(experiment, experiment.train_data(), 0)
    for n in range(5):
        batch = jax.tree.map(lambda x: np.asarray(x)[0], next(batches))
        state, metrics = step(state, batch, loop.stream_key(experiment.seed, "train", n))
        losses.append(float(metrics["loss"]))
    row = next(row for row in read_rows(workdir / "metrics.jsonl") if row["split"] == "train")
    assert row["loss"] == pytest.approx(np.mean(losses), rel=1e-5)


class _Signal:
    """Sends this process a signal when the source is asked for batch number `at` of the training."""

    def __init__(self, source, at, signum):
        self.source, self.at, self.signum, self.calls = source, at, signum, 0
        self.class_names = source.class_names

    def __len__(self):
        return len(self.source)

    def batch(self, indices):
        self.calls += 1
        if self.calls == self.at:
            os.kill(os.getpid(), self.signum)
        return self.source.batch(indices)


@pytest.mark.parametrize(("at", "signum"), [(1, signal.SIGTERM), (7, signal.SIGINT), (11, signal.SIGTERM)])
def test_interrupted_and_resumed_is_bit_for_bit_the_same(whole, tmp_path, at, signum):
    experiment, workdir = whole
    source, before = _Signal(experiment.train_data(), at, signum), signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match=r"saved at step \d+; the same command goes on") as stopped:
        loop.train(dataclasses.replace(experiment, train_data=lambda: source, workers=0), tmp_path)
    assert stopped.value.signum == signum
    assert signal.getsignal(signal.SIGINT) is before
    loop.train(experiment, tmp_path)
    assert same(loop.restored_state(experiment, tmp_path), loop.restored_state(experiment, workdir))
    assert (tmp_path / "metrics.jsonl").read_bytes() == (workdir / "metrics.jsonl").read_bytes()


def test_a_signal_during_evaluation_saves_and_the_scores_come_after_resuming(whole, tmp_path):
    experiment, workdir = whole
    test = _Signal(experiment.test_data(), 1, signal.SIGTERM)
    small = dataclasses.replace(experiment, eval_batch_size=100)
    with pytest.raises(Interrupted, match="saved at step 4"):
        loop.train(dataclasses.replace(small, test_data=lambda: test, workers=0), tmp_path)
    loop.train(small, tmp_path)
    steps = [(row["step"], row["split"]) for row in read_rows(tmp_path / "metrics.jsonl")]
    assert steps == [(row["step"], row["split"]) for row in read_rows(workdir / "metrics.jsonl")]
    assert same(loop.restored_state(experiment, tmp_path), loop.restored_state(experiment, workdir))


def test_a_finished_run_is_tested_again_and_changes_nothing(whole):
    experiment, workdir = whole
    before = (workdir / "metrics.jsonl").read_bytes()
    scores = loop.train(experiment, workdir)
    last = json.loads(before.splitlines()[-1])
    assert scores == {name: last[name] for name in scores}
    assert (workdir / "metrics.jsonl").read_bytes() == before


def test_a_loss_that_is_not_finite_stops_and_names_the_step(tmp_path):
    experiment = small_experiment()
    images = experiment.train_data().arrays["image"]
    good = experiment.task.preprocess

    def preprocess(image):
        # The loss becomes infinite where the mark lies: the first pixel of example 0 is never white.
        return good(image) + jax.numpy.where(image[:, :1, :1] == 255, np.inf, 0.0)

    order = [int(i) for n in range(12) for i in loop.pipeline.batch_indices(0, n, 32, len(images))]
    marked = images.copy()
    marked[:, 0, 0] = 0
    marked[order[7 * 32], 0, 0] = 255
    source = ArraySource({"image": marked, "label": experiment.train_data().arrays["label"]}, tuple("0123456789"))
    task = dataclasses.replace(experiment.task, preprocess=preprocess)
    broken = dataclasses.replace(experiment, task=task, train_data=lambda: source)
    with pytest.raises(UserError, match=r"the loss is nan at step 8 .* the checkpoint of step 6 is kept"):
        loop.train(broken, tmp_path)
    assert int(loop.restored_state(experiment, tmp_path).step) == 6


def test_a_last_update_that_ruins_the_net_is_found_by_the_test(tmp_path):
    wild = small_experiment({"learning_rate": 1e30}, steps=1)
    with pytest.raises(Diverged, match=r"the loss on the test set is (nan|inf) at step 1 of lenet_digits: lower"):
        loop.train(wild, tmp_path)
    assert not loop.Checkpoints(tmp_path / "checkpoints").steps()


def test_evaluation_counts_every_example_once_whatever_the_batch_size(whole):
    experiment, workdir = whole
    state, test = loop.restored_state(experiment, workdir), experiment.test_data()
    scores = []
    for size in (7, 100, 359, 1000):
        metrics = loop.evaluate(dataclasses.replace(experiment, eval_batch_size=size), state, test)
        scores.append((metrics.compute()["count"], metrics.confusion.tolist()))
    assert scores[0][0] == 359
    assert all(other == scores[0] for other in scores)


def test_evaluation_leaves_the_state_alone(whole):
    experiment, workdir = whole
    state = loop.restored_state(experiment, workdir)
    before = jax.device_get(state)
    loop.evaluate(experiment, state, experiment.test_data())
    assert same(before, state)


def test_no_room_is_said_before_training(tmp_path, monkeypatch):
    usage = loop.shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(loop.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"has 0\.0 MB free and the checkpoints need"):
        loop.train(small_experiment(), tmp_path / "run")
    assert not list((tmp_path / "run").iterdir())


def test_a_disk_that_fills_up_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    experiment = small_experiment()
    full = []
    real = loop.shutil.disk_usage
    monkeypatch.setattr(loop.shutil, "disk_usage", lambda path: real(path)._replace(free=100) if full else real(path))
    with pytest.raises(UserError, match=r"no room for the checkpoint of step 6: .*the checkpoint of step 3 is kept"):
        loop.train(experiment, tmp_path, on_report=lambda step, metrics: full.append(step))
    monkeypatch.undo()
    assert int(loop.restored_state(experiment, tmp_path).step) == 3


def test_an_unwritable_workdir_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to"):
        loop.train(small_experiment(), tmp_path / "file" / "run")


def test_a_workdir_without_a_run_cannot_be_restored(tmp_path):
    with pytest.raises(UserError, match="holds no trained state"):
        loop.restored_state(small_experiment(), tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.fixture
def published(monkeypatch):
    """Stands for `weights.load_torchvision`: every value is 0.5 but a new head's; keeps the calls, fails if told to."""

    def load(source, model, variables, replace_head=False):
        load.calls.append((source, model, replace_head))
        if load.error:
            raise UserError(load.error)
        loaded = jax.tree.map(lambda leaf: jax.numpy.full_like(leaf, 0.5), variables)
        if replace_head:
            loaded["params"]["output"] = variables["params"]["output"]
        return loaded

    load.calls, load.error = [], ""
    monkeypatch.setattr(weights, "load_torchvision", load)
    return load


def test_a_run_begins_from_published_weights(published, tmp_path):
    experiment = small_experiment(init_from="x.pth")
    loop.state_template(experiment)
    assert published.calls == []
    state, fresh = loop.initial_state(experiment), loop.initial_state(small_experiment())
    assert published.calls == [("x.pth", experiment.task.model, False)]
    assert jax.tree.structure(state) == jax.tree.structure(fresh)
    assert all((np.asarray(leaf) == 0.5).all() for leaf in jax.tree.leaves(state.variables))
    assert same((state.step, state.opt_state), (fresh.step, fresh.opt_state))
    # Adam moves each value by at most the rate a step: after one, all are still near the beginning.
    loop.train(dataclasses.replace(experiment, steps=1), tmp_path)
    after = loop.restored_state(experiment, tmp_path)
    assert all(np.allclose(leaf, 0.5, atol=0.01) for leaf in jax.tree.leaves(after.params))


def test_a_new_head_is_the_fresh_one(published):
    state = loop.initial_state(small_experiment(init_from="x.pth", replace_head=True))
    fresh = loop.initial_state(small_experiment())
    assert same(state.params.pop("output"), fresh.params["output"])
    assert all((np.asarray(leaf) == 0.5).all() for leaf in jax.tree.leaves(state.params))


def test_weights_that_do_not_fit_leave_no_trace(published, tmp_path):
    published.error = "x.pth does not fit"
    with pytest.raises(UserError, match=r"x\.pth does not fit"):
        loop.train(small_experiment(init_from="x.pth"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_going_on_reads_no_weights(published, tmp_path):
    experiment = small_experiment({"seed": 5}, init_from="x.pth")
    experiment = dataclasses.replace(experiment, config={**experiment.config, "init_from": "x.pth"})
    loop.train(dataclasses.replace(experiment, steps=3), tmp_path)
    published.error, published.calls = "the file is gone", []
    loop.train(dataclasses.replace(experiment, steps=6), tmp_path)
    assert int(loop.restored_state(experiment, tmp_path).step) == 6
    assert published.calls == []
    other = dataclasses.replace(experiment, init_from="y.pth", config={**experiment.config, "init_from": "y.pth"})
    with pytest.raises(UserError, match=r"holds a run that began from x\.pth: to use y\.pth as it is, name another"):
        loop.restored_state(other, tmp_path)


def test_published_weights_are_used_where_nothing_is_trained(published, tmp_path):
    experiment = small_experiment(init_from="x.pth")
    assert same(loop.restored_state(experiment, tmp_path), loop.initial_state(experiment))
    evaluate.evaluate_and_say(experiment, tmp_path, "latest")
    # A new head knows nothing before it is trained.
    with pytest.raises(UserError, match="holds no trained state"):
        loop.restored_state(dataclasses.replace(experiment, replace_head=True), tmp_path)


def test_a_head_is_replaced_in_weights():
    with pytest.raises(UserError, match="replace_head of lenet_digits needs init_from"):
        small_experiment(replace_head=True)
