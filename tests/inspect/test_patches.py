"""The strongest activations against a search one by one; receptive fields against what outputs depend on."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.errors import UserError
from cnnlab.inspect.layers import run, shapes
from cnnlab.inspect.patches import cut, field_boxes, top_activations
from cnnlab.models.googlenet import Inception
from cnnlab.models.lenet import LeNet
from cnnlab.models.resnet import ResNet
from cnnlab.models.resnet_cifar import ResNetCifar
from cnnlab.models.zfnet import ZFNet
from cnnlab.ops.activations import relu
from cnnlab.ops.conv import Conv
from cnnlab.ops.forms import plain_forms
from cnnlab.ops.pooling import MaxPool
from cnnlab.ops.receptive_field import Field
from cnnlab.reach import Axis
from cnnlab.summary import reaches
from tests.small import random_array

MODEL = ResNetCifar(depth=8)
X = random_array((11, 8, 12, 3))
VARIABLES = jax.jit(MODEL.init)(jax.random.key(0), X[:1])


def batches(x, sizes):
    ends = np.cumsum(sizes)
    return [(np.arange(end - size, end), x[end - size : end]) for size, end in zip(sizes, ends, strict=True)]


@pytest.mark.parametrize("most", [3, 20])
def test_the_strongest_one_by_one(most):
    # The last batch is smaller, and its last picture the strongest of all: what fills it up must not count.
    x = X.at[-1].multiply(10)
    found = top_activations(MODEL, VARIABLES, batches(x, (4, 4, 3)), ("conv3_1", "conv1", "fc"), most)
    assert list(found) == ["conv3_1", "conv1", "fc"]
    outputs = jax.jit(lambda v, x: run(MODEL, v, x)[1])(VARIABLES, x)
    for layer, strongest in found.items():
        maps = np.asarray(outputs[layer])
        maps = maps.reshape(11, *maps.shape[1:-1] or (1, 1), -1)
        assert strongest.values.shape == strongest.index.shape == (maps.shape[-1], min(most, 11))
        for channel in range(maps.shape[-1]):
            own = maps[..., channel]
            order = np.argsort(-own.max((1, 2)), kind="stable")[:most]
            places = [np.unravel_index(own[i].argmax(), own[i].shape) for i in order]
            assert strongest.index[channel].tolist() == order.tolist()
            assert strongest.places[channel].tolist() == [list(place) for place in places]
            np.testing.assert_allclose(strongest.values[channel], own.max((1, 2))[order], rtol=1e-5, atol=1e-6)


def test_a_layer_that_is_not_there():
    with pytest.raises(UserError, match="there is no layer 'conv7_1'"):
        top_activations(MODEL, VARIABLES, batches(X, (4,)), ("conv7_1",))


class Branching(nn.Module):
    @nn.compact
    def __call__(self, x, *, train=False):
        x = MaxPool(3, 2, name="pool")(relu(Conv(4, 3, name="conv")(x)))
        return jnp.mean(Inception(maps=(3, 3, 3, 2, 3, 3), name="inception")(x, train=train), (1, 2))


@pytest.mark.parametrize(
    ("model", "size", "layer"),
    [
        (ZFNet(num_classes=2), 66, "pool2"),
        (Branching(), 31, "inception"),
        (ResNet(18, num_classes=2), 80, "conv3_1"),
        (LeNet(variant="modern"), 32, "S4"),
    ],
)
def test_a_unit_depends_on_its_box_and_on_nothing_else(model, size, layer):
    one = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    variables = jax.tree.map(means, jax.eval_shape(model.init, jax.random.key(0), one))
    shape = shapes(model, variables, one)[layer]
    reach = reaches(model, one.shape)[layer]

    @jax.jit
    def changes(variables, x, place):
        with plain_forms():
            y = run(model, variables, x)[1][layer][:, place[0], place[1]]
        return (jnp.abs(y[1:] - y[0]) > 1e-4).any(-1)

    middle, corner = (shape[1] // 2, shape[2] // 3), (0, shape[2] - 1)
    for place in (middle, corner):
        ((top, left, bottom, right),) = field_boxes(reach, np.array([place]), (size, size)).tolist()
        first_row, last_row = max(top, 0), min(bottom, size) - 1
        first_column, last_column = max(left, 0), min(right, size) - 1
        x = np.ones((6, size, size, 3), np.float32)
        x[1] = 30
        x[1, first_row : last_row + 1, first_column : last_column + 1] = 1
        x[2, first_row], x[3, last_row], x[4, :, first_column], x[5, :, last_column] = [30] * 4
        assert (last_row - first_row, last_column - first_column) < (size - 1, size - 1)
        assert changes(variables, jnp.asarray(x), jnp.array(place)).tolist() == [False, True, True, True, True]


def means(leaf):
    """Weights with which every layer gives means: what is brighter anywhere is brighter in all that see it."""
    return jnp.full(leaf.shape, 1 / max(1, np.prod(leaf.shape[:-1]))) if leaf.ndim > 1 else jnp.ones(leaf.shape)


def test_boxes_of_units_that_see_the_whole_picture():
    places = np.array([[0, 0], [2, 1]])
    rows = Axis(Field(3, 2, -1), dim=1)
    assert field_boxes((), places, (8, 9)).tolist() == [[0, 0, 8, 9]] * 2
    assert field_boxes((rows, Axis(Field(5, 2, -1), dim=None)), places, (8, 9)).tolist() == [
        [-1, 0, 2, 9],
        [3, 0, 6, 9],
    ]
    # Dimensions exchanged on the way: columns of the layer run along rows of the picture.
    turned = Axis(Field(2, 3, 0), dim=2), Axis(Field(9, 1, -4), dim=1)
    assert field_boxes(turned, places, (8, 9)).tolist() == [[0, 0, 2, 9], [3, 0, 5, 9]]


def test_patches_that_reach_over_the_border():
    pictures = np.arange(24.0).reshape(2, 3, 4, 1)
    first, second = cut(pictures, np.array([[-1, 2, 2, 6], [1, 0, 4, 4]]), fill=0.5)
    assert first[:, :, 0].tolist() == [[0.5] * 4, [2, 3, 0.5, 0.5], [6, 7, 0.5, 0.5]]
    assert second[:, :, 0].tolist() == [[16, 17, 18, 19], [20, 21, 22, 23], [0.5] * 4]
