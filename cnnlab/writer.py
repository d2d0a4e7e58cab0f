"""What a run leaves in its workdir: config.json, metrics.jsonl, TensorBoard events, figures/."""

import io
import json
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file so that a reader, or a crash, sees all of it or what was there before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Writes arrays as an .npz file, whole or not at all."""
    content = io.BytesIO()
    np.savez(content, **arrays)
    write_whole(path, content.getvalue())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def save_figures(folder: Path, figures: Mapping[str, Figure]) -> None:
    """Each figure as folder/NAME.png."""
    for name, figure in figures.items():
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=110)
        write_whole(folder / f"{name}.png", content.getvalue())


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl; a last line that a crash cut short is left out."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


class Writer:
    """Metrics of a run: metrics.jsonl (exactly one row a step and split, nothing that depends on the clock) and
    TensorBoard events.

    Args:
      workdir: the run's folder.
      step: the step that the run goes on from; later rows are of steps that will be done again, and are dropped.
    """

    def __init__(self, workdir: Path, step: int):
        path = workdir / "metrics.jsonl"
        self._folder = workdir / "tensorboard"
        self.rows = [row for row in read_rows(path) if row["step"] <= step]
        write_whole(path, "".join(json.dumps(row) + "\n" for row in self.rows).encode())
        self._file = path.open("ab", buffering=0)
        self._start = step
        self._opened: EventsWriter | None = None

    def has(self, step: int, split: str) -> bool:
        """Whether the row of this step and split is written."""
        return any(row["step"] == step and row["split"] == split for row in reversed(self.rows))

    def write(self, step: int, split: str, metrics: Mapping[str, float], rates: Mapping[str, float]) -> None:
        """Adds a row, on the disk when this returns; `rates` depend on the clock and go to TensorBoard alone."""
        row = {"step": step, "split": split, **metrics}
        self._file.write((json.dumps(row) + "\n").encode())
        os.fsync(self._file.fileno())
        self.rows.append(row)
        summary = Summary()
        for name, value in {**metrics, **rates}.items():
            summary.value.add(tag=f"{split}/{name}", simple_value=value)
        self._events.write_event(Event(step=step, wall_time=time.time(), summary=summary))
        self._events.flush()

    @property
    def _events(self) -> EventsWriter:
        if self._opened is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._opened = EventsWriter(str(self._folder / "events"))
            # Tells TensorBoard to forget the steps that are done again.
            restart = SessionLog(status=SessionLog.SessionStatus.START)
            self._opened.write_event(Event(step=self._start + 1, wall_time=time.time(), session_log=restart))
        return self._opened

    def close(self) -> None:
        """Closes the files."""
        self._file.close()
        if self._opened is not None:
            self._opened.close()
