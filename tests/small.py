"""What several tests use: a few steps of LeNet on real digits, and networks' shapes without their arithmetic."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cnnlab import configs
from cnnlab.experiment import Experiment
from experiments import lenet_digits, resnet_cifar10


def small_experiment(config: dict[str, Any] | None = None, **fields: Any) -> Experiment:
    """`lenet_digits` with the modern net, 12 steps long; `config` overrides its config, `fields` the Experiment's."""
    values = lenet_digits.get_config()
    values.update({"variant": "modern", "batch_size": 32, **(config or {})})
    experiment = lenet_digits.build(values)
    defaults = {"steps": 12, "log_every": 5, "eval_every": 4, "checkpoint_every": 3}
    return dataclasses.replace(experiment, **{**defaults, **fields})


def tiny_resnet(steps: int = 2, **fields: Any) -> Experiment:
    """`resnet_cifar10` with 8 layers on digits of 8×8, few steps long; `fields` override its config."""
    config = resnet_cifar10.get_config()
    config.update({"data": "digits", "depth": 8, **fields})
    config.small.update(size=8, batch_size=16, steps=steps)
    return resnet_cifar10.build(config)


def options(mode: str, **fields: Any) -> ConfigDict:
    """The fields of a mode that stand under its own name; `fields` override them."""
    found = configs.options_of(mode)[mode]
    found.update(fields)
    return found


def same(a: Any, b: Any) -> bool:
    """Whether two pytrees are equal bit for bit."""
    leaves, others = jax.tree.leaves(jax.device_get(a)), jax.tree.leaves(jax.device_get(b))
    return len(leaves) == len(others) and all(np.array_equal(x, y) for x, y in zip(leaves, others, strict=True))


def shapes(model: nn.Module, size: int = 224) -> tuple[Any, dict[str, tuple[int, ...]]]:
    """A network's variables' shapes and each layer's output shape on size×size×3, without computing anything."""
    x = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x), x)
    apply = jax.eval_shape(
        lambda v, x: model.apply(v, x, capture_intermediates=True, mutable=["intermediates"]), variables, x
    )
    maps = {name: out["__call__"][0].shape for name, out in apply[1]["intermediates"].items() if name != "__call__"}
    return variables, maps


def count(params: Any) -> int:
    """The numbers in a pytree of arrays or shapes."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def random_array(shape, seed=0):
    """Normal random numbers."""
    return jax.random.normal(jax.random.key(seed), shape)
