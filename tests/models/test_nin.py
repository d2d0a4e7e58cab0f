"""Network in Network: parameters and maps of both forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.errors import UserError
from cnnlab.models.nin import NiN
from tests.small import count, shapes


@pytest.mark.parametrize(
    ("model", "size", "parameters"),
    [(NiN(), 32, 966_986), (NiN(form="imagenet", num_classes=1000), 224, 7_595_176)],
)
def test_parameters(model, size, parameters):
    assert count(shapes(model, size)[0]["params"]) == parameters


def test_maps():
    _, maps = shapes(NiN(), 32)
    expected = {"cccp2": (32, 32, 96), "pool1": (16, 16, 96), "cccp4": (16, 16, 192), "pool2": (8, 8, 192)}
    expected |= {"cccp6": (8, 8, 10)}
    assert {name: maps[name][1:] for name in expected} == expected
    _, maps = shapes(NiN(form="imagenet", num_classes=1000))
    assert [maps[name][1:3] for name in ("conv1", "pool1", "pool2", "pool3")] == [(54, 54), (27, 27), (13, 13), (6, 6)]


def test_the_score_is_the_mean_of_the_classes_map():
    model = NiN(num_classes=3)
    x = jax.random.normal(jax.random.key(0), (2, 16, 16, 3))
    variables = model.init(jax.random.key(1), x)
    scores, found = model.apply(variables, x, capture_intermediates=True, mutable=["intermediates"])
    last = found["intermediates"]["cccp6"]["__call__"][0]
    assert np.allclose(scores, np.maximum(last, 0).mean((1, 2)), atol=1e-6)


def test_dropout_only_in_training():
    model = NiN(num_classes=3)
    x = jnp.ones((1, 16, 16, 3))
    variables = model.init(jax.random.key(1), x)
    a, b = (model.apply(variables, x, train=True, rngs={"dropout": jax.random.key(i)}) for i in (1, 2))
    assert not np.array_equal(a, b)
    assert np.array_equal(model.apply(variables, x), model.apply(variables, x))


def test_whitening_adds_nothing_to_train_and_comes_before_the_first_filter():
    plain, white = NiN(num_classes=3), NiN(num_classes=3, whiten=True)
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    variables = white.init(jax.random.key(1), x)
    params, size = {"params": variables["params"]}, 8 * 8 * 3
    assert count(params) == count(plain.init(jax.random.key(1), x))
    fitted = {"whitening": {"mean": jnp.full(size, 0.5), "matrix": 2 * jnp.eye(size)}}
    found = white.apply({**params, "whitening": fitted}, x)
    np.testing.assert_allclose(found, plain.apply(params, 2 * (x - 0.5)), rtol=1e-5, atol=1e-6)


def test_errors():
    with pytest.raises(UserError, match='form of NiN is "mnist"'):
        shapes(NiN(form="mnist"), 32)
    with pytest.raises(UserError, match="too small for layer conv1"):
        shapes(NiN(form="imagenet"), 8)
