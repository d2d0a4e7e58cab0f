"""Inception-v3: parameters, maps, its modules' branches, and when the auxiliary head speaks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.errors import UserError
from cnnlab.models.inception_v3 import InceptionV3, Mixed
from tests.small import count, shapes

# Of each kind one branch: a 1×1 filter, one that forks, and the pooling.
BRANCHES = (
    (("branch1x1", 2, 1),),
    (("branch3x3_1", 3, 1), (("branch3x3_2a", 4, (1, 3)), ("branch3x3_2b", 5, (3, 1)))),
    (("branch_pool", 6, 1),),
)
HALVING = ((("branch3x3", 2, 3),), (("branch3x3dbl_1", 3, 1), ("branch3x3dbl_2", 4, 3)))


def run(module, x, train=False):
    """The module's variables, output and the outputs of its parts."""
    variables = module.init(jax.random.key(1), x, train=False)
    collections = ["intermediates", "batch_stats"] if train else ["intermediates"]
    y, found = module.apply(variables, x, train=train, capture_intermediates=True, mutable=collections)
    return variables, y, {name: part["__call__"][0] for name, part in found["intermediates"].items() if name[0] != "_"}


def test_parameters():
    """The auxiliary head by hand: two convolutions with their batch norms, and a linear layer with a bias."""
    params = shapes(InceptionV3(), 299)[0]["params"]
    head = 768 * 128 + 2 * 128 + 25 * 128 * 768 + 2 * 768 + 768 * 1000 + 1000
    assert count(params) == 27_161_264
    assert count(params["AuxLogits"]) == head
    assert count(shapes(InceptionV3(auxiliary=False), 299)[0]["params"]) == 27_161_264 - head


def test_names():
    """Those of the published weights."""
    params = shapes(InceptionV3(), 299)[0]["params"]
    assert params["Mixed_6c"]["branch7x7dbl_4"]["conv"]["kernel"].shape == (7, 1, 160, 160)
    assert params["Mixed_6c"]["branch7x7_2"]["conv"]["kernel"].shape == (1, 7, 160, 160)
    assert params["Mixed_7b"]["branch3x3dbl_3b"]["conv"]["kernel"].shape == (3, 1, 384, 384)
    assert params["Mixed_5b"]["branch5x5_2"]["conv"]["kernel"].shape == (5, 5, 48, 64)
    assert params["AuxLogits"]["conv1"]["bn"]["scale"].shape == (768,)


def test_maps():
    _, maps = shapes(InceptionV3(), 299)
    expected = {"Conv2d_1a_3x3": (149, 149, 32), "Conv2d_2a_3x3": (147, 147, 32), "Conv2d_2b_3x3": (147, 147, 64)}
    expected |= {"maxpool1": (73, 73, 64), "Conv2d_3b_1x1": (73, 73, 80), "Conv2d_4a_3x3": (71, 71, 192)}
    expected |= {"maxpool2": (35, 35, 192), "Mixed_5b": (35, 35, 256), "Mixed_5d": (35, 35, 288)}
    expected |= {"Mixed_6a": (17, 17, 768), "Mixed_6e": (17, 17, 768), "Mixed_7a": (8, 8, 1280)}
    expected |= {"Mixed_7b": (8, 8, 2048), "Mixed_7c": (8, 8, 2048)}
    assert {name: maps[name][1:] for name in expected} == expected


def test_a_module_puts_its_branches_side_by_side():
    x = jax.random.normal(jax.random.key(0), (1, 6, 7, 3))
    _, y, parts = run(Mixed(BRANCHES), x)
    names = ("branch1x1", "branch3x3_2a", "branch3x3_2b", "branch_pool")
    assert y.shape == (1, 6, 7, 2 + 4 + 5 + 6)
    assert np.array_equal(y, np.concatenate([parts[name] for name in names], -1))


def test_a_module_that_halves_ends_in_the_maximum():
    x = jax.random.normal(jax.random.key(0), (1, 7, 7, 3))
    _, y, parts = run(Mixed(HALVING, halve=True), x)
    assert parts["branch3x3dbl_1"].shape == (1, 7, 7, 3)
    assert y.shape == (1, 3, 3, 2 + 4 + 3)
    assert np.array_equal(y[0, 1, 2, -3:], np.asarray(x)[0, 2:5, 4:7].max((0, 1)))


def test_the_mean_counts_padding():
    """A corner of ones: four pixels and five zeros."""
    _, _, parts = run(Mixed(BRANCHES), jnp.ones((1, 4, 4, 1)))
    assert np.allclose(parts["pool"][0, :2, :2, 0], [[4 / 9, 6 / 9], [6 / 9, 1]])


def test_a_convolution_is_normalised_and_rectified():
    """In evaluation with fresh statistics batch norm divides by √(1 + ε), here ε = 0.001."""
    x = jax.random.normal(jax.random.key(0), (1, 5, 5, 3))
    variables, _, parts = run(Mixed(BRANCHES), x)
    kernel = np.asarray(variables["params"]["branch1x1"]["conv"]["kernel"], np.float64)[0, 0]
    expected = np.maximum(np.asarray(x, np.float64) @ kernel, 0) / np.sqrt(1.001)
    assert np.allclose(parts["branch1x1"], expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("module", [Mixed(BRANCHES), Mixed(HALVING, halve=True)])
def test_gradients_are_finite_and_not_zero(module):
    x = jax.random.normal(jax.random.key(0), (2, 7, 7, 3))
    variables = module.init(jax.random.key(1), x, train=False)

    def loss(params):
        state = {"params": params, "batch_stats": variables["batch_stats"]}
        return jnp.square(module.apply(state, x, train=True, mutable=["batch_stats"])[0]).sum()

    gradients = jax.jit(jax.grad(loss))(variables["params"])
    assert all(np.isfinite(leaf).all() and np.any(leaf != 0) for leaf in jax.tree.leaves(gradients))


def test_when_the_head_speaks():
    x = jax.ShapeDtypeStruct((2, 299, 299, 3), jnp.float32)

    def call(model, **kwargs):
        def apply(x):
            variables = model.init(jax.random.key(0), x)
            return model.apply(variables, x, rngs={"dropout": jax.random.key(0)}, mutable=["batch_stats"], **kwargs)[0]

        return jax.tree.map(lambda out: out.shape, jax.eval_shape(apply, x))

    model = InceptionV3(num_classes=7)
    assert call(model) == (2, 7)
    assert call(model, heads=True) == ((2, 7), (2, 7))
    assert call(model, train=True) == ((2, 7), (2, 7))
    assert call(model, train=True, heads=False) == (2, 7)
    assert call(InceptionV3(num_classes=7, auxiliary=False), train=True, heads=True) == (2, 7)


def test_small_pictures():
    """75 pixels are enough for the net and too few for its head."""
    assert shapes(InceptionV3(auxiliary=False), 75)[1]["Mixed_7c"] == (1, 1, 1, 2048)
    with pytest.raises(UserError, match="too small for layer AuxLogits/pool"):
        shapes(InceptionV3(), 75)
    with pytest.raises(UserError, match="too small for layer Mixed_7a/branch3x3_2/conv"):
        shapes(InceptionV3(auxiliary=False), 74)
