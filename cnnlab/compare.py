"""Two trained workdirs on the same examples: what `--mode=compare` does."""

import dataclasses
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int

from cnnlab import configs, loop, parallel
from cnnlab.data import pipeline
from cnnlab.data.source import Source
from cnnlab.errors import UserError
from cnnlab.experiment import Experiment
from cnnlab.metrics.mcnemar import McNemar, mcnemar

NAMES = ("A", "B")  # of the two in what is printed: folders can be long


@dataclasses.dataclass(frozen=True)
class Run:
    """One of the two runs.

    Attributes:
      workdir: its folder.
      experiment: its experiment's name.
      step: of the checkpoint that was tested.
      index: the examples that were counted, ascending.
      right: which of them it got right.
    """

    workdir: Path
    experiment: str
    step: int
    index: Int[np.ndarray, " n"]
    right: Bool[np.ndarray, " n"]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What came of `compare`.

    Attributes:
      runs: the two.
      test: McNemar's, the first run first.
      pictures_compared: whether the pictures were seen to be the same; they cannot be where the two store them in
        different shapes.
    """

    runs: tuple[Run, Run]
    test: McNemar
    pictures_compared: bool


def compare(workdirs: tuple[Path, Path], which: str = "latest") -> Comparison:
    """Tests two runs anew, each under its own experiment and configuration, and compares them by McNemar's test.

    Nothing is written. On several processes all must call it; all get the result.

    Args:
      workdirs: the runs' folders.
      which: "latest" or "best": the checkpoints.

    Raises:
      UserError: a folder holds no run or no trained state, its task does not say which examples it got right, or the
        two were not tested on the same examples.
    """
    experiments = [_experiment(workdir) for workdir in workdirs]
    sources = [experiment.test_data() for experiment in experiments]
    size = min(experiment.eval_batch_size for experiment in experiments)
    workers = max(experiment.workers for experiment in experiments)
    pictures_compared = check_same_examples(sources[0], sources[1], workdirs, size, workers)
    first, second = (
        _tested(workdir, experiment, source, which)
        for workdir, experiment, source in zip(workdirs, experiments, sources, strict=True)
    )
    return Comparison((first, second), mcnemar(first.right, second.right), pictures_compared)


def check_same_examples(
    first: Source, second: Source, names: tuple[object, object], batch_size: int = 256, workers: int = 2
) -> bool:
    """Raises a `UserError` unless two sources hold the same examples, that says in what they differ.

    They must agree in length, in their classes' names and order, and, example by example, in label, in whether the
    picture can be read, and in the picture itself where both store the same shape.

    Args:
      first, second: the sources.
      names: what the error calls them.
      batch_size: how many examples are looked at together.
      workers: threads that read.

    Returns:
      Whether the pictures were compared too: False where they are stored in different shapes.
    """

    def refuse(difference: str) -> UserError:
        return UserError(f"{names[0]} and {names[1]} were not tested on the same examples: {difference}")

    classes = first.class_names, second.class_names
    if len(classes[0]) != len(classes[1]):
        raise refuse(f"{names[0]} has {len(classes[0])} classes and {names[1]} has {len(classes[1])}")
    for label, (one, other) in enumerate(zip(*classes, strict=True)):
        if one != other:
            raise refuse(f"class {label} is {one!r} in {names[0]} and {other!r} in {names[1]}")
    if len(first) != len(second):
        raise refuse(f"{names[0]} has {len(first):,} and {names[1]} has {len(second):,}")

    def differences(n: int) -> dict[str, np.ndarray]:
        whole = slice(0, batch_size)
        one, other = (pipeline.eval_batch(source, n, batch_size, whole) for source in (first, second))
        label, mask = one["label"] != other["label"], one["mask"] != other["mask"]
        same_shape = one["image"].shape == other["image"].shape
        differ = one["image"] != other["image"] if same_shape else np.zeros(batch_size, bool)
        image = differ.reshape(batch_size, -1).any(1)
        # Of every kind the places in the source; what cannot be read has a blank picture, and is told by the mask.
        found = {"label": label, "readable": mask, "picture": image}
        return {"same_shape": np.array(same_shape), **{kind: one["index"][at] for kind, at in found.items()}}

    batches = list(pipeline.prefetch(differences, 0, pipeline.eval_batch_count(first, batch_size), workers))
    for kind, text in (("label", "labels differ"), ("readable", "can be read in one only"), ("picture", "differ")):
        found = np.unique(np.concatenate([np.zeros(0, np.int32), *(batch[kind] for batch in batches)]))
        if len(found):
            what = text if kind == "label" else f"pictures {text}"
            raise refuse(f"{len(found):,} of the {len(first):,} {what}, the first is number {found[0]}")
    return all(batch["same_shape"] for batch in batches)


def _experiment(workdir: Path) -> Experiment:
    experiment = configs.build_from(workdir)
    if not hasattr(experiment.task.metrics(), "examples"):
        raise UserError(f"{workdir} holds a run of {experiment.name}, whose examples are not simply right or wrong")
    return experiment


def _tested(workdir: Path, experiment: Experiment, source: Source, which: str) -> Run:
    state = loop.restored_state(experiment, workdir, which)
    examples = loop.evaluate(experiment, state, source).examples()
    right = examples["label"] == examples["predicted"]
    return Run(workdir, experiment.name, int(state.step), examples["index"], right)


def report(comparison: Comparison) -> str:
    """The comparison for people: the runs' errors, the 2×2 table, both p-values, and what they mean."""
    test, lines = comparison.test, []
    for name, run in zip(NAMES, comparison.runs, strict=True):
        wrong, count = int(np.sum(~run.right)), len(run.right)
        error = f"error {wrong / count:.2%} ({wrong:,} of {count:,})" if count else "no examples"
        lines.append(f"{name}: {run.workdir}, {run.experiment} at step {run.step}: {error}")
    if not comparison.pictures_compared:
        lines.append(
            "The two store their pictures in different shapes. Number, classes and labels are the same; that the "
            "pictures are could not be seen, and what follows holds only if they are."
        )
    table = np.vstack([test.table, test.table.sum(0)])
    table = np.column_stack([table, table.sum(1)])
    heads = (f"{NAMES[1]} right", f"{NAMES[1]} wrong", "total")
    rows = (f"{NAMES[0]} right", f"{NAMES[0]} wrong", "total")
    lines += ["", " " * 8 + "".join(f"{head:>12}" for head in heads)]
    lines += [f"{head:8}" + "".join(f"{n:>12,}" for n in row) for head, row in zip(rows, table.tolist(), strict=True)]
    lines += [
        "",
        f"McNemar's test, exact (binomial): p = {_p(test.exact)}",
        f"McNemar's test, χ² with continuity correction: χ² = {test.chi2:.3g}, p = {_p(test.chi2_p)}",
        test.reading(*NAMES),
    ]
    return "\n".join(lines)


def _p(p: float) -> str:
    return f"{p:.3g}" if p > 0 else "0 (less than the smallest number)"


def compare_and_say(workdirs: tuple[Path, Path], which: str = "latest") -> None:
    """`compare`, printed by process 0."""
    comparison = compare(workdirs, which)
    if parallel.is_main():
        print(report(comparison))
