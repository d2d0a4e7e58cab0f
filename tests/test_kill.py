"""Killed outright again and again, a run ends bit for bit as one that was left in peace."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from cnnlab import configs, loop
from cnnlab.data.digits import digits
from tests.small import same

ROOT = Path(__file__).parents[1]
SETTINGS = ("--config.epochs=40", "--config.checkpoint_every=25", "--config.eval_every=70", "--config.log_every=15")


def command(workdir: Path, *arguments: str) -> list[str]:
    return [sys.executable, "launch.py", f"--workdir={workdir}", *arguments]


def train(workdir: Path, *arguments: str) -> list[str]:
    return command(workdir, "--experiment=lenet_digits", *SETTINGS, *arguments)


def kill_while_training(arguments: list[str], workdir: Path, wait: float) -> bool:
    """Starts a run, waits until it makes steps and `wait` seconds more, and kills it; False if it had ended."""
    process = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    before = {path.name for path in (workdir / "checkpoints").glob("[0-9]*")}
    while process.poll() is None and {p.name for p in (workdir / "checkpoints").glob("[0-9]*")} <= before:
        time.sleep(0.02)
    time.sleep(wait)
    os.kill(process.pid, signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def check_kills(tmp_path: Path, kills: int, *arguments: str) -> None:
    """Trains once in peace and once under `kills` kills; compares parameters, metrics.jsonl and predictions."""
    peace, killed = tmp_path / "peace", tmp_path / "killed"
    subprocess.run(train(peace, *arguments), cwd=ROOT, check=True, capture_output=True)
    chance = random.Random(0)
    for _ in range(kills):
        assert kill_while_training(train(killed, *arguments), killed, chance.random())
    subprocess.run(train(killed, *arguments), cwd=ROOT, check=True, capture_output=True)
    assert (peace / "metrics.jsonl").read_bytes() == (killed / "metrics.jsonl").read_bytes()
    states = []
    for workdir in (peace, killed):
        name, _, config = configs.choose(None, str(workdir), trains=False)
        states.append(loop.restored_state(configs.load(name).build(config), workdir))
    assert same(*states)
    for i in range(5):
        Image.fromarray(digits("test").arrays["image"][i, ..., 0]).save(tmp_path / f"{i}.png")
    for workdir in (peace, killed):
        predict = command(workdir, "--mode=predict", f"--input={tmp_path}/*.png")
        subprocess.run(predict, cwd=ROOT, check=True, capture_output=True)
    assert (peace / "predictions.jsonl").read_bytes() == (killed / "predictions.jsonl").read_bytes()


def test_killed_three_times(tmp_path):
    check_kills(tmp_path, 3)


@pytest.mark.slow
def test_killed_ten_times(tmp_path):
    check_kills(tmp_path, 10, "--config.epochs=120")
