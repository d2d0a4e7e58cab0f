"""The train step of every supervised task, made from its loss function."""

from collections.abc import Callable

import jax
import optax
from jaxtyping import Array, PyTree

from cnnlab.state import TrainState


def make_train_step(loss_fn: Callable, optimizer: optax.GradientTransformation) -> Callable:
    """A pure `train_step(state, batch, rng, reduce) → (state, metrics)`.

    Args:
      loss_fn: `(params, model_state, batch, rng) → (loss, (metrics, model_state))`, the loss and the metrics being
        means over the batch's examples. `rng` is the step's key, the same on every device: what is drawn must depend on
        `batch["position"]` too, or the devices' shares would get the same noise.
      optimizer: what turns mean gradients into updates.

    Gradients, metrics and batch statistics pass through `reduce`, the mean over devices; each holds an equal share of
    the batch, so the mean of means is the mean. "loss" is among the metrics.
    """

    def train_step(
        state: TrainState, batch: dict[str, Array], rng: Array, reduce: Callable[[PyTree], PyTree]
    ) -> tuple[TrainState, dict[str, Array]]:
        gradient = jax.value_and_grad(loss_fn, has_aux=True)
        (loss, (metrics, model_state)), grads = gradient(state.params, state.model_state, batch, rng)
        grads, model_state, metrics = reduce((grads, model_state, {"loss": loss, **metrics}))
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, model_state, opt_state), metrics

    return train_step
