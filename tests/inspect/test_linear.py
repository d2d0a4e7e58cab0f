"""Features of layers, and what a linear classifier makes of them."""

import jax
import numpy as np
import pytest

from cnnlab import configs, loop
from cnnlab.errors import UserError
from cnnlab.inspect import linear
from cnnlab.inspect.subject import Subject
from cnnlab.models.resnet_cifar import ResNetCifar
from tests.small import small_experiment

MODEL = ResNetCifar(depth=8)
X = jax.random.normal(jax.random.key(0), (3, 8, 8, 3))
VARIABLES = MODEL.init(jax.random.key(1), X)


def test_maps_are_averaged_over_their_places():
    found = linear.layer_features(MODEL, VARIABLES, X)
    assert list(found) == ["conv1", "bn1", "conv2_1", "conv3_1", "conv4_1", "fc"]
    assert found["conv3_1"].shape == (3, 32)
    kernel = VARIABLES["params"]["fc"]
    np.testing.assert_allclose(found["fc"], found["conv4_1"] @ kernel["kernel"] + kernel["bias"], rtol=1e-4)
    np.testing.assert_allclose(found["fc"], MODEL.apply(VARIABLES, X), rtol=1e-5)


def test_a_layer_within_a_block():
    found = linear.layer_features(MODEL, VARIABLES, X, ("conv2_1/conv1",))
    assert {name: x.shape for name, x in found.items()} == {"conv2_1/conv1": (3, 16)}
    with pytest.raises(UserError, match=r"there is no layer 'conv9'.*there are "):
        linear.layer_features(MODEL, VARIABLES, X, ("conv9",))


def test_one_class_is_nothing_to_learn():
    with pytest.raises(UserError, match=r"from 3 training pictures of one class only: add to config\.examples"):
        linear.linear_error(np.eye(3), np.full(3, 4), np.eye(3), np.arange(3))


def test_standardised_features_of_any_scale():
    x = np.array([[0, 1e6], [0, 1.1e6], [1e-6, 1e6], [1e-6, 1.1e6]], np.float32)
    assert linear.linear_error(x, np.array([0, 0, 1, 1]), x, np.array([0, 0, 1, 1])) == 0.0


def test_each_layer_has_its_bar():
    drawn = linear.figure({"conv1": 0.5, "fc": 0.25}, 1234)
    axes = drawn.axes[0]
    assert [patch.get_width() for patch in axes.patches] == [50, 25]
    assert "1,234 examples" in axes.get_title()


def test_as_many_examples_as_are_asked_for_but_not_too_many(monkeypatch):
    experiment = small_experiment()
    state, counts = loop.fresh_state(experiment), []
    monkeypatch.setattr(linear, "MOST", 50)
    monkeypatch.setattr(linear, "linear_error", lambda *sets: counts.append([len(each) for each in sets]) or 0.5)
    for examples in (20, 60):
        options = configs.options_of("inspect")
        options.update(layers="F6", examples=examples)
        drawn = linear.draw(Subject(experiment, lambda: state), options)["linear"]
        assert f"{min(examples, 50)} examples" in drawn.axes[0].get_title()
    assert counts == [[20] * 4, [50] * 4]
