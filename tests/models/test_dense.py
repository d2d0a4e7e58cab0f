"""VGG over larger pictures: one window gives the net's logits, several their mean."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.errors import UserError
from cnnlab.models.dense import Dense, dense_apply, dense_scores
from cnnlab.models.vgg import VGG


@functools.cache
def trained(size, configuration="A", batch_norm=False):
    """A net for size×size whose outputs are visible, biases and batch statistics too."""
    model = VGG(configuration, num_classes=10, initialiser="glorot", batch_norm=batch_norm)
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, size, size, 3)))
    noise = np.random.default_rng(1)
    return model, jax.tree.map(
        lambda leaf: leaf + noise.uniform(0, 0.1, leaf.shape).astype(np.float32) if leaf.ndim == 1 else leaf, variables
    )


def pictures(size, n=2):
    return jax.random.normal(jax.random.key(2), (n, size, size, 3))


def mapped(model, variables, x):
    return jax.jit(dense_apply, static_argnums=0)(model, variables, x)


@pytest.mark.parametrize(
    ("size", "options"), [(32, {}), (64, {}), (32, {"configuration": "A-LRN"}), (64, {"batch_norm": True})]
)
def test_one_window_is_the_classifier(size, options):
    model, variables = trained(size, **options)
    x = pictures(size)
    scores = mapped(model, variables, x)
    assert scores.shape == (2, 1, 1, 10)
    logits = jax.jit(model.apply)(variables, x)
    assert np.std(logits) > 1e-3
    np.testing.assert_allclose(scores[:, 0, 0], logits, rtol=1e-4, atol=1e-4 * float(jnp.abs(logits).max()))


@pytest.mark.slow
def test_the_papers_net_and_size():
    model, variables = trained(224, "D")
    x = pictures(224, n=1)
    logits = jax.jit(model.apply)(variables, x)
    scores = mapped(model, variables, x)[:, 0, 0]
    np.testing.assert_allclose(scores, logits, rtol=1e-4, atol=1e-4 * float(jnp.abs(logits).max()))


def test_windows_of_a_larger_picture():
    model, variables = trained(64)
    x = pictures(160, n=1)
    scores = mapped(model, variables, x)
    assert scores.shape == (1, 4, 4, 10)
    means = jax.jit(dense_scores, static_argnums=0)(model, variables, x)
    np.testing.assert_allclose(means, scores.mean((1, 2)), rtol=1e-4, atol=1e-5)
    shape = jax.eval_shape(functools.partial(dense_apply, model), variables, jnp.zeros((1, 100, 140, 3))).shape
    assert shape == (1, 2, 3, 10)


def test_every_place_is_its_window_of_pool5_through_the_classifier():
    model, variables = trained(64)
    x = pictures(96, n=1)
    scores = mapped(model, variables, x)
    # The same convolutions in a net for 96×96.
    shape = jax.eval_shape(model.init, jax.random.key(0), x)["params"]["fc6"]["kernel"].shape
    params = {**variables["params"], "fc6": {**variables["params"]["fc6"], "kernel": jnp.zeros(shape)}}
    watched = functools.partial(model.apply, capture_intermediates=lambda m, _: m.name == "pool5", mutable=True)
    maps = jax.jit(watched)({"params": params}, x)[1]["intermediates"]["pool5"]["__call__"][0]
    assert maps.shape == (1, 3, 3, 512)
    for row in range(2):
        for column in range(2):
            units = np.asarray(maps[0, row : row + 2, column : column + 2]).ravel()
            for name in ("fc6", "fc7", "fc8"):
                layer = variables["params"][name]
                units = np.maximum(units, 0) @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])
            np.testing.assert_allclose(scores[0, row, column], units, rtol=1e-3, atol=1e-4)


def test_in_a_classifiers_place():
    model, variables = trained(32)
    dense = Dense(model)
    x = pictures(64)
    scores = jax.jit(dense.apply)(variables, x)
    np.testing.assert_allclose(scores, mapped(model, variables, x).mean((1, 2)), rtol=1e-4, atol=1e-5)
    fresh = jax.eval_shape(dense.init, jax.random.key(0), x[:, :32, :32])
    assert jax.tree.map(jnp.shape, fresh) == jax.tree.map(jnp.shape, variables)
    with pytest.raises(UserError, match="for testing only"):
        dense.apply(variables, x, train=True)


def test_half_precision():
    model, variables = trained(32)
    half = dataclasses.replace(model, dtype=jnp.bfloat16)
    scores = mapped(half, variables, pictures(64))
    assert scores.dtype == jnp.float32
    np.testing.assert_allclose(scores, mapped(model, variables, pictures(64)), rtol=0.1, atol=0.1)


def test_errors():
    model, variables = trained(64)
    traced = functools.partial(jax.eval_shape, functools.partial(dense_apply, model))
    with pytest.raises(UserError, match="too small for layer fc6"):
        traced(variables, pictures(63))
    oblong = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 64, 3)))
    with pytest.raises(UserError, match="fc6 has 1024 inputs"):
        traced(oblong, pictures(64))
