"""Optimizers of the papers, from optax's parts."""

import optax

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
