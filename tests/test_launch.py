"""The launcher as a person uses it: modes, and every mistake's single line."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from absl import flags
from PIL import Image

import launch
from cnnlab import configs
from cnnlab.data.digits import digits

ROOT = Path(__file__).parents[1]
QUICK = ("--config.variant=modern", "--config.epochs=0.4", "--config.eval_every=5", "--config.checkpoint_every=4")


@pytest.fixture
def run(capfd, monkeypatch, tmp_path):
    """Runs a command line in this process, in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", sys.argv)

    def command(*arguments):
        sys.argv = ["launch.py", *map(str, arguments)]
        capfd.readouterr()
        code = configs.exit_code(lambda: launch.main(sys.argv), debug=False)
        flags.FLAGS.unparse_flags()
        for name in [name for name in flags.FLAGS if name == "config" or name.startswith("config.")]:
            delattr(flags.FLAGS, name)
        for name in flags.FLAGS:
            flags.FLAGS[name].value = flags.FLAGS[name].default
            flags.FLAGS[name].present = 0
        return code, *capfd.readouterr()

    return command


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A trained workdir."""
    workdir = tmp_path_factory.mktemp("trained") / "w"
    command = [sys.executable, "launch.py", "--experiment=lenet_digits", f"--workdir={workdir}"]
    done = subprocess.run([*command, "--config.epochs=6", "--config.variant=modern"], cwd=ROOT, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert "lenet_digits after 135 steps" in done.stdout.decode()
    return workdir


def pictures(folder: Path, count: int = 3) -> Path:
    """Digits as PNG files named by place and label."""
    folder.mkdir()
    arrays = digits("test").arrays
    for i in range(count):
        Image.fromarray(arrays["image"][i, ..., 0]).save(folder / f"{i}_{arrays['label'][i]}.png")
    return folder


def test_without_flags_the_experiments_are_listed(run):
    code, out, _ = run()
    assert code == 0
    for name in configs.names():
        assert any(line.startswith(name) and len(line) > 40 for line in out.splitlines())


def test_training_evaluating_and_going_on(run, tmp_path):
    code, out, _ = run("--experiment=lenet_digits", f"--workdir={tmp_path / 'w'}", *QUICK)
    assert code == 0
    assert "lenet_digits after 9 steps" in out
    scores = out.splitlines()[0].split(": ")[1]
    code, out, _ = run(f"--workdir={tmp_path / 'w'}", "--mode=eval")
    assert (code, out) == (0, f"lenet_digits at step 9: {scores}\n")
    code, out, _ = run(f"--workdir={tmp_path / 'w'}")
    assert code == 0
    assert scores in out


def test_the_default_workdir_is_named_after_the_experiment(run, tmp_path):
    assert run("--experiment=lenet_digits", *QUICK)[0] == 0
    assert (tmp_path / "runs" / "lenet_digits" / "config.json").exists()


def test_overwrite_starts_anew(run, tmp_path):
    workdir = f"--workdir={tmp_path / 'w'}"
    assert run("--experiment=lenet_digits", workdir, *QUICK)[0] == 0
    code, _, err = run("--experiment=lenet_digits", workdir, *QUICK, "--config.seed=3")
    assert code == 2
    assert "seed: 0 → 3" in err
    assert json.loads((tmp_path / "w" / "config.json").read_text())["config"]["seed"] == 0
    assert run("--experiment=lenet_digits", workdir, *QUICK, "--config.seed=3", "--overwrite")[0] == 0
    assert json.loads((tmp_path / "w" / "config.json").read_text())["config"]["seed"] == 3


def test_predict(run, trained, tmp_path):
    folder = pictures(tmp_path / "pics")
    (folder / "broken.png").write_bytes(b"no picture")
    code, out, err = run("--mode=predict", f"--workdir={trained}", f"--input={folder}/*.png")
    assert code == 0
    assert "broken.png is not a whole picture" in err
    assert "1 of 4 pictures are left out" in err
    rows = [json.loads(line) for line in (trained / "predictions.jsonl").read_text().splitlines()]
    assert [Path(row["file"]).name for row in rows] == sorted(path.name for path in folder.glob("?_*.png"))
    assert all(row["classes"][0] == Path(row["file"]).stem[-1] for row in rows)
    assert all(np.isclose(sum(row["probabilities"]), 1, atol=1e-3) for row in rows)
    assert len(out.splitlines()) == 3
    with Image.open(trained / "figures" / "predictions.png") as sheet:
        assert sheet.width > 300


def test_a_folder_of_pictures_trains_and_predicts_without_it(run, tmp_path):
    arrays = digits("train").arrays
    for i in range(120):
        folder = tmp_path / "mine" / ("even" if arrays["label"][i] % 2 == 0 else "odd")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(arrays["image"][i, ..., 0]).convert("RGB").resize((40, 31)).save(folder / f"{i}.jpg")
    (tmp_path / "mine" / "odd" / "bad.jpg").write_bytes(b"x")
    train = ("--experiment=lenet_folder", f"--config.folder={tmp_path / 'mine'}", f"--workdir={tmp_path / 'w'}")
    code, out, err = run(*train, "--config.epochs=3", "--config.batch_size=16")
    assert code == 0, err
    assert "bad.jpg is not a whole picture" in err
    assert json.loads((tmp_path / "w" / "config.json").read_text())["config"]["classes"] == ["even", "odd"]
    picture = next((tmp_path / "mine" / "odd").glob("?.jpg"))
    picture = picture.rename(tmp_path / "picture.jpg")
    (tmp_path / "mine").rename(tmp_path / "gone")
    code, out, err = run("--mode=predict", f"--workdir={tmp_path / 'w'}", f"--input={picture}")
    assert code == 0, err
    assert " odd " in out
    assert " even " in out


def test_summary_needs_no_data(run, tmp_path):
    code, out, _ = run("--experiment=lenet_mnist", "--mode=summary", f"--data_dir={tmp_path}")
    assert code == 0
    assert out.splitlines()[-1].split()[:2] == ["total", "60,000"]


def test_prepare_has_nothing_to_do_for_built_in_data(run):
    assert run("--experiment=lenet_digits", "--mode=prepare")[:2] == (0, "lenet_digits needs no preparation\n")


MISTAKES = {
    "unknown experiment": (["--experiment=lenet_digit"], "no experiment 'lenet_digit'; did you mean lenet_digits"),
    "unknown field": (["--config.bach_size=3"], "no field config.bach_size; did you mean config.batch_size"),
    "field far from all": (["--config.zzz=3"], "no field config.zzz: it has"),
    "text for int": (["--config.batch_size=abc"], "config.batch_size is of type int (now 64), not 'abc'"),
    "float for int": (["--config.batch_size=1.5"], "config.batch_size is of type int (now 64), not '1.5'"),
    "text for float": (["--config.learning_rate=big"], "config.learning_rate is of type float"),
    "no number": (["--config.epochs=nan"], "config.epochs is of type float (now 60.0), not 'nan'"),
    "endless": (["--config.epochs=inf"], "config.epochs is of type float (now 60.0), not 'inf'"),
    "odd share": (
        ["--experiment=lenet_folder", "--config.folder=empty", "--config.test_share=2"],
        "the share of pictures held out for testing is 2.0; it must lie between 0 and 1",
    ),
    "text for bool": (["--config.invert=perhaps"], "config.invert is of type bool"),
    "no value": (["--config.learning_rate"], "config.learning_rate needs a value"),
    "batch size of nothing": (["--config.batch_size=0"], "config.batch_size is 0; it must be positive"),
    "no steps": (["--config.epochs=0"], "over 0 steps; both must be positive"),
    "negative seed": (["--config.seed=-1"], "seed of lenet_digits is -1"),
    "unknown variant": (["--config.variant=old"], 'the variant of LeNet is "old"; it must be "paper" or "modern"'),
    "unknown flag": (["--bogus=1"], "no flag --bogus"),
    "near flag": (["--wrkdir=x"], "no flag --wrkdir; did you mean workdir"),
    "stray word": (["stray"], "'stray' is not a flag"),
    "unknown mode": (["--mode=trian"], "should be one of"),
    "predict without input": (["--mode=predict"], "--mode=predict needs --input"),
    "input matches nothing": (["--mode=predict", "--input=none/*.png"], "--input=none/*.png matches no picture"),
    "eval untrained": (["--mode=eval"], "holds no trained state"),
    "folder not set": (["--experiment=lenet_folder"], "config.folder is not set"),
    "folder missing": (["--experiment=lenet_folder", "--config.folder=none"], "there is no folder none"),
    "folder empty": (["--experiment=lenet_folder", "--config.folder=empty"], "empty has 0 class folders"),
    "data not prepared": (
        ["--experiment=lenet_mnist", "--data_dir=none"],
        "mnist is not in none; prepare it with: python launch.py --experiment=lenet_mnist --mode=prepare",
    ),
    "no number in a list": (
        ["--experiment=alexnet_imagenet", "--config.drops=10;20"],
        "config.drops takes values with commas between, as in 30.0,60.0,80.0, or (): not '10;20'",
    ),
    "nothing in a list": (["--experiment=alexnet_imagenet", "--config.drops="], "or (): not ''"),
    "unused with digits": (
        ["--experiment=dcgan_mnist", "--config.data=digits", "--config.steps=20"],
        "config.steps is 20, which does nothing with config.data=digits: set config.small.steps",
    ),
    "a series without data": (
        ["--experiment=normalisation_mnist", "--data_dir=none"],
        "mnist is not in none; prepare it with: python launch.py --experiment=normalisation_mnist --mode=prepare",
    ),
    "processes without coordinator": (["--num_processes=2"], "--num_processes=2 needs --coordinator"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_and_nothing_is_written(run, tmp_path, name):
    arguments, message = MISTAKES[name]
    (tmp_path / "empty").mkdir()
    if not any(argument.startswith("--experiment") for argument in arguments):
        arguments = ["--experiment=lenet_digits", *arguments]
    code, out, err = run(*arguments, f"--workdir={tmp_path / 'w'}")
    assert code == 2
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1
    assert message in err
    assert out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_without_experiment_or_run(run, tmp_path):
    code, _, err = run(f"--workdir={tmp_path / 'w'}")
    assert code == 2
    assert "holds no run: name an --experiment" in err
    code, _, err = run("--config.seed=1")
    assert code == 2
    assert "--config.seed=1 needs --experiment" in err


def test_all_pictures_corrupt(run, trained, tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    code, _, err = run("--mode=predict", f"--workdir={trained}", f"--input={tmp_path}/*.png")
    assert code == 2
    assert "none of the 1 pictures can be read" in err


@pytest.mark.parametrize("flag", ["--debug", "--debug=true"])
def test_debug_shows_the_traceback(flag):
    command = [sys.executable, "launch.py", "--experiment=nothing", flag]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert "Traceback" in done.stderr


def test_sigterm_saves_and_says_so(tmp_path):
    command = [sys.executable, "launch.py", "--experiment=lenet_digits", f"--workdir={tmp_path}", "--config.epochs=1e4"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env=os.environ)
    for line in process.stderr:
        if "50/" in line:
            break
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    with process.stderr as stream:
        rest = stream.read()
    assert process.wait() == 128 + signal.SIGTERM
    assert time.monotonic() - began < 30
    last = rest.splitlines()[-1]
    assert last.startswith("SIGTERM: saved at step ")
    step = last.split("step ")[1].split(";")[0]
    assert (tmp_path / "checkpoints" / step).is_dir()
