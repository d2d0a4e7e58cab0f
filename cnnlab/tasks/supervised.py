"""What every supervised task does alike: its first state, and the train step that its loss function makes.

A task takes the functions of the first part as its methods (`init = supervised.init`). It is a frozen dataclass with
`model`, `optimizer`, `preprocess`, `augment`, `frozen` and `accumulate` as `tasks/classification.py` has them, and with

    loss_fn(params, model_state, batch, rng) → (loss, (metrics, model_state))
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Key, PyTree

from cnnlab import parallel
from cnnlab.data.augment import keys_of
from cnnlab.data.canvas import within
from cnnlab.ops import forms
from cnnlab.optim import averaging
from cnnlab.state import TrainState
from cnnlab.transfer import frozen_as_in_evaluation, merge_params, split_params


def init(self: Any, rng: Key[Array, ""], batch: Mapping[str, Array]) -> TrainState:
    """A fresh state; of `batch` only the shape of "image" counts."""
    variables = dict(self.model.init(rng, self.preprocess(batch["image"][:1]), train=False))
    params = variables.pop("params")
    return TrainState(jnp.zeros((), jnp.int32), params, variables, self.init_optimizer(params, variables))


def init_optimizer(self: Any, params: PyTree, model_state: PyTree) -> optax.OptState:
    """The optimizer's state before the first step: of the trained parameters alone.

    Where it keeps moving averages, these begin with `params` and with the batch statistics of `model_state`.
    """
    return averaging(self.optimizer.init(split_params(params, self.frozen)[0]), model_state)


def inputs(self: Any, batch: Mapping[str, Array]) -> Float[Array, "n h w c"]:
    """The network's input of pictures of mixed sizes: 0, the mean colour, beyond their edges."""
    x = self.preprocess(batch["image"])
    return jnp.where(within(batch["size"], x.shape[1:3])[..., None], x, 0.0)


def train_step(
    self: Any,
    state: TrainState,
    batch: Mapping[str, Array],
    rng: Key[Array, ""],
    reduce: Callable[[PyTree], PyTree],
) -> tuple[TrainState, dict[str, Array]]:
    """One update; see `make_train_step`."""
    return make_train_step(self.loss_fn, self.optimizer, self.frozen, self.accumulate)(state, batch, rng, reduce)


def augmented(task: Any, batch: Mapping[str, Array], rng: Key[Array, ""]) -> Mapping[str, Array]:
    """A training batch after the task's augmentation, where it has one; `rng` is the step's key."""
    if task.augment is None:
        return batch
    return task.augment(keys_of(jax.random.fold_in(rng, 0), batch["position"]), batch)


def apply_in_training(
    task: Any, params: PyTree, model_state: PyTree, batch: Mapping[str, Array], rng: Key[Array, ""], *args, **kwargs
) -> tuple[Any, PyTree]:
    """What the task's model makes of the arguments in training, and its new state.

    Args:
      task: whose frozen layers run as in evaluation.
      params, model_state: of its model.
      batch: of which "position" tells the devices' shares apart: dropout must differ between them.
      rng: the step's key.
      *args, **kwargs: of the model, or of its `method`.
    """
    dropout = jax.random.fold_in(jax.random.fold_in(rng, 1), batch["position"][0])
    with frozen_as_in_evaluation(task.frozen):
        return task.model.apply(
            {"params": params, **model_state}, *args, mutable=list(model_state), rngs={"dropout": dropout}, **kwargs
        )


def make_train_step(
    loss_fn: Callable, optimizer: optax.GradientTransformation, frozen: tuple[str, ...] = (), accumulate: int = 1
) -> Callable:
    """A pure `train_step(state, batch, rng, reduce) → (state, metrics)`.

    Args:
      loss_fn: `(params, model_state, batch, rng) → (loss, (metrics, model_state))`, the loss and the metrics being
        means over the batch's examples. `rng` is the step's key, the same on every device: what is drawn must depend on
        `batch["position"]` too, or the devices' shares would get the same noise.
      optimizer: what turns mean gradients into updates; it is given the mean loss as `value`, for schedules that wait
        for a plateau, and the new `model_state`, for averages. Its state is that of the trained parameters alone.
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
        updates, opt_state = optimizer.update(
            grads, state.opt_state, trained, value=metrics["loss"], model_state=model_state
        )
        params = merge_params(optax.apply_updates(trained, updates), fixed)
        return TrainState(state.step + 1, params, model_state, opt_state), metrics

    return train_step


def _mean_over_parts(
    gradients: Callable, model_state: PyTree, batch: dict[str, Array], parts: int
) -> tuple[PyTree, PyTree]:
    if parts == 1:
        return gradients(model_state, batch)
    share = len(batch["position"])
    parallel.check_parts(share, parts)
    split = jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), batch)

    def add(carry: PyTree, part: dict[str, Array]) -> tuple[PyTree, None]:
        model_state, sums = carry
        model_state, results = gradients(model_state, part)
        return (model_state, jax.tree.map(jnp.add, sums, results)), None

    first = jax.tree.map(lambda x: x[0], split)
    shapes = jax.eval_shape(gradients, model_state, first)[1]
    carry = model_state, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    if forms.loops():
        carry, _ = lax.scan(add, carry, split)
    else:
        for i in range(parts):  # a CPU runs convolutions in a loop many times slower
            # The barrier keeps the parts one after the other: side by side they would need the memory of all.
            carry, part = lax.optimization_barrier((carry, jax.tree.map(lambda x, i=i: x[i], split)))
            carry, _ = add(carry, part)
    model_state, sums = carry
    return model_state, jax.tree.map(lambda x: x / parts, sums)
