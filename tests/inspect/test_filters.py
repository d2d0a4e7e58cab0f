"""Which kernel is the first layer's, in every network, and how its filters look."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab import configs, loop
from cnnlab.errors import UserError
from cnnlab.inspect import filters
from cnnlab.inspect.filters import first_layer_kernel
from cnnlab.inspect.layers import run
from cnnlab.inspect.subject import Subject
from cnnlab.models.alexnet import AlexNet
from cnnlab.models.ciresan import DeepBigSimpleNet
from cnnlab.models.classic import ClassicNet
from cnnlab.models.googlenet import GoogLeNet
from cnnlab.models.inception_v3 import InceptionV3
from cnnlab.models.lenet import LeNet
from cnnlab.models.nin import NiN
from cnnlab.models.resnet import ResNet
from cnnlab.models.resnet_cifar import ResNetCifar
from cnnlab.models.rir import RiR
from cnnlab.models.vgg import VGG
from cnnlab.models.zfnet import ZFNet
from experiments import ciresan_mnist, lenet_digits


@pytest.mark.parametrize("variant", ["paper", "modern"])
def test_lenets_first_layer(variant):
    params = jax.jit(LeNet(variant=variant).init)(jax.random.key(0), jnp.zeros((1, 32, 32, 1)))["params"]
    name, kernel = first_layer_kernel(jax.device_get(params))
    assert name == "C1"
    np.testing.assert_array_equal(kernel, params["C1"]["kernel"])


def test_a_nested_colour_layer_is_found_and_others_are_passed_over():
    first = np.arange(7 * 7 * 3 * 2.0).reshape(7, 7, 3, 2)
    params = {
        "bias": np.zeros(3),
        "dense": {"kernel": np.zeros((9, 3))},
        "pointwise": {"kernel": np.zeros((1, 1, 3, 8))},
        "deep": {"kernel": np.zeros((3, 3, 64, 8))},
        "stem": {"conv": {"bias": np.zeros(2), "kernel": first}},
        "later": {"kernel": np.zeros((3, 3, 3, 8))},
    }
    name, kernel = first_layer_kernel(params)
    assert name == "stem/conv"
    np.testing.assert_array_equal(kernel, first)


def test_none_where_there_is_none():
    assert first_layer_kernel({}) is None
    assert first_layer_kernel({"F6": {"kernel": np.zeros((120, 84)), "bias": np.zeros(84)}}) is None


@pytest.mark.parametrize(
    ("model", "size", "name", "shape"),
    [
        (LeNet(), (32, 1), "C1", (5, 5, 1, 6)),
        (ClassicNet(), (32, 3), "conv1", (3, 3, 3, 32)),
        (AlexNet(), (67, 3), "conv1", (11, 11, 3, 96)),
        (ZFNet(), (64, 3), "conv1", (7, 7, 3, 96)),
        (VGG(configuration="A"), (32, 3), "conv1_1", (3, 3, 3, 64)),
        (NiN(), (16, 3), "conv1", (5, 5, 3, 192)),
        (NiN(form="imagenet"), (224, 3), "conv1", (11, 11, 3, 96)),
        (GoogLeNet(), (80, 3), "conv1", (7, 7, 3, 64)),
        (GoogLeNet(variant="published"), (80, 3), "conv1/conv", (7, 7, 3, 64)),
        (InceptionV3(auxiliary=False), (75, 3), "Conv2d_1a_3x3/conv", (3, 3, 3, 32)),
        (ResNetCifar(depth=8), (16, 3), "conv1", (3, 3, 3, 16)),
        (ResNet(18), (32, 3), "conv1", (7, 7, 3, 64)),
        (RiR(), (16, 3), "conv1", (3, 3, 3, 96)),
        (DeepBigSimpleNet(hidden=(50, 20)), (29, 1), "h1", (29, 29, 1, 50)),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "apply") else None,
)
def test_of_every_network(model, size, name, shape):
    picture = (size[0], size[0], size[1])
    x = jax.ShapeDtypeStruct((1, *picture), jnp.float32)
    params = jax.eval_shape(lambda x: model.init(jax.random.key(0), x), x)["params"]
    zeros = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), params)
    found, kernel = first_layer_kernel(zeros, picture)
    assert (found, kernel.shape) == (name, shape)


def test_a_dense_units_weights_lie_as_the_picture():
    x = jax.random.normal(jax.random.key(0), (1, 5, 4, 3))
    model = DeepBigSimpleNet(hidden=(7,))
    params = model.init(jax.random.key(1), x)["params"]
    params["h1"]["bias"] = jnp.zeros(7)
    _, kernel = first_layer_kernel(params, x.shape[1:])
    output = (np.asarray(x[0])[..., None] * kernel).sum((0, 1, 2))
    np.testing.assert_allclose(output, run(model, {"params": params}, x)[1]["h1"][0], atol=1e-5)
    assert first_layer_kernel(params) is None
    assert first_layer_kernel(params, (5, 4, 1)) is None


def test_each_tile_has_its_own_scale():
    kernel = np.zeros((2, 2, 3, 3), np.float32)
    kernel[0, 1, 2, 0], kernel[1, 0, 0, 0] = -0.5, 0.25
    kernel[..., 1] = 1e-3
    tiles = filters.tiles(kernel)
    assert tiles.shape == (3, 2, 2, 3)
    assert (tiles[0, 0, 1, 2], tiles[0, 1, 0, 0], tiles[0, 0, 0, 0]) == (0, 0.75, 0.5)
    assert (tiles[1] == 1).all()
    assert (tiles[2] == 0.5).all()  # a filter of zeros
    drawn = filters.figure(kernel, "conv1: 3 filters")
    (axes,) = drawn.axes
    assert [text.get_text() for text in axes.texts] == ["0: ±0.5", "1: ±0.001", "2: ±0"]
    np.testing.assert_array_equal(axes.images[0].get_array(), tiles[0])
    assert axes.images[1].get_extent()[0] > axes.images[0].get_extent()[1]
    drawn.savefig(io.BytesIO(), format="png")
    assert drawn.get_suptitle().startswith("conv1: 3 filters\n")


def test_of_a_run():
    for module, fields, expected in (
        (lenet_digits, {}, "C1: 6 filters of 5×5×1"),
        (ciresan_mnist, {"data": "digits"}, "h1: the weights of the first 64 of 500 units"),
    ):
        values = module.get_config()
        values.update(fields)
        experiment = module.build(values)
        state = loop.initial_state(experiment)
        drawn = filters.draw(Subject(experiment, lambda state=state: state), configs.options_of("inspect"))
        assert expected in drawn["filters"].get_suptitle()
        assert len(drawn["filters"].axes[0].images) in (6, 64)


def test_no_filters_to_show():
    experiment = lenet_digits.build(lenet_digits.get_config())
    state = loop.initial_state(experiment)
    state = state.replace(params={name: layer for name, layer in state.params.items() if name != "C1"})
    with pytest.raises(UserError, match="no layer of lenet_digits sees the picture itself"):
        filters.draw(Subject(experiment, lambda: state), configs.options_of("inspect"))
