"""Devices and processes: the only file that names pmap, an axis, a device or a process.

A step is written for one device and takes `reduce`, the mean over devices. Here it becomes one program on all devices
of all processes: the state is replicated, the batch is split, and `reduce` is `lax.pmean`. In a notebook the same step
runs under `jax.jit` with `reduce=identity`.
"""

import functools
import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree
from ml_collections import ConfigDict

from cnnlab import allocator
from cnnlab.errors import UserError

AXIS = "devices"

# How XLA compiles for CPUs. Its newer library leaves a core idle in convolutions with few channels, so only matrix
# products, alone or with what follows them, stay with it. And barriers hold until elementwise operations are fused: so
# `ops` can say what is stored.
CPU_OPTIONS = {
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT",
    "xla_disable_hlo_passes": "cse_barrier_expander",
}


def identity(tree: PyTree) -> PyTree:
    """The mean over a single device."""
    return tree


def set_up(coordinator: str | None, num_processes: int, process_id: int) -> None:
    """Readies this process for computing. Call it before anything touches a device.

    Compiled programs are kept in JAX_COMPILATION_CACHE_DIR (default ~/.cache/cnnlab/xla), so that the same program
    starts faster the next time.

    Args:
      coordinator: host:port of process 0; None where there is one process only.
      num_processes: how many processes there are.
      process_id: this one's number, from 0.
    """
    if num_processes > 1 and coordinator is None:
        raise UserError(f"--num_processes={num_processes} needs --coordinator=HOST:PORT of process 0")
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", os.path.expanduser("~/.cache/cnnlab/xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    if coordinator is not None:
        jax.distributed.initialize(coordinator, num_processes, process_id)


def is_main() -> bool:
    """Whether this process is the one that writes files and prints."""
    return jax.process_index() == 0


def process_count() -> int:
    """How many processes run together."""
    return jax.process_count()


def device_count() -> int:
    """How many devices all processes have together."""
    return jax.device_count()


def describe_devices() -> str:
    """The devices in words, for example "4 × cpu" or "8 × NVIDIA H100 80GB HBM3"."""
    return f"{jax.device_count()} × {jax.devices()[0].device_kind}"


def check_batch_size(name: str, batch_size: int) -> None:
    """Raises a `UserError` unless the devices divide `batch_size` evenly.

    Args:
      name: the config field, for the message.
      batch_size: the global batch size.
    """
    devices = jax.device_count()
    if batch_size < 1:
        raise UserError(f"{name} is {batch_size}; it must be positive")
    if batch_size % devices:
        below = batch_size // devices * devices
        right = " or ".join(str(n) for n in (below, below + devices) if n > 0)
        raise UserError(
            f"{name} is {batch_size}, which {devices} device{'s' * (devices > 1)} cannot share evenly: use {right}"
        )


def check_batch_sizes(config: ConfigDict) -> None:
    """`check_batch_size` of a configuration's "batch_size" and "eval_batch_size"."""
    for field in ("batch_size", "eval_batch_size"):
        check_batch_size(f"config.{field}", config[field])


def device_share(batch_size: int) -> int:
    """How many examples of a global batch a device has."""
    return batch_size // jax.device_count()


def check_parts(share: int, parts: int) -> None:
    """Raises a `UserError` unless a device's share of a batch can be computed in so many equal parts."""
    if parts < 1 or share % parts:
        raise UserError(
            f"config.accumulate is {parts}: it must divide the {share} examples that a device has of a batch"
        )


def process_share(batch_size: int) -> slice:
    """The part of a global batch that this process reads."""
    share = batch_size // jax.process_count()
    return slice(jax.process_index() * share, (jax.process_index() + 1) * share)


@functools.cache
def _mesh() -> Mesh:
    return Mesh(np.array(jax.local_devices()), (AXIS,))


