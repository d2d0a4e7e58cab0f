"""Explanations by gradients: by hand on small networks, by their axioms on larger ones, and as a figure."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab import configs
from cnnlab.errors import UserError
from cnnlab.inspect import gradients
from cnnlab.inspect.gradients import (
    class_scores,
    draw,
    grad_cam,
    gradient,
    guided_backpropagation,
    integrated_gradients,
    saliency,
)
from cnnlab.inspect.subject import Subject
from cnnlab.models.lenet import LeNet
from cnnlab.models.resnet_cifar import ResNetCifar
from cnnlab.ops.activations import relu
from cnnlab.ops.conv import Conv
from cnnlab.ops.pooling import MaxPool
from tests.small import random_array, small_experiment

LABELS = jnp.array([1, 0, 3])


class Linear(nn.Module):
    @nn.compact
    def __call__(self, x, *, train=False):
        return nn.Dense(4, name="fc")(x.reshape(len(x), -1))


class Hidden(nn.Module):
    @nn.compact
    def __call__(self, x, *, train=False):
        return nn.Dense(4, name="fc2")(relu(nn.Dense(9, name="fc1")(x.reshape(len(x), -1))))


class Averaged(nn.Module):
    """A convolution, maybe pooled, its maps' means, a linear layer: where Grad-CAM can be told by hand."""

    pooled: bool = False

    @nn.compact
    def __call__(self, x, *, train=False):
        x = Conv(3, 3, padding=1, name="conv")(x)
        if self.pooled:
            x = MaxPool(2, 2, name="pool")(x)
        return nn.Dense(4, name="fc")(jnp.mean(x, (1, 2)))


def initial(model, x):
    return model.init(jax.random.key(1), x)


def subject(**fields):
    small = small_experiment()
    state = small.task.init(jax.random.key(0), {"image": jnp.zeros((1, *small.picture_shape), jnp.uint8)})
    return Subject(small, lambda: state, **fields)


def options(**fields):
    found = configs.options_of("inspect")
    found.update(fields)
    return found


def test_of_a_linear_network_its_weights():
    x = random_array((3, 4, 4, 2))
    variables = initial(Linear(), x)
    weights = variables["params"]["fc"]["kernel"].T.reshape(4, 4, 4, 2)[LABELS]
    np.testing.assert_allclose(gradient(Linear(), variables, x, LABELS), weights, atol=1e-6)
    np.testing.assert_allclose(saliency(Linear(), variables, x, LABELS), np.abs(weights).max(-1), atol=1e-6)
    baseline = jnp.full((1, 4, 4, 2), -0.5)
    found = integrated_gradients(Linear(), variables, x, LABELS, baseline, steps=3)
    np.testing.assert_allclose(found, weights * (x + 0.5), atol=1e-5)


def test_guided_backpropagation_lets_positive_gradients_through_active_units():
    x = random_array((3, 4, 4, 2))
    variables = initial(Hidden(), x)
    first, second = (np.asarray(variables["params"][name]["kernel"]) for name in ("fc1", "fc2"))
    active = np.asarray(x).reshape(3, -1) @ first > 0
    back = second.T[LABELS]
    plain = ((back * active) @ first.T).reshape(x.shape)
    guided = ((np.maximum(back, 0) * active) @ first.T).reshape(x.shape)
    assert np.abs(plain - guided).max() > 0.1
    # In this order: what was traced with the gradient must not come again under the other rule, or the reverse.
    np.testing.assert_allclose(gradient(Hidden(), variables, x, LABELS), plain, atol=1e-5)
    np.testing.assert_allclose(guided_backpropagation(Hidden(), variables, x, LABELS), guided, atol=1e-5)
    np.testing.assert_allclose(gradient(Hidden(), variables, 2 * x, LABELS), plain, atol=1e-5)


def test_integrated_gradients_are_complete():
    model, x = LeNet(variant="modern"), random_array((3, 32, 32, 1))
    variables, baseline = initial(model, x), jnp.full((1, 32, 32, 1), -1.0)
    found = integrated_gradients(model, variables, x, LABELS, baseline, steps=100)
    blank = class_scores(model, variables, jnp.repeat(baseline, 3, 0), LABELS)
    differences = class_scores(model, variables, x, LABELS) - blank
    assert jnp.abs(differences).max() > 0.05
    np.testing.assert_allclose(found.sum((1, 2, 3)), differences, atol=0.01)  # of sums over 100 steps


