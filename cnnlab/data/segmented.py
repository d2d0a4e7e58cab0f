"""Pictures with label maps to train and to test on: drawn shapes, a folder of pictures and masks, VOC's or COCO's."""

import functools
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from cnnlab.data import coco, voc
from cnnlab.data.annotations import Annotation
from cnnlab.data.canvas import Resizing
from cnnlab.data.detected import DRAWN, DRAWN_MOST, Detected
from cnnlab.data.folders import check_share, held_out
from cnnlab.data.label_maps import VOID, ClassTable, plain_table, read_table, table_of
from cnnlab.data.outlines import mask_of
from cnnlab.data.pictures import SUFFIXES
from cnnlab.data.segmentation import BACKGROUND, DrawnLabels, Labelled, SegmentationSource, pairs
from cnnlab.data.shapes import ShapesSource
from cnnlab.data.source import Source
from cnnlab.errors import UserError

VOC_NAMES = (BACKGROUND, *voc.NAMES)
# Folders of pictures and of their masks, beside each other or within train/ and test/ or val/.
BESIDE = (("images", "masks"), ("images", "labels"), ("images", "annotations"))
# The same where a split's name is that of its folder of pictures, as in CamVid.
NAMED = ("{}annot", "{}_labels", "{}_masks")
WANTED = (
    "images/ and masks/, or these within train/ and within val/ or test/, or train/ and train_labels/ with val/ and "
    "val_labels/; each mask a PNG of the name of its picture"
)


def choose(data: str, resizing: Resizing, classes: tuple[str, ...], test_share: float) -> Detected:
    """The set that config.data names.

    Args:
      data: "shapes"; or a folder as VOC's (JPEGImages, SegmentationClass, ImageSets/Segmentation), COCO's
        (annotations/instances_*.json), or of pictures and masks (see `of_folder`).
      resizing: of all pictures; shapes are drawn at its longer side.
      classes: of a folder that was read before: it is not read, and need not be there, until it is called for.
      test_share: of a folder without test pictures, the share that is held out.

    Raises:
      UserError: there is no such set; see also the makers below.
    """
    if data == "shapes":
        train, test = (
            functools.partial(_drawn, split, count, resizing.longer, DRAWN_MOST) for split, count in DRAWN.items()
        )
        return Detected(DrawnLabels.class_names, train, test)
    folder = Path(data).expanduser()
    if data and is_voc(folder):
        return of_voc(folder, resizing)
    if data and coco.is_coco(folder):
        return of_coco(folder, resizing, classes)
    if data and folder.is_dir():
        return of_folder(folder, resizing, test_share)
    wrong = f'config.data is "{data}": it must be "shapes", or a folder as VOC\'s or COCO\'s, or with {WANTED}'
    if not classes:
        raise UserError(wrong)

    def missing() -> Source:
        raise UserError(wrong)

    return Detected(tuple(classes), missing, missing)


def _drawn(split: str, count: int, size: int, most: int) -> Source:
    return DrawnLabels(ShapesSource(split, count, size, most))


def is_voc(folder: Path) -> bool:
    """Whether a folder looks like VOC's with label maps."""
    return (folder / "SegmentationClass").is_dir() and (folder / "JPEGImages").is_dir()


def of_voc(folder: Path, resizing: Resizing) -> Detected:
    """VOC's label maps, palettes whose indices are background, VOC's twenty classes, and 255 for void at outlines.

    Raises:
      UserError: the folder is not as it should be; see `voc.splits_of` and `pairs`.
    """
    lists = "Segmentation"
    first, second = voc.splits_of(folder, lists)
    voc.check_apart(folder, first, second, lists)

    def files(split: str) -> list[tuple[Path, Path]]:
        names = voc.listed(folder, split, lists)
        places = [(folder / "JPEGImages", ".jpg"), (folder / "SegmentationClass", ".png")]
        found = [tuple(place / f"{name}{suffix}" for place, suffix in places) for name in names]
        for path in (path for pair in found for path in pair):
            if not path.is_file():
                raise UserError(f"{folder / 'ImageSets' / lists / split}.txt names {path.stem}, and there is no {path}")
        return found

    made = [
        functools.partial(_source, functools.partial(files, split), plain_table(VOC_NAMES), resizing)
        for split in (first, second)
    ]
    return Detected(VOC_NAMES, *made)


def of_folder(folder: Path, resizing: Resizing, test_share: float) -> Detected:
    """Pictures and masks of the user's own, split as the folders say, else by a hash of each picture's name.

    Folders are as `WANTED` says. Masks are read by the table in classes.csv (or class_dict.csv); without one their
    values are the classes, and those that occur in the training masks are all.

    Raises:
      UserError: the folder is not so; a picture without its mask or the other way round; see also `read_labels`.
    """
    first, second = split_files(folder, test_share)
    path = table_of(folder)
    table = read_table(path) if path else table_of_values(first)
    made = [functools.partial(_source, lambda files=files: files, table, resizing) for files in (first, second)]
    return Detected(table.names, *made)


def _source(files: Callable[[], list[tuple[Path, Path]]], table: ClassTable, resizing: Resizing) -> SegmentationSource:
    return SegmentationSource(pairs(files(), table), table.names, resizing)


