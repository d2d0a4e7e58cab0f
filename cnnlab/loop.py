"""THE training loop and THE evaluation loop."""

import functools
import math
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np

from cnnlab import figures, parallel, workdirs
from cnnlab.checkpoint import SLACK, Checkpoints, state_bytes
from cnnlab.data import pipeline
from cnnlab.data.source import Source
from cnnlab.errors import Diverged, Interrupted, UserError
from cnnlab.experiment import Experiment, Metrics, Task
from cnnlab.figures import film
from cnnlab.progress import Progress
from cnnlab.rngs import stream_key
from cnnlab.state import TrainState
from cnnlab.writer import Writer, save_figures

IN_FLIGHT = 2  # steps queued on the device; more would only pile up batches in its memory
DRAW_EVERY = 60.0  # seconds between drawings of the figures during training; they are always drawn at the end


class Stop:
    """Remembers that SIGINT or SIGTERM came. A second one acts at once, as it would have without this."""

    def __init__(self) -> None:
        self.signum = 0

    def __call__(self, signum: int, frame: Any) -> None:
        self.signum = signum
        signal.signal(signum, signal.SIG_DFL)


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """A `Stop` that listens while the block runs (in the main thread; elsewhere it stays silent)."""
    stop = Stop()
    before = {}
    with suppress(ValueError):  # signals can be set in the main thread only; a notebook may run in another
        for signum in (signal.SIGINT, signal.SIGTERM):
            before[signum] = signal.signal(signum, stop)
    try:
        yield stop
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def fresh_state(experiment: Experiment) -> TrainState:
    """The paper's initialisation: a pure function of the experiment's seed. Jitted: much faster than op by op."""
    batch = {"image": np.zeros((1, *experiment.picture_shape), np.uint8)}
    return jax.jit(experiment.task.init)(stream_key(experiment.seed, "init"), batch)


def initial_state(experiment: Experiment) -> TrainState:
    """The state before the first step: fresh, or with the weights that the experiment begins from, where it names some.

    Raises:
      UserError: the weights cannot be read or do not fit.
    """
    if not experiment.init_from:
        return fresh_state(experiment)
    from cnnlab import begin  # late, as few runs need it

    state, task = state_template(experiment), experiment.task
    image = jax.eval_shape(task.preprocess, jax.ShapeDtypeStruct((1, *experiment.picture_shape), np.uint8))
    variables = begin.load(
        experiment.init_from, task.model, state.variables, image, experiment.replace_head, experiment.init_layers
    )

    def rest() -> list[jax.Array]:
        fresh = fresh_state(experiment)
        pairs = zip(jax.tree.leaves(variables), jax.tree.leaves(dict(fresh.variables)), strict=True)
        return [new for old, new in pairs if isinstance(old, jax.ShapeDtypeStruct)]

    # Only these are computed, a new head, say: the initial values of a whole deep net take long to compile, and would
    # be thrown away.
    fresh = iter(jax.jit(rest)())
    variables = jax.tree.map(lambda x: next(fresh) if isinstance(x, jax.ShapeDtypeStruct) else x, variables)
    params = variables.pop("params")
    return TrainState(np.zeros((), np.int32), params, variables, jax.jit(task.init_optimizer)(params, variables))


def whitened(experiment: Experiment, state: TrainState, source: Source) -> TrainState:
    """The state of a network that whitens its input, fitted to the training pictures; any other as it is.

    Weights that a run begins from bring the whitening along that they have learnt with.
    """
    if "whitening" not in state.model_state or (experiment.init_from and not experiment.init_layers):
        return state
    from cnnlab import begin  # late, as few runs need it

    if parallel.is_main():
        print(f"whitening after the {len(source):,} training pictures", flush=True)
    return state.replace(model_state=begin.whitened(state.model_state, experiment.task.preprocess, source))


def state_template(experiment: Experiment) -> TrainState:
    """Shapes and dtypes of the state, without computing it."""
    return jax.eval_shape(lambda: fresh_state(experiment))


