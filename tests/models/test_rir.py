"""ResNet in ResNet: parameters, the paper's equations against numpy, and what is left of them without cross weights."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.errors import UserError
from cnnlab.models.rir import GeneralizedLayer, RiR, RiRBlock
from tests.small import count, random_array


def conv(x, kernel, stride=1):
    """A 3×3 convolution padded by a pixel, in float64."""
    kernel = np.asarray(kernel, np.float64)
    x = np.pad(np.asarray(x, np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = ((size - 3) // stride + 1 for size in x.shape[1:3])
    out = np.zeros((x.shape[0], height, width, kernel.shape[-1]))
    for i in range(3):
        for j in range(3):
            rows, columns = slice(i, i + stride * height, stride), slice(j, j + stride * width, stride)
            out += x[:, rows, columns][:, :height, :width] @ kernel[i, j]
    return out


def sigma(x):
    """ReLU of batch norm in evaluation with fresh statistics, which divides by √(1 + ε)."""
    return np.maximum(x, 0) / np.sqrt(1 + 1e-5)


def shortcut(r, width, stride):
    """Every `stride`-th pixel, and zeros for new maps."""
    r = np.asarray(r, np.float64)[:, ::stride, ::stride]
    return np.concatenate([r, np.zeros((*r.shape[:3], width - r.shape[-1]))], -1)


def layer(kernel, r, t, width, stride=1, outer=0.0):
    """Equations 1 and 2, with a matrix for each way between the streams."""
    maps = r.shape[-1]
    rr, rt = kernel[:, :, :maps, :width], kernel[:, :, :maps, width:]
    tr, tt = kernel[:, :, maps:, :width], kernel[:, :, maps:, width:]
    residual = conv(r, rr, stride) + conv(t, tr, stride) + shortcut(r, width, stride) + outer
    return sigma(residual), sigma(conv(r, rt, stride) + conv(t, tt, stride))


def streams(size=5, maps=2):
    """Two random streams."""
    return random_array((2, size, size, maps), 1), random_array((2, size, size, maps), 2)


@pytest.mark.parametrize(("width", "stride"), [(2, 1), (3, 2)])
def test_the_equations(width, stride):
    r, t = streams()
    module = GeneralizedLayer(width, stride)
    variables = module.init(jax.random.key(0), r, t, train=False)
    kernel = variables["params"]["conv"]["kernel"]
    assert kernel.shape == (3, 3, 4, 2 * width)
    actual = module.apply(variables, r, t, train=False)
    for a, b in zip(actual, layer(kernel, r, t, width, stride), strict=True):
        assert np.allclose(a, b, atol=1e-5)


def test_without_cross_weights_a_residual_layer_beside_a_plain_one():
    r, t = streams()
    module = GeneralizedLayer(2)
    variables = module.init(jax.random.key(0), r, t, train=False)
    kernel = variables["params"]["conv"]["kernel"].at[:, :, :2, 2:].set(0).at[:, :, 2:, :2].set(0)
    state = {"params": {**variables["params"], "conv": {"kernel": kernel}}, "batch_stats": variables["batch_stats"]}
    residual, transient = module.apply(state, r, t, train=False)
    assert np.allclose(residual, sigma(conv(r, kernel[:, :, :2, :2]) + np.asarray(r, np.float64)), atol=1e-5)
    assert np.allclose(transient, sigma(conv(t, kernel[:, :, 2:, 2:])), atol=1e-5)
    # Neither stream sees the other.
    other = module.apply(state, r, t + 1, train=False)
    assert np.array_equal(other[0], residual)


def test_resnet_init_is_a_convolution_with_an_identity_in_a_part_of_it():
    """The shortcut is what 1 at the centre of each residual map's own filter would add."""
    r, t = streams()
    module = GeneralizedLayer(2)
    variables = module.init(jax.random.key(0), r, t, train=False)
    kernel = np.array(variables["params"]["conv"]["kernel"], np.float64)
    kernel[1, 1, [0, 1], [0, 1]] += 1
    both = sigma(conv(np.concatenate([r, t], -1), kernel))
    assert np.allclose(np.concatenate(module.apply(variables, r, t, train=False), -1), both, atol=1e-5)


@pytest.mark.parametrize(("width", "stride"), [(2, 1), (3, 2)])
def test_a_block_is_two_layers_with_a_shortcut_round_both(width, stride):
    r, t = streams()
    block = RiRBlock(width, stride)
    variables = block.init(jax.random.key(0), r, t, train=False)
    kernels = [variables["params"][name]["conv"]["kernel"] for name in ("layer1", "layer2")]
    middle = layer(kernels[0], r, t, width, stride)
    expected = layer(kernels[1], *middle, width, outer=shortcut(r, width, stride))
    for a, b in zip(block.apply(variables, r, t, train=False), expected, strict=True):
        assert np.allclose(a, b, atol=1e-4)


def parameters(num_classes):
    """By hand: the first layer, 16 layers of 3×3 filters over both streams, batch norms, and the 1×1 classifier."""
    widths = [96] * 5 + [192] * 6 + [384] * 6  # of both streams together: the first layer's, and the 16 others'
    weights = 27 * 96 + sum(9 * before * after for before, after in itertools.pairwise(widths))
    return weights + 2 * sum(widths) + (384 + 1) * num_classes


@pytest.mark.parametrize(("num_classes", "expected"), [(10, 9_469_930), (100, 9_504_580)])
def test_parameters(num_classes, expected):
    x = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    params = jax.eval_shape(lambda x: RiR(num_classes).init(jax.random.key(0), x), x)["params"]
    assert count(params) == parameters(num_classes) == expected


def test_maps():
    def apply(x):
        model = RiR()
        variables = model.init(jax.random.key(0), x)
        return model.apply(variables, x, capture_intermediates=True, mutable=["intermediates"])[1]["intermediates"]

    layers = jax.eval_shape(apply, jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32))
    expected = {"conv2_1": (32, 32, 48), "conv2_2": (32, 32, 48), "conv3_1": (16, 16, 96), "conv3_3": (16, 16, 96)}
    expected |= {"conv4_1": (8, 8, 192), "conv4_3": (8, 8, 192)}
    assert {name: layers[name]["__call__"][0][0].shape[1:] for name in expected} == expected
    assert {name: layers[name]["__call__"][0][1].shape[1:] for name in expected} == expected
    assert layers["classifier"]["__call__"][0].shape == (1, 8, 8, 10)


def test_gradients_are_finite_and_reach_both_streams():
    r, t = streams(4)
    block = RiRBlock(2)
    variables = block.init(jax.random.key(0), r, t, train=False)

    def loss(params):
        state = {"params": params, "batch_stats": variables["batch_stats"]}
        residual, transient = block.apply(state, r, t, train=True, mutable=["batch_stats"])[0]
        return jnp.square(residual).sum() + jnp.sum(transient**3)

    gradients = jax.grad(loss)(variables["params"])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    for name in ("layer1", "layer2"):
        ways = np.abs(gradients[name]["conv"]["kernel"]).sum((0, 1)).reshape(2, 2, 2, 2).sum((1, 3))
        assert (ways > 0).all()


def test_a_picture_too_small():
    x = jnp.zeros((1, 3, 3, 3))
    with pytest.raises(UserError, match="the picture is 3×3; ResNet in ResNet needs at least 4×4"):
        jax.eval_shape(lambda x: RiR().init(jax.random.key(0), x), x)
