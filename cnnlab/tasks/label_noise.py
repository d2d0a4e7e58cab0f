"""Losses of label patches: cross-entropy, and two that are robust to what is wrong with maps.

Mnih, Hinton 2012 ("Learning to label aerial images from noisy data"), section 3. m is the true patch of labels, which
nobody knows, m̃ that of the map, and σ the net's probability of m = 1, independent for each pixel. A loss is
−log p(m̃ | picture) under a model of how maps come about, a mean over the pixels.

Omission noise (section 3.1): a map's pixel is wrong independently of all else, with
  θ0 = p(m̃ = 1 | m = 0)  and  θ1 = p(m̃ = 0 | m = 1),  so that
  p(m̃ = 1) = θ0 (1 − σ) + (1 − θ1) σ  and  p(m̃ = 0) = (1 − θ0) (1 − σ) + θ1 σ.
Where the map has none and the net is sure of a road, the second is about θ1 and its gradient vanishes: what was left
out is soon not learnt from.

Translation noise (section 3.2): the map is besides displaced as a whole, m̃(x) made of m(x − t), by a t of which all
whole steps within ±reach are as likely. t is not known either, and found by EM:
  E-step  w_t = p(t | m̃) ∝ p(t) Π_x p(m̃(x) | σ(x − t)), x the middle of the patch, without a rim of `reach` pixels,
  M-step  a step up on Σ_t w_t Σ_y log p(m̃(y + t) | σ(y)), w held fixed, y all pixels that the net labels.
The E-step compares displacements by the same pixels of the map, each of them explained by a label that the net gives;
did it count pixels beyond, roads would be drawn into the patch or out of it, whichever is explained more easily. Each
training step does both, w being that of the net as it is. As log p(m̃ | σ) is log p(1 | σ) or log p(0 | σ), the
M-step's sum over t is the loss of omission noise with q(y) = Σ_t w_t m̃(y + t), the map moved back as far as is known,
in place of the label. A net that knows nothing yet learns little so: begin with one that cross-entropy has trained.
"""

import itertools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer, Real

from cnnlab.errors import UserError

Logits = Float[Array, "n l l"]
Labels = Integer[Array, "n l l"]
Wide = Integer[Array, "n w w"]
Loss = Callable[[Logits, Wide], Float[Array, " n"]]


def log_observed(logits: Float[Array, "*n"], theta0: float, theta1: float) -> tuple[Array, Array]:
    """log p(m̃ = 0) and log p(m̃ = 1) of each pixel.

    >>> [round(float(jnp.exp(x)), 3) for x in log_observed(jnp.array(0.0), 0.0, 0.3)]
    [0.65, 0.35]
    """
    road, none = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
    zero = jnp.logaddexp(_log(1 - theta0) + none, _log(theta1) + road)
    one = jnp.logaddexp(_log(theta0) + none, _log(1 - theta1) + road)
    return zero, one


def _log(x: float) -> float:
    return math.log(x) if x > 0 else -math.inf


def cross_entropy(logits: Logits, labels: Labels) -> Float[Array, " n"]:
    """The mean of −log p(m = the map's label) over each patch, in nats.

    >>> round(float(cross_entropy(jnp.zeros((1, 2, 2)), jnp.array([[[0, 1], [1, 1]]]))[0]), 4)
    0.6931
    """
    return robust_to_omission(logits, labels, 0.0, 0.0)


def robust_to_omission(logits: Logits, labels: Labels, theta0: float, theta1: float) -> Float[Array, " n"]:
    """The mean of −log p(m̃) over each patch under omission noise; see the top of this file.

    Args:
      logits: of the true labels.
      labels: the map's, 1 for a road.
      theta0: share of the pixels without a road that maps call roads.
      theta1: share of the roads' pixels that maps leave out.
    """
    check_noise(theta0, theta1)
    zero, one = log_observed(logits, theta0, theta1)
    return -jnp.where(labels > 0, one, zero).mean((1, 2))


def check_noise(theta0: float, theta1: float) -> None:
    """Raises a `UserError` unless these are shares under which a map still says something."""
    if min(theta0, theta1) < 0 or theta0 + theta1 >= 1:
        raise UserError(
            f"config.theta0 is {theta0} and config.theta1 {theta1}: both must be 0 or more, and their sum less than 1"
        )


def displacements(reach: int) -> list[tuple[int, int]]:
    """All whole steps (down, right) within ±reach, row by row."""
    steps = range(-reach, reach + 1)
    return list(itertools.product(steps, steps))


def check_reach(reach: int, labels: int) -> None:
    """Raises a `UserError` unless displacements leave something of a patch of labels×labels."""
    most = (labels - 1) // 2
    if not 0 <= reach <= most:
        raise UserError(
            f"config.reach is {reach}: maps may be displaced by 0 to {most} pixels, as a patch is {labels}×{labels}"
        )


def windows(patches: Real[Array, "n w w"], reach: int, sign: int) -> Real[Array, "n t v v"]:
    """The part of patches without a rim of `reach` pixels, moved by sign · t for each t of `displacements`."""
    size = patches.shape[1] - 2 * reach
    corners = ((reach + sign * down, reach + sign * right) for down, right in displacements(reach))
    return jnp.stack([patches[:, top : top + size, left : left + size] for top, left in corners], 1)


def log_likelihoods(
    logits: Logits, labels: Labels, reach: int, theta0: float = 0.0, theta1: float = 0.0
) -> Float[Array, "n t"]:
    """log p(m̃ | t) of the middle of the map's patch for each of `displacements`.

    Args:
      logits: of the true labels.
      labels: the map's, of the same pixels.
      reach: in pixels.
      theta0, theta1: see `robust_to_omission`.
    """
    size = labels.shape[1]
    check_reach(reach, size)
    check_noise(theta0, theta1)
    zero, one = (windows(log, reach, -1) for log in log_observed(logits, theta0, theta1))
    middle = labels[:, None, reach : size - reach, reach : size - reach]
    return jnp.where(middle > 0, one, zero).sum((2, 3))


def displacement_posterior(
    logits: Logits, labels: Labels, reach: int, theta0: float = 0.0, theta1: float = 0.0
) -> Float[Array, "n t"]:
    """The E-step: how likely each of `displacements` is; arguments are those of `log_likelihoods`."""
    return jax.nn.softmax(log_likelihoods(logits, labels, reach, theta0, theta1), 1)


def aligned(
    logits: Logits, labels: Wide, reach: int, theta0: float = 0.0, theta1: float = 0.0
) -> Float[Array, "n l l"]:
    """The map's patch moved back by each of `displacements`, as likely as that is: q, from 0 to 1.

    Args:
      logits: of the true labels.
      labels: the map's, with a rim of `reach` pixels around the patch.
      reach, theta0, theta1: as of `log_likelihoods`.
    """
    size = logits.shape[1]
    weights = displacement_posterior(
        logits, labels[:, reach : reach + size, reach : reach + size], reach, theta0, theta1
    )
    return jnp.einsum("nt,ntij->nij", weights, windows((labels > 0).astype(logits.dtype), reach, 1))


def robust_to_translation(logits: Logits, labels: Wide, reach: int, theta0: float, theta1: float) -> Float[Array, " n"]:
    """The M-step's objective, a mean over each patch, under translation and omission noise; see the top of this file.

    Arguments are those of `aligned`; no gradient flows through the E-step.
    """
    road = jax.lax.stop_gradient(aligned(logits, labels, reach, theta0, theta1))
    zero, one = log_observed(logits, theta0, theta1)
    return -(road * one + (1 - road) * zero).mean((1, 2))
