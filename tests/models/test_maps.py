"""Networks that return maps: the layers' own outputs, the rest of the network left out, unknown names refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.errors import UserError
from cnnlab.models.alexnet import AlexNet
from cnnlab.models.googlenet import GoogLeNet
from cnnlab.models.resnet import ResNet
from cnnlab.models.vgg import VGG
from cnnlab.models.zfnet import ZFNet

NETS = {
    "resnet": (
        ResNet(18, width=8, maps=("conv2", "conv4")),
        64,
        {"conv2": (16, 16, 8), "conv4": (4, 4, 32)},
        "conv5_1",
    ),
    "vgg": (VGG("A", maps=("pool3", "conv5_2")), 64, {"pool3": (8, 8, 256), "conv5_2": (4, 4, 512)}, "fc6"),
    "alexnet": (AlexNet(maps=("fc7", "conv3")), 227, {"fc7": (4096,), "conv3": (13, 13, 384)}, "fc8"),
    "googlenet": (
        GoogLeNet(maps=("pool3", "inception4e")),
        112,
        {"pool3": (7, 7, 480), "inception4e": (7, 7, 832)},
        "inception5a",
    ),
    "zf": (ZFNet(maps=("conv5",)), 224, {"conv5": (13, 13, 256)}, "fc6"),
}


@pytest.mark.parametrize("name", NETS)
def test_shapes_and_what_is_left_out(name):
    model, size, expected, absent = NETS[name]
    x = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    found, variables = jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x), x)
    assert {name: leaf.shape[1:] for name, leaf in found.items()} == expected
    assert absent not in variables["params"]
    whole = jax.eval_shape(model.clone(maps=()).init, jax.random.key(0), x)["params"]
    assert set(variables["params"]) < set(whole)


def test_the_maps_are_the_layers_outputs():
    model = ResNet(18, width=8, maps=("conv2", "conv3"))
    x = jax.random.normal(jax.random.key(1), (1, 32, 32, 3))
    variables = jax.jit(model.init)(jax.random.key(0), x)
    found, seen = model.apply(variables, x, capture_intermediates=True, mutable=["intermediates"])
    outputs = seen["intermediates"]
    assert np.array_equal(found["conv2"], outputs["conv2_2"]["__call__"][0])
    assert np.array_equal(found["conv3"], outputs["conv3_2"]["__call__"][0])


@pytest.mark.parametrize("name", NETS)
def test_an_unknown_map(name):
    model = NETS[name][0].clone(maps=("conv9",))
    with pytest.raises(UserError, match=r"has no map 'conv9'"):
        jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 227, 227, 3), jnp.float32))