def table_of_values(files: Sequence[tuple[Path, Path]]) -> ClassTable:
    """The classes of masks that no table goes with: "class 0" to the largest value of any, but 255."""
    anything = plain_table([f"class {value}" for value in range(VOID)])
    largest = 0
    for one in pairs(files, anything):
        labels = one.labels()
        largest = max(largest, int(labels[labels < VOID].max(initial=0)))
    if largest == 0:
        raise UserError(
            f"the masks beside {files[0][1]} hold one class only: their values should be 0, 1 … (void: 255); for masks "
            "of colours put a classes.csv with a line name,r,g,b for each class into the folder"
        )
    return plain_table([f"class {value}" for value in range(largest + 1)])


def split_files(folder: Path, test_share: float) -> tuple[list[tuple[Path, Path]], list[tuple[Path, Path]]]:
    """The pictures and masks to train and to test on.

    Raises:
      UserError: the folder holds none of the layouts; a picture or a mask stands alone.
    """
    for split in ("test", "val"):
        found = [_folders(folder, name) for name in ("train", split)]
        if all(found):
            return matched(*found[0]), matched(*found[1])
    for images, masks in BESIDE:
        if (folder / images).is_dir() and (folder / masks).is_dir():
            return parted(folder, folder / images, folder / masks, test_share)
    raise UserError(f"{folder} should hold {WANTED}")


def parted(
    folder: Path, images: Path, masks: Path, test_share: float
) -> tuple[list[tuple[Path, Path]], list[tuple[Path, Path]]]:
    """Pictures and masks to train on, and those of `test_share` of the pictures, held out by a hash of each one's name.

    Args:
      folder: of the data set; names are those within it.
      images, masks: its folders of pictures and of masks.
      test_share: between 0 and 1.

    Raises:
      UserError: the share is none, a picture or a mask stands alone, or one side would be empty.
    """
    check_share(test_share)
    every = matched(images, masks)
    out = [held_out(picture.relative_to(folder), test_share) for picture, _ in every]
    train, test = ([pair for pair, o in zip(every, out, strict=True) if o is side] for side in (False, True))
    if not train or not test:
        raise UserError(
            f"{folder} has {len(every)} pictures, too few to hold out {test_share:.0%} for testing: add some"
        )
    return train, test


def _folders(folder: Path, split: str) -> tuple[Path, Path] | None:
    """A split's folders of pictures and of masks."""
    within = [(folder / split / images, folder / split / masks) for images, masks in BESIDE]
    beside = [(folder / split, folder / name.format(split)) for name in NAMED]
    return next((pair for pair in [*within, *beside] if all(each.is_dir() for each in pair)), None)


def by_stem(folder: Path) -> dict[str, Path]:
    """The pictures of a folder by their names without suffixes, sorted."""
    return {file.stem: file for file in sorted(folder.iterdir()) if file.suffix.lower() in SUFFIXES}


def picture_of(mask: str, pictures: Collection[str]) -> str | None:
    """The picture that a mask of this name is of, both without suffixes: its namesake, else the longest before a "_".

    >>> picture_of("a_1_mask", ["a", "a_1"]), picture_of("ab", ["a"])
    ('a_1', None)
    """
    parts = mask.split("_")
    names = ("_".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((name for name in names if name in pictures), None)


def matched(images: Path, masks: Path) -> list[tuple[Path, Path]]:
    """Each picture with its mask, whose name is the picture's, or that and "_" and more.

    Raises:
      UserError: one has no other, or several.
    """
    pictures, found = by_stem(images), by_stem(masks)
    if not pictures:
        raise UserError(f"there are no pictures in {images}")
    by_picture: dict[str, Path] = {}
    for stem, mask in found.items():
        own = picture_of(stem, pictures)
        if own is None:
            raise UserError(f"the mask {mask} has no picture in {images}: there should be {images / stem}.png or .jpg")
        if own in by_picture:
            raise UserError(f"the picture {pictures[own]} has two masks, {by_picture[own].name} and {mask.name}")
        by_picture[own] = mask
    bare = [path for stem, path in pictures.items() if stem not in by_picture]
    if bare:
        raise UserError(
            f"the picture {bare[0]} has no mask in {masks}, as {len(bare)} of {len(pictures)} have none: there should "
            f"be {masks / bare[0].stem}.png"
        )
    return [(path, by_picture[stem]) for stem, path in pictures.items()]


def of_coco(folder: Path, resizing: Resizing, classes: tuple[str, ...] = ()) -> Detected:
    """Label maps of COCO's objects: what none of them covers is background, crowds are void, small ones lie on top.

    Args:
      folder: see `coco.py`.
      resizing: of the pictures.
      classes: that were found there before, the background first.

    Raises:
      UserError: the folder is not as it should be; an object without an outline.
    """
    first, second = coco.files_of(folder)
    if not classes:
        classes = (BACKGROUND, *coco.categories_of(coco.parse(first), first).values())

    def read(path: Path) -> Source:
        annotations = coco.read(path, classes[1:])
        for one in annotations:
            if any(outline is None for outline in one.outlines) or len(one.outlines) != len(one.label):
                raise UserError(f"{path}: {one.picture} has objects without an outline (no segmentation), only boxes")
        found = [Labelled(one.picture, one.height, one.width, functools.partial(painted, one)) for one in annotations]
        return SegmentationSource(found, classes, resizing)

    return Detected(classes, functools.partial(read, first), functools.partial(read, second))


def painted(one: Annotation) -> UInt8[np.ndarray, "h w"]:
    """The label map of a picture with outlined objects; class k of the objects is k + 1."""
    labels = np.zeros((one.height, one.width), np.uint8)
    crowds_first = np.lexsort((-one.area, ~one.ignored))
    for i in crowds_first:
        labels[mask_of(one.outlines[i], one.height, one.width)] = VOID if one.ignored[i] else one.label[i] + 1
    return labels
