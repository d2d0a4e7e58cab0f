"""ResNet: parameters by depth and option, maps, and where a bottleneck strides."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.errors import UserError
from cnnlab.models.resnet import Block, ResNet
from tests.small import count, shapes

COUNTS = {18: 11_689_512, 34: 21_797_672, 50: 25_557_032, 101: 44_549_160, 152: 60_192_808}


@pytest.mark.parametrize("depth", COUNTS)
def test_parameters(depth):
    assert count(shapes(ResNet(depth))[0]["params"]) == COUNTS[depth]


def test_options_and_plain():
    """B's projections: 1×1 from 64 to 128, 128 to 256 and 256 to 512 maps with batch norm; C's three blocks more."""
    projections = sum(a * b + 2 * b for a, b in ((64, 128), (128, 256), (256, 512)))
    a = count(shapes(ResNet(18, option="A"))[0]["params"])
    c = count(shapes(ResNet(18, option="C"))[0]["params"])
    assert a == COUNTS[18] - projections
    assert count(shapes(ResNet(18, plain=True))[0]["params"]) == a
    others = 2 * (64 * 64 + 128) + (128 * 128 + 256) + (256 * 256 + 512) + (512 * 512 + 1024)
    assert c == COUNTS[18] + others


def test_maps():
    _, maps = shapes(ResNet(18))
    assert maps["conv1"][1:] == (112, 112, 64)
    assert maps["pool1"][1:] == (56, 56, 64)
    assert maps["fc"] == (1, 1000)


@pytest.mark.parametrize("stride_on_3x3", [False, True])
def test_where_a_bottleneck_strides(stride_on_3x3):
    block = Block(8, 2, bottleneck=True, stride_on_3x3=stride_on_3x3)
    x = jax.random.normal(jax.random.key(0), (1, 8, 8, 4))
    variables = block.init(jax.random.key(1), x, train=False)
    y, found = block.apply(variables, x, train=False, capture_intermediates=True, mutable=["intermediates"])
    layers = found["intermediates"]
    assert layers["conv1"]["__call__"][0].shape[1] == (8 if stride_on_3x3 else 4)
    assert layers["conv2"]["__call__"][0].shape == (1, 4, 4, 8)
    assert y.shape == (1, 4, 4, 32)


def test_a_block_by_hand():
    """relu(branch + projection), in evaluation with fresh statistics, where batch norm divides by √(1 + ε)."""
    block = Block(3, 1, bottleneck=False)
    x = jax.random.normal(jax.random.key(0), (1, 5, 5, 2))
    variables = block.init(jax.random.key(1), x, train=False)
    params = variables["params"]

    def conv(x, kernel):
        side = kernel.shape[0] // 2
        x = np.pad(x, ((0, 0), (side, side), (side, side), (0, 0)))
        out = np.zeros((1, 5, 5, kernel.shape[-1]))
        for i in range(kernel.shape[0]):
            for j in range(kernel.shape[1]):
                out += x[:, i : i + 5, j : j + 5] @ np.asarray(kernel[i, j], np.float64)
        return out / np.sqrt(1 + 1e-5)

    x64 = np.asarray(x, np.float64)
    branch = conv(np.maximum(conv(x64, params["conv1"]["kernel"]), 0), params["conv2"]["kernel"])
    expected = np.maximum(branch + conv(x64, params["shortcut"]["kernel"]), 0)
    assert np.allclose(block.apply(variables, x, train=False), expected, atol=1e-5)


def test_half_precision_keeps_float32_parameters():
    model = ResNet(18, num_classes=2, dtype=jnp.bfloat16)
    variables, _ = shapes(model, 64)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


def test_errors():
    with pytest.raises(UserError, match="must be one of 18, 34, 50, 101, 152"):
        shapes(ResNet(20))
    with pytest.raises(UserError, match='option of ResNet\'s shortcuts is "D"'):
        shapes(ResNet(18, option="D"))


def test_dilated_stages_see_as_far_on_finer_maps():
    """conv4's first block is still undilated, the others hold every second, conv5's every second and then fourth."""
    net, x = ResNet(18, width=4, maps=("conv3", "conv4", "conv5"), output_stride=8), jnp.zeros((1, 64, 64, 3))
    variables = jax.eval_shape(net.init, jax.random.key(0), x)
    found = jax.eval_shape(net.apply, variables, x)
    assert [maps.shape for maps in found.values()] == [(1, 8, 8, 8), (1, 8, 8, 16), (1, 8, 8, 32)]
    plain = jax.eval_shape(net.clone(output_stride=32).init, jax.random.key(0), x)
    assert jax.tree.map(jnp.shape, plain) == jax.tree.map(jnp.shape, variables)
    assert jax.eval_shape(net.clone(output_stride=16).apply, variables, x)["conv5"].shape == (1, 4, 4, 32)
    with pytest.raises(UserError, match="the output stride of ResNet is 4"):
        jax.eval_shape(net.clone(output_stride=4).init, jax.random.key(0), x)


def test_the_dilated_net_is_the_plain_one_at_every_second_place():
    """Where the plain net strides by 2, the dilated one computes the same there and more between."""
    net = ResNet(18, width=4, maps=("conv5",))
    x = jax.random.normal(jax.random.key(0), (1, 192, 192, 3))
    variables = jax.jit(net.init)(jax.random.key(1), x)
    plain = jax.jit(net.apply)(variables, x)["conv5"]
    fine = jax.jit(net.clone(output_stride=16).apply)(variables, x)["conv5"]
    assert fine.shape[1] == 2 * plain.shape[1]
    np.testing.assert_allclose(fine[0, 4:8:2, 4:8:2], plain[0, 2:4, 2:4], atol=1e-4)
