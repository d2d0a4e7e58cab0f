"""Proposals of whole data sets: found once, kept on the disk, and handed out with each batch."""

import dataclasses
import hashlib
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from cnnlab.data.annotations import Annotation
from cnnlab.data.canvas import placed
from cnnlab.data.captions import Captioned
from cnnlab.data.source import Source
from cnnlab.progress import Progress
from cnnlab.writer import write_arrays

Find = Callable[[UInt8[np.ndarray, "h w 3"]], Float[np.ndarray, "p 4"]]
PART = 50  # pictures of one file: what a run that is killed has to do again


def cache_folder() -> Path:
    """Where what is found is kept: $CNNLAB_CACHE, or cnnlab in the user's cache."""
    own = os.environ.get("CNNLAB_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "cnnlab"


def identity(source: Source) -> str:
    """What tells one source's pictures from another's: how it was made, and the files' sizes and times."""
    pictures = getattr(source, "annotations", getattr(source, "pictures", None))
    if not isinstance(pictures, list):
        return repr(source)
    files = [
        one.picture for one in pictures if isinstance(one, Annotation | Captioned) and isinstance(one.picture, Path)
    ]
    stats = [(str(file.resolve()), *_stat(file)) for file in files]
    return f"{len(pictures)} {stats}"


def _stat(file: Path) -> tuple[int, int]:
    try:
        found = file.stat()
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


def find_all(source: Source, find: Find, how: str, what: str, folder: Path | None = None) -> list[np.ndarray]:
    """The proposals of every picture of a source, from the disk where they were found before.

    Progress is told with the time left. A run that was stopped goes on with the part that it was at.

    Args:
      source: with `picture(index)`, the stored picture.
      find: boxes x0 y0 x1 y1 in pixels of a stored picture.
      how: names `find` and its settings: other proposals are kept apart.
      what: for the progress.
      folder: that parts are kept in, in a folder of their own; None: `cache_folder()`.
    """
    key = hashlib.sha256(f"{how} {identity(source)}".encode()).hexdigest()[:16]
    parts = (folder or cache_folder() / "proposals") / key
    found, progress = [], None
    for start in range(0, len(source), PART):
        path = parts / f"{start:07}.npz"
        own = _read(path, min(PART, len(source) - start))
        if own is None:
            progress = progress or Progress(what, start, len(source), 1)
            own = [find(source.picture(index)) for index in range(start, min(start + PART, len(source)))]
            counts, boxes = np.array([len(each) for each in own]), np.concatenate(own)
            write_arrays(path, counts=counts, boxes=boxes.astype(np.float32))
            progress.step(start + len(own))
            progress.report(start + len(own), {"proposals a picture": float(counts.mean())})
        found += own
    if progress is not None:
        progress.close()
    return found


def _read(path: Path, count: int) -> list[np.ndarray] | None:
    """A part's boxes; None: it is not there, or damaged."""
    try:
        with np.load(io.BytesIO(path.read_bytes())) as file:
            counts, boxes = file["counts"], file["boxes"]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None
    if len(counts) != count or counts.sum() != len(boxes):
        return None
    return np.split(boxes, np.cumsum(counts)[:-1])


@dataclasses.dataclass(frozen=True, eq=False)
class WithProposals:
    """A source whose batches have "proposals" too: float32 (n, p, 4) in pixels of the resized pictures, 0 for padding.

    Attributes:
      source: of pictures with boxes; see `detection.py`.
      proposals: of each picture, in pixels of the stored one, the best first.
      most: p, which the rest is cut off at.
    """

    source: Source
    proposals: Sequence[np.ndarray]
    most: int

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.source.class_names

    def __len__(self) -> int:
        return len(self.source)

    def picture(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """A stored picture, for figures."""
        return self.source.picture(int(index))

    def masks(self, index: int) -> Bool[np.ndarray, "k h w"]:
        """See `DetectionSource.masks`."""
        return self.source.masks(int(index))

    def canvas(self, indices: Int[np.ndarray, " n"]) -> tuple[int, int]:
        """See `DetectionSource.canvas`."""
        return self.source.canvas(indices)

    def batch(self, indices: Int[np.ndarray, " n"], canvas: tuple[int, int] | None = None) -> dict[str, np.ndarray]:
        """The pictures at `indices` with their objects and proposals."""
        batch = self.source.batch(indices, canvas or self.canvas(indices))
        factors = batch["size"] / batch["original"]
        found = [placed(self.proposals[int(i)], factor, self.most) for i, factor in zip(indices, factors, strict=True)]
        return {**batch, "proposals": np.stack(found)}
