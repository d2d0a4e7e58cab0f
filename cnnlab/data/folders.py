"""The user's own pictures: one folder a class."""

import dataclasses
import hashlib
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from jaxtyping import Int

from cnnlab.data.pictures import SUFFIXES, CorruptPicture, LeftOut, read_picture
from cnnlab.data.source import MEMORY_LIMIT, ArraySource, Source
from cnnlab.errors import UserError

TESTED = ("test", "val", "valid", "validation")  # names of the folder beside "train"


@dataclasses.dataclass(frozen=True)
class Listing:
    """The picture files of a class folder tree.

    Attributes:
      paths: sorted within each class.
      labels: the class of each path.
      class_names: the folders' names, sorted.
    """

    paths: tuple[Path, ...]
    labels: tuple[int, ...]
    class_names: tuple[str, ...]

    def subset(self, keep: Sequence[int]) -> "Listing":
        """The listing of some of the files."""
        return Listing(tuple(self.paths[i] for i in keep), tuple(self.labels[i] for i in keep), self.class_names)


def list_classes(folder: Path) -> Listing:
    """Lists folder/CLASS/**/PICTURE.

    Raises:
      UserError: the folder is missing, has no class folders, has one class only, or a class has no pictures.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}: it should hold one folder of pictures a class")
    classes = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    files = [sorted(file for file in entry.rglob("*") if file.suffix.lower() in SUFFIXES) for entry in classes]
    empty = [entry.name for entry, found in zip(classes, files, strict=True) if not found]
    if len(classes) < 2 or empty:
        wrong = f"no pictures in {', '.join(empty)}" if empty else f"{len(classes)} class folders"
        raise UserError(f"{folder} has {wrong}: it should hold two or more folders, each with the pictures of a class")
    paths = [path for found in files for path in found]
    labels = [label for label, found in enumerate(files) for _ in found]
    return Listing(tuple(paths), tuple(labels), tuple(entry.name for entry in classes))


def split_listing(folder: Path, test_share: float) -> tuple[Listing, Listing]:
    """The training and the test pictures of a folder.

    If the folder holds "train" and "test" folders (or "val", "valid", "validation"), each with class folders, those are
    used. Otherwise `test_share` of the pictures is held out, chosen by a hash of each file's path within the folder: a
    picture keeps its side when others are added.
    """
    check_share(test_share)
    test = next((folder / name for name in TESTED if (folder / name).is_dir()), None)
    if test is not None and (folder / "train").is_dir():
        train_listing, test_listing = list_classes(folder / "train"), list_classes(test)
        if train_listing.class_names != test_listing.class_names:
            odd = sorted(set(train_listing.class_names) ^ set(test_listing.class_names))
            raise UserError(f"{folder}/train and {test} hold different classes: {', '.join(odd)} is in one only")
        return train_listing, test_listing
    listing = list_classes(folder)
    out = [held_out(path.relative_to(folder), test_share) for path in listing.paths]
    kept, tested = ([i for i, o in enumerate(out) if o is side] for side in (False, True))
    if not kept or not tested:
        raise UserError(
            f"{folder} has {len(listing.paths)} pictures, too few to hold out {test_share:.0%} for testing: add some"
        )
    return listing.subset(kept), listing.subset(tested)


def check_share(test_share: float) -> None:
    """Raises a `UserError` unless the share that is held out for testing is one."""
    if not 0 < test_share < 1:
        raise UserError(f"the share of pictures held out for testing is {test_share}; it must lie between 0 and 1")


def check_unchanged(folder: Path, listing: Listing, class_names: Sequence[str], count: int | None = None) -> None:
    """Raises a `UserError` where a folder is not as it was when a run was begun: its labels would mean other classes.

    Args:
      folder: for the message.
      listing: its training or its test pictures.
      class_names: in the order of the run's labels.
      count: of the pictures, where it matters: where training goes on.
    """
    known = tuple(class_names)
    if listing.class_names != known:
        odd = [f"{name} is new" for name in listing.class_names if name not in known]
        odd += [f"{name} is missing" for name in known if name not in listing.class_names]
        raise UserError(f"{folder} has other classes than the run has learnt: {', '.join(odd)}")
    if count is not None and len(listing.paths) != count:
        raise UserError(
            f"{folder} has {len(listing.paths):,} pictures to train on, and had {count:,} when the run began: restore "
            "it, or train in another --workdir"
        )


def held_out(path: Path, test_share: float) -> bool:
    """Whether a picture is held out for testing, by a hash of its path: it keeps its side when others are added."""
    return int.from_bytes(hashlib.sha256(path.as_posix().encode()).digest()[:8]) / 2**64 < test_share


@dataclasses.dataclass(frozen=True)
class FolderSource:
    """Pictures decoded when they are asked for. Those that cannot be read are named once and masked out."""

    listing: Listing
    shape: tuple[int, ...]
    invert: bool = False
    crop: bool = False
    _left_out: LeftOut = dataclasses.field(default_factory=LeftOut, repr=False, compare=False)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.listing.class_names

    def __len__(self) -> int:
        return len(self.listing.paths)

    def batch(self, indices: Int[np.ndarray, " n"]) -> dict[str, np.ndarray]:
        pictures = [self._read(self.listing.paths[i]) for i in indices]
        blank = np.zeros(self.shape, np.uint8)
        batch = {
            "image": np.stack([blank if picture is None else picture for picture in pictures]),
            "label": np.array([self.listing.labels[i] for i in indices], np.int32),
        }
        if any(picture is None for picture in pictures):
            batch["mask"] = np.array([picture is not None for picture in pictures], np.float32)
        return batch

    def _read(self, path: Path) -> np.ndarray | None:
        try:
            return read_picture(path, self.shape, self.invert, self.crop)
        except CorruptPicture as error:
            self._left_out.say(str(error))
            return None


def folder_source(
    listing: Listing, shape: tuple[int, ...], invert: bool = False, crop: bool = False, workers: int = 2
) -> Source:
    """A source of the listed pictures: in memory if they fit, else decoded batch by batch.

    In memory, pictures that cannot be read are named, counted and left out. `invert` and `crop` are `read_picture`'s.

    Raises:
      UserError: none of the pictures can be read.
    """
    if len(listing.paths) * int(np.prod(shape)) > MEMORY_LIMIT:
        return FolderSource(listing, shape, invert, crop)

    def read(path):
        try:
            return read_picture(path, shape, invert, crop)
        except CorruptPicture as error:
            return error

    with ThreadPoolExecutor(workers) as pool:
        pictures = list(pool.map(read, listing.paths))
    bad = [picture for picture in pictures if isinstance(picture, CorruptPicture)]
    for error in bad:
        print(f"left out: {error}", file=sys.stderr)
    if bad:
        print(f"{len(bad)} of {len(pictures)} pictures cannot be read and are left out", file=sys.stderr)
    good = [i for i, picture in enumerate(pictures) if not isinstance(picture, CorruptPicture)]
    if not good:
        raise UserError(f"none of the {len(pictures)} pictures near {listing.paths[0]} can be read")
    labels = np.array([listing.labels[i] for i in good], np.int32)
    return ArraySource({"image": np.stack([pictures[i] for i in good]), "label": labels}, listing.class_names)
