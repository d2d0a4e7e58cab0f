"""A few steps of LeNet on real digits: what the tests of the loop run."""

import dataclasses
from typing import Any

import jax
import numpy as np

from cnnlab.experiment import Experiment
from experiments import lenet_digits


def small_experiment(config: dict[str, Any] | None = None, **fields: Any) -> Experiment:
    """`lenet_digits` with the modern net, 12 steps long; `config` overrides its config, `fields` the Experiment's."""
    values = lenet_digits.get_config()
    values.update({"variant": "modern", "batch_size": 32, **(config or {})})
    experiment = lenet_digits.build(values)
    defaults = {"steps": 12, "log_every": 5, "eval_every": 4, "checkpoint_every": 3}
    return dataclasses.replace(experiment, **{**defaults, **fields})


def same(a: Any, b: Any) -> bool:
    """Whether two pytrees are equal bit for bit."""
    leaves, others = jax.tree.leaves(jax.device_get(a)), jax.tree.leaves(jax.device_get(b))
    return len(leaves) == len(others) and all(np.array_equal(x, y) for x, y in zip(leaves, others, strict=True))
