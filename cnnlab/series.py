"""Several experiments as one: run in order, each in its own folder of the workdir, and drawn beside each other."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from ml_collections import ConfigDict

from cnnlab import loop, parallel, workdirs
from cnnlab.configs import plain
from cnnlab.errors import Diverged, UserError, nearest
from cnnlab.experiment import Experiment
from cnnlab.state import TrainState
from cnnlab.writer import read_rows, save_figures

Rows = list[dict[str, Any]]  # of a metrics.jsonl: "step", "split", and metrics by name


@dataclasses.dataclass(frozen=True)
class Series:
    """Experiments that belong together.

    Attributes:
      name: the experiment file's name.
      config: the plain values that it was built from.
      members: by the names of their folders, in the order in which they run. Each is a run of its own, of the same
        file with config.member=NAME, so that every mode takes its folder as --workdir.
      draw: the figures of the whole, from each member's metrics.
      may_diverge: whether a member whose loss is no longer finite is left at that, and the next one runs.
      first: of members that go on from what earlier ones made: their state to begin with, given the series's folder.
      given: of members that learn from what earlier ones made: the member with that as its data, given itself and the
        series's folder.
    """

    name: str
    config: dict[str, Any]
    members: dict[str, Experiment]
    draw: Callable[[dict[str, Rows]], dict[str, Figure]]
    may_diverge: bool = False
    first: Mapping[str, Callable[[Path], TrainState]] = dataclasses.field(default_factory=dict)
    given: Mapping[str, Callable[[Experiment, Path], Experiment]] = dataclasses.field(default_factory=dict)


def assemble(
    config: ConfigDict,
    name: str,
    members: Sequence[str],
    make: Callable[[str], Experiment],
    draw: Callable[[dict[str, Rows]], dict[str, Figure]],
    may_diverge: bool = False,
    **later: Mapping[str, Callable],
) -> Series | Experiment:
    """The series of a configuration, or the one experiment of it that config.member names.

    Args:
      config: with a field "member", empty for all.
      name: the experiment file's.
      members: what config.member may be.
      make: a member's experiment, by its name.
      draw, may_diverge: see `Series`.
      **later: "first" and "given"; see `Series`.

    Raises:
      UserError: there is no such member.
    """

    def one(member: str) -> Experiment:
        return dataclasses.replace(make(member), config={**plain(config), "member": member})

    if config.member and config.member not in members:
        near = nearest(config.member, members)
        raise UserError(f"{name} has no member {config.member!r}{near or ': it has ' + ', '.join(members)}")
    if config.member:
        return one(config.member)
    return Series(name, plain(config), {member: one(member) for member in members}, draw, may_diverge, **later)


def train(series: Series, workdir: Path, overwrite: bool = False) -> dict[str, Rows]:
    """Trains every member in turn, going on where an earlier call ended, and draws the figures of the whole.

    Returns:
      The rows of each member's metrics.jsonl.

    Raises:
      Diverged: a member's loss is no longer finite, and the series does not allow that.
      Interrupted, UserError: as `loop.train`.
    """
    folders = {name: workdir / name for name in series.members}
    workdirs.check_same_run(workdir, series, overwrite)
    for name, member in series.members.items():
        workdirs.check_same_run(folders[name], member, overwrite)
    # Data that are not there are found out before anything is written.
    begins, start = next(iter(series.members.items()))
    train_data, test_data = start.train_data(), start.test_data()
    start = dataclasses.replace(start, train_data=lambda: train_data, test_data=lambda: test_data)
    if parallel.is_main():
        workdir.mkdir(parents=True, exist_ok=True)
        workdirs.claim(workdir, series)
    for number, (name, member) in enumerate({**series.members, begins: start}.items(), 1):
        if parallel.is_main():
            print(f"{series.name} {number}/{len(series.members)}: {name}", flush=True)
        try:
            begin, give = series.first.get(name), series.given.get(name)
            member = give(member, workdir) if give else member
            loop.train(member, folders[name], overwrite, first=begin and functools.partial(begin, workdir))
        except Diverged as error:
            if not series.may_diverge:
                raise
            print(f"diverged: {error}", flush=True)
    rows = {name: read_rows(folder / "metrics.jsonl") for name, folder in folders.items()}
    if parallel.is_main():
        save_figures(workdir / "figures", series.draw(rows))
    return rows


def train_and_say(series: Series, workdir: Path, overwrite: bool) -> None:
    """`train`, with last lines that say what came of each member and where it is."""
    for name, rows in train(series, workdir, overwrite).items():
        tests = [row for row in rows if row["split"] == "test"]
        last = {key: value for key, value in tests[-1].items() if key not in ("step", "split")} if tests else {}
        if parallel.is_main():
            print(loop.describe(f"{name:20}", last) if last else f"{name:20}: not tested")
    if parallel.is_main():
        print(f"figures are in {workdir / 'figures'}, each run in a folder of its own: --workdir={workdir}/NAME")


def run(series: Series, mode: str, workdir: Path, overwrite: bool) -> None:
    """One mode of the launcher.

    Raises:
      UserError: it is a mode that takes one run.
    """
    if mode != "train":
        raise UserError(
            f"{series.name} is a series of runs and --mode={mode} takes one: --workdir={workdir}/NAME, or "
            f"where nothing need be trained --config.member=NAME, NAME being one of {', '.join(series.members)}"
        )
    train_and_say(series, workdir, overwrite)
