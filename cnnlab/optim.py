"""Optimizers of the papers, from optax's parts."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from cnnlab.errors import UserError


def adam_cosine(
    peak_rate: float, steps: int, weight_decay: float = 0.0, clip_norm: float = 0.0
) -> optax.GradientTransformation:
    """Adam (decoupled weight decay) whose rate falls from `peak_rate` to 0 over `steps` along half a cosine.

    Args:
      peak_rate: the rate of the first step.
      steps: the updates in the whole run.
      weight_decay: per unit of learning rate, on all parameters; 0 is none.
      clip_norm: gradients of a greater global norm are scaled down to it; 0 is no clipping.

    Raises:
      UserError: `peak_rate` or `steps` is not positive.
    """
    if not peak_rate > 0 or steps < 1:
        raise UserError(f"the learning rate is {peak_rate} over {steps} steps; both must be positive")
    adam = optax.adamw(optax.cosine_decay_schedule(peak_rate, steps), weight_decay=weight_decay)
    return optax.chain(optax.clip_by_global_norm(clip_norm), adam) if clip_norm else adam


def momentum_sgd(
    rate: float | optax.Schedule, momentum: float = 0.9, weight_decay: float = 0.0
) -> optax.GradientTransformation:
    """Stochastic gradient descent with momentum, as AlexNet, ZF Net, VGG, GoogLeNet, NiN and ResNet have it.

    v ← momentum · v + ∇L + weight_decay · w, then w ← w − rate · v. Weight decay is part of the gradient (the L2
    penalty ½ · weight_decay · |w|²) and falls on all parameters, biases and batch normalisation's included. AlexNet's
    paper has the rate inside v (section 5), which is the same but for the steps just after the rate has changed.

    Args:
      rate: of all steps, or by step: `step_schedule`, `exponential_schedule`.
      momentum: the share of v that stays.
      weight_decay: of the penalty; 0 is none.

    Raises:
      UserError: `rate` is a number and not positive.
    """
    if not callable(rate):
        check_rate(rate)
    descent = optax.sgd(rate, momentum=momentum)
    return optax.chain(optax.add_decayed_weights(weight_decay), descent) if weight_decay else descent


def rmsprop(rate: float | optax.Schedule) -> optax.GradientTransformation:
    """RMSProp as Inception-v3 has it (Szegedy et al. 2015, section 8): decay 0.9, ε = 1, gradients clipped to a norm
    of 2.

    s ← 0.9 · s + 0.1 · g², then w ← w − rate · g / √(s + 1), g being the gradient of all parameters together, scaled
    down to the norm 2 where it is longer. With an ε so large it is nearly plain descent. s begins at 0.

    Args:
      rate: of all steps, or by step.
    """
    return optax.chain(optax.clip_by_global_norm(2.0), optax.rmsprop(rate, decay=0.9, eps=1.0))


def step_schedule(rate: float, drops: tuple[int, ...], warm_up: int = 0) -> optax.Schedule:
    """`rate`, divided by 10 at each step of `drops`, and a tenth of it in the first `warm_up` steps.

    >>> schedule = step_schedule(0.1, (300, 400), warm_up=10)
    >>> [round(float(schedule(step)), 4) for step in (0, 10, 299, 300, 400)]
    [0.01, 0.1, 0.1, 0.01, 0.001]

    Raises:
      UserError: `rate` is not positive, `drops` do not rise, or the first lies within `warm_up`.
    """
    check_rate(rate)
    if list(drops) != sorted(set(drops)):
        raise UserError(f"the learning rate drops at steps {drops}; each must be greater than the one before")
    if warm_up and drops and drops[0] <= warm_up:
        raise UserError(f"the learning rate drops at step {drops[0]}, within the first {warm_up} steps, its warming up")
    factors = dict.fromkeys(drops, 0.1)
    if not warm_up:
        return optax.piecewise_constant_schedule(rate, factors)
    return optax.piecewise_constant_schedule(rate / 10, {warm_up: 10.0, **factors})


def exponential_schedule(rate: float, factor: float, every: int) -> optax.Schedule:
    """`rate`, multiplied by `factor` once every `every` steps.

    >>> schedule = exponential_schedule(0.01, 0.96, every=100)
    >>> [round(float(schedule(step)), 6) for step in (0, 99, 100, 200)]
    [0.01, 0.01, 0.0096, 0.009216]

    Raises:
      UserError: `rate` is not positive, or `every` is less than 1.
    """
    check_rate(rate)
    if every < 1:
        raise UserError(f"the learning rate falls every {every} steps; it must be at least 1")
    return optax.exponential_decay(rate, every, factor, staircase=True)


def check_rate(rate: float) -> None:
    """Raises a `UserError` unless the learning rate is positive."""
    if not rate > 0:
        raise UserError(f"the learning rate is {rate}; it must be positive")


def limit_filters(radius: float = 0.1) -> optax.GradientTransformation:
    """The last part of a chain: after the update, filters whose RMS is over `radius` are scaled down to it.

    A filter is one output channel of a convolution's kernel, (height, width, channels, filters). ZF Net does this to
    all its convolutions (Zeiler, Fergus 2013, section 3), lest a few filters of the first dominate.

    >>> optimizer = optax.chain(optax.sgd(1.0), limit_filters(0.1))
    >>> params = {"kernel": jnp.full((1, 1, 1, 2), 0.05)}
    >>> grads = {"kernel": jnp.array([[[[-0.35, -0.01]]]])}
    >>> updates, _ = optimizer.update(grads, optimizer.init(params), params)
    >>> [round(x, 3) for x in optax.apply_updates(params, updates)["kernel"].ravel().tolist()]
    [0.1, 0.06]
    """

    def limit(update: Array, kernel: Array) -> Array:
        if kernel.ndim != 4:
            return update
        new = kernel + update
        size = jnp.sqrt(jnp.mean(jnp.square(new), (0, 1, 2)))
        return new * (radius / jnp.maximum(size, radius)) - kernel

    def project(updates: PyTree, state: optax.EmptyState, params: PyTree) -> tuple[PyTree, optax.EmptyState]:
        return jax.tree.map(limit, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), project)
