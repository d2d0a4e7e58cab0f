"""Pictures with boxes to train and to test on: drawn shapes, a folder as PASCAL VOC's or COCO's, a TFDS data set."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

from cnnlab.data import coco, voc
from cnnlab.data.annotations import Annotation
from cnnlab.data.canvas import Resizing
from cnnlab.data.detection import DetectionSource, check_outlines
from cnnlab.data.prepare import prepare
from cnnlab.data.shapes import CLASS_NAMES, ShapesSource
from cnnlab.data.source import Source
from cnnlab.data.tfds_objects import Records
from cnnlab.data.tfds_source import open_split
from cnnlab.errors import UserError

DRAWN = {"train": 20_000, "test": 500}  # pictures of shapes
DRAWN_MOST = 6  # shapes in one
RECORDS_MOST = 100  # objects in a picture of TFDS's sets, which cannot be counted beforehand; COCO's fullest has 93

# Of TFDS's sets the splits to train and to test on, and the classes.
TFDS = {
    "voc/2007": ("train+validation", "test", voc.NAMES),
    "voc/2012": ("train", "validation", voc.NAMES),
    "coco/2017": ("train", "validation", coco.NAMES),
}
SHORT = {"voc": "voc/2007", "coco": "coco/2017"}


@dataclasses.dataclass(frozen=True)
class Detected:
    """A training and a test set, with boxes or label maps; pictures are read when they are called for.

    Attributes:
      class_names: in the order of the labels.
      train, test: make the sources.
      prepare: downloads and builds the data; None where there is nothing to prepare.
    """

    class_names: tuple[str, ...]
    train: Callable[[], Source]
    test: Callable[[], Source]
    prepare: Callable[[], None] | None = None


def choose(
    data: str, resizing: Resizing, objects: int, classes: tuple[str, ...], experiment: str, mask_window: int = 0
) -> Detected:
    """The set that config.data names.

    Args:
      data: "shapes"; "voc" or "voc/2007", "voc/2012", "coco" or "coco/2017" of TFDS; or a folder as VOC's (Annotations,
        JPEGImages, ImageSets/Main) or COCO's (annotations/instances_*.json).
      resizing: of all pictures; shapes are drawn at its shorter side.
      objects: that a picture has at most, which boxes are padded to; 0: as many as the data have.
      classes: of a folder that was read before: it is not read, and need not be there, until it is called for.
      experiment: whose `--mode=prepare` prepares a data set of TFDS.
      mask_window: of the masks in batches, which shapes and folders as COCO's have; 0: none. See `DetectionSource`.

    Raises:
      UserError: there is no such set; see also `of_voc` and `of_coco`.
    """
    if objects < 0:
        raise UserError(f"config.objects is {objects}; it must be 0, for as many as the data have, or more")
    if data == "shapes":
        return of_shapes(resizing.shorter, objects or DRAWN_MOST, mask_window)
    name, folder = SHORT.get(data, data), Path(data).expanduser()
    if name in TFDS:
        return of_tfds(name, resizing, objects or RECORDS_MOST, experiment, mask_window)
    for fits, make in ((voc.is_voc, of_voc), (coco.is_coco, of_coco)):
        if fits(folder):
            return make(folder, resizing, objects, tuple(classes), mask_window)
    wrong = (
        f'config.data is "{data}": it must be "shapes", one of {", ".join([*SHORT, *TFDS])} of TFDS, or a folder with '
        "Annotations and JPEGImages as PASCAL VOC's or with annotations/instances_*.json as COCO's"
    )
    if not classes:
        raise UserError(wrong)

    def missing() -> Source:
        raise UserError(wrong)

    return Detected(tuple(classes), missing, missing)


def of_shapes(size: int, most: int = DRAWN_MOST, mask_window: int = 0) -> Detected:
    """Drawn shapes, size×size, at most `most` in a picture; see `shapes.py`."""
    train, test = (
        functools.partial(ShapesSource, split, count, size, most, mask_window) for split, count in DRAWN.items()
    )
    return Detected(CLASS_NAMES, train, test)


def of_voc(
    folder: Path, resizing: Resizing, objects: int = 0, classes: tuple[str, ...] = (), mask_window: int = 0
) -> Detected:
    """A folder as PASCAL VOC's. Its classes are VOC's twenty where all are among them, else those it has, sorted.

    Raises:
      UserError: the folder is not as it should be; see `voc.py`.
    """
    first, second = voc.splits_of(folder)
    voc.check_apart(folder, first, second)
    if not classes:
        found = voc.class_names_of(folder, first)
        classes = voc.NAMES if set(found) <= set(voc.NAMES) else found
    train, test = (
        functools.partial(
            _source, functools.partial(voc.read, folder, split, classes), classes, resizing, objects, mask_window
        )
        for split in (first, second)
    )
    return Detected(classes, train, test)


def of_coco(
    folder: Path, resizing: Resizing, objects: int = 0, classes: tuple[str, ...] = (), mask_window: int = 0
) -> Detected:
    """A folder as COCO's, with the categories of its training pictures.

    Raises:
      UserError: the folder is not as it should be; see `coco.py`.
    """
    first, second = coco.files_of(folder)
    if not classes:
        classes = tuple(coco.categories_of(coco.parse(first), first).values())
    train, test = (
        functools.partial(_source, functools.partial(coco.read, file, classes), classes, resizing, objects, mask_window)
        for file in (first, second)
    )
    return Detected(classes, train, test)


def of_tfds(name: str, resizing: Resizing, objects: int, experiment: str, mask_window: int = 0) -> Detected:
    """One of TFDS's sets.

    Args:
      name: of `TFDS`.
      resizing: of the pictures.
      objects: that a picture has at most.
      experiment: whose `--mode=prepare` prepares it.
      mask_window: of masks, which none of these sets has: they are refused when they are called for.
    """
    first, second, class_names = TFDS[name]

    def read(split: str) -> Source:
        if mask_window:
            check_outlines(Records([], name, False))  # before anybody prepares the set
        records, found = open_split(name, split, experiment, within="objects")
        if found != class_names:
            raise UserError(f"the prepared {name} has other classes than the {len(class_names)} known: {found[:5]} …")
        return DetectionSource(Records(records, name, name.startswith("voc")), class_names, resizing, objects)

    train, test = functools.partial(read, first), functools.partial(read, second)
    return Detected(class_names, train, test, None if mask_window else functools.partial(prepare, name))


def _source(
    read: Callable[[], list[Annotation]],
    class_names: tuple[str, ...],
    resizing: Resizing,
    objects: int,
    mask_window: int,
) -> DetectionSource:
    annotations = read()
    most = objects or max(1, *(len(annotation.label) for annotation in annotations))
    return DetectionSource(annotations, class_names, resizing, most, mask_window)
