"""ResNets for CIFAR: parameters by depth, maps, the shortcut, and batch statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.errors import UserError
from cnnlab.models.resnet_cifar import ResNetCifar, shortcut_a
from tests.small import count, shapes

COUNTS = {20: 269_722, 32: 464_154, 44: 658_586, 56: 853_018, 110: 1_727_962}


@pytest.mark.parametrize("depth", COUNTS)
@pytest.mark.parametrize("plain", [False, True])
def test_parameters(depth, plain):
    assert count(shapes(ResNetCifar(depth, plain=plain), 32)[0]["params"]) == COUNTS[depth]


def test_parameters_of_1202_layers():
    x = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    variables = jax.eval_shape(lambda x: ResNetCifar(1202).init(jax.random.key(0), x), x)
    assert count(variables["params"]) == 19_421_274


def test_maps():
    _, maps = shapes(ResNetCifar(20), 32)
    assert maps["conv1"][1:] == (32, 32, 16)
    assert maps["fc"] == (1, 10)


def test_shortcut_a():
    x = np.arange(2 * 5 * 5 * 3, dtype=np.float32).reshape(2, 5, 5, 3)
    y = np.asarray(shortcut_a(jnp.array(x), 6, 2))
    assert y.shape == (2, 3, 3, 6)
    assert np.array_equal(y[..., :3], x[:, ::2, ::2])
    assert (y[..., 3:] == 0).all()


@pytest.fixture(scope="module")
def small():
    model = ResNetCifar(8, num_classes=4)
    x = jax.random.normal(jax.random.key(0), (4, 8, 8, 3))
    return model, model.init(jax.random.key(1), x), x


def test_a_block_whose_branch_is_nothing_is_its_shortcut(small):
    model, variables, x = small
    params = {**variables["params"], "conv2_1": jax.tree.map(jnp.zeros_like, variables["params"]["conv2_1"])}

    def through(model):
        given = {**variables, "params": params}
        _, found = model.apply(given, x, capture_intermediates=True, mutable=["intermediates"])
        layers = found["intermediates"]
        return nn_relu(layers["bn1"]["__call__"][0]), layers["conv2_1"]["__call__"][0]

    def nn_relu(x):
        return np.maximum(np.asarray(x), 0)

    before, after = through(model)
    assert np.array_equal(before, after)
    _, after = through(ResNetCifar(8, plain=True, num_classes=4))
    assert (np.asarray(after) == 0).all()


def test_statistics_move_in_training_only(small):
    model, variables, x = small
    _, trained = model.apply(variables, x, train=True, mutable=["batch_stats"])
    _, evaluated = model.apply(variables, x, mutable=["batch_stats"])
    moved = jax.tree.map(np.array_equal, trained["batch_stats"], variables["batch_stats"])
    same = jax.tree.map(np.array_equal, evaluated["batch_stats"], variables["batch_stats"])
    assert not any(jax.tree.leaves(moved))
    assert all(jax.tree.leaves(same))


@pytest.mark.parametrize(("depth", "named"), [(21, "20 or 26"), (2, "8 or 14"), (110 + 3, "110 or 116")])
def test_the_depth_must_be_6n_and_2(depth, named):
    with pytest.raises(UserError, match=f"must be 6n \\+ 2, for example {named}"):
        shapes(ResNetCifar(depth), 32)
