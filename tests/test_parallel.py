"""Devices and processes: the same update and the same scores however many there are."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from cnnlab import parallel
from cnnlab.errors import UserError

ROOT = Path(__file__).parents[1]

# Adam divides a gradient by its own size, which makes much of the rounding in the gradients of units that ReLU has
# nearly switched off; so the modern net is compared under plain gradient descent.
TRAIN = """
import dataclasses, sys, pathlib, jax, numpy as np, optax
from cnnlab import loop
from tests.small import small_experiment
workdir = pathlib.Path(sys.argv[1])
experiment = small_experiment({"variant": sys.argv[2], "batch_size": 64}, steps=20, eval_every=20, checkpoint_every=20)
if sys.argv[2] == "modern":
    experiment = dataclasses.replace(experiment, task=dataclasses.replace(experiment.task, optimizer=optax.sgd(0.05)))
loop.train(experiment, workdir)
state = jax.device_get(loop.restored_state(experiment, workdir))
np.savez(workdir / "params.npz", *jax.tree.leaves(state.params))
print(jax.device_count())
"""


# Three steps on one device and on all, with dropout, parts of a batch, batch normalisation: how far the nets differ.
ADVERSARIES = """
import dataclasses, jax, jax.numpy as jnp, numpy as np, optax
from cnnlab import configs, loop, parallel
from cnnlab.data import pipeline
from cnnlab.rngs import stream_key

def difference(name, **fields):
    module = configs.load(name)
    config = module.get_config()
    config.update(data="digits", **fields)
    config.small.update(generator=(8,) if name == "gan_mnist" else (8, 4), discriminator=(8,), batch_size=16)
    experiment = module.build(config)
    sgd = {f"{side}_optimizer": optax.sgd(0.05) for side in ("generator", "discriminator")}
    task, source = dataclasses.replace(experiment.task, **sgd), experiment.train_data()
    whole = jax.jit(lambda *given: task.train_step(*given, parallel.identity))
    shared = parallel.compile_train_step(task.train_step)
    one = loop.fresh_state(experiment)
    one = four = dataclasses.replace(one, opt_state=task.init_optimizer(one.params, one.model_state))
    four = parallel.replicate(four)
    for n in range(3):
        batch, key = pipeline.train_batch(source, 0, n, 16, slice(0, 16)), stream_key(0, "train", n)
        one, metrics = whole(one, batch, key)
        four, others = shared(four, parallel.shard(batch), key)
    pairs = zip(jax.tree.leaves((one.variables, metrics)), jax.tree.leaves((four.variables, others)), strict=True)
    return max(float(np.abs(np.asarray(a) - np.asarray(b)).max()) for a, b in pairs)

