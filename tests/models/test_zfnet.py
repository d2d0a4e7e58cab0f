"""ZF Net: parameters, the paper's map sizes, first weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.errors import UserError
from cnnlab.models.zfnet import ZFNet
from tests.small import count, shapes


def test_parameters_and_maps():
    variables, maps = shapes(ZFNet())
    assert count(variables["params"]) == 62_357_608
    names = ("conv1", "pool1", "conv2", "pool2", "conv3", "conv4", "conv5", "pool5")
    assert [maps[name][1] for name in names] == [110, 55, 26, 13, 13, 13, 13, 6]
    assert maps["norm2"] == (1, 13, 13, 256)


def test_first_weights_and_dropout():
    model = ZFNet(num_classes=4)
    x = jax.random.normal(jax.random.key(0), (1, 64, 64, 3)) * 100
    variables = model.init(jax.random.key(1), x)
    for layer in variables["params"].values():
        assert np.std(layer["kernel"]) == pytest.approx(0.01, rel=0.05)
        assert (np.asarray(layer["bias"]) == 0).all()
    a, b = (model.apply(variables, x, train=True, rngs={"dropout": jax.random.key(i)}) for i in (1, 2))
    assert not np.array_equal(a, b)
    assert a.dtype == jnp.float32


def test_too_small():
    with pytest.raises(UserError, match="too small for layer"):
        shapes(ZFNet(), 30)
