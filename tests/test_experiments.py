"""Every experiment there is builds, makes a step, and says what it is; so none can rot."""

import ast
import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from cnnlab import configs, loop, summary
from cnnlab.data.digits import digits
from cnnlab.data.source import ArraySource
from cnnlab.errors import UserError

ROOT = Path(__file__).parents[1]


def class_folder(folder: Path) -> Path:
    """A few pictures in two class folders."""
    for i in range(40):
        (folder / str(i % 2)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits("train").arrays["image"][i, ..., 0]).save(folder / str(i % 2) / f"{i}.png")
    return folder


def config_of(name, tmp_path):
    """The experiment's defaults; a folder of pictures where it wants one."""
    config = configs.load(name).get_config()
    if "folder" in config:
        config.folder = str(class_folder(tmp_path / "pictures"))
    return config


def stand_in(experiment, size=64):
    """Random pictures in the experiment's shape, in place of data that a plain checkout lacks."""
    draw = np.random.default_rng(0)
    image = draw.integers(0, 256, (size, *experiment.picture_shape), dtype=np.uint8)
    label = draw.integers(0, len(experiment.task.class_names), size).astype(np.int32)
    return ArraySource({"image": image, "label": label}, experiment.task.class_names)


@pytest.mark.parametrize("name", configs.names())
def test_it_trains_a_step_and_is_evaluated(name, tmp_path):
    experiment = configs.load(name).build(config_of(name, tmp_path))
    try:
        experiment.train_data()
    except UserError as error:
        print(f"{name} is stepped on random pictures, as its data is left out here: {error}")
        source = stand_in(experiment)
        experiment = dataclasses.replace(experiment, train_data=lambda: source, test_data=lambda: source)
    scores = loop.train(dataclasses.replace(experiment, steps=1), tmp_path / "w")
    assert np.isfinite(scores["loss"])
    assert scores["count"] > 0
    assert int(loop.restored_state(experiment, tmp_path / "w").step) == 1


@pytest.mark.parametrize("name", configs.names())
def test_its_file_says_what_it_is(name, tmp_path):
    tree = ast.parse((ROOT / "experiments" / f"{name}.py").read_text())
    text = ast.get_docstring(tree)
    assert len(text.splitlines()[0]) <= 100
    for part in ("Paper: ", f"Command: python launch.py --experiment={name}", "Expected: ", "Measured: "):
        assert part in text, f"{name} does not say: {part}"
    config = config_of(name, tmp_path)
    assert set(json.loads(json.dumps(config.to_dict()))) == set(config.keys())
    experiment = configs.load(name).build(config)
    assert experiment.name == name


@pytest.mark.parametrize("name", configs.names())
def test_every_knob_has_a_comment(name):
    for line in (ROOT / "experiments" / f"{name}.py").read_text().splitlines():
        if line.strip().startswith("config.") and " = " in line and "listing" not in line:
            assert "  # " in line, line


@pytest.mark.parametrize("name", configs.names())
def test_its_summary_adds_up(name, tmp_path):
    experiment = configs.load(name).build(config_of(name, tmp_path))
    total = summary.report(experiment).splitlines()[-1].split()[1]
    params = jax.tree.leaves(loop.state_template(experiment).params)
    assert int(total.replace(",", "")) == sum(leaf.size for leaf in params)