print(jax.device_count(), difference("gan_mnist", discriminator_steps=2), difference("dcgan_mnist"))
"""


def params(workdir: Path) -> list[np.ndarray]:
    with np.load(workdir / "params.npz") as found:
        return [found[name] for name in found.files]


@pytest.mark.parametrize("variant", ["paper", "modern"])
def test_one_and_four_devices_agree(tmp_path, variant):
    for devices in (1, 4):
        flags = f"--xla_force_host_platform_device_count={devices}"
        command = [sys.executable, "-c", TRAIN, str(tmp_path / str(devices)), variant]
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, "XLA_FLAGS": flags}, capture_output=True, text=True)
        assert done.stdout.split() == [str(devices)], done.stderr
    one, four = params(tmp_path / "1"), params(tmp_path / "4")
    assert max(np.abs(a - b).max() for a, b in zip(one, four, strict=True)) <= 1e-6
    scores = [json.loads((tmp_path / n / "metrics.jsonl").read_text().splitlines()[-1]) for n in ("1", "4")]
    assert scores[0]["count"] == scores[1]["count"] == 359
    assert scores[0]["error"] == scores[1]["error"]


def test_one_and_four_devices_make_the_same_adversaries():
    flags = "--xla_force_host_platform_device_count=4"
    command = [sys.executable, "-c", ADVERSARIES]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "XLA_FLAGS": flags}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    devices, gan, dcgan = map(float, done.stdout.split())
    assert devices == 4
    assert max(gan, dcgan) <= 1e-6  # without config.sync_norm, DCGAN's differ by more than 1e-4


def launch_together(workdir: Path, count: int, *arguments: str) -> list[subprocess.CompletedProcess]:
    """The same command line in `count` processes that work together."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "launch.py", "--experiment=lenet_digits", f"--workdir={workdir}", *arguments]
    together = [f"--coordinator=localhost:{port}", f"--num_processes={count}"] if count > 1 else []
    processes = [
        subprocess.Popen(
            [*command, *together, *([f"--process_id={i}"] if together else [])],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(count)
    ]
    outputs = [process.communicate(timeout=200) for process in processes]
    return [
        subprocess.CompletedProcess(p.args, p.returncode, *output) for p, output in zip(processes, outputs, strict=True)
    ]


def test_two_processes_train_checkpoint_and_evaluate_as_one(tmp_path):
    arguments = ("--config.variant=modern", "--config.epochs=1", "--config.eval_every=9", "--config.checkpoint_every=5")
    for count in (1, 2):
        for done in launch_together(tmp_path / str(count), count, *arguments):
            assert done.returncode == 0, done.stderr
    # A damaged newest checkpoint: both processes go back to the same one before it, and end as before.
    (tmp_path / "2" / "checkpoints" / "22" / "note" / "metadata").write_text("")
    again = launch_together(tmp_path / "2", 2, *arguments)
    assert [done.returncode for done in again] == [0, 0]
    assert "checkpoint 22 is damaged" in again[0].stderr
    assert "lenet_digits after 22 steps" in again[0].stdout
    assert "lenet_digits after" not in again[1].stdout
    rows = [
        [json.loads(line) for line in (tmp_path / n / "metrics.jsonl").read_text().splitlines()] for n in ("1", "2")
    ]
    assert len(rows[0]) == len(rows[1]) == 4
    for one, two in zip(*rows, strict=True):
        assert one.keys() == two.keys()
        for name, value in one.items():
            assert value == two[name] if isinstance(value, str) else two[name] == pytest.approx(value, rel=1e-4)
    assert {p.name for p in (tmp_path / "2" / "checkpoints").glob("[0-9]*")} == {"20", "22"}


def test_batch_sizes_must_be_shared_evenly(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 4)
    parallel.check_batch_size("config.batch_size", 64)
    with pytest.raises(UserError, match=r"config\.batch_size is 66, which 4 devices cannot share evenly: use 64 or 68"):
        parallel.check_batch_size("config.batch_size", 66)
    with pytest.raises(UserError, match=r"use 4$"):
        parallel.check_batch_size("config.batch_size", 3)
    parallel.check_batch_sizes(ConfigDict({"batch_size": 4, "eval_batch_size": 8}))
    with pytest.raises(UserError, match=r"config\.eval_batch_size is 5, which 4 devices"):
        parallel.check_batch_sizes(ConfigDict({"batch_size": 4, "eval_batch_size": 5}))


def test_process_shares_are_the_batch_in_order(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 4)
    parts = []
    for index in range(4):
        monkeypatch.setattr(jax, "process_index", lambda index=index: index)
        parts += list(range(12))[parallel.process_share(12)]
    assert parts == list(range(12))


def test_shard_and_gather_are_inverse():
    batch = {"a": np.arange(12.0).reshape(6, 2), "b": np.arange(6)}
    back = parallel.gather(parallel.shard(batch))
    assert all(np.array_equal(back[name], batch[name]) for name in batch)


def test_fetched_arrays_share_no_memory():
    x = parallel.replicate({"x": np.arange(4.0, dtype=np.float32)})
    host = parallel.fetch(x)
    step = jax.jit(lambda t: {"x": t["x"] + 1}, donate_argnums=0)
    step(x)
    assert host["x"].tolist() == [0, 1, 2, 3]
    assert host["x"].flags.owndata
