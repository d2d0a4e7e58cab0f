"""GoogLeNet: parameters of both variants and of the heads, maps, and what training and evaluation return."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.errors import UserError
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


@pytest.mark.parametrize("variant", ["paper", "published"])
def test_when_the_heads_speak(variant):
    x = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)

    def call(auxiliary=True, **kwargs):
        def apply(x):
            model = GoogLeNet(num_classes=7, auxiliary=auxiliary, variant=variant)
            variables = model.init(jax.random.key(0), x)
            return model.apply(variables, x, rngs={"dropout": jax.random.key(0)}, mutable=["batch_stats"], **kwargs)[0]

        return jax.tree.map(lambda out: out.shape, jax.eval_shape(apply, x))

    assert call() == (2, 7)
    assert call(heads=True) == ((2, 7),) * 3
    assert call(train=True) == ((2, 7),) * 3
    assert call(train=True, heads=False) == (2, 7)
    assert call(auxiliary=False, train=True, heads=True) == (2, 7)


def test_published_parameters():
    """By hand from the paper's: no biases but two numbers of batch norm a map, and 9 weights a filter where it has 25.

    The published heads see 4×4 means too, so the paper's heads change by their convolution's bias only.
    """
    params = shapes(GoogLeNet(variant="published"))[0]["params"]
    heads = sum(count(layer) for name, layer in params.items() if name.startswith("auxiliary"))
    maps = 64 + 64 + 192 + sum(sum(row) for row in INCEPTIONS.values())
    fewer = 16 * sum(row[3] * row[4] for row in INCEPTIONS.values())
    assert heads == 3_188_840 + 3_190_888 + 2 * 128
    assert count(params) - heads == 6_998_552 + maps - fewer == 6_624_904
    assert count(params) == 13_004_888
    assert count(shapes(GoogLeNet(variant="published", auxiliary=False))[0]["params"]) == 6_624_904


def test_published_maps():
    """As the paper's, without its LRN, and with 3×3 filters in the layers that keep the name 5x5."""
    variables, maps = shapes(GoogLeNet(variant="published"))
    expected = {"conv1": (112, 112, 64), "pool1": (56, 56, 64), "conv2": (56, 56, 192), "pool2": (28, 28, 192)}
    expected |= {"inception3b": (28, 28, 480), "inception4a": (14, 14, 512), "inception5b": (7, 7, 1024)}
    assert {name: maps[name][1:] for name in expected} == expected
    assert not {"norm1", "norm2"} & set(maps)
    assert variables["params"]["inception3a"]["5x5"]["conv"]["kernel"].shape == (3, 3, 16, 32)
    # 13×13 maps tell a 2×2 pool4 from a 3×3 one.
    assert [shapes(GoogLeNet(variant=v), 208)[1]["pool4"][1] for v in ("paper", "published")] == [6, 7]


def test_a_published_module_is_normalised():
    """In evaluation with fresh statistics batch norm divides by √(1 + ε), here ε = 0.001."""
    module = Inception(maps=(2, 3, 4, 2, 5, 3), variant="published")
    x = jax.random.normal(jax.random.key(0), (2, 6, 6, 3))
    variables = module.init(jax.random.key(1), x, train=False)
    y = module.apply(variables, x, train=False)
    kernel = np.asarray(variables["params"]["1x1"]["conv"]["kernel"], np.float64)[0, 0]
    assert np.allclose(y[..., :2], np.maximum(np.asarray(x, np.float64) @ kernel, 0) / np.sqrt(1.001), atol=1e-5)

    def loss(params):
        state = {"params": params, "batch_stats": variables["batch_stats"]}
        return jnp.square(module.apply(state, x, train=True, mutable=["batch_stats"])[0]).sum()

    gradients = jax.jit(jax.grad(loss))(variables["params"])
    assert all(np.isfinite(leaf).all() and np.any(leaf != 0) for leaf in jax.tree.leaves(gradients))


def test_the_published_heads_take_any_size():
    """4×4 means of any map, where the paper's window of 5 pixels needs 5."""
    shapes(GoogLeNet(variant="published"), 64)
    with pytest.raises(UserError, match="too small for layer auxiliary4a/pool"):
        shapes(GoogLeNet(), 64)
    with pytest.raises(UserError, match="too small for layer pool3"):
        shapes(GoogLeNet(variant="published"), 17)


def test_an_unknown_variant():
    with pytest.raises(UserError, match='variant of GoogLeNet is "v3"; it must be "paper" or "published"'):
        shapes(GoogLeNet(variant="v3"))
