"""Aerial pictures and road maps of the user's own, as Massachusetts Roads has them: folders of pictures and of masks.

A mask is as large as its picture and has 0 where there is no road, 255 (or 1) where there is one; `road_masks.py`.
"""

import dataclasses
import functools
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8

from cnnlab.data.large_pictures import LargePicture, open_large
from cnnlab.data.road_masks import check_mask, read_roads, whole_roads
from cnnlab.data.segmented import by_stem, matched, parted, picture_of
from cnnlab.errors import UserError

# Folders of pictures and of their masks, beside each other.
PAIRS = (("sat", "map"), ("input", "output"), ("images", "masks"), ("images", "labels"))
TRAIN, TEST = ("train", "training"), ("test", "testing", "valid", "val", "validation")
WANTED = (
    "sat/ and map/ (or input/ and output/, or images/ and masks/), or these within train/ and within test/ or valid/, "
    "or train/ and train_labels/ with test/ and test_labels/; each mask of the name of its picture"
)
Pair = tuple[Path, Path]


def folders_of(folder: Path, split: str) -> tuple[Path, Path] | None:
    """A split's folders of pictures and of masks; None: there are none.

    They are those of `PAIRS` within a folder whose name ends in the split's, or beside each other with names that end
    so: mnih_roads_train/sat, mnih_roads_train_sat, train and train_labels.
    """
    inside = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    for entry in inside:
        name = entry.name.lower()
        if name == split or name.endswith(f"_{split}"):
            places = [(entry / first, entry / second) for first, second in PAIRS]
            places.append((entry, entry.with_name(f"{entry.name}_labels")))
            found = next((pair for pair in places if all(each.is_dir() for each in pair)), None)
            if found:
                return found
        for first, second in PAIRS:
            if name == f"{split}_{first}" or name.endswith(f"_{split}_{first}"):
                other = entry.with_name(entry.name[: -len(first)] + second)
                if other.is_dir():
                    return entry, other
    return None


def split_files(folder: Path, test_share: float) -> tuple[list[Pair], list[Pair]]:
    """The pictures and masks to train and to test on.

    Without folders for the splits, `test_share` of the pictures is held out, by a hash of each one's name.

    Raises:
      UserError: the folder is not as `WANTED` says; a picture or a mask stands alone.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}: it should hold {WANTED}")
    train, test = (
        next((found for split in splits if (found := folders_of(folder, split))), None) for splits in (TRAIN, TEST)
    )
    if train and test:
        return matched(*train), matched(*test)
    places = [train] if train else [(folder / first, folder / second) for first, second in PAIRS]
    for images, masks in places:
        if images.is_dir() and masks.is_dir():
            return parted(folder, images, masks, test_share)
    raise UserError(f"{folder} should hold {WANTED}")


def mask_beside(picture: Path) -> Path | None:
    """The mask of a picture that lies in a folder as those of a data set; None: it has none.

    The folder's name ends in that of pictures, and beside it lies the one of masks. Names go together as in `matched`,
    but that a mask of just the picture's name is preferred to others.

    Raises:
      UserError: several masks fit, and none of them as well as that.
    """
    picture = Path(os.path.abspath(picture))  # not resolved: a link's folder counts, not that of its file
    folder, name = picture.parent, picture.parent.name
    if not name:
        return None
    others = [name[: -len(first)] + second for first, second in PAIRS if name.endswith(first)]
    for place in (folder.with_name(other) for other in [*others, f"{name}_labels"]):
        masks = by_stem(place) if place.is_dir() else {}
        if picture.stem in masks:
            return masks[picture.stem]
        fitting = [mask for stem, mask in masks.items() if stem.startswith(f"{picture.stem}_")]
        if fitting:
            pictures = {**by_stem(folder), picture.stem: picture}
            fitting = [mask for mask in fitting if picture_of(mask.stem, pictures) == picture.stem]
        if len(fitting) > 1:
            raise UserError(f"the picture {picture} has two masks in {place}, {fitting[0].name} and {fitting[1].name}")
        if fitting:
            return fitting[0]
    return None


def _opened(picture: Path, mask: Path) -> tuple[LargePicture, LargePicture]:
    image, roads = open_large(picture), open_large(mask)
    if (image.height, image.width) != (roads.height, roads.width):
        raise UserError(
            f"the mask {mask} is {roads.width}×{roads.height}, and its picture {picture} {image.width}×{image.height}: "
            "they must be alike"
        )
    return image, roads


@dataclasses.dataclass(frozen=True)
class RoadFolder:
    """Pictures and masks as files; see `road_patches.Maps`.

    Attributes:
      files: each picture with its mask.

    Raises:
      UserError: a file is no picture, a mask is of another size, or the first mask is none.
    """

    files: Sequence[Pair]

    def __post_init__(self) -> None:
        check_mask(self._pairs[0][1])

    @functools.cached_property
    def _pairs(self) -> list[tuple[LargePicture, LargePicture]]:
        return [_opened(*pair) for pair in self.files]

    def __len__(self) -> int:
        return len(self.files)

    def name(self, index: int) -> str:
        """The picture's file."""
        return str(self.files[index][0])

    def size(self, index: int) -> tuple[int, int]:
        """Its height and width."""
        picture = self._pairs[index][0]
        return picture.height, picture.width

    def read(
        self, index: int, rows: slice, columns: slice
    ) -> tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"]]:
        """A part of a picture and of its mask."""
        picture, mask = self._pairs[index]
        return picture.read(rows, columns, 3), read_roads(mask, rows, columns)

    def truth(self, index: int) -> Bool[np.ndarray, "h w"]:
        """A whole mask."""
        return whole_roads(self._pairs[index][1])


@dataclasses.dataclass(frozen=True)
class OnePicture:
    """A picture whose roads are to be found; see `road_patches.Maps`.

    Attributes:
      picture: its file.
      mask: its road map, where that is known.
    """

    picture: LargePicture
    mask: LargePicture | None

    def __len__(self) -> int:
        return 1

    def name(self, index: int) -> str:
        """Its file."""
        return str(self.picture.path)

    def size(self, index: int) -> tuple[int, int]:
        """Its height and width."""
        return self.picture.height, self.picture.width

    def read(
        self, index: int, rows: slice, columns: slice
    ) -> tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"]]:
        """A part of it, and of its road map; no road where that is not known."""
        part = self.picture.read(rows, columns, 3)
        if self.mask is None:
            return part, np.zeros(part.shape[:2], bool)
        return part, read_roads(self.mask, rows, columns)

    def truth(self, index: int) -> Bool[np.ndarray, "h w"]:
        """Its whole road map; no road where that is not known."""
        return np.zeros(self.size(index), bool) if self.mask is None else whole_roads(self.mask)


def one_picture(path: Path) -> OnePicture:
    """A picture file to predict, with the mask of `mask_beside` as the truth.

    Raises:
      CorruptPicture: it is no picture.
      UserError: its mask is of another size, or it has several.
    """
    mask = mask_beside(path)
    return OnePicture(*_opened(path, mask)) if mask else OnePicture(open_large(path), None)
