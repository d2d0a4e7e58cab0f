"""Checkpoints: written in the background, whole or not at all; the last few and the best are kept."""

import contextlib
import json
import math
import shutil
import sys
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import PyTree
from orbax.checkpoint import checkpoint_managers as policies

from cnnlab import parallel
from cnnlab.errors import UserError
from cnnlab.state import TrainState

SLACK = 1 << 17  # bytes that a checkpoint takes beyond its arrays
PENDING_LIMIT = 1 << 20  # bytes of JSON that a checkpoint may carry between processes


class Restored(NamedTuple):
    """A checkpoint: the state on the host, and what the loop had not yet reported when it was written."""

    state: TrainState
    pending: list[dict[str, float]]


def digest(tree: PyTree) -> int:
    """A checksum of every array's bytes, to notice damage that still parses."""
    value = 0
    for leaf in jax.tree.leaves(tree):
        value = zlib.crc32(np.ascontiguousarray(leaf).view(np.uint8).reshape(-1).data, value)
    return value


def state_bytes(tree: PyTree) -> int:
    """The size of a state, of arrays or of their shapes."""
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def _shapes(tree: PyTree) -> dict[str, str]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): f"{x.dtype}{list(x.shape)}" for path, x in leaves}


class Checkpoints:
    """The checkpoints of one run, in `folder`. The main process reads and writes; the others receive.

    Args:
      folder: made at the first save.
      keep: how many of the newest stay.
      best: the metric whose best checkpoint stays too; lower is better, or higher with a "-" before the name.
      owns: whether this is the run that trains there. Others, which may read beside it, clear nothing away.
    """

    def __init__(self, folder: Path, keep: int = 2, best: str = "error", owns: bool = False):
        self.folder = folder.absolute()
        self._owns = owns
        self._best = best
        self._keep = keep
        self._opened: ocp.CheckpointManager | None = None

    @property
    def _manager(self) -> ocp.CheckpointManager:
        if self._opened is None:
            policy = policies.AnyPreservationPolicy(
                [
                    policies.LatestN(self._keep),
                    policies.BestN(
                        get_metric_fn=lambda metrics: -self._badness(metrics),
                        n=1,
                        keep_checkpoints_without_metrics=False,
                    ),
                ]
            )
            options = ocp.CheckpointManagerOptions(
                preservation_policy=policy,
                best_fn=lambda metrics: -self._badness(metrics),  # without it the scores are not written
                cleanup_tmp_directories=self._owns,  # in there is what a trainer is writing just now
                # Only the main process takes part, so that the others need not see the same disk.
                multiprocessing_options=ocp.options.MultiprocessingOptions(
                    primary_host=0, active_processes={0}, barrier_sync_key_prefix="main"
                ),
                create=False,
            )
            self.folder.mkdir(parents=True, exist_ok=True)
            self._opened = ocp.CheckpointManager(self.folder, options=options)
        return self._opened

    def steps(self) -> list[int]:
        """The steps of the finished checkpoints, ascending."""
        if not self.folder.is_dir():
            return []
        return sorted(int(entry.name) for entry in self.folder.iterdir() if entry.name.isdigit())

    def save(
        self,
        step: int,
        state: TrainState,
        pending: list[dict[str, float]],
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Writes a checkpoint in the background, once the one before it is written.

        Args:
          step: names it.
          state: replicated; copied before this returns.
          pending: metrics of steps that are not yet reported.
          metrics: the test scores at this step, which rank it for `best`.

        Raises:
          UserError: a number in the state is not finite, and nothing is written; or there is no room; or the
            checkpoint before could not be written.
        """
        if not parallel.is_main():
            return
        self.finish()
        rewritten = False
        if step in self.steps():
            if metrics is None or math.isfinite(self._score(step)):
                return
            rewritten = True  # written on a signal, before the scores were known
        arrays = parallel.fetch(state)
        if not all(np.isfinite(x).all() for x in jax.tree.leaves(arrays) if np.issubdtype(x.dtype, np.inexact)):
            raise UserError(f"the state is not finite after step {step}: lower the learning rate; {self.kept()}")
        # A copy: it is written in the background, while the loop goes on adding to its list.
        note = {"pending": [dict(row) for row in pending], "digest": digest(arrays), "shapes": _shapes(arrays)}
        args = ocp.args.Composite(state=ocp.args.StandardSave(arrays), note=ocp.args.JsonSave(note))
        with self._failing_clearly():
            self._check_room(step, arrays)
            if rewritten:
                self._manager.delete(step)
            self._manager.save(step, args=args, metrics=dict(metrics) if metrics else None, force=True)

    def finish(self) -> None:
        """Waits until everything is written.

        Raises:
          UserError: the last checkpoint could not be written.
        """
        if self._opened is not None:
            with self._failing_clearly():
                self._opened.wait_until_finished()

    def close(self) -> None:
        """Lets go of the folder when everything is written, or has failed to be."""
        opened, self._opened = self._opened, None
        if opened is not None:
            with contextlib.suppress(Exception):  # `finish` has told of it
                opened.close()

    def kept(self) -> str:
        """In words, what a run can go on from."""
        steps = self.steps()
        return f"the checkpoint of step {steps[-1]} is kept" if steps else "no checkpoint was written yet"

    def _check_room(self, step: int, arrays: PyTree) -> None:
        # Told before the attempt, a full disk is one line; in the midst of it, every writing thread complains.
        self.folder.mkdir(parents=True, exist_ok=True)
        free, needed = shutil.disk_usage(self.folder).free, state_bytes(arrays) + SLACK
        if free < needed:
            raise UserError(
                f"no room for the checkpoint of step {step}: {self.folder} has {free / 1e6:.1f} MB free and needs "
                f"{needed / 1e6:.1f} MB; {self.kept()}"
            )

    @contextlib.contextmanager
    def _failing_clearly(self) -> Iterator[None]:
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # full disks and lost folders come out of the writer's threads in any type
            self._opened = None
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"a checkpoint could not be written to {self.folder}: {reason}; {self.kept()}") from error

    def restore(self, template: TrainState, which: str = "latest") -> Restored | None:
        """The newest whole checkpoint ("latest"), or the one with the best score ("best"); None where there is none.

        A damaged one is named on stderr and the one before it is used; the run that owns the folder puts it aside as
        `damaged-STEP`. Called by all processes at the same point.

        Args:
          template: a state of the same structure, shapes and dtypes, for example from `jax.eval_shape`.
        """
        if parallel.process_count() == 1:
            return self._restore(template, which)
        found = self._restore(template, which) if parallel.is_main() else None
        if not parallel.from_main(np.array(found is not None)):
            return None
        empty = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), template)
        text = json.dumps(found.pending if found else []).encode().ljust(PENDING_LIMIT)
        state, text = parallel.from_main((found.state if found else empty, np.frombuffer(text, np.uint8)))
        return Restored(state, json.loads(bytes(text).decode()))

    def _restore(self, template: TrainState, which: str) -> Restored | None:
        for step in self._candidates(which):
            try:
                return self._read(step, template)
            except UserError:
                raise
            except Exception as error:  # damage shows itself as whatever the reader happens to trip over
                self._put_aside(step, error)
        return None

    def variables(self) -> PyTree | None:
        """The newest checkpoint's variables, "params" and the model's other collections; None where there is none.

        Parameters and batch statistics are their moving averages where the optimizer keeps them.

        Raises:
          UserError: it cannot be read.
        """
        if not self.steps():
            return None
        try:
            step = self.steps()[-1]
            state = self._manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore()))["state"]
            kept = state["opt_state"] if isinstance(state["opt_state"], Mapping) else {}
        except Exception as error:  # damage shows itself as whatever the reader happens to trip over
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"the checkpoint of step {step} in {self.folder} cannot be read: {reason}") from error
        finally:
            self.close()
        params = unflatten_dict({**flatten_dict(state["params"]), **flatten_dict(kept.get("average") or {})})
        statistics = {"batch_stats": kept["statistics"]} if kept.get("statistics") else {}
        return {"params": params, **(state["model_state"] or {}), **statistics}

    def _candidates(self, which: str) -> list[int]:
        newest_first = self.steps()[::-1]
        return newest_first if which == "latest" else sorted(newest_first, key=self._score)

    def _score(self, step: int) -> float:
        try:
            return self._badness(json.loads((self.folder / str(step) / "metrics" / "metrics").read_text()))
        except (OSError, ValueError, KeyError, TypeError):
            return float("inf")

    def _badness(self, metrics: Mapping[str, float]) -> float:
        return float(metrics[self._best.lstrip("-")]) * (-1 if self._best.startswith("-") else 1)

    def _read(self, step: int, template: TrainState) -> Restored:
        like = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), template)
        note = self._manager.restore(step, args=ocp.args.Composite(note=ocp.args.JsonRestore()))["note"]
        if note["shapes"] != _shapes(template):
            raise UserError(
                f"{self.folder / str(step)} holds another network's state: its arrays have other shapes than the "
                "configuration gives; use the configuration that it was trained with, or another --workdir"
            )
        state = self._manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(like)))["state"]
        if digest(state) != note["digest"]:
            raise ValueError("its checksum does not match its contents")
        return Restored(state, note["pending"])

    def _put_aside(self, step: int, error: Exception) -> None:
        reason, done = " ".join(str(error).split())[:200], "left out"
        if self._owns:
            damaged = self.folder / f"damaged-{step}"
            shutil.rmtree(damaged, ignore_errors=True)
            (self.folder / str(step)).rename(damaged)
            done = f"put aside as {damaged}"
        print(f"checkpoint {step} is damaged ({reason}); {done}", file=sys.stderr)
        self.close()
