"""Optimizers of the papers, from optax's parts."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float, Int, PyTree
from optax import contrib

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
      UserError: `peak_rate` or `steps` is not positive, or `weight_decay` negative.
    """
    check_decay(weight_decay)
    adam = optax.adamw(cosine_schedule(peak_rate, steps), weight_decay=weight_decay)
    return optax.chain(optax.clip_by_global_norm(clip_norm), adam) if clip_norm else adam


def momentum_sgd(
    rate: float | optax.Schedule,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    decayed: Callable[[PyTree], PyTree] | None = None,
) -> optax.GradientTransformation:
    """Stochastic gradient descent with momentum, as AlexNet, ZF Net, VGG, GoogLeNet, NiN and ResNet have it.

    v ← momentum · v + ∇L + weight_decay · w, then w ← w − rate · v. Weight decay is part of the gradient (the L2
    penalty ½ · weight_decay · |w|²) and falls on all parameters, biases and batch normalisation's included, unless
    `decayed` says otherwise. AlexNet's paper has the rate inside v (section 5), which is the same but for the steps
    just after the rate has changed. Without momentum it is plain descent.

    Args:
      rate: of all steps, or by step: `step_schedule`, `exponential_schedule`, `cosine_schedule`.
      momentum: the share of v that stays.
      weight_decay: of the penalty; 0 is none.
      nesterov: step along ∇L + momentum · v, which looks ahead (Sutskever et al. 2013, section 2).
      decayed: makes a mask of the parameters that decay; `kernels` leaves out biases and normalisation.

    Raises:
      UserError: `rate` is a number and not positive, or `weight_decay` negative.
    """
    check_decay(weight_decay)
    if not callable(rate):
        check_rate(rate)
    descent = optax.sgd(rate, momentum=momentum or None, nesterov=nesterov)
    return optax.chain(optax.add_decayed_weights(weight_decay, decayed), descent) if weight_decay else descent


def kernels(params: PyTree) -> PyTree:
    """A mask of the filters and matrices among the parameters: all but biases, scales and other vectors.

    >>> kernels({"conv": {"kernel": jnp.zeros((3, 3, 1, 2)), "bias": jnp.zeros(2)}})
    {'conv': {'bias': False, 'kernel': True}}
    """
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


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


def cosine_schedule(rate: float, steps: int) -> optax.Schedule:
    """`rate` falling to 0 over `steps` along half a cosine (Loshchilov, Hutter 2016, without restarts).

    Raises:
      UserError: `rate` or `steps` is not positive.
    """
    if not rate > 0 or steps < 1:
        raise UserError(f"the learning rate is {rate} over {steps} steps; both must be positive")
    return optax.cosine_decay_schedule(rate, steps)


def warmed_up(schedule: optax.Schedule, steps: int) -> optax.Schedule:
    """A schedule whose first `steps` steps rise linearly to it (Goyal et al. 2017, section 2.2).

    >>> schedule = warmed_up(step_schedule(0.4, (10,)), 4)
    >>> [round(float(schedule(step)), 3) for step in (0, 1, 3, 4, 10)]
    [0.1, 0.2, 0.4, 0.4, 0.04]
    """
    return lambda step: schedule(step) * jnp.minimum(1.0, (step + 1) / max(steps, 1))


def falling_on_plateau(
    optimizer: optax.GradientTransformation, every: int, patience: int, factor: float = 0.1, least: float = 1e-4
) -> optax.GradientTransformation:
    """An optimizer whose rate is multiplied by `factor` where the training loss has stopped falling.

    The papers watch the validation error by eye; here the loss of the training steps is watched, so that a run needs
    nobody, and a step depends on nothing but the steps before it.

    Args:
      optimizer: with the rate of the run's beginning.
      every: steps that one look at the loss averages over: an epoch, say.
      patience: looks without a loss lower by a ten-thousandth, after which the rate falls.
      factor: what it is multiplied by.
      least: the product of factors at which it stays.

    Raises:
      UserError: `every` or `patience` is less than 1, or `factor` not between 0 and 1.
    """
    if every < 1 or patience < 1 or not 0 < factor < 1:
        raise UserError(
            f"the rate falls to {factor} of itself after {patience} looks at {every} steps without gain: "
            "both numbers must be at least 1, the factor between 0 and 1"
        )
    plateau = contrib.reduce_on_plateau(factor, patience, accumulation_size=every, min_scale=least)  # gain: 1e-4

    def init(params: PyTree) -> PyTree:
        # optax begins with a best loss of infinity; a checkpoint takes what is not finite for a run that has diverged.
        state = plateau.init(params)
        return state._replace(best_value=jnp.full_like(state.best_value, jnp.finfo(state.best_value.dtype).max))

    return optax.chain(optimizer, optax.GradientTransformationExtraArgs(init, plateau.update))


