"""What `--mode=inspect` does: opens up a trained network, and draws one of the figures that there are."""

import functools
from pathlib import Path

from ml_collections import ConfigDict

from cnnlab import configs, loop, parallel, report
from cnnlab.errors import UserError, nearest
from cnnlab.experiment import Experiment
from cnnlab.inspect import (
    adversarial,
    augment,
    correspondence,
    deconvnet,
    features,
    filters,
    gradients,
    invariance,
    inversion,
    linear,
    maximise,
    occlusion,
    statistics,
    svm,
    transformers,
)
from cnnlab.inspect.subject import Subject
from cnnlab.predict import find_pictures
from cnnlab.tasks.classification import Classification
from cnnlab.writer import save_figures

# By the names that --config.inspect takes. Each is a function of a subject and the options: figures by their names.
FIGURES = {
    "adversarial": adversarial.draw,
    "augment": augment.draw,
    "correspondence": correspondence.draw,
    "deconvnet": deconvnet.draw,
    "features": features.draw,
    "filters": filters.draw,
    "gradients": gradients.draw,
    "invariance": invariance.draw,
    "inversion": inversion.draw,
    "linear": linear.draw,
    "maximise": maximise.draw,
    "occlusion": occlusion.draw,
    "statistics": statistics.draw,
    "svm": svm.draw,
    "transformers": transformers.draw,
}


def subject_of(
    experiment: Experiment, workdir: Path, which: str = "latest", files: tuple[Path, ...] = (), count: int = 6
) -> Subject:
    """The network of a workdir, or of the published weights that the experiment names, ready to be opened up.

    Args:
      experiment: the workdir's.
      workdir: the run's folder.
      which: "latest" or "best" checkpoint.
      files: pictures to look at; empty: `count` of the test set.
      count: see `files`.
    """

    def open_run(folder: str) -> Subject:
        other = Path(folder).expanduser()
        return subject_of(configs.build_from(other), other, which, files, count)

    restore = functools.partial(loop.restored_state, experiment, workdir, which, untrained_head=True)
    return Subject(experiment, restore, files, count, open_run)


def inspect_and_save(subject: Subject, workdir: Path, options: ConfigDict) -> None:
    """Draws one of `FIGURES` into the workdir's figures/, or writes all of them as one page, report.html.

    Args:
      subject: the network and its pictures.
      workdir: the run's folder.
      options: the fields of `inspect/options.py`.

    Raises:
      UserError: there is no figure of that name, or an option is out of its range.
    """
    name = options.inspect
    known = [*FIGURES, "report"]
    if name not in known:
        near = nearest(name, known)
        raise UserError(f"there is no --config.inspect={name}{near or ': it is one of ' + ', '.join(known)}")
    if not isinstance(subject.experiment.task, Classification):
        takes = ("augment", "svm") if hasattr(subject.experiment.task, "sample") else ("augment",)
        if name not in takes:
            raise UserError(
                f"--config.inspect={name} is for classifiers; {subject.experiment.name} takes {' or '.join(takes)}"
            )
    if name == "report":
        print(f"written: {report.write(subject, workdir, options, FIGURES)}")
        return
    drawn = FIGURES[name](subject, options)
    if not parallel.is_main():
        return
    save_figures(workdir / "figures", drawn)
    for figure in drawn:
        print(f"written: {workdir / 'figures' / figure}.png")


def inspect(experiment: Experiment, workdir: Path, which: str, pattern: str | None, options: ConfigDict) -> None:
    """`inspect_and_save` on the command line's words; `pattern` is that of --input."""
    files = tuple(find_pictures(pattern)) if pattern else ()
    if options.pictures < 1 or options.examples < 1:
        raise UserError("config.pictures and config.examples must be positive")
    inspect_and_save(subject_of(experiment, workdir, which, files, options.pictures), workdir, options)
