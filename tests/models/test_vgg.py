"""VGG: the parameters of every configuration, and its maps."""

import jax
import numpy as np
import pytest

from cnnlab.errors import UserError
from cnnlab.models.vgg import VGG
from tests.small import count, shapes

COUNTS = {
    "A": 132_863_336,
    "A-LRN": 132_863_336,
    "B": 133_047_848,
    "C": 133_638_952,
    "D": 138_357_544,
    "E": 143_667_240,
}


@pytest.mark.parametrize("configuration", COUNTS)
def test_parameters(configuration):
    variables, _ = shapes(VGG(configuration))
    assert count(variables["params"]) == COUNTS[configuration]


def test_batch_norm_adds_two_numbers_a_channel():
    variables, _ = shapes(VGG("A", batch_norm=True))
    assert count(variables["params"]) == COUNTS["A"] + 2 * (64 + 128 + 256 * 2 + 512 * 4)


def test_maps():
    _, maps = shapes(VGG("D"))
    assert maps["conv1_2"] == (1, 224, 224, 64)
    assert [maps[f"pool{i}"][1:] for i in range(1, 6)] == [
        (112, 112, 64),
        (56, 56, 128),
        (28, 28, 256),
        (14, 14, 512),
        (7, 7, 512),
    ]
    assert maps["fc8"] == (1, 1000)
    assert "norm1" in shapes(VGG("A-LRN"))[1]


def test_dropout_only_in_training():
    model = VGG("A", num_classes=3)
    x = jax.random.normal(jax.random.key(0), (1, 32, 32, 3))
    variables = model.init(jax.random.key(1), x)
    # Drawn from N(0, 0.01), eleven layers let almost nothing through; larger weights make the outputs visible.
    variables = jax.tree.map(lambda leaf: leaf * 10, variables)

    def outputs(key):
        return np.asarray(model.apply(variables, x, train=key is not None, rngs={"dropout": jax.random.key(key or 0)}))

    assert np.array_equal(outputs(None), outputs(None))
    assert not np.array_equal(outputs(1), outputs(2))
    assert np.std(variables["params"]["fc7"]["kernel"]) == pytest.approx(0.1, rel=0.01)


def test_glorots_weights_carry_the_signal_through():
    x = jax.random.normal(jax.random.key(0), (2, 32, 32, 3))
    spread = {}
    for initialiser in ("normal", "glorot"):
        model = VGG("A", num_classes=10, initialiser=initialiser)
        variables = model.init(jax.random.key(1), x)
        spread[initialiser] = np.std(model.apply(variables, x))
    kernel = variables["params"]["fc7"]["kernel"]  # uniform within √(6 / (in + out))
    assert np.abs(kernel).max() == pytest.approx((6 / 8192) ** 0.5, rel=1e-3)
    assert spread["normal"] < 1e-5
    assert spread["glorot"] > 1e-3


def test_errors():
    with pytest.raises(UserError, match='initialiser of VGG is "he"; it must be "normal" or "glorot"'):
        shapes(VGG(initialiser="he"))
    with pytest.raises(UserError, match='configuration of VGG is "F"; it must be one of A, A-LRN'):
        shapes(VGG("F"))
    with pytest.raises(UserError, match="too small for layer pool5"):
        shapes(VGG("A"), size=31)
