"""The classic net: parameters, maps, the order of its layers, and the smallest picture."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.errors import UserError
from cnnlab.models.classic import ClassicNet
from tests.small import count, random_array, shapes


@pytest.mark.parametrize(("size", "channels", "parameters"), [(32, 3, 69_610), (28, 1, 59_434)])
def test_parameters(size, channels, parameters):
    """Three 3×3 convolutions, and a linear layer, each side a quarter as long by then."""
    x = jax.ShapeDtypeStruct((1, size, size, channels), jnp.float32)
    params = jax.eval_shape(lambda x: ClassicNet().init(jax.random.key(0), x), x)["params"]
    convolutions = (9 * channels + 1) * 32 + (9 * 32 + 1) * 32 + (9 * 32 + 1) * 64
    assert count(params) == parameters == convolutions + ((size // 4) ** 2 * 64 + 1) * 10


def test_maps():
    _, maps = shapes(ClassicNet(maps=(4, 5, 6)), 32)
    expected = {"conv1": (32, 32, 4), "conv2": (32, 32, 5), "pool1": (16, 16, 5), "conv3": (16, 16, 6)}
    expected |= {"pool2": (8, 8, 6), "fc": (10,)}
    assert {name: maps[name][1:] for name in expected} == expected


def test_the_order_of_layers():
    """Each layer's input is the one before, rectified, as in the guide's line."""
    model = ClassicNet(num_classes=3, maps=(2, 3, 4))
    x = random_array((2, 8, 8, 1))
    variables = model.init(jax.random.key(1), x)
    logits, found = model.apply(variables, x, capture_intermediates=True, mutable=["intermediates"])
    out = {name: np.asarray(part["__call__"][0]) for name, part in found["intermediates"].items() if name[0] != "_"}

    def pooled(y):
        n, h, w, c = y.shape
        return np.maximum(y, 0).reshape(n, h // 2, 2, w // 2, 2, c).max((2, 4))

    assert np.array_equal(out["pool1"], pooled(out["conv2"]))
    assert np.array_equal(out["pool2"], pooled(out["conv3"]))
    kernel = np.asarray(variables["params"]["conv2"]["kernel"])
    window = np.maximum(out["conv1"], 0)[0, 2:5, 3:6]
    assert np.allclose(out["conv2"][0, 3, 4], np.einsum("hwc,hwck->k", window, kernel), atol=1e-5)
    flat = out["pool2"].reshape(2, -1)
    assert np.allclose(logits, flat @ np.asarray(variables["params"]["fc"]["kernel"]), atol=1e-5)


def test_gradients_are_finite():
    model = ClassicNet(maps=(2, 3, 4))
    x = random_array((2, 8, 8, 1))
    variables = model.init(jax.random.key(1), x)
    gradients = jax.grad(lambda v: jnp.square(model.apply(v, x, train=True)).sum())(variables)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


def test_a_picture_too_small():
    assert shapes(ClassicNet(), 4)[1]["pool2"] == (1, 1, 1, 64)
    with pytest.raises(UserError, match="too small for layer pool2"):
        shapes(ClassicNet(), 3)