def test_integrated_gradients_in_parts(monkeypatch):
    x, baseline = random_array((3, 4, 4, 2)), jnp.zeros((1, 4, 4, 2))
    variables = initial(Hidden(), x)
    whole = integrated_gradients(Hidden(), variables, x, LABELS, baseline, steps=5)  # 16 // 3 at once: all
    monkeypatch.setattr(gradients, "TOGETHER", 7)  # two, two and one
    parts = integrated_gradients(Hidden(), variables, x, LABELS, baseline, steps=5)
    np.testing.assert_allclose(parts, whole, atol=1e-6)
    shares = (np.arange(5) + 0.5) / 5
    slopes = [np.asarray(gradient(Hidden(), variables, share * x, LABELS)) for share in shares]
    np.testing.assert_allclose(whole, x * np.mean(slopes, 0), atol=1e-6)


def test_grad_cam_by_hand():
    x = random_array((3, 4, 4, 2))
    variables = initial(Averaged(), x)
    params = variables["params"]
    maps = jax.lax.conv_general_dilated(
        x, params["conv"]["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    weights = params["fc"]["kernel"].T[LABELS]
    weighted = jnp.einsum("nhwk,nk->nhw", maps, weights) / 16  # the mean over 4×4 places passes on a sixteenth
    assert (weighted < 0).any()
    found = grad_cam(Averaged(), variables, x, LABELS, "conv")
    np.testing.assert_allclose(found, jnp.maximum(weighted, 0), atol=1e-6)
    with pytest.raises(UserError, match="layer fc gives"):
        grad_cam(Averaged(), variables, x, LABELS, "fc")


def test_grad_cam_is_enlarged_to_the_input():
    x = random_array((3, 4, 4, 2))
    variables = initial(Averaged(pooled=True), x)
    _, pooled = Averaged(pooled=True).apply(variables, x, capture_intermediates=True)
    maps = pooled["intermediates"]["pool"]["__call__"][0]
    weighted = jnp.einsum("nhwk,nk->nhw", maps, variables["params"]["fc"]["kernel"].T[LABELS]) / 4
    small = np.maximum(np.asarray(weighted), 0)
    found = np.asarray(grad_cam(Averaged(pooled=True), variables, x, LABELS, "pool"))
    assert found.shape == (3, 4, 4)
    # Linear between the middles of the coarse pixels: the corners lie beyond, and take the nearest value.
    np.testing.assert_allclose(found[:, ::3, ::3], small, atol=1e-6)
    np.testing.assert_allclose(found[:, 0, 1], 0.75 * small[:, 0, 0] + 0.25 * small[:, 0, 1], atol=1e-6)


def test_each_picture_by_itself_on_any_network():
    model, x = ResNetCifar(depth=8), random_array((3, 8, 8, 3))
    variables = initial(model, x)
    for function in (
        lambda x, labels: saliency(model, variables, x, labels),
        lambda x, labels: guided_backpropagation(model, variables, x, labels),
        lambda x, labels: grad_cam(model, variables, x, labels, "conv3_1"),
    ):
        # Backwards, each picture has other neighbours and the same result.
        np.testing.assert_allclose(function(x, LABELS)[::-1], function(x[::-1], LABELS[::-1]), atol=1e-5)


def test_the_figure_has_a_row_a_picture_and_class():
    opened = subject(count=2)
    drawn = draw(opened, options(gradients={"steps": 4}))["gradients"]
    titles = [axes.get_title() for axes in drawn.axes]
    assert len(titles) == 2 * 5
    names = ["saliency", "guided backpropagation", "integrated gradients from black", "Grad-CAM, S4"]
    assert titles[1:5] == names
    first, second = opened.titles
    assert titles[0].startswith(f"true: {first}\npredicted: ")
    assert f"\nscore of {second}: " in titles[5]
    drawn = draw(subject(count=1), options(gradients={"steps": 4}, labels="3,8", layers="C1,S4"))["gradients"]
    titles = [axes.get_title() for axes in drawn.axes]
    assert len(titles) == 2 * 6
    assert titles[4:6] == ["Grad-CAM, C1", "Grad-CAM, S4"]
    assert [title.partition("score of ")[2][0] for title in titles[::6]] == ["3", "8"]
    assert titles[6].startswith(f"true: {first}\n")


def test_what_is_not_there():
    with pytest.raises(UserError, match="there is no class 'ten'"):
        draw(subject(), options(labels="ten"))
    with pytest.raises(UserError, match="there is no layer 'C7'"):
        draw(subject(), options(layers="C7"))
    with pytest.raises(UserError, match=r"config\.gradients\.steps is 0; it must be positive"):
        draw(subject(), options(gradients={"steps": 0}))
