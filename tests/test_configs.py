"""Choosing an experiment and its configuration."""

import json

import pytest

from cnnlab import configs
from cnnlab.errors import UserError
from experiments import lenet_digits, lenet_folder


def test_names_and_first_lines():
    assert {"lenet_digits", "lenet_folder", "lenet_mnist"} <= set(configs.names())
    assert configs.first_lines()["lenet_digits"].startswith("LeNet-5")


def test_update_takes_saved_values_and_keeps_new_fields():
    config = configs.update(lenet_folder.get_config(), {"seed": 5, "classes": ["a", "b"], "gone": 1})
    assert config.seed == 5
    assert config.classes == ("a", "b")
    assert config.batch_size == lenet_folder.get_config().batch_size


@pytest.fixture
def saved(tmp_path):
    """A workdir whose run has seed 9."""
    config = {**configs.plain(lenet_digits.get_config()), "seed": 9}
    (tmp_path / "config.json").write_text(json.dumps({"experiment": "lenet_digits", "config": config}))
    return tmp_path


def test_training_by_name_starts_from_the_files_defaults(saved):
    assert configs.choose("lenet_digits", str(saved), trains=True)[2].seed == 0


def test_everything_else_starts_from_the_workdir(saved):
    assert configs.choose(None, str(saved), trains=True)[2].seed == 9
    assert configs.choose("lenet_digits", str(saved), trains=False)[2].seed == 9
    with pytest.raises(UserError, match="holds a run of lenet_digits, not of lenet_mnist"):
        configs.choose("lenet_mnist", str(saved), trains=False)


def test_plain_is_what_json_gives_back():
    config = lenet_folder.get_config()
    config.classes = ("a",)
    assert configs.plain(config)["classes"] == ["a"]


@pytest.mark.parametrize("name", configs.names())
def test_no_modes_options_hide_an_experiments_fields(name):
    fields = set(configs.load(name).get_config())
    for mode in ("eval", "inspect", "predict"):
        assert not fields & set(configs.options_of(mode)), mode
