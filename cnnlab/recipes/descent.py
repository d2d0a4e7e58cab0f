"""How runs descend: fields that their configurations have in common, and the optimizers that are made of them."""

import optax
from ml_collections import ConfigDict

from cnnlab.errors import UserError
from cnnlab.optim import (
    adam_cosine,
    cosine_schedule,
    falling_on_plateau,
    kernels,
    momentum_sgd,
    step_schedule,
    warmed_up,
)


def descent_fields() -> ConfigDict:
    """Fields of stochastic gradient descent with momentum; the defaults are the papers'."""
    config = ConfigDict()
    config.schedule = "paper"  # of the rate; or "cosine", to 0 at the end; or "plateau", a tenth where the loss stays
    config.patience = 5  # with "plateau": epochs without a lower training loss, after which the rate falls
    config.warm_up = 0  # steps in which the rate rises linearly from 0
    config.nesterov = False  # look ahead along the momentum
    config.decay_all = True  # weight decay falls on biases and batch normalisation too
    config.clip_norm = 0.0  # gradients of a greater norm are scaled down to it; 0: none
    return config


def descent(config: ConfigDict, paper: optax.Schedule, steps: int, epoch: int) -> optax.GradientTransformation:
    """Momentum 0.9 and an L2 penalty, with what `descent_fields` ask for.

    Args:
      config: with those fields, and the rate of the first step and the weight decay.
      paper: the paper's rate by step.
      steps: in the whole run.
      epoch: steps in one.

    Raises:
      UserError: an unknown schedule, or a number out of its range.
    """
    makers = {
        "paper": lambda: paper,
        "cosine": lambda: cosine_schedule(config.learning_rate, steps),
        "plateau": lambda: optax.constant_schedule(config.learning_rate),
    }
    if config.schedule not in makers:
        raise UserError(f'config.schedule is "{config.schedule}"; it must be one of {", ".join(makers)}')
    if config.warm_up < 0 or config.clip_norm < 0:
        raise UserError(f"config.warm_up is {config.warm_up} and config.clip_norm {config.clip_norm}: neither is < 0")
    rate = makers[config.schedule]()
    optimizer = momentum_sgd(
        warmed_up(rate, config.warm_up) if config.warm_up else rate,
        weight_decay=config.weight_decay,
        nesterov=config.nesterov,
        decayed=None if config.decay_all else kernels,
    )
    if config.clip_norm:
        optimizer = optax.chain(optax.clip_by_global_norm(config.clip_norm), optimizer)
    if config.schedule == "plateau":
        optimizer = falling_on_plateau(optimizer, max(1, epoch), config.patience)
    return optimizer


def optimizer_of(config: ConfigDict) -> optax.GradientTransformation:
    """What config.optimizer asks for: "sgd", its rate falling at drops, or "adam", its rate falling along a cosine.

    Raises:
      UserError: an unknown optimizer.
    """
    if config.optimizer == "adam":
        return adam_cosine(config.learning_rate, config.steps, clip_norm=config.clip_norm)
    if config.optimizer != "sgd":
        raise UserError(f'config.optimizer is "{config.optimizer}"; it must be "sgd" or "adam"')
    return descent(config, step_schedule(config.learning_rate, tuple(config.drops)), config.steps, 1000)
