"""--config.inspect=invariance: what it measures of a network, and its options."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cnnlab import configs, loop
from cnnlab.data.source import ArraySource
from cnnlab.errors import UserError
from cnnlab.inspect import invariance
from cnnlab.inspect.equivariance import Movement
from cnnlab.inspect.invariance import movements
from cnnlab.inspect.subject import Subject
from experiments import lenet_digits


def options_with(**fields):
    options = configs.options_of("inspect")
    options.examples = 7
    options.invariance.update({"shifts": "4", "angles": "", "scales": "", **fields})
    return options


@pytest.fixture(scope="module")
def subject():
    """LeNet with its first weights, on digits of which it is always right, in batches that 7 examples do not fill."""
    config = lenet_digits.get_config()
    config.variant = "modern"
    experiment = dataclasses.replace(lenet_digits.build(config), eval_batch_size=4)
    state, source = loop.fresh_state(experiment), experiment.test_data()
    own = Subject(experiment, lambda: state)
    images = source.arrays["image"][::50]
    labels = np.asarray(jnp.argmax(own.logits(jnp.asarray(images)), -1), np.int32)
    test = ArraySource({"image": images, "label": labels}, source.class_names)
    return Subject(dataclasses.replace(experiment, test_data=lambda: test), lambda: state, count=2)


def measured(subject, monkeypatch, options):
    """What `draw` finds, and its figures."""
    kept = {}
    whole = invariance.measure
    monkeypatch.setattr(invariance, "measure", lambda *given: kept.setdefault("found", whole(*given)))
    drawn = invariance.draw(subject, options)
    return kept["found"], drawn


def test_what_a_shift_does_to_lenet(subject, monkeypatch, capsys):
    (rest, shift), drawn = measured(subject, monkeypatch, options_with())
    assert set(drawn) == {"invariance", "equivariance"}
    assert list(shift.errors["equivariance"]) == ["C1", "S2", "C3", "S4"]
    assert list(shift.errors["invariance"]) == ["C1", "S2", "C3", "S4", "C5", "F6", "output", "logits"]
    assert max(shift.errors["equivariance"].values()) < 1e-4  # by 4 pixels, the product of the strides
    assert min(shift.errors["invariance"].values()) > 0.2
    assert rest.accuracy == 1 > shift.accuracy
    assert max(max(errors.values()) for errors in rest.errors.values()) < 1e-4
    # Against all seven pictures at once, moved by hand: right, down, left, up, right, down, left.
    batch = next(dataclasses.replace(subject, experiment=in_one_batch(subject)).examples(7))
    x = np.asarray(subject.experiment.task.preprocess(jnp.asarray(batch["image"])))
    ways = [(0, 4), (4, 0), (0, -4), (-4, 0)]
    moved = np.stack([edged(picture, ways[i % 4]) for i, picture in enumerate(x)])
    before, after = (
        np.asarray(subject.model.apply(subject.variables, jnp.asarray(given), train=False), np.float64)
        for given in (x, moved)
    )
    assert shift.accuracy == pytest.approx(np.mean(after.argmax(-1) == batch["label"]))
    error = math.sqrt(np.sum((after - before) ** 2) / np.sum((before - before.mean(0)) ** 2))
    assert shift.errors["invariance"]["logits"] == pytest.approx(error, rel=1e-4)
    assert shift.errors["invariance"]["output"] == pytest.approx(error, rel=1e-4)
    said = capsys.readouterr().out
    assert "lenet_digits: 7 test examples, the input of 32×32 moved" in said
    assert "shift, pixels            0       4\naccuracy" in said


def in_one_batch(subject):
    return dataclasses.replace(subject.experiment, eval_batch_size=7)


def edged(picture, by):
    """A picture moved down and right, continued by its outermost pixels."""
    wide = np.pad(picture, ((8, 8), (8, 8), (0, 0)), mode="edge")
    return wide[8 - by[0] : 40 - by[0], 8 - by[1] : 40 - by[1]]


def test_named_layers_only(subject, monkeypatch):
    options = options_with(shifts="", angles="90")
    options.layers = "S4,F6"
    (_, turn), _ = measured(subject, monkeypatch, options)
    assert list(turn.errors["equivariance"]) == ["S4"]
    assert list(turn.errors["invariance"]) == ["S4", "F6", "logits"]


def test_the_users_own_pictures(subject, monkeypatch, tmp_path):
    files = []
    for i, picture in enumerate(subject.pictures):
        files.append(tmp_path / f"{i}.png")
        Image.fromarray(picture[..., 0]).save(files[-1])
    own = dataclasses.replace(subject, files=tuple(files))
    (rest, _), drawn = measured(own, monkeypatch, options_with())
    assert rest.accuracy == 1  # of the predicted classes
    assert drawn["invariance"].axes[0].get_ylabel() == "pictures that keep their class, %"
    with pytest.raises(UserError, match="it needs two or more"):
        invariance.draw(dataclasses.replace(subject, files=tuple(files[:1])), options_with())


def test_which_movements():
    wanted = movements(options_with(shifts="auto", angles="30,10", scales="2,0.5").invariance, (32, 64))
    assert [movement.size for movement in wanted if movement.kind == "shift"] == [0, 1, 2, 3, 4, 5, 6, 8]
    assert [movement.size for movement in wanted if movement.kind == "rotation"] == [0, 10, 30]
    assert [movement.size for movement in wanted if movement.kind == "scale"] == [0.5, 1, 2]
    assert movements(options_with(shifts="2.5").invariance, (8, 8)) == [Movement("shift", 0), Movement("shift", 2.5)]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"shifts": "4,x"}, r'config\.invariance\.shifts is "4,x"; it must be numbers from 0 to 32, with commas'),
        ({"shifts": "33"}, r'config\.invariance\.shifts is "33"; it must be numbers from 0 to 32'),
        ({"angles": "nan"}, r'config\.invariance\.angles is "nan"; it must be numbers from 0 to 180'),
        ({"scales": "0"}, r'config\.invariance\.scales is "0"; it must be numbers from 0\.1 to 10'),
        ({"shifts": ""}, r"shifts, \.angles and \.scales are all empty: one must name a movement"),
        ({"border": 0.5}, r"config\.invariance\.border is 0\.5; it must be from 0 to under 0\.5"),
    ],
)
def test_what_cannot_be(subject, fields, said):
    with pytest.raises(UserError, match=said):
        invariance.draw(subject, options_with(**fields))


def test_unknown_layers_and_a_single_example(subject):
    options = options_with()
    options.layers = "S5"
    with pytest.raises(UserError, match=r"there is no layer 'S5'; did you mean S4"):
        invariance.draw(subject, options)
    options = options_with()
    options.examples = 1
    with pytest.raises(UserError, match="it needs two or more"):
        invariance.draw(subject, options)


def test_many_layers_become_a_heat_map(subject, monkeypatch):
    monkeypatch.setattr(invariance, "CURVES", 3)
    _, drawn = measured(subject, monkeypatch, options_with())
    assert drawn["equivariance"].axes[0].images


def test_a_network_without_maps(monkeypatch):
    """A perceptron: nothing moves along, as nothing has a place."""
    config = configs.load("lesson_vanishing_gradients").get_config()
    config.update(member="relu_2", units=5)
    experiment = configs.load("lesson_vanishing_gradients").build(config)
    state = loop.fresh_state(experiment)
    (_, shift), drawn = measured(Subject(experiment, lambda: state, count=2), monkeypatch, options_with(shifts="1"))
    assert shift.errors["equivariance"] == {}
    assert len(drawn["equivariance"].axes) == 1
