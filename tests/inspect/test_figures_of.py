"""What --mode=inspect draws."""

import pytest
from PIL import Image

from cnnlab import configs, loop
from cnnlab.errors import UserError
from cnnlab.inspect import augment, figures_of
from experiments import lenet_digits
from tests.small import small_experiment


def experiment():
    config = lenet_digits.get_config()
    config.distort = True
    return lenet_digits.build(config)


def never():
    raise AssertionError("this figure needs no trained state")


def options(**fields):
    found = configs.options_of("inspect")
    found.update(fields)
    return found


def test_the_experiments_own_augmentation_comes_first(monkeypatch):
    monkeypatch.setattr(augment, "examples", lambda batch: {})
    drawn = figures_of.augmentations(experiment(), never, options())
    assert [axes.get_title(loc="left") for axes in drawn.axes] == ["lenet_digits's own"] + [""] * 6


def test_it_is_written_into_the_workdir(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(augment, "examples", lambda batch: {})
    figures_of.inspect_and_save(experiment(), never, tmp_path, options())
    with Image.open(tmp_path / "figures" / "augment.png") as drawn:
        assert drawn.width > 100
    assert "augment.png" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"no --config\.inspect=agment; did you mean augment"):
        figures_of.inspect_and_save(experiment(), never, tmp_path, options(inspect="agment"))


def test_deeper_layers_tell_more(tmp_path, capsys):
    small = small_experiment(steps=60, eval_every=60)
    loop.train(small, tmp_path)
    figures_of.inspect_and_save(
        small, lambda: loop.restored_state(small, tmp_path), tmp_path, options(inspect="linear")
    )
    lines = capsys.readouterr().out.splitlines()
    errors = {line.split()[0]: float(line.split()[-1].rstrip("%")) for line in lines if "features" in line}
    assert list(errors) == ["C1", "S2", "C3", "S4", "C5", "F6", "output"]
    assert errors["F6"] < 10 < errors["C1"]
    assert (tmp_path / "figures" / "linear.png").exists()
    with pytest.raises(UserError, match=r"there is no layer 'F9'.*: there are C1, "):
        figures_of.inspect_and_save(
            small, lambda: loop.initial_state(small), tmp_path, options(inspect="linear", layers="F9")
        )
