"""Layers from outside: their outputs, what is added to them, and the names of what there is not."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.errors import UserError
from cnnlab.inspect.layers import check_channels, class_number, maps_of, run, shapes
from cnnlab.models.lenet import LeNet
from cnnlab.models.resnet_cifar import ResNetCifar
from tests.small import random_array

MODEL = ResNetCifar(depth=14)
X = random_array((2, 8, 8, 3))
VARIABLES = MODEL.init(jax.random.key(0), X)


class Twice(nn.Module):
    @nn.compact
    def __call__(self, x):
        dense = nn.Dense(1, use_bias=False, kernel_init=nn.initializers.constant(2.0), name="dense")
        return dense(dense(x))


def test_every_layer_is_found_in_order():
    logits, found = run(MODEL, VARIABLES, X)
    np.testing.assert_array_equal(logits, MODEL.apply(VARIABLES, X, train=False))
    names = list(found)
    assert names[:4] == ["conv1", "bn1", "conv2_1/conv1", "conv2_1/bn1"]
    assert names.index("conv2_1/bn2") < names.index("conv2_1") < names.index("conv2_2")
    np.testing.assert_array_equal(found["fc"], logits)
    kernel = VARIABLES["params"]["conv1"]["kernel"]
    expected = jax.lax.conv_general_dilated(X, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    np.testing.assert_allclose(found["conv1"], expected, atol=1e-5)


def test_shapes_without_computing():
    found = shapes(MODEL, jax.eval_shape(lambda: VARIABLES), jax.ShapeDtypeStruct(X.shape, X.dtype))
    assert list(found) == list(run(MODEL, VARIABLES, X)[1])
    assert found["conv3_1"] == (2, 4, 4, 32)


def test_what_is_added_goes_on_through_the_network():
    model, x = LeNet(variant="modern"), random_array((1, 32, 32, 1))
    variables = model.init(jax.random.key(0), x)
    plain, found = run(model, variables, x)
    more, changed = run(model, variables, x, {"output": jnp.full((1, 10), 2.0)})
    np.testing.assert_allclose(more, plain + 2, atol=1e-6)
    np.testing.assert_allclose(changed["output"], found["output"] + 2, atol=1e-6)
    gradient = jax.grad(lambda z: run(model, variables, x, {"F6": z})[0][0, 3])(jnp.zeros((1, 84)))
    kernel = variables["params"]["output"]["kernel"][:, 3]
    np.testing.assert_allclose(gradient[0], jnp.where(found["F6"][0] > 0, kernel, 0), atol=1e-6)
    with pytest.raises(UserError, match="there is no layer 'F7'; did you mean F6"):
        run(model, variables, x, {"F7": jnp.zeros(84)})


def test_of_a_layer_that_runs_twice_the_last_output():
    variables = Twice().init(jax.random.key(0), jnp.ones((1, 1)))
    assert run(Twice(), variables, jnp.ones((1, 1)))[1]["dense"].tolist() == [[4.0]]


def test_maps_channels_and_classes_that_are_not_there():
    found = shapes(MODEL, VARIABLES, X)
    assert list(maps_of(found, ()))[:3] == ["conv1", "bn1", "conv2_1"]
    assert maps_of(found, ("conv2_1/conv2",)) == {"conv2_1/conv2": (2, 8, 8, 16)}
    with pytest.raises(UserError, match=r"layer fc gives \(2, 10\), no feature maps"):
        maps_of(found, ("fc",))
    with pytest.raises(UserError, match="there is no layer 'conv7'"):
        maps_of(found, ("conv7",))
    check_channels("conv1", [0, 15], found["conv1"])
    with pytest.raises(UserError, match="layer conv1 has no channel 16: it has 0 to 15"):
        check_channels("conv1", [16], found["conv1"])
    with pytest.raises(UserError, match="there is no class 'dgo'; did you mean dog"):
        class_number("dgo", ("cat", "dog"))
    with pytest.raises(UserError, match=r"there is no class '2'.*numbers 0 to 1"):
        class_number("2", ("cat", "dog"))
