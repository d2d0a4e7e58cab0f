"""What a run is made of: the frozen `Experiment`, and the `Task` and `Source` that it holds."""

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import flax.linen as nn
import numpy as np
from jaxtyping import Array, Key, PyTree
from matplotlib.figure import Figure

from cnnlab import parallel
from cnnlab.data.source import Source
from cnnlab.errors import UserError
from cnnlab.state import TrainState

Batch = Mapping[str, Any]
WORKERS = max(2, min(8, os.cpu_count() or 2))  # more would hold more batches in memory than a step can use


@runtime_checkable
class Metrics(Protocol):
    """Scores as sums on the host. `add` takes the gathered outputs of one batch, whose `mask` is 0 for padding."""

    def add(self, outputs: Mapping[str, np.ndarray]) -> None: ...

    def compute(self) -> dict[str, float]: ...


@runtime_checkable
class Task(Protocol):
    """A problem: model, loss and optimizer behind pure functions. See `tasks/classification.py` for one.

    `train_step`'s `reduce` is the mean over devices: `parallel.identity` under `jax.jit`, `lax.pmean` on many devices.
    Its `rng` is the step's key, the same on every device; `batch["position"]` says which examples of the global batch a
    device holds, so what is drawn per example does not depend on how many devices there are.
    """

    model: nn.Module
    preprocess: Callable[[Array], Array]

    def init(self, rng: Key[Array, ""], batch: Batch) -> TrainState: ...

    def train_step(
        self, state: TrainState, batch: Batch, rng: Key[Array, ""], reduce: Callable[[PyTree], PyTree]
    ) -> tuple[TrainState, dict[str, Array]]: ...

    def eval_step(self, state: TrainState, batch: Batch) -> dict[str, Array]: ...

    def metrics(self) -> Metrics: ...

    def predict_step(self, state: TrainState, batch: Batch) -> Any: ...

    def describe(self, outputs: Any) -> list[dict[str, Any]]: ...

    def draw(self, state: TrainState, metrics: Metrics, source: Source) -> dict[str, Figure]: ...

    def say(self, row: Mapping[str, Any]) -> str: ...

    def draw_predictions(self, pictures: list[Any], names: list[str], rows: list[dict]) -> Figure: ...


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One run, ready for `loop.train`.

    Attributes:
      name: the experiment file's name.
      config: the plain values that it was built from, derived facts filled in; written to the workdir.
      task: the problem, with its model and optimizer.
      train_data, test_data: make the sources; called only by modes that read data.
      test_squares: makes the test set with three squares of each picture, for GoogLeNet's 144 views; None: has none.
      picture_shape: (height, width, channels) of the pictures that the sources give.
      read_picture: a picture file as the uint8 array that the task takes, or as the fields of a batch of which that is
        "image"; for predict.
      batch_size, eval_batch_size: global batch sizes.
      steps: updates in the whole run.
      seed: of initialisation, order of examples and all noise.
      log_every, eval_every, checkpoint_every: in steps.
      keep: how many of the newest checkpoints stay, besides the best.
      best: the test metric that chooses the best checkpoint; lower is better, or higher with a "-" before the name.
      workers: threads that make batches ahead of the step.
      prepare: downloads and builds the data, for `--mode=prepare`; None where there is nothing to prepare.
      init_from: what the run begins from: a run's workdir, or published weights, a path or a hub id (`begin.py`); empty
        for the paper's initialisation. Without a checkpoint, eval and predict use these weights as they are.
      replace_head: with `init_from`: keep the fresh classifiers, to learn other classes.
      init_layers: with `init_from`: patterns of the layers that it is for; none: all.
    """

    name: str
    config: Mapping[str, Any]
    task: Task
    train_data: Callable[[], Source]
    test_data: Callable[[], Source]
    picture_shape: tuple[int, int, int]
    read_picture: Callable[[Any], np.ndarray | dict[str, np.ndarray]]
    batch_size: int
    eval_batch_size: int
    steps: int
    seed: int
    log_every: int
    eval_every: int
    checkpoint_every: int
    keep: int = 2
    best: str = "error"
    workers: int = WORKERS
    prepare: Callable[[], None] | None = None
    test_squares: Callable[[], Source] | None = None
    init_from: str = ""
    replace_head: bool = False
    init_layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field in ("batch_size", "eval_batch_size", "steps", "log_every", "eval_every", "checkpoint_every", "keep"):
            if getattr(self, field) < 1:
                raise UserError(f"{field} of {self.name} is {getattr(self, field)}; it must be positive")
        if self.seed < 0:
            raise UserError(f"seed of {self.name} is {self.seed}; it must be 0 or more")
        if self.replace_head and not self.init_from:
            raise UserError(f"replace_head of {self.name} needs init_from: there are no weights whose head to replace")
        parallel.check_parts(parallel.device_share(self.batch_size), getattr(self.task, "accumulate", 1))
