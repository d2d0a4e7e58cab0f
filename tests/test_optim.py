"""Optimizers against hand-computed updates."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnlab.errors import UserError
from cnnlab.optim import adam_cosine


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


@pytest.mark.parametrize(("rate", "steps"), [(0.0, 5), (-1.0, 5), (float("nan"), 5), (0.1, 0)])
def test_rates_and_steps_must_be_positive(rate, steps):
    with pytest.raises(UserError, match="both must be positive"):
        adam_cosine(rate, steps)
