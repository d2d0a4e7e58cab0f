"""Choosing an experiment and its configuration."""

import errno
import json

import pytest
from absl import flags

from cnnlab import configs, workdirs
from cnnlab.errors import UserError
from cnnlab.tasks.classification import Classification
from cnnlab.tasks.detection import Detection
from experiments import alexnet_imagenet, lenet_digits, lenet_folder, lesson_depth


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


def test_a_run_is_built_as_it_was_trained_but_for_the_stored_size(tmp_path):
    for experiment in (alexnet_imagenet, lenet_digits):
        built = experiment.build(experiment.get_config())
        (tmp_path / built.name).mkdir()
        workdirs.claim(tmp_path / built.name, built)
    assert configs.build_from(tmp_path / "alexnet_imagenet").picture_shape == (256, 256, 3)
    assert configs.build_from(tmp_path / "alexnet_imagenet", stored_size=352).picture_shape == (352, 352, 3)
    with pytest.raises(UserError, match=r"lenet_digits holds a run of lenet_digits, which has no config\.stored_size"):
        configs.build_from(tmp_path / "lenet_digits", stored_size=352)


def test_a_folder_must_hold_a_run_of_the_task(saved, tmp_path):
    assert configs.run_of_task(saved, Classification, "config.judge", "classifier").seed == 9
    series = lesson_depth.build(lesson_depth.get_config())
    (tmp_path / "series").mkdir()
    workdirs.claim(tmp_path / "series", series)
    for folder, task in ((saved, Detection), (tmp_path / "series", Classification), (tmp_path / "none", Detection)):
        with pytest.raises(UserError) as error:
            configs.run_of_task(folder, task, "config.field", "such run")
        said = f"config.field is {folder}, which holds no such run: name the workdir of a trained one"
        assert str(error.value) == said
    workdirs.claim(tmp_path / "series" / "plain_8", series.members["plain_8"])
    member = configs.run_of_task(tmp_path / "series" / "plain_8", Classification, "config.judge", "classifier")
    assert member.config["member"] == "plain_8"


def test_what_is_no_fault_of_the_programs_is_a_line(capsys):
    def full():
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 GiB.")

    def piped():
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    def wrong():
        raise RuntimeError("INTERNAL: something else")

    assert configs.exit_code(full, debug=False) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: the device has too little memory: lower config.batch_size")
    assert len(said.splitlines()) == 1
    assert configs.exit_code(piped, debug=False) == 141
    for function, debug in ((wrong, False), (full, True)):
        with pytest.raises(RuntimeError):
            configs.exit_code(function, debug=debug)


def test_fields_beside_several_workdirs_are_those_of_the_mode():
    known = flags.FlagValues()
    for name in ("experiment", "workdir", "input"):
        flags.DEFINE_string(name, None, "", flag_values=known)
    known(["launch.py", "--input=a.png"])
    options = configs.options_of("eval", several=True)
    given = ["--config.eval.crops=144", "--config.stored_size=352", "--config.seed=1"]
    assert configs.beside_workdirs(known, given, options) == ["--input", "--config.seed=1"]


def test_plain_is_what_json_gives_back():
    config = lenet_folder.get_config()
    config.classes = ("a",)
    assert configs.plain(config)["classes"] == ["a"]


@pytest.mark.parametrize("name", configs.names())
def test_no_modes_options_hide_an_experiments_fields(name):
    fields = set(configs.load(name).get_config())
    for mode in ("eval", "inspect", "predict"):
        assert not fields & set(configs.options_of(mode)), mode
