"""Whose run a workdir holds: config.json, and the check that two configurations do not share a folder."""

import fcntl
import importlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from cnnlab.errors import UserError
from cnnlab.writer import write_whole

LONGEST = 100  # characters of a field's value in a message: classes and words may be thousands
# What a run writes beside config.json, and all that --overwrite deletes.
CONTENTS = (
    "metrics.jsonl",
    "checkpoints",
    "tensorboard",
    "figures",
    "film",
    "predictions.jsonl",
    "annotated",
    "samples",
    "labels",
    "probability",
    "polygons.json",
    "report.html",
    "exported",
)


@runtime_checkable
class Configured(Protocol):
    """What a folder can hold a run of: an `Experiment`, or a `Series` of them."""

    name: str
    config: dict[str, Any]


def read(workdir: Path) -> dict[str, Any] | None:
    """The experiment's name and configuration ("experiment", "config") of a workdir, or None where none was run."""
    path = workdir / "config.json"
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text())
        return {"experiment": found["experiment"], "config": found["config"]}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged: restore it, or use another --workdir") from error


def holds_series(workdir: Path) -> bool:
    """Whether a workdir is a series' whole: it names no member, and its members' folders hold the runs."""
    found = read(workdir)
    return found is not None and found["config"].get("member") == ""


def refuse_series(workdir: Path) -> None:
    """Raises a `UserError` where a workdir is a series', that names its members."""
    if holds_series(workdir):
        members = sorted(path.parent.name for path in workdir.glob("*/config.json"))
        raise UserError(f"{workdir} holds a series of runs: name one of them, {workdir}/{' or '.join(members)}")


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested fields by their dotted names.

    >>> flatten({"data": {"size": 3}})
    {'data.size': 3}
    """
    flat = {}
    for name, value in config.items():
        flat.update(flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value})
    return flat


def differences(experiment: Configured, found: Mapping[str, Any]) -> list[str]:
    """The fields in which a workdir's configuration differs from an experiment's, as "field: theirs → ours".

    A field that the workdir lacks has come since: what was done then is its default now.
    """
    if found["experiment"] != experiment.name:
        return [f"experiment: {found['experiment']} → {experiment.name}"]
    theirs, ours = flatten(found["config"]), flatten(json.loads(json.dumps(experiment.config)))
    theirs = {**{name: value for name, value in _defaults(experiment.name).items() if name in ours}, **theirs}
    fields = [name for name in {**theirs, **ours} if theirs.get(name) != ours.get(name)]
    return [f"{name}: {_short(theirs.get(name))} → {_short(ours.get(name))}" for name in fields]


def _defaults(name: str) -> dict[str, Any]:
    """The fields of an experiment file as it gives them; none of an experiment that is no file's, but a notebook's."""
    try:
        module = importlib.import_module(f"experiments.{name}")
    except ModuleNotFoundError:
        return {}
    return flatten(json.loads(json.dumps(module.get_config().to_dict())))


def _short(value: Any) -> str:
    """A field's value for a message, a long one cut off."""
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"


def check_same_run(workdir: Path, experiment: Configured, overwrite: bool) -> None:
    """Raises a `UserError` if the workdir holds the run of another configuration, unless that may be overwritten or
    never came to its first report.
    """
    found = read(workdir)
    different = differences(experiment, found) if found else []
    if different and not overwrite and _began(workdir):
        raise UserError(
            f"{workdir} holds another run; it differs in {'; '.join(different)}. "
            "Use another --workdir, or --overwrite to delete that run"
        )


def _began(workdir: Path) -> bool:
    """Whether a run, or a member of a series, left anything there: not one that was refused before its first report."""
    rows, checkpoints = workdir / "metrics.jsonl", workdir / "checkpoints"
    return (
        (rows.exists() and rows.stat().st_size > 0)
        or (checkpoints.is_dir() and any(checkpoints.iterdir()))
        or any(workdir.glob("*/config.json"))
    )


@contextmanager
def only_trainer(workdir: Path) -> Iterator[None]:
    """Keeps other processes from training in the workdir while the block runs; a killed process lets go of it.

    Raises:
      UserError: another process trains there now.
    """
    handle = os.open(workdir, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise UserError(f"another process is training in {workdir}: use another --workdir, or wait for it") from error
    except OSError:  # a file system without locks: train without one
        pass
    try:
        yield
    finally:
        os.close(handle)


def claim(workdir: Path, experiment: Configured) -> None:
    """Writes config.json, deleting what a run of another configuration left; the run's own checkpoints stay."""
    found = read(workdir)
    if found and not differences(experiment, found):
        return
    if found:
        # config.json is replaced last: a deletion cut short leaves a folder that still says whose the rest is.
        for name in CONTENTS:
            path = workdir / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    content = {"experiment": experiment.name, "config": experiment.config}
    write_whole(workdir / "config.json", (json.dumps(content, indent=2) + "\n").encode())
