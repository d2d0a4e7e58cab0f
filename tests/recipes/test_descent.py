"""What the experiments' fields of descent make of it."""

import jax.numpy as jnp
import optax
import pytest

from cnnlab.errors import UserError
from cnnlab.recipes.descent import descent, descent_fields


def moves(steps=4, gradient=1.0, value=1.0, **fields):
    """How far one weight of a kernel and one bias, of gradient `gradient`, go in each step; the rate is 0.1."""
    config = descent_fields()
    config.update(learning_rate=0.1, weight_decay=0.0)
    config.update(fields)
    optimizer = optax.with_extra_args_support(descent(config, optax.constant_schedule(0.1), 4, 1))
    params = {"kernel": jnp.ones((1, 1)), "bias": jnp.ones(1)}
    state, found = optimizer.init(params), []
    for _ in range(steps):
        grads = {"kernel": jnp.full((1, 1), gradient), "bias": jnp.full(1, gradient)}
        updates, state = optimizer.update(grads, state, params, value=jnp.float32(value))
        found.append((float(updates["kernel"][0, 0]), float(updates["bias"][0])))
    return found


def close(found, wanted):
    return found == pytest.approx([-step for step in wanted], rel=1e-5)


def test_the_paper_by_default():
    assert close([kernel for kernel, _ in moves()], [0.1, 0.19, 0.271, 0.3439])


def test_nesterov_looks_ahead():
    assert close([kernel for kernel, _ in moves(2, nesterov=True)], [0.19, 0.271])


def test_cosine_falls_to_nothing():
    first, second, third, _ = (kernel for kernel, _ in moves(schedule="cosine"))
    assert close([first, second, third], [0.1, 1.9 * 0.1 * (1 + 2**-0.5) / 2, 2.71 * 0.05])


def test_warming_up():
    assert close([kernel for kernel, _ in moves(2, warm_up=2)], [0.05, 0.19])


def test_a_plateau_lowers_the_rate():
    steps = [kernel for kernel, _ in moves(4, schedule="plateau", patience=2)]
    plain = [kernel for kernel, _ in moves(4)]
    assert steps[0] == pytest.approx(plain[0])
    assert steps[-1] == pytest.approx(plain[-1] / 10, rel=1e-5)


def test_decay_and_clipping():
    (kernel, bias), *_ = moves(1, gradient=0.0, weight_decay=0.5)
    assert close([kernel, bias], [0.05, 0.05])
    (kernel, bias), *_ = moves(1, gradient=0.0, weight_decay=0.5, decay_all=False)
    assert close([kernel], [0.05])
    assert bias == 0
    (kernel, bias), *_ = moves(1, gradient=3.0, clip_norm=1.0)
    assert close([kernel, bias], [0.1 / 2**0.5] * 2)


def test_what_is_out_of_range():
    with pytest.raises(UserError, match=r'config\.schedule is "steps"; it must be one of paper, cosine, plateau'):
        moves(schedule="steps")
    with pytest.raises(UserError, match=r"config\.warm_up is -1"):
        moves(warm_up=-1)