class AveragedState(NamedTuple):
    """The state of `with_average`.

    Attributes:
      count: updates done.
      average: of the parameters.
      statistics: of batch normalisation's statistics, in the same way; empty where `averaging` gave none.
      inner: the optimizer's state.
    """

    count: Int[Array, ""] | Any
    average: PyTree
    statistics: PyTree
    inner: optax.OptState


def with_average(optimizer: optax.GradientTransformation, decay: float) -> optax.GradientTransformation:
    """An optimizer that keeps a moving average of the parameters too: a ← decay · a + (1 − decay) · w.

    Evaluation and prediction then use the average (`averaged`), also of batch normalisation's statistics, which would
    not fit the averaged weights else; `update` takes the network's new `model_state` for them. Training goes on from
    the parameters themselves. In the first steps the decay is at most (1 + n) / (10 + n), so that the initial weights
    are soon forgotten. GoogLeNet averages in such a way (Szegedy et al. 2014, section 6), and Inception-v3 (2015,
    section 8).

    Args:
      optimizer: what makes the updates.
      decay: the average's share that stays, 0.9999 for long runs.

    Raises:
      UserError: `decay` is not between 0 and 1.
    """
    if not 0 < decay < 1:
        raise UserError(f"the moving average's decay is {decay}; it must lie between 0 and 1")
    optimizer = optax.with_extra_args_support(optimizer)

    def init(params: PyTree) -> AveragedState:
        return AveragedState(jnp.zeros((), jnp.int32), jax.tree.map(jnp.copy, params), {}, optimizer.init(params))

    def update(
        grads: PyTree,
        state: AveragedState,
        params: PyTree | None = None,
        model_state: PyTree = None,
        **extra: Float[Array, ""],
    ) -> tuple[PyTree, AveragedState]:
        updates, inner = optimizer.update(grads, state.inner, params, **extra)
        new = optax.apply_updates(params, updates)
        kept = jnp.minimum(decay, (1 + state.count) / (10 + state.count))

        def mean(averages: PyTree, values: PyTree) -> PyTree:
            return jax.tree.map(lambda a, w: kept * a + (1 - kept) * w, averages, values)

        statistics = mean(state.statistics, model_state["batch_stats"]) if state.statistics else {}
        return updates, AveragedState(state.count + 1, mean(state.average, new), statistics, inner)

    return optax.GradientTransformationExtraArgs(init, update)


def averaging(opt_state: optax.OptState, model_state: PyTree) -> optax.OptState:
    """An optimizer's fresh state; if it is `with_average`'s, it averages the batch statistics of `model_state` too."""
    if not isinstance(opt_state, AveragedState):
        return opt_state
    return opt_state._replace(statistics=jax.tree.map(jnp.copy, model_state.get("batch_stats", {})))


def averaged(variables: PyTree, opt_state: optax.OptState) -> PyTree:
    """A network's variables with their moving averages where `with_average` is the outermost part of the optimizer."""
    if not isinstance(opt_state, AveragedState):
        return variables
    statistics = {"batch_stats": opt_state.statistics} if opt_state.statistics else {}
    return {**variables, "params": averaged_params(variables["params"], opt_state), **statistics}


def averaged_params(params: PyTree, opt_state: optax.OptState) -> PyTree:
    """The parameters' moving average where `with_average` is the outermost part of the optimizer, else `params`."""
    if not isinstance(opt_state, AveragedState):
        return params
    return unflatten_dict({**flatten_dict(params), **flatten_dict(opt_state.average)})  # frozen ones have none


def check_rate(rate: float) -> None:
    """Raises a `UserError` unless the learning rate is positive."""
    if not rate > 0:
        raise UserError(f"the learning rate is {rate}; it must be positive")


def check_decay(weight_decay: float) -> None:
    """Raises a `UserError` unless the weight decay is 0 or more: weights would grow."""
    if not weight_decay >= 0:
        raise UserError(f"the weight decay is {weight_decay}; it must be 0 or more")


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
