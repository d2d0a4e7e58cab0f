"""The train step of any loss: its key, running statistics, what goes through `reduce`."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnlab.errors import UserError
from cnnlab.ops import forms
from cnnlab.state import TrainState
from cnnlab.tasks.supervised import make_train_step

KEY = jax.random.key(0)


def fresh(optimizer):
    params = {"w": jnp.array([1.0, -2.0])}
    return TrainState(jnp.zeros((), jnp.int32), params, {"seen": jnp.zeros(())}, optimizer.init(params))


def loss_fn(params, model_state, batch, rng):
    """½|w|² with the noise and the batch's mean as further results."""
    loss = 0.5 * jnp.sum(params["w"] ** 2)
    return loss, ({"noise": jax.random.uniform(rng)}, {"seen": model_state["seen"] + batch["x"].mean()})


def batch_at(position):
    return {"x": jnp.array([2.0, 4.0]), "position": jnp.arange(position, position + 2)}


def identity(tree):
    return tree


def test_momentum_and_the_models_state_are_carried_on():
    optimizer = optax.sgd(0.1, momentum=0.5)
    step = make_train_step(loss_fn, optimizer)
    state = fresh(optimizer)
    w, velocity = np.array([1.0, -2.0]), np.zeros(2)
    for n in range(3):
        state, metrics = step(state, batch_at(0), KEY, identity)
        assert np.isclose(metrics["loss"], 0.5 * (w**2).sum())
        velocity = 0.5 * velocity + w
        w = w - 0.1 * velocity
        np.testing.assert_allclose(state.params["w"], w, rtol=1e-6)
        assert float(state.model_state["seen"]) == 3 * (n + 1)


def test_the_loss_gets_the_steps_key_wherever_its_examples_are():
    optimizer = optax.sgd(0.1)
    step = make_train_step(loss_fn, optimizer)

    def noise(position, key):
        return float(step(fresh(optimizer), batch_at(position), key, identity)[1]["noise"])

    assert noise(0, KEY) == noise(2, KEY) == float(jax.random.uniform(KEY))
    assert noise(0, KEY) != noise(0, jax.random.key(1))


def test_the_models_state_is_reduced_and_the_optimizers_is_not():
    optimizer = optax.sgd(0.1, momentum=0.5)
    seen = []

    def reduce(tree):
        seen.append(tree)
        return jax.tree.map(lambda x: x / 2, tree)

    state, metrics = make_train_step(loss_fn, optimizer)(fresh(optimizer), batch_at(0), KEY, reduce)
    assert len(seen) == 1
    assert len(jax.tree.leaves(seen[0])) == 4  # w's gradient, what the model has seen, loss and noise
    assert float(state.model_state["seen"]) == 1.5
    assert float(metrics["loss"]) == 1.25
    np.testing.assert_allclose(state.params["w"], [0.95, -1.9])


def squares(params, model_state, batch, rng):
    """The mean of (w·x)² with the batches seen counted."""
    loss = jnp.mean((batch["x"] @ params["w"]) ** 2)
    return loss, ({"first": batch["x"][0, 0]}, {"seen": model_state["seen"] + 1})


@pytest.mark.parametrize("accumulate", [1, 2, 3, 6])
@pytest.mark.parametrize("looped", [False, True])
def test_parts_of_a_batch_give_the_whole_batchs_step(accumulate, looped, monkeypatch):
    monkeypatch.setattr(forms, "loops", lambda: looped)
    optimizer = optax.sgd(0.1)
    batch = {"x": jax.random.normal(KEY, (6, 2)), "position": jnp.arange(6)}
    step = jax.jit(make_train_step(squares, optimizer, accumulate=accumulate), static_argnums=3)
    state, metrics = step(fresh(optimizer), batch, KEY, identity)
    w, x = np.array([1.0, -2.0]), np.asarray(batch["x"])
    np.testing.assert_allclose(state.params["w"], w - 0.1 * 2 * x.T @ (x @ w) / 6, rtol=1e-5)
    assert np.isclose(metrics["loss"], np.mean((x @ w) ** 2))
    assert np.isclose(metrics["first"], x[:: 6 // accumulate, 0].mean())
    assert float(state.model_state["seen"]) == accumulate


@pytest.mark.parametrize("looped", [False, True])
def test_more_parts_hold_no_more_gradients(looped, monkeypatch):
    monkeypatch.setattr(forms, "loops", lambda: looped)
    optimizer, size = optax.sgd(0.1), 300
    batch = {"x": jnp.ones((8, size)), "position": jnp.arange(8)}

    def loss_fn(params, model_state, batch, rng):
        return jnp.mean((batch["x"] @ params["w"]) ** 2), ({}, model_state)

    def held(accumulate):
        params = {"w": jnp.ones((size, size))}
        state = TrainState(jnp.zeros((), jnp.int32), params, {}, optimizer.init(params))
        step = jax.jit(make_train_step(loss_fn, optimizer, accumulate=accumulate), static_argnums=3)
        return step.lower(state, batch, KEY, identity).compile().memory_analysis().temp_size_in_bytes

    assert held(8) <= held(2) + size * size * 4, "at most one copy of the weights more, not six"


def test_parts_must_be_equal():
    optimizer = optax.sgd(0.1)
    batch = {"x": jnp.ones((6, 2)), "position": jnp.arange(6)}
    with pytest.raises(UserError, match=r"config\.accumulate is 4: it must divide the 6 examples"):
        make_train_step(squares, optimizer, accumulate=4)(fresh(optimizer), batch, KEY, identity)
