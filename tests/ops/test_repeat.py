"""Blocks in a loop give what they give one by one: values, gradients, moving averages; and are traced once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.models.resnet_cifar import ResNetCifar
from cnnlab.ops import repeat
from tests.small import random_array

MODEL = ResNetCifar(depth=26)  # 4 blocks a stage, of which 3 are repeated


@pytest.fixture(scope="module")
def x():
    return random_array((2, 8, 8, 3))


@pytest.fixture(scope="module")
def variables(x):
    return jax.jit(MODEL.init)(jax.random.key(0), x)


def step(variables, x):
    def loss(params):
        logits, moved = MODEL.apply({**variables, "params": params}, x, train=True, mutable=["batch_stats"])
        return jnp.sum(jnp.square(logits)), moved

    return jax.value_and_grad(loss, has_aux=True)(variables["params"])


@pytest.mark.parametrize("train", [True, False])
def test_the_loop_gives_what_the_blocks_give(train, x, variables, monkeypatch):
    def result(variables, x):
        return step(variables, x) if train else MODEL.apply(variables, x)

    one_by_one = jax.jit(result)(variables, x)
    monkeypatch.setattr(repeat, "loops", lambda: True)
    looped = jax.jit(lambda *a: result(*a))(variables, x)
    assert jax.tree.structure(looped) == jax.tree.structure(one_by_one)
    for a, b in zip(jax.tree.leaves(looped), jax.tree.leaves(one_by_one), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * max(1.0, float(jnp.abs(b).max())))


def test_the_loop_is_traced_once(x, variables, monkeypatch):
    def lines():
        return len(str(jax.make_jaxpr(lambda v, x: MODEL.apply(v, x))(variables, x)).splitlines())

    one_by_one = lines()
    monkeypatch.setattr(repeat, "loops", lambda: True)
    assert lines() < 0.7 * one_by_one


def test_every_block_starts_with_values_of_its_own(variables):
    kernels = [np.asarray(variables["params"][f"conv3_{n}"]["conv2"]["kernel"]) for n in (1, 2, 3, 4)]
    assert all(np.std(k) == pytest.approx(np.sqrt(2 / (9 * 32)), rel=0.05) for k in kernels)
    assert not any(np.array_equal(a, b) for i, a in enumerate(kernels) for b in kernels[:i])


def test_captured_blocks_are_run_one_by_one(x, variables, monkeypatch):
    monkeypatch.setattr(repeat, "loops", lambda: True)
    _, found = MODEL.apply(variables, x, capture_intermediates=True, mutable=["intermediates"])
    assert found["intermediates"]["conv3_4"]["__call__"][0].shape == (2, 4, 4, 32)
