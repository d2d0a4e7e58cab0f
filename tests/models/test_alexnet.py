"""AlexNet: parameters and maps of both variants, the two columns, and the paper's first weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.errors import UserError
from cnnlab.models.alexnet import AlexNet
from tests.small import count, shapes


@pytest.mark.parametrize(
    ("model", "size", "parameters"),
    [
        (AlexNet(), 227, 60_965_224),
        (AlexNet(groups=1), 227, 62_378_344),
        (AlexNet(variant="one_column"), 224, 61_100_840),
    ],
)
def test_parameters(model, size, parameters):
    assert count(shapes(model, size)[0]["params"]) == parameters


def test_maps_of_the_paper():
    _, maps = shapes(AlexNet(), 227)
    expected = {"conv1": (55, 55, 96), "norm1": (55, 55, 96), "pool1": (27, 27, 96), "conv2": (27, 27, 256)}
    expected |= {"pool2": (13, 13, 256), "conv3": (13, 13, 384), "conv5": (13, 13, 256), "pool5": (6, 6, 256)}
    assert {name: maps[name][1:] for name in expected} == expected
    assert maps["fc6"] == (1, 4096)


def test_maps_of_one_column():
    _, maps = shapes(AlexNet(variant="one_column"), 224)
    assert maps["conv1"][1:] == (55, 55, 64)
    assert maps["pool5"][1:] == (6, 6, 256)
    assert "norm1" not in maps


@pytest.fixture(scope="module")
def small():
    """The paper's net on the smallest picture, and its variables."""
    model = AlexNet(num_classes=4)
    return model, model.init(jax.random.key(0), jnp.zeros((1, 67, 67, 3)))


def test_first_weights(small):
    params = small[1]["params"]
    for name in params:
        assert np.std(params[name]["kernel"]) == pytest.approx(0.01, rel=0.05)
        starts_at_one = name in ("conv2", "conv4", "conv5", "fc6", "fc7")
        assert np.array_equal(params[name]["bias"], np.full_like(params[name]["bias"], starts_at_one))


def test_the_columns_do_not_see_each_other_before_conv3(small):
    """The second half of conv1's maps reaches only the second half of conv2's."""
    model, variables = small
    x = jax.random.normal(jax.random.key(1), (1, 67, 67, 3))

    def conv2(kernel):
        params = {**variables["params"], "conv1": {**variables["params"]["conv1"], "kernel": kernel}}
        _, found = model.apply({"params": params}, x, capture_intermediates=True, mutable=["intermediates"])
        return found["intermediates"]["conv2"]["__call__"][0]

    kernel = variables["params"]["conv1"]["kernel"]
    change = np.abs(conv2(kernel.at[..., 48:].multiply(50)) - conv2(kernel)).max((0, 1, 2))
    # The normalisation's window reaches over the border between the columns, by two maps.
    inner = np.abs(conv2(kernel.at[..., 50:].multiply(50)) - conv2(kernel)).max((0, 1, 2))
    assert (change[128:] > 1e-4).all()
    assert (inner[:128] == 0).all()


def test_dropout_is_off_in_evaluation(small):
    model, variables = small
    x = jax.random.normal(jax.random.key(1), (1, 67, 67, 3)) * 100
    keys = [{"dropout": jax.random.key(i)} for i in (1, 2)]
    dropped = [np.asarray(model.apply(variables, x, train=True, rngs=key)) for key in keys]
    kept = [np.asarray(model.apply(variables, x, rngs=key)) for key in keys]
    assert not np.array_equal(*dropped)
    assert np.array_equal(*kept)


def test_errors():
    with pytest.raises(UserError, match='variant of AlexNet is "two"'):
        shapes(AlexNet(variant="two"))
    with pytest.raises(UserError, match="too small for layer pool5"):
        shapes(AlexNet(), 51)
