"""Adversarial examples by the smallest change that does: the first ones, Szegedy et al. 2013, and DeepFool.

Pure functions of `logits` and pictures in [0, 1], as those of `attacks.py`; what they give stays in [0, 1].
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float, Int

from cnnlab.inspect.attacks import Logits, Pictures, as_argument, check_steps, each, log_odds, size
from cnnlab.inspect.lbfgs import minimise


class _Search(NamedTuple):
    """Of each picture: the best so far, the size of its change, the c between which c is searched, the c to try."""

    best: Pictures
    least: Float[Array, " n"]
    low: Float[Array, " n"]
    high: Float[Array, " n"]
    c: Float[Array, " n"]


def lbfgs_attack(
    logits: Logits,
    x: Pictures,
    targets: Int[Array, " n"],
    *,
    rounds: int = 10,
    steps: int = 15,
) -> Pictures:
    """About the smallest change in L2 after which the network takes each picture for its target: Szegedy et al. 2013.

    Section 4.1: minimise c |r| + J(x + r, target) with x + r in [0, 1], J being cross-entropy, for the c at which the
    target is just reached. Here the term is c |r|², which is smooth at 0; where that is least, c' |r| + J is stationary
    too, c' being 2 c |r|. The greater c, the smaller the change: c begins at 10, rises or falls tenfold until it has
    been both too small and too great, and is then the geometric mean of the two. Each search begins where the last one
    ended.

    Args:
      logits: what is attacked.
      x: pictures in [0, 1].
      targets: what they are to be taken for. What already is, stays as it is; what never is, is given as it is too.
      rounds: how many c are tried.
      steps: gradients that each takes; see `minimise`.
    """
    check_steps(rounds, "rounds")
    logits, n = as_argument(logits), len(x)
    least = jnp.where(_reached(logits, x, targets), 0.0, jnp.inf)
    search = _Search(x, least, jnp.zeros(n), jnp.full(n, jnp.inf), jnp.full(n, 10.0))
    found = x
    for _ in range(rounds):
        found = minimise(Partial(_penalised, logits, x, targets, search.c), found, steps)
        search = _narrow(logits, x, targets, found, search)
    return search.best


def _penalised(
    logits: Partial, clean: Pictures, targets: Int[Array, " n"], c: Float[Array, " n"], x: Pictures
) -> Float[Array, " n"]:
    """c |x − clean|² + cross-entropy with the target, of each picture."""
    return c * jnp.square(x - clean).sum((1, 2, 3)) + jax.nn.softplus(log_odds(logits(x), targets))


@jax.jit
def _reached(logits: Partial, x: Pictures, targets: Int[Array, " n"]) -> Bool[Array, " n"]:
    return logits(x).argmax(-1) == targets


@jax.jit
def _narrow(logits: Partial, clean: Pictures, targets: Int[Array, " n"], found: Pictures, search: _Search) -> _Search:
    best, least, low, high, c = search
    length, hit = size(found - clean, "l2"), _reached(logits, found, targets)
    better = hit & (length < least)
    low, high = jnp.where(hit, c, low), jnp.where(hit, high, c)
    c = jnp.where(low == 0, high / 10, jnp.where(high == jnp.inf, low * 10, jnp.sqrt(low * high)))
    return _Search(jnp.where(each(better), found, best), jnp.where(better, length, least), low, high, c)


def deepfool(
    logits: Logits,
    x: Pictures,
    labels: Int[Array, " n"],
    *,
    classes: int = 10,
    steps: int = 50,
    overshoot: float = 0.02,
) -> Pictures:
    """DeepFool: about the smallest change in L2 after which the network's class is another than the label.

    Moosavi-Dezfooli, Fawzi, Frossard 2015, algorithm 2: where the network is linear around the picture, the nearest
    border to another class is known; go there, and again, until the border is crossed. Unlike there, the pictures stay
    in [0, 1]: a pixel that would leave it takes no part in a step.

    Args:
      logits: what is attacked.
      x: pictures in [0, 1].
      labels: their classes; what is not classified so to begin with, stays as it is.
      classes: how many others are considered: the likeliest.
      steps: at most; outside of `jit` it ends as soon as all have crossed. What has not by then, is given as far as it
        came.
      overshoot: what is added to the whole change, as a share of it, to be beyond the border and not on it.
    """
    check_steps(steps)
    logits = as_argument(logits)
    others, done = _others(logits, x, labels, classes)
    change = jnp.zeros_like(x)
    for _ in range(steps):
        if not isinstance(done, jax.core.Tracer) and bool(done.all()):
            break
        here = jnp.clip(x + change, 0, 1)
        margins = [_margin(logits, here, labels, other) for other in others.T]
        change, done = _to_border(logits, x, here, change, labels, margins, done, overshoot)
    return jnp.clip(x + (1 + overshoot) * change, 0, 1)


def runner_up(logits: Logits, x: Pictures, labels: Int[Array, " n"]) -> Int[Array, " n"]:
    """The likeliest class of each picture but for its label: the nearest target, as a rule."""
    return _others(as_argument(logits), x, labels, 1)[0][:, 0]


@functools.partial(jax.jit, static_argnames="classes")
def _others(
    logits: Partial, x: Pictures, labels: Int[Array, " n"], classes: int
) -> tuple[Int[Array, "n m"], Bool[Array, " n"]]:
    scores = logits(x)
    wrong = jnp.where(jax.nn.one_hot(labels, scores.shape[-1], dtype=bool), -jnp.inf, scores)
    return jax.lax.top_k(wrong, min(classes, scores.shape[-1] - 1))[1], scores.argmax(-1) != labels


@jax.jit
def _margin(
    logits: Partial, x: Pictures, labels: Int[Array, " n"], others: Int[Array, " n"]
) -> tuple[Float[Array, " n"], Pictures]:
    """How far each picture's label scores above another class, and the gradient of the other's score less its own."""

    def behind(x: Pictures) -> tuple[Float[Array, ""], Float[Array, " n"]]:
        scores = logits(x)
        own, other = (jnp.take_along_axis(scores, which[:, None], 1)[:, 0] for which in (labels, others))
        return (other - own).sum(), own - other

    gradient, margin = jax.grad(behind, has_aux=True)(x)
    return margin, gradient


@jax.jit
def _to_border(
    logits: Partial,
    x: Pictures,
    here: Pictures,
    change: Pictures,
    labels: Int[Array, " n"],
    margins: list[tuple[Float[Array, " n"], Pictures]],
    done: Bool[Array, " n"],
    overshoot: float | Float[Array, ""],
) -> tuple[Pictures, Bool[Array, " n"]]:
    nearest, step = jnp.full(len(x), jnp.inf), jnp.zeros_like(x)
    for margin, gradient in margins:
        leaves = ((here <= 0) & (gradient < 0)) | ((here >= 1) & (gradient > 0))
        free = jnp.where(leaves, 0, gradient)
        length = size(free, "l2")
        distance = jnp.where(length > 0, jnp.abs(margin) / jnp.maximum(length, 1e-30), jnp.inf)
        step = jnp.where(each(distance < nearest), each(distance / jnp.maximum(length, 1e-30)) * free, step)
        nearest = jnp.minimum(distance, nearest)
    moved = jnp.clip(here + step, 0, 1) - x
    change = jnp.where(each(done), change, moved)
    crossed = logits(jnp.clip(x + (1 + overshoot) * change, 0, 1)).argmax(-1) != labels
    return change, done | crossed