def replicate(tree: PyTree) -> PyTree:
    """Copies every array to all local devices (before the first step: pmap would otherwise compile twice)."""
    return jax.device_put(tree, NamedSharding(_mesh(), PartitionSpec()))


def shard(batch: PyTree) -> PyTree:
    """Splits this process's batch over its devices: (n, …) becomes (devices, n / devices, …), placed."""
    devices = jax.local_device_count()

    def split(x):
        x = np.asarray(x)
        return jax.device_put(x.reshape(devices, -1, *x.shape[1:]), NamedSharding(_mesh(), PartitionSpec(AXIS)))

    return jax.tree.map(split, batch)


def compile_train_step(train_step: Callable) -> Callable:
    """`train_step(state, batch, rng, reduce)` as one program on all devices: `(state, sharded batch, rng) → …`.

    The state's memory is given to the result. With several devices on the CPU each step is awaited: queued steps can
    starve an all-reduce of threads until it aborts the process.
    """

    def mean(tree):
        return lax.pmean(tree, AXIS)

    step = jax.pmap(
        functools.partial(train_step, reduce=mean),
        axis_name=AXIS,
        in_axes=(None, 0, None),
        out_axes=None,
        donate_argnums=0,
    )
    step = for_cpu(step)
    if jax.default_backend() != "cpu" or jax.device_count() == 1:
        return step
    return lambda state, batch, rng: jax.block_until_ready(step(state, batch, rng))


def compile_eval_step(eval_step: Callable) -> Callable:
    """`eval_step(state, batch)` on all local devices; every output keeps the device axis that `gather` removes."""
    return for_cpu(jax.pmap(eval_step, axis_name=AXIS, in_axes=(None, 0), out_axes=0))


def for_cpu(function: Callable) -> Callable:
    """A jitted or pmapped function, compiled with `CPU_OPTIONS` where the backend is a CPU; elsewhere as it is.

    On a notebook's own step: `step = parallel.for_cpu(jax.jit(step))`. With several processes it stays as it is too:
    pmap cannot be compiled ahead of its call there.
    """
    if jax.default_backend() != "cpu" or jax.process_count() > 1:
        return function
    programs: dict[tuple, Callable] = {}

    def call(*arguments):
        leaves, structure = jax.tree.flatten(arguments)
        kind = (structure, *((np.shape(leaf), jax.numpy.result_type(leaf)) for leaf in leaves))
        if kind not in programs:
            programs[kind] = _compile(function.lower(*arguments))
        return programs[kind](*arguments)

    return call


def _compile(lowered: jax.stages.Lowered) -> Callable:
    try:
        return lowered.compile(CPU_OPTIONS)
    except jax.errors.JaxRuntimeError as error:
        if not any(name in str(error) for name in CPU_OPTIONS):
            raise
        return lowered.compile()  # a later XLA without one of these options
    finally:
        allocator.close_gaps()


def gather(outputs: PyTree) -> dict[str, np.ndarray]:
    """Per-example outputs of `compile_eval_step` from all devices and processes, in the global batch's order."""
    outputs = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), jax.device_get(outputs))
    if jax.process_count() > 1:
        outputs = multihost_utils.process_allgather(outputs, tiled=True)
    return jax.tree.map(np.asarray, outputs)


def fetch(tree: PyTree) -> PyTree:
    """Host copies of replicated arrays, sharing no memory with the devices (which reuse donated memory)."""
    return jax.tree.map(lambda x: np.array(x), jax.device_get(tree))


def any_process(flag: bool) -> bool:
    """Whether `flag` is set in any process; all processes must call it at the same point."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.array(flag))))


def from_main(value: Any) -> Any:
    """Process 0's pytree of arrays, given to all processes; all must call it with the same structure and shapes."""
    if jax.process_count() == 1:
        return value
    return jax.tree.map(np.asarray, multihost_utils.broadcast_one_to_all(value))


def wait_for_all(name: str) -> None:
    """Returns when every process has reached this point."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)