def restored_state(
    experiment: Experiment, workdir: Path, which: str = "latest", untrained_head: bool = False
) -> TrainState:
    """The state of a trained workdir, on all devices; published weights where nothing is trained but they are named.

    Args:
      experiment: what was trained there.
      workdir: the run's folder.
      which: "latest" or "best".
      untrained_head: published weights will do with a fresh head too: there is more to a network than its classes.

    Raises:
      UserError: where there is neither; where the workdir's run began from other weights than the experiment names.
    """
    found = workdirs.read(workdir)
    began, asked = (config.get("init_from", "") for config in (found["config"] if found else {}, experiment.config))
    if found and asked not in ("", began):
        raise UserError(
            f"{workdir} holds a run that began from {began or 'no published weights'}: "
            f"to use {asked} as it is, name another --workdir"
        )
    checkpoints = Checkpoints(workdir / "checkpoints", experiment.keep, experiment.best)
    try:
        restored = checkpoints.restore(state_template(experiment), which)
    finally:
        checkpoints.close()
    if restored is None and experiment.init_from and (untrained_head or not experiment.replace_head):
        return parallel.replicate(initial_state(experiment))
    if restored is None:
        raise UserError(f"{workdir} holds no trained state: train first with --mode=train --workdir={workdir}")
    return parallel.replicate(restored.state)


def train_batches(experiment: Experiment, source: Source, start: int) -> Iterator[dict[str, Any]]:
    """This process's training batches from number `start` on, placed on its devices, made ahead by threads."""
    share = parallel.process_share(experiment.batch_size)

    def make(n):
        return parallel.shard(pipeline.train_batch(source, experiment.seed, n, experiment.batch_size, share))

    return pipeline.prefetch(make, start, experiment.steps, experiment.workers)


def test_batches(experiment: Experiment, source: Source) -> Iterator[dict[str, Any]]:
    """This process's batches of every example of `source` once, padded and masked, placed and made ahead likewise."""
    size = experiment.eval_batch_size
    share = parallel.process_share(size)

    def make(n):
        return parallel.shard(pipeline.eval_batch(source, n, size, share))

    return pipeline.prefetch(make, 0, pipeline.eval_batch_count(source, size), experiment.workers)


def evaluate(
    experiment: Experiment,
    state: TrainState,
    source: Source,
    eval_step: Callable | None = None,
    stop: Stop | None = None,
) -> Metrics | None:
    """The scores of `state` on every example of `source`, each counted once.

    Args:
      experiment: whose task it is.
      state: replicated.
      source: the examples.
      eval_step: compiled by `parallel.compile_eval_step`, to compile it once for many evaluations.
      stop: ends the evaluation early when a signal has come; the result is then None.
    """
    eval_step = eval_step or parallel.compile_eval_step(experiment.task.eval_step)
    metrics = metrics_of(experiment.task, source)
    for batch in test_batches(experiment, source):
        if stop is not None and parallel.any_process(bool(stop.signum)):
            return None
        metrics.add(parallel.gather(eval_step(state, batch)))
    return metrics


def metrics_of(task: Task, source: Source) -> Metrics:
    """The task's empty scores; those with a `source` are told which, as they look up there what batches do not have."""
    metrics = task.metrics()
    if hasattr(metrics, "source"):
        metrics.source = source
    return metrics


def train(
    experiment: Experiment,
    workdir: Path,
    overwrite: bool = False,
    on_report: Callable[[int, dict[str, float]], None] = lambda step, metrics: None,
    first: Callable[[], TrainState] | None = None,
) -> dict[str, float]:
    """Trains to the experiment's last step, going on from the workdir's newest checkpoint where there is one.

    Everything that happens at step n depends on the seed and n alone, so a run that is interrupted and started again
    ends bit for bit as one that was not.

    Args:
      experiment: what to train.
      workdir: the run's folder; made where it is missing.
      overwrite: delete a run of another configuration that the workdir holds, instead of refusing.
      on_report: called after every report with the step and the mean training metrics since the last.
      first: makes the state to begin with, in place of `initial_state`; at the last step, it is tested and kept.

    Returns:
      The last test scores.

    Raises:
      Interrupted: SIGINT or SIGTERM came; the state is saved.
      Diverged: the loss is no longer finite.
      UserError: bad data, or no room in the workdir.
    """
    workdirs.check_same_run(workdir, experiment, overwrite)
    source, test = experiment.train_data(), experiment.test_data()
    checkpoints = Checkpoints(workdir / "checkpoints", experiment.keep, experiment.best, owns=True)
    # Weights that do not fit are found out before anything is written.
    begin = initial_state(experiment) if experiment.init_from and not _goes_on(experiment, workdir) else None
    with ExitStack() as stack:
        if parallel.is_main():
            check_room(experiment, workdir, len(checkpoints.steps()))
            stack.enter_context(workdirs.only_trainer(workdir))
            workdirs.claim(workdir, experiment)
        parallel.wait_for_all("workdir claimed")
        stack.callback(checkpoints.close)
        restored = checkpoints.restore(state_template(experiment))
        made = first or (lambda: begin or initial_state(experiment))
        state = parallel.replicate(restored.state if restored else whitened(experiment, made(), source))
        del begin
        start = int(state.step)
        writer = stack.enter_context(closing(Writer(workdir, start))) if parallel.is_main() else None
        run = _Run(experiment, workdir, source, test, checkpoints, writer, restored.pending if restored else [])
        run.on_report = on_report
        return run.go(state, start, stack.enter_context(stop_on_signals()))


