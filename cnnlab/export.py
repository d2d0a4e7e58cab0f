"""Trained networks for use elsewhere: what `--mode=export` writes.

A program needs nothing of this project, only JAX:

    program = jax.export.deserialize(pathlib.Path("program.jax").read_bytes())
    outputs = program.call({"image": pictures})

It runs on CPUs, GPUs and TPUs alike, with its weights inside, for as long as JAX keeps its promise to read older
programs (half a year at least).
"""

import contextlib
import functools
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jaxtyping import Array
from ml_collections import ConfigDict
from PIL import Image

from cnnlab import loop, parallel, weights
from cnnlab.errors import UserError
from cnnlab.experiment import Batch, Experiment
from cnnlab.ops.forms import plain_forms
from cnnlab.state import TrainState
from cnnlab.writer import write_whole

PLATFORMS = ("cpu", "cuda", "tpu")


def export_and_say(experiment: Experiment, workdir: Path, which: str, options: ConfigDict) -> None:
    """What the command line asks for: a file in the workdir's folder "exported", and what is in it.

    Args:
      experiment: the workdir's.
      workdir: the run's folder.
      which: "latest" or "best" checkpoint.
      options: the fields "export" of `configs.options_of`.

    Raises:
      UserError: another format, or a size of batches below 0; see `program` and `weights.export_torchvision`.
    """
    if options.format not in ("program", "torchvision"):
        raise UserError(f"config.export.format is {options.format!r}; it must be 'program' or 'torchvision'")
    if options.batch_size < 0:
        raise UserError(f"config.export.batch_size is {options.batch_size}; it must be 0, for any number, or more")
    state = loop.restored_state(experiment, workdir, which)
    if not parallel.is_main():
        return
    folder = workdir / "exported"
    if options.format == "torchvision":
        path = folder / "torchvision.safetensors"
        weights.export_torchvision(experiment.task.model, state.variables, path)
        print(f"written: {path}, which torchvision's network of the same kind loads")
        return
    made = program(experiment, state, options.batch_size)
    said = {"experiment": experiment.name, "step": int(state.step), **describe(made, experiment)}
    write_whole(folder / "program.jax", bytes(made.serialize()))
    write_whole(folder / "program.json", (json.dumps(said, indent=2) + "\n").encode())
    for side in ("inputs", "outputs"):
        print(f"{side:8}", ", ".join(f"{name} {_say(one)}" for name, one in said[side].items()))
    print(f"written: {folder / 'program.jax'}, {folder / 'program.json'}")


def program(experiment: Experiment, state: TrainState, batch_size: int = 0) -> export.Exported:
    """The network's prediction as one program, from the fields of a batch to what the task's `predict_step` returns.

    Of a task that makes pictures it is `sample`, of the fields "seed", any whole numbers, and "label" where the
    pictures are of classes.

    Args:
      experiment: of the network.
      state: trained; the averaged weights are used where there are such.
      batch_size: how many pictures the program takes at once; 0: any number.

    Raises:
      UserError: the network finds pictures by sentences; it cannot be written for any number of pictures.
    """
    state = jax.tree.map(jnp.asarray, jax.device_get(state))  # the weights become the program's constants
    if hasattr(experiment.task, "sample"):
        function, fields = _sampling(experiment, state), _fields_of_sample(experiment)
    else:
        function, fields = functools.partial(experiment.task.predict_step, state), _fields_of_picture(experiment)
    count = batch_size or export.symbolic_shape("n")[0]
    batch = {name: jax.ShapeDtypeStruct((count, *one.shape), one.dtype) for name, one in fields.items()}
    try:
        with plain_forms(), _no_source_paths():  # the forms for CPUs would be slower elsewhere
            return export.export(jax.jit(function), platforms=PLATFORMS)(batch)
    except jax.errors.InconclusiveDimensionOperation as error:
        raise UserError(
            f"{experiment.name} cannot be exported for any number of pictures: name one, --config.export.batch_size=1"
        ) from error


@contextlib.contextmanager
def _no_source_paths() -> Iterator[None]:
    """Programs lowered within don't say which file each operation comes from: another machine has no use for paths."""
    limit = jax.config.jax_traceback_in_locations_limit
    jax.config.update("jax_traceback_in_locations_limit", 0)
    try:
        yield
    finally:
        jax.config.update("jax_traceback_in_locations_limit", limit)


def _sampling(experiment: Experiment, state: TrainState) -> Callable[[Batch], Array]:
    def sample(batch: Batch) -> Array:
        return experiment.task.sample(state, jax.vmap(jax.random.key)(batch["seed"]), batch.get("label"))

    return sample


def _fields_of_sample(experiment: Experiment) -> dict[str, np.ndarray]:
    fields = {"seed": np.zeros((), np.uint32)}
    return {**fields, "label": np.zeros((), np.int32)} if experiment.task.class_names else fields


def _fields_of_picture(experiment: Experiment) -> dict[str, np.ndarray]:
    """The fields that `predict_step` takes of a picture: those that are read of a grey one."""
    task, (height, width, channels) = experiment.task, experiment.picture_shape
    if getattr(task, "needs_query", False):
        raise UserError(f"{experiment.name} finds pictures by a sentence, which no program can be made of")
    if hasattr(task, "predict_each"):  # pictures of any size, which it sees in windows
        return {"image": np.zeros((height, width, channels), np.uint8)}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "grey.png"
        Image.new("L", (width, height), 128).convert("L" if channels == 1 else "RGB").save(file)
        picture = experiment.read_picture(file)
    return picture if isinstance(picture, dict) else {"image": picture}


def describe(program: export.Exported, experiment: Experiment) -> dict[str, Any]:
    """What a program takes and returns, for people and JSON.

    Returns:
      "inputs" and "outputs", by name the "shape" and "dtype" of each, "n" standing for any number; an output that is
      one array only has the name "output". "classes", in the order of the labels, and "words", in that of the tokens,
      where there are such.
    """
    (batch,), _ = jax.tree.unflatten(program.in_tree, program.in_avals)
    outputs = jax.tree.unflatten(program.out_tree, program.out_avals)
    said = {
        "inputs": {name: _described(one) for name, one in batch.items()},
        "outputs": {name: _described(one) for name, one in _by_name(outputs).items()},
    }
    task = experiment.task
    if getattr(task, "class_names", ()):
        said["classes"] = list(task.class_names)
    if hasattr(task, "vocabulary"):
        said["words"] = [task.vocabulary.word(number) for number in range(len(task.vocabulary))]
    return said


def _by_name(outputs: Any) -> dict[str, Any]:
    return outputs if isinstance(outputs, dict) else {"output": outputs}


def _described(array: Any) -> dict[str, Any]:
    return {"shape": [size if isinstance(size, int) else str(size) for size in array.shape], "dtype": str(array.dtype)}


def _say(one: dict[str, Any]) -> str:
    return f"{one['dtype']}({', '.join(map(str, one['shape']))})"
