"""The deconvnet layer by layer: its parts by hand, and whole networks against `project`."""

import contextlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.errors import UserError
from cnnlab.inspect.deconv_layers import ascend, descend, transposed_conv
from cnnlab.inspect.deconvnet import project
from cnnlab.models.alexnet import AlexNet
from cnnlab.models.resnet_cifar import ResNetCifar
from cnnlab.models.vgg import VGG
from cnnlab.models.zfnet import ZFNet
from cnnlab.ops.conv import Conv
from cnnlab.ops.forms import plain_forms
from cnnlab.ops.pooling import MaxPool, pads
from cnnlab.ops.switches import max_pool_with_switches, unpool
from tests.small import random_array


def lively(model, x):
    """Variables whose signals keep their size; the fully connected layers' are 0, which nothing here comes to."""
    shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x), x)
    rng = np.random.default_rng(0)

    def draw(leaf):
        if leaf.ndim == 2:
            return jnp.zeros(leaf.shape)
        scale = np.sqrt(2 / np.prod(leaf.shape[:3])) if leaf.ndim == 4 else 0.1
        return jnp.asarray(np.float32(scale) * rng.standard_normal(leaf.shape, np.float32))

    return jax.tree.map(draw, shapes)


def first_maxima(x, window, stride, sides):
    """Row, column of each window's first maximum, (n, h, w, c, 2), found one by one."""
    n, _, _, c = x.shape
    (top, bottom), (left, right) = sides
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=-np.inf)
    rows, columns = ((size - window) // stride + 1 for size in padded.shape[1:3])
    found = np.zeros((n, rows, columns, c, 2), int)
    for i, a, b, k in np.ndindex(n, rows, columns, c):
        seen = padded[i, a * stride : a * stride + window, b * stride : b * stride + window, k]
        row, column = np.unravel_index(np.argmax(seen), seen.shape)
        found[i, a, b, k] = a * stride + row - top, b * stride + column - left
    return found


POOLS = [(2, 2, ((0, 0), (0, 0))), (3, 2, ((0, 1), (0, 0))), (3, 1, ((1, 1), (1, 1))), (3, 3, ((1, 0), (0, 2)))]


def tied(n):
    """Pictures of whole numbers from 1 to 4: in nearly every window two are equal."""
    return np.random.default_rng(n).integers(1, 5, (2, 7, 9, 3)).astype(np.float32)


@pytest.mark.parametrize(("window", "stride", "sides"), POOLS)
def test_unpooling_restores_maxima_to_their_places(window, stride, sides):
    x = tied(0)

    @jax.jit
    def there_and_back(x):
        best, switches = max_pool_with_switches(x, window, stride, sides)
        return [unpool(v, switches, window, stride, sides, x.shape[1:3]) for v in (best, jnp.ones_like(best))]

    back, times = there_and_back(x)
    wanted, counts = np.zeros_like(x), np.zeros_like(x)
    places = first_maxima(x, window, stride, sides)
    for i, a, b, k in np.ndindex(*places.shape[:-1]):
        row, column = places[i, a, b, k]
        wanted[i, row, column, k] = x[i, row, column, k]
        counts[i, row, column, k] += 1
    np.testing.assert_array_equal(times, counts)
    np.testing.assert_array_equal(back / np.maximum(times, 1), wanted)
    assert (counts.max() > 1) == (stride < window)


@pytest.mark.parametrize("form", [contextlib.nullcontext, plain_forms])
@pytest.mark.parametrize(("window", "stride", "ceil"), [(2, 2, False), (3, 2, True)])
def test_max_poolings_way_back_is_unpooling_in_both_forms(window, stride, ceil, form):
    x, layer = tied(1), MaxPool(window, stride, ceil=ceil)
    sides = [pads(length, window, stride, 0, ceil) for length in x.shape[1:3]]
    places = first_maxima(x, window, stride, sides)
    g = np.random.default_rng(2).normal(size=places.shape[:-1]).astype(np.float32)
    with form():
        found = jax.jit(lambda x, g: jax.vjp(lambda x: layer.apply({}, x), x)[1](g)[0])(x, g)
    wanted = np.zeros_like(x)
    for i, a, b, k in np.ndindex(*places.shape[:-1]):
        wanted[i, *places[i, a, b, k], k] += g[i, a, b, k]
    np.testing.assert_allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("size", "stride", "padding", "groups"),
    [
        ((3, 3), (1, 1), (1, 1), 1),
        ((5, 5), (1, 1), (2, 2), 2),
        ((4, 3), (4, 2), (0, 1), 1),
        ((1, 7), (1, 3), (0, 3), 3),
        ((1, 1), (2, 2), (1, 1), 1),
    ],
)
def test_the_transposed_convolution_spreads_filters(size, stride, padding, groups):
    rows, columns = ((n + 2 * p - k) // s + 1 for n, p, k, s in zip((11, 9), padding, size, stride, strict=True))
    rng = np.random.default_rng(0)
    y, kernel = rng.normal(size=(2, rows, columns, 12)), rng.normal(size=(*size, 6 // groups, 12))
    wanted = np.zeros((2, 11 + 2 * padding[0], 9 + 2 * padding[1], 6))
    for a, b, k in np.ndindex(rows, columns, 12):
        group = k // (12 // groups)
        inputs = slice(group * 6 // groups, (group + 1) * 6 // groups)
        row, column = a * stride[0], b * stride[1]
        value = y[:, a, b, k, None, None, None]
        wanted[:, row : row + size[0], column : column + size[1], inputs] += value * kernel[..., k]
    wanted = wanted[:, padding[0] : padding[0] + 11, padding[1] : padding[1] + 9]
    found = transposed_conv(jnp.float32(y), jnp.float32(kernel), stride, padding, groups, (11, 9))
    np.testing.assert_allclose(found, wanted, atol=1e-4)


NETS = {
    "AlexNet, two groups": (AlexNet(num_classes=2), 67, ("norm2", "conv5", "pool5")),
    "AlexNet, one column": (AlexNet("one_column", num_classes=2), 63, ("conv5",)),
    "ZF Net": (ZFNet(num_classes=2), 64, ("norm1", "conv3", "pool5")),
    "VGG A-LRN": (VGG("A-LRN", num_classes=2), 32, ("norm1", "conv2_1")),
    "VGG C": (VGG("C", num_classes=2), 32, ("conv3_3",)),
    "VGG E": (VGG("E", num_classes=2), 32, ("pool5",)),
}
# The plain forms are quicker to compile, and go back through max pooling without switches.
FORMS = [(net, plain_forms) for net in NETS] + [("VGG A-LRN", contextlib.nullcontext)]


@pytest.mark.parametrize(("net", "form"), FORMS)
def test_both_formulations_agree(net, form):
    model, size, layers = NETS[net]
    x = random_array((2, size, size, 3))
    variables = lively(model, x)

    def projections(variables, x, units):
        return [project(model, variables, x, layer, unit) for layer, unit in zip(layers, units, strict=True)]

    with form():
        rises = ascend(model, variables, x, layers[-1])
        ways = [rises[: [rise.name for rise in rises].index(layer) + 1] for layer in layers]
        units = [strong_units(way[-1].output) for way in ways]
        downs = jax.jit(lambda *both: [descend(*pair) for pair in zip(*both, strict=True)])(ways, units)
        found = jax.jit(projections)(variables, x, units)
    for down, other in zip(downs, found, strict=True):
        scale = float(jnp.abs(down).max())
        assert scale > 0
        np.testing.assert_allclose(other, down, rtol=0, atol=1e-5 * scale)


def strong_units(maps):
    """Of one picture the strongest unit of all, of the other the strongest of channel 5."""
    first, second = np.asarray(maps)
    place = np.unravel_index(second[..., 5].argmax(), second.shape[:2])
    return jnp.array([np.unravel_index(first.argmax(), first.shape), (*place, 5)])


def test_a_network_that_is_no_chain():
    resnet, x = ResNetCifar(depth=8), random_array((1, 8, 8, 3))
    variables = lively(resnet, x)
    with pytest.raises(UserError, match=r"up to conv3_1 there is more than a chain of convolutions.*: bn1"):
        ascend(resnet, variables, x, "conv3_1")
    with pytest.raises(UserError, match="there is no layer 'conv9'; did you mean conv"):
        ascend(resnet, variables, x, "conv9")
    fork, x = Fork(), random_array((1, 4, 4, 1))
    with pytest.raises(UserError, match=r"up to second there is more .*: second"):
        ascend(fork, lively(fork, x), x, "second")


class Fork(nn.Module):
    """Two convolutions side by side."""

    @nn.compact
    def __call__(self, x, *, train=False):
        return jnp.mean(Conv(2, 1, name="first")(x) + Conv(2, 1, name="second")(x), (1, 2))
