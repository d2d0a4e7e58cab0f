"""What --mode=inspect draws."""

import pytest
from PIL import Image

from cnnlab.errors import UserError
from cnnlab.inspect import augment, figures_of
from experiments import lenet_digits


def experiment():
    config = lenet_digits.get_config()
    config.distort = True
    return lenet_digits.build(config)


def test_the_experiments_own_augmentation_comes_first(monkeypatch):
    monkeypatch.setattr(augment, "examples", lambda batch: {})
    drawn = figures_of.augmentations(experiment())
    assert [axes.get_title(loc="left") for axes in drawn.axes] == ["lenet_digits's own"] + [""] * 6


def test_it_is_written_into_the_workdir(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(augment, "examples", lambda batch: {})
    figures_of.inspect_and_save(experiment(), tmp_path, "augment")
    with Image.open(tmp_path / "figures" / "augment.png") as drawn:
        assert drawn.width > 100
    assert "augment.png" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"no --config\.inspect=agment; did you mean augment"):
        figures_of.inspect_and_save(experiment(), tmp_path, "agment")
