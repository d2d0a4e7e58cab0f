"""L-BFGS between 0 and 1, for many functions at once: each picture has its own, as each adversary has its picture.

Written here because others take one function at a time, and a network is many times faster on many pictures together.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float

from cnnlab.inspect.attacks import Pictures, as_argument, check_steps

FIRST = 0.1  # the length of a step, in L2, where nothing is known of the curvature
ENOUGH = 1e-4  # of the decrease that the gradient promises, a step must bring this share (Armijo's condition)


class _State(NamedTuple):
    """Of each function: its best point so far, what is known there, the step to try next, and the last pairs."""

    x: Float[Array, "n d"]
    value: Float[Array, " n"]
    gradient: Float[Array, "n d"]
    direction: Float[Array, "n d"]
    length: Float[Array, " n"]
    moves: Float[Array, "m n d"]
    changes: Float[Array, "m n d"]  # of the gradient along the moves


def minimise(
    function: Callable[[Pictures], Float[Array, " n"]], x: Pictures, steps: int = 50, memory: int = 8
) -> Pictures:
    """For each picture the picture in [0, 1] near it where its own function is low: projected L-BFGS.

    Byrd, Lu, Nocedal, Zhu 1995 is the usual method for a box; this one is simpler. A pixel at 0 or 1 that the gradient
    presses against the border is held (Bertsekas 1982), L-BFGS's two loops (Nocedal 1980) give the direction of the
    others, and the step is cut to the box. A step that does not bring enough is tried again at a shorter length. Each
    picture has its own direction, length and memory, so that each round costs one gradient of all pictures together.

    Args:
      function: of all pictures, a value for each; each depends on its own picture alone.
      x: where to begin, in [0, 1].
      steps: gradients to compute, those of steps that failed included.
      memory: how many of the last moves the curvature is known from.
    """
    check_steps(steps)
    function = as_argument(function)
    state = _begin(function, x, memory)
    for _ in range(steps):  # no loop of lax's: on CPUs convolutions within it are many times slower
        state = _step(function, state, x.shape)
    return state.x.reshape(x.shape)


def _evaluate(
    function: Partial, x: Float[Array, "n d"], shape: tuple[int, ...]
) -> tuple[Float[Array, " n"], Float[Array, "n d"]]:
    def total(x):
        values = function(x.reshape(shape))
        return values.sum(), values

    gradient, values = jax.grad(total, has_aux=True)(x)
    return values, gradient


@functools.partial(jax.jit, static_argnames="memory")
def _begin(function: Partial, x: Pictures, memory: int) -> _State:
    flat = x.reshape(len(x), -1)
    value, gradient = _evaluate(function, flat, x.shape)
    pairs = jnp.zeros((memory, *flat.shape))
    direction = _direction(flat, gradient, pairs, pairs)
    return _State(flat, value, gradient, direction, jnp.ones(len(x)), pairs, pairs)


@functools.partial(jax.jit, static_argnames="shape")
def _step(function: Partial, state: _State, shape: tuple[int, ...]) -> _State:
    x = jnp.clip(state.x + state.length[:, None] * state.direction, 0, 1)
    value, gradient = _evaluate(function, x, shape)
    promised = (state.gradient * (x - state.x)).sum(-1)
    taken = value <= state.value + ENOUGH * promised
    row = taken[:, None]
    # Too short a step, and still no lower: the memory misleads, as it may at a kink of ReLUs; forget it.
    forget = ~taken & (state.length < 1e-3)

    def push(pairs: Float[Array, "m n d"], new: Float[Array, "n d"]) -> Float[Array, "m n d"]:
        pushed = jnp.where(row, jnp.concatenate([pairs[1:], new[None]]), pairs)
        return jnp.where(forget[:, None], 0, pushed)

    moves, changes = push(state.moves, x - state.x), push(state.changes, gradient - state.gradient)
    x, gradient = jnp.where(row, x, state.x), jnp.where(row, gradient, state.gradient)
    fresh = _direction(x, gradient, moves, changes)
    # After a failure the parabola through both values and the slope says how far to go; not less than a tenth.
    bend = jnp.maximum(value - state.value - promised, 1e-30)
    shorter = state.length * jnp.clip(jnp.nan_to_num(-promised / (2 * bend)), 0.1, 0.5)
    length = jnp.where(taken, 1.0, jnp.where(forget, 0.1, shorter))
    direction = jnp.where(row | forget[:, None], fresh, state.direction)
    return _State(x, jnp.where(taken, value, state.value), gradient, direction, length, moves, changes)


def _direction(
    x: Float[Array, "n d"], gradient: Float[Array, "n d"], moves: Float[Array, "m n d"], changes: Float[Array, "m n d"]
) -> Float[Array, "n d"]:
    """−H · gradient of the free pixels, H the inverse Hessian as the last moves tell it; 0 for those that are held."""
    free = ~(((x <= 0) & (gradient > 0)) | ((x >= 1) & (gradient < 0)))
    gradient, moves, changes = (jnp.where(free, array, 0) for array in (gradient, moves, changes))
    along, bend = (moves * changes).sum(-1), jnp.square(changes).sum(-1)
    known = along > 1e-6 * jnp.sqrt(jnp.square(moves).sum(-1) * bend)  # convex along the move, by more than rounding
    weight = jnp.where(known, 1 / jnp.where(known, along, 1), 0)
    norm = jnp.sqrt(jnp.square(gradient).sum(-1))
    first = FIRST / jnp.maximum(norm, 1e-30)

    # Loops of lax's, as nothing of the network is in them: they are quick to compile.
    def back(rest: Array, pair: tuple[Array, ...]) -> tuple[Array, Array]:
        move, bent, weight = pair
        share = weight * (move * rest).sum(-1)
        return rest - share[:, None] * bent, share

    def forth(rest: Array, pair: tuple[Array, ...]) -> tuple[Array, None]:
        move, bent, weight, share = pair
        return rest + (share - weight * (bent * rest).sum(-1))[:, None] * move, None

    def latest(scale: Array, pair: tuple[Array, ...]) -> tuple[Array, None]:
        known, along, bend = pair
        return jnp.where(known, along / jnp.where(known, bend, 1), scale), None

    rest, shares = jax.lax.scan(back, gradient, (moves, changes, weight), reverse=True)
    scale, _ = jax.lax.scan(latest, first, (known, along, bend))  # the newest that is known sets it
    rest, _ = jax.lax.scan(forth, scale[:, None] * rest, (moves, changes, weight, shares))
    steep = first[:, None] * gradient
    return -jnp.where(((rest * gradient).sum(-1) > 0)[:, None], rest, steep)
