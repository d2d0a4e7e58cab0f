"""Which function follows which layer."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from cnnlab.inspect.nonlinearities import nonlinearities
from cnnlab.models.ciresan import DeepBigSimpleNet
from cnnlab.models.lenet import LeNet
from cnnlab.models.resnet_cifar import ResNetCifar
from cnnlab.ops.activations import relu, scaled_tanh
from tests.small import random_array


class Several(nn.Module):
    """Layers whose outputs go several ways."""

    @nn.compact
    def __call__(self, x):
        a = nn.Dense(2, name="a")(x)
        b = nn.Dense(2, name="b")(relu(a) + nn.tanh(a))
        c = nn.Dense(2, name="c")(nn.tanh(b) * nn.tanh(b))
        d = nn.Dense(2, name="d")(jnp.maximum(c, 1.0))  # no rectifier
        return nn.Dense(2, name="e")(relu(0.5 * d).reshape(-1, 2))


def found(model, *shape):
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x), x)
    return nonlinearities(model, variables, x)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (relu, ("relu", 1.0)),
        (nn.relu, ("relu", 1.0)),
        (scaled_tanh, ("tanh", pytest.approx(2 / 3))),
        (nn.sigmoid, ("logistic", 1.0)),
        (lambda x: nn.sigmoid(-3.0 * x), ("logistic", -3.0)),
        (nn.leaky_relu, ("", 1.0)),
        (lambda x: x, ("", 1.0)),
    ],
)
def test_each_function(function, expected):
    model = nn.Sequential([nn.Dense(2), function, nn.Dense(2)])
    assert found(model, 1, 3) == {"layers_0": expected, "layers_2": ("", 1.0)}


def test_all_uses_must_agree():
    assert found(Several(), 1, 2) == {
        "a": ("", 1.0),
        "b": ("tanh", 1.0),
        "c": ("", 1.0),
        "d": ("relu", 0.5),
        "e": ("", 1.0),
    }


def test_of_networks():
    modern = found(LeNet(variant="modern"), 1, 32, 32, 1)
    assert [name for name, (function, _) in modern.items() if function == "relu"] == ["C1", "C3", "C5", "F6"]
    paper = found(LeNet(), 1, 32, 32, 1)
    assert [name for name, (function, _) in paper.items() if function == "tanh"] == ["C1", "S2", "C3", "S4", "C5", "F6"]
    mlp = found(DeepBigSimpleNet(hidden=(3, 3)), 1, 2, 2, 1)
    assert {name: function for name, (function, _) in mlp.items()} == {"h1": "tanh", "h2": "tanh", "output": ""}


def test_a_residual_sum_comes_between():
    resnet = found(ResNetCifar(depth=8), 1, 8, 8, 3)
    rectified = [name for name, (function, _) in resnet.items() if function == "relu"]
    assert rectified == ["bn1", "conv2_1/bn1", "conv3_1/bn1", "conv4_1/bn1"]
    plain = found(ResNetCifar(depth=8, plain=True), 1, 8, 8, 3)
    assert plain["conv2_1/bn2"] == ("relu", 1.0)


def test_within_jit():
    model, x = ResNetCifar(depth=8), random_array((1, 8, 8, 3))
    variables, seen = model.init(jax.random.key(0), x), {}
    jax.jit(lambda variables, x: seen.update(nonlinearities(model, variables, x)))(variables, x)
    assert seen == nonlinearities(model, variables, x)