def _goes_on(experiment: Experiment, workdir: Path) -> bool:
    found = workdirs.read(workdir)
    same = found is not None and not workdirs.differences(experiment, found)
    return same and bool(Checkpoints(workdir / "checkpoints").steps())


def check_room(experiment: Experiment, workdir: Path, written: int) -> None:
    """Raises a `UserError` unless the workdir can be written and has room for the checkpoints that it will hold.

    Args:
      experiment: what will be trained.
      workdir: the run's folder; made where it is missing.
      written: how many of the checkpoints are there already.
    """
    size = state_bytes(state_template(experiment)) + SLACK
    needed = size * max(1, experiment.keep + 2 - written)  # the last few, the best, and the one being written
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        probe = workdir / ".probe"
        probe.write_bytes(b"0")
        probe.unlink()
        free = shutil.disk_usage(workdir).free
    except OSError as error:
        raise UserError(f"cannot write to {workdir}: {error.strerror}; choose another --workdir") from error
    if free < needed:
        raise UserError(
            f"{workdir} has {free / 1e6:.1f} MB free and the checkpoints need {needed / 1e6:.1f} MB: "
            "free some or choose another --workdir"
        )


class _Run:
    """The parts of one call of `train`, and what happens between steps."""

    def __init__(self, experiment, workdir, source, test, checkpoints, writer, pending):
        self.experiment, self.workdir, self.source, self.test = experiment, workdir, source, test
        self.checkpoints, self.writer = checkpoints, writer
        # Metrics of the steps since the last report: plain numbers from a checkpoint, then arrays on the devices.
        self.pending = list(pending)
        self.eval_step = parallel.compile_eval_step(experiment.task.eval_step)
        self.scores: dict[str, float] = {}
        self.drawn = time.perf_counter()
        self.warned: list[str] = []

    def go(self, state: TrainState, start: int, stop: Stop) -> dict[str, float]:
        experiment = self.experiment
        train_step = parallel.compile_train_step(experiment.task.train_step)
        key = jax.jit(functools.partial(stream_key, experiment.seed, "train"))
        progress = Progress(experiment.name, start, experiment.steps, experiment.batch_size)
        batches = train_batches(experiment, self.source, start)
        last = experiment.steps
        step = start
        try:
            while True:
                self.check_stop(state, step, stop)
                if step == last or (step and step % experiment.eval_every == 0):
                    self.evaluate(state, step, stop, progress)
                if step == last or (step and step % experiment.checkpoint_every == 0):
                    self.save(state, step)
                if step == last:
                    break
                state, metrics = train_step(state, next(batches), key(step))
                self.pending.append(metrics)
                if len(self.pending) > IN_FLIGHT:
                    jax.block_until_ready(self.pending[-IN_FLIGHT - 1])
                step += 1
                progress.step(step)
                self.film(state, step)
                if step == last or step % experiment.log_every == 0:
                    self.report(step, progress)
        finally:
            progress.close()
        self.checkpoints.finish()
        return self.scores

    def check_stop(self, state: TrainState, step: int, stop: Stop) -> None:
        # Processes must agree on the step they stop at; asking each other at every step would cost too much.
        agreed = parallel.process_count() == 1 or step % self.experiment.log_every == 0
        if agreed and parallel.any_process(bool(stop.signum)):
            self.save_and_stop(state, step, stop)

    def save_and_stop(self, state: TrainState, step: int, stop: Stop) -> NoReturn:
        self.save(state, step)
        self.checkpoints.finish()
        # Another process may have got the signal; this one then ends as if it had.
        signum = stop.signum or signal.SIGTERM
        name = signal.Signals(signum).name
        raise Interrupted(f"{name}: saved at step {step}; the same command goes on from there", signum)

    def fetch_pending(self, step: int) -> list[dict[str, float]]:
        """The pending metrics as plain numbers; raises a `Diverged` naming the first step whose loss is not finite."""
        fetched = [{k: float(v) for k, v in row.items()} for row in jax.device_get(self.pending)]
        for i, row in enumerate(fetched):
            if not math.isfinite(row["loss"]):
                self.give_up(f"the loss is {row['loss']} at step {step - len(fetched) + i + 1}")
        self.pending = fetched
        return fetched

    def give_up(self, what: str) -> NoReturn:
        self.checkpoints.finish()
        raise Diverged(f"{what} of {self.experiment.name}: lower the learning rate; {self.checkpoints.kept()}")

    def report(self, step: int, progress: Progress) -> None:
        rows = self.fetch_pending(step)
        means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
        rates = progress.report(step, means)
        if self.writer is not None:
            self.writer.write(step, "train", means, rates)
        self.pending = []
        self.warn(step, means, progress)
        self.on_report(step, means)

    def warn(self, step: int, means: dict[str, float], progress: Progress) -> None:
        """Says what the task warns of, when it begins."""
        found = self.experiment.task.warnings(means) if hasattr(self.experiment.task, "warnings") else []
        for line in found:
            if line not in self.warned and parallel.is_main():
                progress.say(f"warning at step {step}: {line}")
        self.warned = found

    def film(self, state: TrainState, step: int) -> None:
        """Every so many steps a frame, of tasks that have a film."""
        every = getattr(self.experiment.task, "film_every", 0)
        if every and self.writer is not None and (step % every == 0 or step == self.experiment.steps):
            film.add_frame(self.workdir, step, self.experiment.task.frame(state))

    def evaluate(self, state: TrainState, step: int, stop: Stop, progress: Progress) -> None:
        began = time.perf_counter()
        metrics = evaluate(self.experiment, state, self.test, self.eval_step, stop)
        if metrics is None:
            self.save_and_stop(state, step, stop)
        self.scores = metrics.compute()
        progress.say(describe(f"test at step {step}", self.scores))
        if not math.isfinite(self.scores.get("loss", 0.0)):
            self.fetch_pending(step)  # names the first step whose loss is not finite, unless it was the last update
            self.give_up(f"the loss on the test set is {self.scores['loss']} at step {step}")
        if self.writer is not None:
            if not self.writer.has(step, "test"):
                self.writer.write(step, "test", self.scores, {})
            if step == self.experiment.steps or began - self.drawn > DRAW_EVERY:
                drawn = self.experiment.task.draw(state, metrics, self.test)
                save_figures(self.workdir / "figures", {"curves": figures.curves(self.writer.rows), **drawn})
                film.write_film(self.workdir)
                self.drawn = time.perf_counter()
        progress.pause(time.perf_counter() - began)

    def save(self, state: TrainState, step: int) -> None:
        pending = self.fetch_pending(step)
        evaluated = self.writer is not None and self.writer.has(step, "test")
        self.checkpoints.save(step, state, pending, self.scores if evaluated else None)


def describe(what: str, scores: dict[str, float]) -> str:
    """Scores as a line: errors in per cent, counts whole."""

    def show(name, value):
        if name.endswith("error"):
            return f"{name} {value:.2%}"
        return f"{name} {value:,}" if isinstance(value, int) else f"{name} {value:.4g}"

    return f"{what}: " + "  ".join(show(name, value) for name, value in scores.items())


def train_and_say(experiment: Experiment, workdir: Path, overwrite: bool) -> None:
    """`train`, with last lines that say what came of it and where it is."""
    scores = train(experiment, workdir, overwrite)
    if parallel.is_main():
        print(describe(f"{experiment.name} after {experiment.steps} steps", scores))
        print(f"checkpoints, metrics and figures are in {workdir}")
