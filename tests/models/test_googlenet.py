"""GoogLeNet: parameters of the net and its heads, maps, and what training and evaluation return."""

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.models.googlenet import INCEPTIONS, GoogLeNet, Inception
from tests.small import count, shapes


def test_parameters():
    params = shapes(GoogLeNet())[0]["params"]
    heads = {name: count(layer) for name, layer in params.items() if name.startswith("auxiliary")}
    assert heads == {"auxiliary4a": 3_188_840, "auxiliary4d": 3_190_888}
    assert count(params) - sum(heads.values()) == 6_998_552
    assert count(shapes(GoogLeNet(auxiliary=False))[0]["params"]) == 6_998_552


def test_maps():
    _, maps = shapes(GoogLeNet())
    expected = {"conv1": (112, 112, 64), "pool1": (56, 56, 64), "conv2": (56, 56, 192), "pool2": (28, 28, 192)}
    expected |= {"inception3a": (28, 28, 256), "inception3b": (28, 28, 480), "inception4a": (14, 14, 512)}
    expected |= {"inception4d": (14, 14, 528), "inception4e": (14, 14, 832), "inception5b": (7, 7, 1024)}
    assert {name: maps[name][1:] for name in expected} == expected


def test_a_module_puts_its_branches_side_by_side():
    module = Inception(maps=INCEPTIONS["3a"])
    x = jax.random.normal(jax.random.key(0), (1, 6, 6, 3))
    variables = module.init(jax.random.key(1), x, train=False)
    y, found = module.apply(variables, x, train=False, capture_intermediates=True, mutable=["intermediates"])
    layers = found["intermediates"]
    names = ("1x1", "3x3", "5x5", "pool_proj")
    assert np.array_equal(y, np.concatenate([np.maximum(layers[name]["__call__"][0], 0) for name in names], -1))


def test_heads_speak_in_training_only():
    model = GoogLeNet(num_classes=7)
    x = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x), x)

    def call(train):
        rngs = {"dropout": jax.random.key(0)}
        return jax.eval_shape(lambda v, x: model.apply(v, x, train=train, rngs=rngs), variables, x)

    assert [out.shape for out in call(True)] == [(2, 7)] * 3
    assert call(False).shape == (2, 7)
