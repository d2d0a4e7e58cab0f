"""Several experiments as one: their folders, their figure, and what happens to one that diverges."""

import dataclasses

import pytest
from matplotlib.figure import Figure

from cnnlab import series
from cnnlab.errors import Diverged, UserError
from experiments import lenet_digits
from tests.small import small_experiment

RATES = {"low": 1e-3, "wild": 1e30}


def config_of(member=""):
    config = lenet_digits.get_config()
    config.member = member
    return config


def make(member):
    rate = {"weight_decay": 0.0, "learning_rate": RATES[member]}
    return dataclasses.replace(small_experiment(rate, steps=6), name="lesson", log_every=2)


def draw(rows):
    drawn = Figure()
    drawn.suptitle(
        " ".join(f"{name} {len([r for r in found if r['split'] == 'train'])}" for name, found in rows.items())
    )
    return {"lesson": drawn}


def two(member="", may_diverge=True):
    return series.assemble(config_of(member), "lesson", tuple(RATES), make, draw, may_diverge)


def test_all_run_each_in_its_folder(tmp_path, capsys):
    series.train_and_say(two(), tmp_path, overwrite=False)
    out = capsys.readouterr().out
    assert "lesson 1/2: low" in out
    assert "diverged: the loss is" in out
    assert "lower the learning rate" in out
    assert "low                 : loss" in out
    for file in ("config.json", "figures/lesson.png", "low/config.json", "low/metrics.jsonl", "wild/config.json"):
        assert (tmp_path / file).exists(), file
    # Again: the one that is done stays as it is, the figure is drawn of the same rows.
    before = (tmp_path / "low" / "metrics.jsonl").read_bytes()
    rows = series.train(two(), tmp_path)
    assert (tmp_path / "low" / "metrics.jsonl").read_bytes() == before
    assert [row["step"] for row in rows["low"] if row["split"] == "train"] == [2, 4, 6]
    with pytest.raises(UserError, match=r"holds another run; it differs in .*member"):
        series.train(dataclasses.replace(two(), config={**two().config, "member": "x"}), tmp_path)


def test_where_none_may_diverge_it_ends(tmp_path):
    with pytest.raises(Diverged, match="the loss is"):
        series.train(two(may_diverge=False), tmp_path)


def test_one_member_is_an_experiment_of_its_own():
    low = two("low")
    assert (low.name, low.config["member"]) == ("lesson", "low")
    assert two().members["low"].config == low.config
    with pytest.raises(UserError, match=r"lesson has no member 'lwo'; did you mean low\?"):
        two("lwo")


def test_other_modes_take_one(tmp_path):
    with pytest.raises(UserError, match=r"--mode=eval takes one: .*--config\.member=NAME, NAME being one of low, wild"):
        series.run(two(), "eval", tmp_path, False)
