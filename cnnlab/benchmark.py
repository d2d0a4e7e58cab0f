"""How fast an experiment trains, and where the time goes: what `--mode=benchmark` does."""

import contextlib
import dataclasses
import io
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np

from cnnlab import loop, parallel
from cnnlab.data import pipeline
from cnnlab.data.source import Head, Source
from cnnlab.experiment import Experiment
from cnnlab.rngs import stream_key


@dataclasses.dataclass(frozen=True)
class Speed:
    """Medians over repeats, in global images per second.

    Attributes:
      step: the compiled step alone, on batches that lie on the devices.
      inputs: the input pipeline alone.
      loop: the whole training loop as `--mode=train` runs it, reports, metrics.jsonl and events included.
      inference: the evaluation step alone.
      loop_over_step: median of the repeats' ratios, each of two runs side by side.
      layers: the evaluation step's layers alone, of a detector; None elsewhere.
    """

    step: float
    inputs: float
    loop: float
    inference: float
    loop_over_step: float
    layers: float | None = None


SECONDS = 3.0  # that a measurement of the step should last, within MOST and LEAST steps
LEAST, MOST = 2, 100


def measure(experiment: Experiment, steps: int | None = None, repeats: int = 5) -> Speed:
    """Measures each part in turn, `repeats` times, after warming up.

    Args:
      experiment: any; nothing of it is written outside a temporary folder.
      steps: training steps a measurement; by default as many as fit into `SECONDS`.
      repeats: measurements of each part.
    """
    source, test = experiment.train_data(), experiment.test_data()
    run = _steps_only(experiment, source)
    if steps is None:
        run(1)
        steps = max(LEAST, min(MOST, int(SECONDS / run(1))))
    parts: dict[str, Callable[[int], float]] = {
        "step": run,
        "loop": lambda n: _loop(experiment, source, test, n),
        "inputs": lambda n: _inputs(experiment, source, n),
        "inference": _inference(experiment, test, experiment.task.eval_step),
    }
    layers_step = getattr(experiment.task, "layers_step", None)
    if layers_step is not None:
        parts["layers"] = _inference(experiment, test, layers_step)
    for part in parts.values():
        part(min(10, steps))
    seconds = {name: [] for name in parts}
    for _ in range(repeats):
        for name, part in parts.items():
            seconds[name].append(part(steps))
    ratio = statistics.median(s / t for s, t in zip(seconds["step"], seconds["loop"], strict=True))
    rate = {name: steps * experiment.batch_size / statistics.median(taken) for name, taken in seconds.items()}
    return Speed(**rate, loop_over_step=ratio)


def report(experiment: Experiment, speed: Speed) -> str:
    """The measurement in words: images/s, and the milliseconds of a step of the loop by what they went to."""

    def milliseconds(rate):
        return 1e3 * experiment.batch_size / rate

    step, whole, inputs = milliseconds(speed.step), milliseconds(speed.loop), milliseconds(speed.inputs)
    own = []
    if speed.layers is not None:
        share = 1 - speed.inference / speed.layers
        each = milliseconds(speed.inference) * share / experiment.batch_size
        own = [f"  boxes, NMS, pooling of regions        {each:8.2f} ms a picture  ({share:.0%} of inference)"]
    return "\n".join(
        [
            f"{experiment.name}, batch {experiment.batch_size}, {parallel.describe_devices()}",
            f"training loop      {speed.loop:12,.0f} images/s  {whole:8.2f} ms a step",
            f"  step alone       {speed.step:12,.0f} images/s  {step:8.2f} ms  ({step / whole:.0%} of the loop)",
            f"  host and waiting {'':12}           {max(whole - step, 0):8.2f} ms  ({max(1 - step / whole, 0):.0%})",
            f"input pipeline     {speed.inputs:12,.0f} images/s  {inputs:8.2f} ms a batch, made ahead of the step",
            f"inference          {speed.inference:12,.0f} images/s",
            *own,
            f"loop / step alone  {speed.loop_over_step:12.3f}",
        ]
    )


def _batches(experiment: Experiment, source: Source, count: int) -> Iterator:
    share = parallel.process_share(experiment.batch_size)
    for n in range(count):
        yield parallel.shard(pipeline.train_batch(source, experiment.seed, n, experiment.batch_size, share))


def _steps_only(experiment: Experiment, source: Source) -> Callable[[int], float]:
    step = parallel.compile_train_step(experiment.task.train_step)
    batches = list(_batches(experiment, source, 4))
    key = stream_key(experiment.seed, "train")

    def run(count: int) -> float:
        state = parallel.replicate(loop.initial_state(experiment))
        state, _ = jax.block_until_ready(step(state, batches[0], key))
        began = time.perf_counter()
        for n in range(count):
            state, _ = step(state, batches[n % len(batches)], key)
        jax.block_until_ready(state)
        return time.perf_counter() - began

    return run


def _loop(experiment: Experiment, source: Source, test: Source, count: int) -> float:
    """Seconds of about `count` steps of a real run, scaled to `count`: from its first report to its last."""
    interval = min(experiment.log_every, count)
    intervals = -(-count // interval)
    times = []
    short = dataclasses.replace(
        experiment,
        train_data=lambda: source,
        test_data=lambda: Head(test, experiment.eval_batch_size),
        steps=interval * (1 + intervals),
        log_every=interval,
        eval_every=10**9,
        checkpoint_every=10**9,
    )
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        loop.train(short, Path(folder), on_report=lambda step, metrics: times.append(time.perf_counter()))
    return (times[-1] - times[0]) * count / (interval * intervals)


def _inputs(experiment: Experiment, source: Source, count: int) -> float:
    short = dataclasses.replace(experiment, steps=count)
    began = time.perf_counter()
    for batch in loop.train_batches(short, source, 0):
        jax.block_until_ready(batch)
    return time.perf_counter() - began


def _inference(experiment: Experiment, source: Source, step: Callable) -> Callable[[int], float]:
    step = parallel.compile_eval_step(step)
    state = parallel.replicate(loop.initial_state(experiment))
    share = parallel.process_share(experiment.batch_size)
    batch = parallel.shard(pipeline.eval_batch(source, 0, experiment.batch_size, share))
    np.asarray(jax.tree.leaves(step(state, batch))[0])

    def run(count: int) -> float:
        began = time.perf_counter()
        for _ in range(count):
            outputs = step(state, batch)
        jax.block_until_ready(outputs)
        return time.perf_counter() - began

    return run
