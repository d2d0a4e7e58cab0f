"""Optimizers against hand-computed updates."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnlab.errors import UserError
from cnnlab.optim import (
    adam_cosine,
    averaged,
    averaged_params,
    averaging,
    exponential_schedule,
    falling_on_plateau,
    kernels,
    limit_filters,
    momentum_sgd,
    rmsprop,
    step_schedule,
    with_average,
)


def updates(optimizer, params, grads, count):
    """The parameters after each of `count` updates with the same gradients."""
    state, seen = optimizer.init(params), []
    for _ in range(count):
        change, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, change)
        seen.append(np.asarray(params))
    return seen


def test_adam_follows_half_a_cosine_to_zero():
    # With a constant gradient Adam's step is the rate itself: the mean over the root of the mean square is 1.
    seen = updates(adam_cosine(0.1, steps=4), jnp.zeros(1), jnp.array([3.0]), 6)
    rates = [0.1 * 0.5 * (1 + np.cos(np.pi * n / 4)) for n in range(4)] + [0.0, 0.0]
    assert np.allclose(np.concatenate(seen), -np.cumsum(rates), atol=1e-6)


def test_weight_decay_is_decoupled():
    (once,) = updates(adam_cosine(0.1, steps=4, weight_decay=0.5), jnp.array([2.0]), jnp.array([0.0]), 1)
    assert np.allclose(once, 2.0 - 0.1 * 0.5 * 2.0)


def test_clipping_bounds_the_gradient():
    plain, clipped = (adam_cosine(0.1, 4, clip_norm=clip) for clip in (0.0, 1e-8))
    (large,) = updates(plain, jnp.zeros(2), jnp.array([3.0, 4.0]), 1)
    # Clipped to the size of Adam's epsilon, the gradient's step is visibly shorter than the rate.
    (small,) = updates(clipped, jnp.zeros(2), jnp.array([3.0, 4.0]), 1)
    assert np.allclose(large, [-0.1, -0.1])
    assert np.allclose(small, [-0.1 * 0.6 / 1.6, -0.1 * 0.8 / 1.8], atol=1e-4)


@pytest.mark.parametrize("weight_decay", [-1e-4, float("nan")])
def test_weights_do_not_grow(weight_decay):
    for make in (lambda **fields: adam_cosine(0.1, 5, **fields), lambda **fields: momentum_sgd(0.1, **fields)):
        with pytest.raises(UserError, match=r"the weight decay is .*; it must be 0 or more"):
            make(weight_decay=weight_decay)


@pytest.mark.parametrize(("rate", "steps"), [(0.0, 5), (-1.0, 5), (float("nan"), 5), (0.1, 0)])
def test_rates_and_steps_must_be_positive(rate, steps):
    with pytest.raises(UserError, match="both must be positive"):
        adam_cosine(rate, steps)


def test_momentum_and_weight_decay_in_the_gradient():
    seen = updates(momentum_sgd(0.1, 0.9, weight_decay=0.5), jnp.array([2.0, -1.0]), jnp.array([3.0, 0.0]), 3)
    w, v = np.array([2.0, -1.0]), np.zeros(2)
    for found in seen:
        v = 0.9 * v + np.array([3.0, 0.0]) + 0.5 * w
        w = w - 0.1 * v
        assert np.allclose(found, w, atol=1e-6)


def test_alexnets_form_of_momentum_is_the_same():
    # Section 5 of the paper: v ← 0.9 v − 0.0005 ε w − ε g, w ← w + v.
    seen = updates(momentum_sgd(0.01, 0.9, weight_decay=5e-4), jnp.array([2.0]), jnp.array([3.0]), 4)
    w, v = np.array([2.0]), np.zeros(1)
    for found in seen:
        v = 0.9 * v - 0.0005 * 0.01 * w - 0.01 * 3.0
        w = w + v
        assert np.allclose(found, w, atol=1e-6)


def test_weight_decay_falls_on_all_parameters():
    params = {"kernel": jnp.ones((3, 3, 2, 2)), "bias": jnp.ones(2), "scale": jnp.ones(())}
    optimizer = momentum_sgd(0.1, weight_decay=0.5)
    change, _ = optimizer.update({k: jnp.zeros_like(v) for k, v in params.items()}, optimizer.init(params), params)
    assert all(np.allclose(value, -0.05) for value in change.values())


def test_the_rate_falls_to_a_tenth_in_the_step_it_should():
    # Without momentum a step is the rate itself.
    rate = step_schedule(0.5, (2, 3), warm_up=1)
    seen = np.concatenate(updates(momentum_sgd(rate, 0.0), jnp.zeros(1), jnp.ones(1), 5))
    assert np.allclose(-np.diff(seen, prepend=0.0), [0.05, 0.5, 0.05, 0.005, 0.005])


def test_no_drops_is_one_rate():
    assert [float(step_schedule(0.5, ())(step)) for step in (0, 10**6)] == [0.5, 0.5]


def test_the_rate_falls_by_a_factor_every_so_many_steps():
    rate = exponential_schedule(0.5, 0.9, every=2)
    assert np.allclose([rate(step) for step in range(5)], [0.5, 0.5, 0.45, 0.45, 0.405])


def test_rmsprop_by_hand():
    gradient = np.array([0.3, -0.4])
    seen = updates(rmsprop(0.1), jnp.zeros(2), jnp.asarray(gradient), 3)
    w, s = np.zeros(2), np.zeros(2)
    for found in seen:
        s = 0.9 * s + 0.1 * gradient**2
        w = w - 0.1 * gradient / np.sqrt(s + 1)
        assert np.allclose(found, w, atol=1e-6)


def test_rmsprop_clips_at_a_norm_of_two():
    long, clipped = (updates(rmsprop(0.1), jnp.zeros(2), jnp.array(g), 1)[0] for g in ([30.0, 40.0], [1.2, 1.6]))
    assert np.allclose(long, clipped, atol=1e-6)


def test_filters_are_scaled_down_after_the_update_and_nothing_else_is():
    draw = np.random.default_rng(0)
    kernel = draw.normal(0, [0.05, 0.3], (3, 3, 4, 2)).astype(np.float32)
    gradient = draw.normal(0, 0.01, kernel.shape).astype(np.float32)
    params = {"kernel": jnp.asarray(kernel), "dense": jnp.ones((4, 4)), "bias": jnp.ones(3)}
    grads = {"kernel": jnp.asarray(gradient), "dense": jnp.ones((4, 4)), "bias": jnp.ones(3)}
    optimizer = optax.chain(optax.sgd(1.0), limit_filters(0.1))
    change, _ = optimizer.update(grads, optimizer.init(params), params)
    new = optax.apply_updates(params, change)
    stepped = kernel - gradient
    small, large = stepped[..., 0], stepped[..., 1]
    assert np.sqrt((small**2).mean()) < 0.1 < np.sqrt((large**2).mean())
    assert np.allclose(new["kernel"][..., 0], small, atol=1e-6)
    assert np.allclose(new["kernel"][..., 1], large * 0.1 / np.sqrt((large**2).mean()), atol=1e-6)
    assert np.allclose(new["dense"], 0)
    assert np.allclose(new["bias"], 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: momentum_sgd(0.0), "learning rate is 0.0; it must be positive"),
        (lambda: step_schedule(-1.0, ()), "learning rate is -1.0; it must be positive"),
        (lambda: step_schedule(0.1, (3, 3)), r"drops at steps \(3, 3\); each must be greater"),
        (lambda: step_schedule(0.1, (5,), warm_up=5), "first 5 steps"),
        (lambda: exponential_schedule(float("nan"), 0.9, 1), "learning rate is nan; it must be positive"),
        (lambda: exponential_schedule(0.1, 0.9, 0), "falls every 0 steps; it must be at least 1"),
    ],
)
def test_schedules_that_cannot_be(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_nesterov_looks_ahead():
    seen = updates(momentum_sgd(0.1, momentum=0.5, nesterov=True), jnp.zeros(1), jnp.array([1.0]), 2)
    # v: 1, 1.5; steps of ∇L + momentum · v: 1.5, 1.75.
    assert np.allclose(np.concatenate(seen), [-0.15, -0.325])


def test_only_kernels_decay():
    params = {"kernel": jnp.full((1, 1), 2.0), "bias": jnp.full(1, 2.0)}
    optimizer = momentum_sgd(0.1, momentum=0.0, weight_decay=0.5, decayed=kernels)
    change, _ = optimizer.update(jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params)
    assert np.allclose(change["kernel"], -0.1)
    assert np.allclose(change["bias"], 0.0)


def test_the_rate_falls_where_the_loss_stays():
    optimizer = falling_on_plateau(momentum_sgd(1.0, momentum=0.0), every=2, patience=2, factor=0.1, least=0.01)
    params, grads = jnp.zeros(1), jnp.array([-1.0])
    state, steps = optimizer.init(params), []
    for loss in (4.0, 4.0, 3.0, 3.0) + (3.0,) * 12:
        change, state = optimizer.update(grads, state, params, value=loss)
        steps.append(float(change[0]))
    # Looks at steps 2 (loss 4), 4 (3, a gain), 6 and 8 without one: from the eighth on a tenth, then a hundredth.
    assert np.allclose(steps, [1.0] * 7 + [0.1] * 4 + [0.01] * 5)
    with pytest.raises(UserError, match="at least 1"):
        falling_on_plateau(momentum_sgd(1.0), every=0, patience=1)


def test_a_plateaus_state_can_be_saved_before_the_first_look():
    optimizer = falling_on_plateau(momentum_sgd(1.0), every=100, patience=2)
    state = optimizer.init(jnp.zeros(1))
    for _ in range(2):
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
        _, state = optimizer.update(jnp.ones(1), state, jnp.zeros(1), value=4.0)


def test_the_average_follows_the_parameters():
    optimizer = with_average(momentum_sgd(1.0, momentum=0.0), decay=0.2)
    params, grads = {"a": {"w": jnp.array([1.0])}}, {"a": {"w": jnp.array([-1.0])}}
    state, w, average = optimizer.init(params), 1.0, 1.0
    for n in range(3):
        change, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, change)
        w, kept = w + 1.0, min(0.2, (1 + n) / (10 + n))
        average = kept * average + (1 - kept) * w
        assert np.allclose(state.average["a"]["w"], average)
    assert np.allclose(params["a"]["w"], w)
    both = {**params, "frozen": {"w": jnp.array([7.0])}}
    used = averaged_params(both, state)
    assert np.allclose(used["a"]["w"], average)
    assert used["frozen"]["w"] == 7.0
    assert averaged_params(params, optax.EmptyState()) is params
    with pytest.raises(UserError, match="between 0 and 1"):
        with_average(momentum_sgd(1.0), decay=1.0)


def test_batch_statistics_are_averaged_as_the_parameters_are():
    optimizer, params = with_average(momentum_sgd(1.0), decay=0.2), {"w": jnp.ones(1)}
    first = {"batch_stats": {"mean": jnp.array([0.0])}, "other": {"x": jnp.array([5.0])}}
    state = averaging(optimizer.init(params), first)
    average = 0.0
    for n in range(3):
        now = {**first, "batch_stats": {"mean": jnp.array([n + 1.0])}}
        _, state = optimizer.update({"w": jnp.zeros(1)}, state, params, model_state=now)
        kept = min(0.2, (1 + n) / (10 + n))
        average = kept * average + (1 - kept) * (n + 1.0)
    found = averaged({"params": params, **now}, state)
    assert np.allclose(found["batch_stats"]["mean"], average)
    assert (found["params"]["w"], found["other"]["x"]) == (1.0, 5.0)
    plain = optax.sgd(1.0).init(params)
    assert averaging(plain, first) is plain
    assert averaged(now, plain) is now
