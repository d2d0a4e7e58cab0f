"""The train step of every supervised task, made from its loss function."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, PyTree

from cnnlab.errors import UserError
from cnnlab.ops import forms
from cnnlab.state import TrainState
from cnnlab.transfer import merge_params, split_params


def make_train_step(
    loss_fn: Callable, optimizer: optax.GradientTransformation, frozen: tuple[str, ...] = (), accumulate: int = 1
) -> Callable:
    """A pure `train_step(state, batch, rng, reduce) → (state, metrics)`.

    Args:
      loss_fn: `(params, model_state, batch, rng) → (loss, (metrics, model_state))`, the loss and the metrics being
        means over the batch's examples. `rng` is the step's key, the same on every device: what is drawn must depend on
        `batch["position"]` too, or the devices' shares would get the same noise.
      optimizer: what turns mean gradients into updates; it is given the mean loss as `value`, for schedules that wait
        for a plateau. Its state is that of the trained parameters alone.
      frozen: patterns of layers that keep their parameters (see `transfer.py`); no gradient of them is computed.
      accumulate: parts that a device's share of the batch is computed in, one after the other, in less memory. Batch
        normalisation takes its statistics of each part.

    Gradients, metrics and batch statistics pass through `reduce`, the mean over devices; each holds an equal share of
    the batch, so the mean of means is the mean. "loss" is among the metrics.
    """
    optimizer = optax.with_extra_args_support(optimizer)

    def train_step(
        state: TrainState, batch: dict[str, Array], rng: Array, reduce: Callable[[PyTree], PyTree]
    ) -> tuple[TrainState, dict[str, Array]]:
        trained, fixed = split_params(state.params, frozen)

        def loss_of(trained: PyTree, model_state: PyTree, part: dict[str, Array]) -> tuple[Array, tuple]:
            return loss_fn(merge_params(trained, fixed), model_state, part, rng)

        def gradients(model_state: PyTree, part: dict[str, Array]) -> tuple[PyTree, tuple[PyTree, dict[str, Array]]]:
            gradient = jax.value_and_grad(loss_of, has_aux=True)
            (loss, (metrics, model_state)), grads = gradient(trained, model_state, part)
            return model_state, (grads, {"loss": loss, **metrics})

        model_state, (grads, metrics) = _mean_over_parts(gradients, state.model_state, batch, accumulate)
        grads, model_state, metrics = reduce((grads, model_state, metrics))
        updates, opt_state = optimizer.update(grads, state.opt_state, trained, value=metrics["loss"])
        params = merge_params(optax.apply_updates(trained, updates), fixed)
        return TrainState(state.step + 1, params, model_state, opt_state), metrics

    return train_step


def _mean_over_parts(
    gradients: Callable, model_state: PyTree, batch: dict[str, Array], parts: int
) -> tuple[PyTree, PyTree]:
    if parts == 1:
        return gradients(model_state, batch)
    share = len(batch["position"])
    if parts < 1 or share % parts:
        raise UserError(
            f"config.accumulate is {parts}: it must divide the {share} examples that a device has of a batch"
        )
    split = jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), batch)
    if forms.loops():
        model_state, results = lax.scan(gradients, model_state, split)
        return model_state, jax.tree.map(lambda x: x.mean(0), results)
    results = []
    for i in range(parts):  # a CPU runs convolutions in a loop many times slower
        # The barrier keeps the parts one after the other: side by side they would need the memory of all.
        part = {name: x[i] for name, x in split.items()}
        model_state, part, results = lax.optimization_barrier((model_state, part, results))
        model_state, result = gradients(model_state, part)
        results.append(result)
    return model_state, jax.tree.map(lambda *x: jnp.mean(jnp.stack(x), 0), *results)
