"""The state of a training run: a pytree without a device axis and without random keys."""

from typing import Any

import flax.struct
import jax
import optax
from jaxtyping import Array, Int, PyTree

from cnnlab.optim import averaged


class TrainState(flax.struct.PyTreeNode):
    """Everything that a train step reads and writes.

    Attributes:
      step: number of updates done.
      params: trainable parameters, float32.
      model_state: the model's other collections (batch statistics …), by collection name.
      opt_state: the optimizer's state.
    """

    step: Int[Array, ""] | Any
    params: PyTree
    model_state: PyTree
    opt_state: optax.OptState

    @property
    def variables(self) -> dict[str, PyTree]:
        """What `model.apply` takes in evaluation: moving averages where the optimizer keeps them."""
        return averaged({"params": self.params, **self.model_state}, self.opt_state)

    def parameter_count(self) -> int:
        """The number of trainable parameters."""
        return sum(leaf.size for leaf in jax.tree.leaves(self.params))
