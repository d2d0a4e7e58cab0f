"""Whose run a workdir holds."""

import dataclasses
import json

import pytest

from cnnlab import workdirs
from cnnlab.errors import UserError
from tests.small import small_experiment


def test_claimed_and_read_back(tmp_path):
    experiment = small_experiment()
    workdirs.claim(tmp_path, experiment)
    assert workdirs.read(tmp_path) == {"experiment": "lenet_digits", "config": experiment.config}
    workdirs.check_same_run(tmp_path, experiment, overwrite=False)


def test_another_configuration_is_refused_and_the_fields_named(tmp_path):
    workdirs.claim(tmp_path, small_experiment())
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    other = small_experiment({"seed": 7, "variant": "paper"})
    with pytest.raises(UserError, match=r"seed: 0 → 7; variant: 'modern' → 'paper'.*--overwrite"):
        workdirs.check_same_run(tmp_path, other, overwrite=False)


def test_a_field_that_came_later_had_its_default(tmp_path):
    run = small_experiment()
    workdirs.claim(tmp_path, run)
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    record = json.loads((tmp_path / "config.json").read_text())
    del record["config"]["seed"]  # 0 by default
    (tmp_path / "config.json").write_text(json.dumps(record))
    workdirs.check_same_run(tmp_path, run, overwrite=False)
    with pytest.raises(UserError, match=r"differs in seed: 0 → 7\."):
        workdirs.check_same_run(tmp_path, small_experiment({"seed": 7}), overwrite=False)
    workdirs.claim(tmp_path, own := dataclasses.replace(run, name="of_a_notebook"))
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match=r"differs in width: None → 3\."):
        workdirs.check_same_run(tmp_path, dataclasses.replace(own, config={**own.config, "width": 3}), overwrite=False)


def test_a_run_that_never_began_is_not_in_the_way(tmp_path):
    workdirs.claim(tmp_path, small_experiment())
    (tmp_path / "metrics.jsonl").touch()
    other = small_experiment({"seed": 7})
    workdirs.check_same_run(tmp_path, other, overwrite=False)
    (tmp_path / "rate_1").mkdir()  # of a series
    (tmp_path / "rate_1" / "config.json").write_text("{}")
    with pytest.raises(UserError, match="holds another run"):
        workdirs.check_same_run(tmp_path, other, overwrite=False)


def test_long_values_are_cut_off_in_the_message(tmp_path):
    words = [f"word{i}" for i in range(1000)]
    run = small_experiment()
    workdirs.claim(tmp_path, dataclasses.replace(run, config={**run.config, "words": words}))
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    other = dataclasses.replace(run, config={**run.config, "words": words[1:], "x": "y" * (workdirs.LONGEST - 2)})
    with pytest.raises(UserError) as error:
        workdirs.check_same_run(tmp_path, other, overwrite=False)
    first, second = repr(words)[: workdirs.LONGEST], repr(words[1:])[: workdirs.LONGEST]
    assert f"words: {first} … → {second} …; x: None → 'yyy" in str(error.value)
    assert "yyy'. Use another" in str(error.value)  # just short enough
    assert len(str(error.value)) < 700


def test_overwriting_deletes_the_run_and_nothing_else(tmp_path):
    workdirs.claim(tmp_path, small_experiment())
    for folder in ("checkpoints", "exported"):
        (tmp_path / folder).mkdir()
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    (tmp_path / "notes.txt").write_text("mine")
    other = small_experiment({"seed": 7})
    workdirs.check_same_run(tmp_path, other, overwrite=True)
    workdirs.claim(tmp_path, other)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "notes.txt"}
    assert json.loads((tmp_path / "config.json").read_text())["config"]["seed"] == 7


def test_overwriting_the_same_run_goes_on_with_it(tmp_path):
    workdirs.claim(tmp_path, small_experiment())
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    workdirs.claim(tmp_path, small_experiment())
    assert (tmp_path / "metrics.jsonl").exists()


@pytest.mark.parametrize("content", ["", "[]", '{"experiment": "x"}'])
def test_a_damaged_config_is_said(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=r"config\.json is damaged"):
        workdirs.read(tmp_path)


def test_no_run(tmp_path):
    assert workdirs.read(tmp_path / "none") is None


def test_two_trainings_do_not_share_a_workdir(tmp_path):
    with (
        workdirs.only_trainer(tmp_path),
        pytest.raises(UserError, match="another process is training in"),
        workdirs.only_trainer(tmp_path),
    ):
        pass
    with workdirs.only_trainer(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_deletion_cut_short_still_says_whose_the_rest_is(tmp_path, monkeypatch):
    workdirs.claim(tmp_path, small_experiment())
    (tmp_path / "checkpoints" / "3").mkdir(parents=True)
    other = small_experiment({"seed": 7})

    def fail(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(workdirs.shutil, "rmtree", fail)
    with pytest.raises(KeyboardInterrupt):
        workdirs.claim(tmp_path, other)
    with pytest.raises(UserError, match="holds another run"):
        workdirs.check_same_run(tmp_path, other, overwrite=False)
