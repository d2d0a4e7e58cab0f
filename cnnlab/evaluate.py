"""Testing trained runs: what `--mode=eval` does, of one workdir or of several that vote together."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from cnnlab import configs, loop, parallel, testing
from cnnlab.compare import check_same_examples
from cnnlab.data import crops
from cnnlab.data.source import Source
from cnnlab.errors import UserError
from cnnlab.experiment import Experiment, Task
from cnnlab.metrics.classification import ClassificationMetrics
from cnnlab.models.dense import Dense
from cnnlab.models.fast_rcnn import FastRCNN, truncated
from cnnlab.models.vgg import VGG
from cnnlab.state import TrainState
from cnnlab.tasks.classification import Classification
from cnnlab.writer import save_figures


def as_in_papers(experiment: Experiment, options: ConfigDict) -> Experiment:
    """The experiment with a task that averages over views of each picture.

    Args:
      experiment: as it was trained.
      options: the fields "eval" of `configs.options_of`.

    Raises:
      UserError: an unknown number of views, or views that the task or its stored pictures do not allow.
    """
    task = experiment.task
    if options.crops == 1 and not options.dense:
        return experiment
    if not hasattr(task, "views"):
        raise UserError(f"{experiment.name} has no views to average over: leave config.eval as it is")
    if options.dense:
        return dataclasses.replace(experiment, task=_dense(experiment, options))
    makers = {
        10: functools.partial(crops.ten_crops, resize=task.resize),
        48: crops.googlenet_crops,
        144: crops.googlenet_crops,
    }
    if options.crops not in makers:
        raise UserError(f"config.eval.crops is {options.crops}; it must be 1, 10, 48 or 144")
    if options.crops == 144:
        if experiment.test_squares is None:
            raise UserError(f"the test pictures of {experiment.name} are squares: their 48 views are all that differ")
        experiment = dataclasses.replace(experiment, test_data=experiment.test_squares)
    stored = jax.ShapeDtypeStruct((1, *experiment.picture_shape), np.uint8)
    size = jax.eval_shape(task.preprocess, stored).shape[1]
    views = functools.partial(makers[options.crops], size=size)
    if options.crops == 10 and size == (task.resize or min(experiment.picture_shape[:2])):
        raise UserError(f"ten crops of {experiment.name} are one and its mirror image: the net sees whole pictures")
    try:  # now rather than in the first step
        jax.eval_shape(views, stored)
    except UserError as error:
        needed = size if options.crops == 10 else crops.googlenet_scales(size)[-1]
        raise UserError(f"{error}{_larger(experiment, needed)}") from error
    return dataclasses.replace(experiment, task=dataclasses.replace(task, views=views))


def _larger(experiment: Experiment, size: int) -> str:
    """How an experiment gets pictures of a size, where it can."""
    settable = "stored_size" in experiment.config and experiment.config.get("data") != "digits"
    return f": add --config.stored_size={size}" if settable else f", and {experiment.name} has no larger ones"


def _dense(experiment: Experiment, options: ConfigDict) -> Task:
    task = experiment.task
    if options.crops != 1:
        raise UserError("config.eval has both crops and dense; choose one")
    if not isinstance(task.model, VGG) or task.uncropped is None:
        raise UserError(
            f"config.eval.dense is for VGG on cropped pictures, and {experiment.name}, on "
            f"{experiment.config.get('data')!r}, is not that"
        )
    try:
        sizes = tuple(int(size) for size in options.dense.split(","))
    except ValueError as error:
        raise UserError(f"config.eval.dense is {options.dense!r}: write sizes as in 256,384,512") from error
    if min(sizes) < 1:
        raise UserError(f"config.eval.dense is {options.dense!r}: sizes are in pixels, 1 or more")
    if max(sizes) > experiment.picture_shape[0]:
        raise UserError(
            f"config.eval.dense asks for pictures of {max(sizes)}, and they are stored at "
            f"{experiment.picture_shape[0]}{_larger(experiment, max(sizes))}"
        )
    views = functools.partial(crops.mirrored_scales, sizes=sizes)
    return dataclasses.replace(task, model=Dense(task.model), preprocess=task.uncropped, views=views)


def evaluate_and_say(experiment: Experiment, workdir: Path, which: str, options: ConfigDict | None = None) -> None:
    """Tests a trained workdir, draws the figures anew and prints the scores."""
    state = loop.restored_state(experiment, workdir, which)
    options = options or configs.options_of("eval").eval
    experiment = as_in_papers(experiment, options)
    if options.ranks:
        experiment, state = with_ranks(experiment, state, tuple(options.ranks))
    test = experiment.test_data()
    metrics = loop.evaluate(experiment, state, test)
    scores = metrics.compute()  # by all processes: a judge's state is read together
    if parallel.is_main():
        save_figures(workdir / "figures", experiment.task.draw(state, metrics, test))
        if hasattr(metrics, "table"):
            print(metrics.table())
        print(loop.describe(f"{experiment.name} at step {int(state.step)}", scores))


def with_ranks(experiment: Experiment, state: TrainState, ranks: tuple[int, ...]) -> tuple[Experiment, TrainState]:
    """A detector's experiment and state with fc6 and fc7 cut to these ranks; see `fast_rcnn.truncated`.

    Raises:
      UserError: it is no such detector, or the ranks are not two that its layers can have.
    """
    task = experiment.task
    if not isinstance(task.model, FastRCNN) or len(ranks) != 2:
        raise UserError(
            f"config.eval.ranks is {ranks}: it takes two numbers, of detectors with fc6 and fc7 ({experiment.name} is "
            f"of {type(task.model).__name__})"
        )
    model, params = truncated(task.model, state.variables["params"], ranks)
    task = dataclasses.replace(task, model=model)
    # Nothing is trained any more: the optimizer's state, which is of the whole layers, goes.
    state = dataclasses.replace(state, params=params, opt_state=())
    return dataclasses.replace(experiment, task=task), parallel.replicate(state)


def ensemble(
    folders: Sequence[Path], which: str, options: ConfigDict | None = None, stored_size: int = 0
) -> ClassificationMetrics:
    """The scores of several runs whose class probabilities are averaged; `stored_size` as in `configs.build_from`.

    Raises:
      UserError: a folder holds no classification run; they were not tested on the same examples.
    """
    options = options or configs.options_of("eval").eval
    if options.ranks:
        raise UserError("config.eval.ranks is of one detector, and several runs that vote together are classifiers")
    experiments = [_member(folder, options, stored_size) for folder in folders]
    sources = [experiment.test_data() for experiment in experiments]
    for folder, source in zip(folders[1:], sources[1:], strict=True):
        check_same_examples(sources[0], source, (folders[0], folder))
    found = []
    for folder, experiment, source in zip(folders, experiments, sources, strict=True):
        state = loop.restored_state(experiment, folder, which)
        found.append(_probabilities(experiment, state, source))
    means = testing.average_probabilities([each["probabilities"] for each in found])
    return testing.score(means, found[0]["label"], found[0]["index"])


def _member(folder: Path, options: ConfigDict, stored_size: int) -> Experiment:
    experiment = configs.build_from(folder, stored_size)
    if not isinstance(experiment.task, Classification):
        raise UserError(f"{folder} holds a run of {experiment.name}, which has no class probabilities to average")
    try:
        return as_in_papers(experiment, options)
    except UserError as error:
        raise UserError(f"{folder}: {error}") from error


def _probabilities(experiment: Experiment, state: TrainState, source: Source) -> dict[str, np.ndarray]:
    """Every test picture's class probabilities, label and index."""
    task = experiment.task

    def probe(state, batch):
        kept = {name: batch[name] for name in ("mask", "index", "label")}
        return {"probabilities": task.predict_step(state, batch), **kept}

    step, rows = parallel.compile_eval_step(probe), []
    for batch in loop.test_batches(experiment, source):
        outputs = parallel.gather(step(state, batch))
        rows.append({name: array[outputs["mask"] > 0] for name, array in outputs.items()})
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def ensemble_and_say(folders: Sequence[Path], which: str, options: ConfigDict, stored_size: int = 0) -> None:
    """`ensemble`, printed by process 0."""
    metrics = ensemble(folders, which, options, stored_size)
    if parallel.is_main():
        print(loop.describe(f"{len(folders)} runs together", metrics.compute()))
