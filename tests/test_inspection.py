"""What --mode=inspect opens up, and what it draws."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cnnlab import configs, inspection, loop
from cnnlab.data.source import ArraySource
from cnnlab.errors import UserError
from cnnlab.inspect import augment
from cnnlab.inspect.subject import Subject
from experiments import faster_rcnn_shapes, lenet_digits
from tests.small import same, small_experiment, tiny_resnet


def untrained(**config):
    """A subject without a trained state: asking for it fails."""

    def never():
        raise AssertionError("this figure needs no trained state")

    values = lenet_digits.get_config()
    values.update(config)
    return Subject(lenet_digits.build(values), never)


def options(**fields):
    found = configs.options_of("inspect")
    found.update(fields)
    return found


def test_the_experiments_own_augmentation_comes_first(monkeypatch):
    monkeypatch.setattr(augment, "examples", lambda batch: {})
    drawn = augment.draw(untrained(distort=True), options())["augment"]
    assert [axes.get_title(loc="left") for axes in drawn.axes] == ["lenet_digits's own"] + [""] * 6


def test_it_is_written_into_the_workdir(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(augment, "examples", lambda batch: {})
    inspection.inspect_and_save(untrained(distort=True), tmp_path, options())
    with Image.open(tmp_path / "figures" / "augment.png") as drawn:
        assert drawn.width > 100
    assert "augment.png" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"no --config\.inspect=agment; did you mean augment"):
        inspection.inspect_and_save(untrained(), tmp_path, options(inspect="agment"))


def test_numbers_of_pictures_are_positive(tmp_path):
    experiment = small_experiment()
    for field in ("pictures", "examples"):
        with pytest.raises(UserError, match=r"config\.pictures and config\.examples must be positive"):
            inspection.inspect(experiment, tmp_path, "latest", None, options(**{field: 0}))


def test_the_pictures_are_some_of_the_test_set():
    subject = untrained()
    assert subject.pictures.shape == (6, 28, 28, 1)
    assert subject.titles == [subject.class_names[label] for label in subject.labels]
    assert len(np.concatenate([batch["index"] for batch in subject.examples(40)])) == 40
    shown = subject.shown(subject.x)
    assert shown.shape == (6, 32, 32, 1)
    np.testing.assert_allclose(shown[:, 2:30, 2:30], subject.pictures / 255, atol=1e-6)
    assert not shown[:, :2].any()  # the padding is black


def test_pictures_that_cannot_be_read_are_left_out():
    arrays = {"image": np.arange(8, dtype=np.uint8).reshape(8, 1, 1, 1), "label": np.zeros(8, np.int32)}
    arrays["mask"] = np.array([1, 0, 1, 1, 1, 1, 0, 1], np.float32)
    few = dataclasses.replace(small_experiment(), test_data=lambda: ArraySource(arrays, ("a",)), eval_batch_size=4)
    subject = Subject(few, lambda: None, count=8)
    first, second = subject.examples(8)
    assert [first["index"].tolist(), second["index"].tolist()] == [[0, 2, 3], [4, 5, 7]]
    assert first["image"].ravel().tolist() == subject.pictures.ravel().tolist()[:3] == [0, 2, 3]
    assert set(first) == {"index", "image", "label"}


def test_published_weights_are_opened_up_before_a_head_is_trained(tmp_path):
    loop.train(tiny_resnet(), tmp_path / "a")
    learnt = tiny_resnet(init_from=str(tmp_path / "a"), replace_head=True)
    opened = inspection.subject_of(learnt, tmp_path / "b").state
    assert same(opened.params["conv1"], loop.restored_state(tiny_resnet(), tmp_path / "a").params["conv1"])
    with pytest.raises(UserError, match="holds no trained state"):
        loop.restored_state(learnt, tmp_path / "b")


def test_or_files_of_the_users(tmp_path):
    Image.fromarray(np.full((28, 28), 51, np.uint8)).save(tmp_path / "mine.png")
    experiment = small_experiment()
    loop.train(experiment, tmp_path / "run")
    subject = inspection.subject_of(experiment, tmp_path / "run", files=(tmp_path / "mine.png",))
    assert subject.titles == ["mine.png"]
    assert (subject.pictures == 51).all()
    stored = jnp.asarray(subject.pictures)
    assert subject.labels == [np.argmax(subject.logits(stored))]
    # A float may stand for a stored picture, and other runs are opened on the same pictures.
    np.testing.assert_array_equal(subject.logits(stored.astype(jnp.float32)), subject.logits(stored))
    assert subject.open_run(str(tmp_path / "run")).titles == ["mine.png"]


def test_deeper_layers_tell_more(tmp_path, capsys):
    small = small_experiment(steps=60, eval_every=60)
    loop.train(small, tmp_path)
    subject = inspection.subject_of(small, tmp_path)
    inspection.inspect_and_save(subject, tmp_path, options(inspect="linear"))
    lines = capsys.readouterr().out.splitlines()
    errors = {line.split()[0]: float(line.split()[-1].rstrip("%")) for line in lines if "features" in line}
    assert list(errors) == ["C1", "S2", "C3", "S4", "C5", "F6", "output"]
    assert errors["F6"] < 10 < errors["C1"]
    assert (tmp_path / "figures" / "linear.png").exists()
    with pytest.raises(UserError, match=r"there is no layer 'F9'.*: there are C1, "):
        inspection.inspect_and_save(subject, tmp_path, options(inspect="linear", layers="F9"))


def test_of_a_detector_only_augmentation_is_drawn(tmp_path):
    config = faster_rcnn_shapes.get_config()
    config.update(shorter=64, longer=64, batch_size=2, eval_batch_size=2)
    subject = inspection.subject_of(faster_rcnn_shapes.build(config), tmp_path)
    with pytest.raises(UserError, match="gradients is for classifiers; faster_rcnn_shapes takes augment"):
        inspection.inspect_and_save(subject, tmp_path, options(inspect="gradients"))
