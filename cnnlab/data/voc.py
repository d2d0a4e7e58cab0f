"""PASCAL VOC folders: JPEGImages, Annotations/*.xml, and the lists of ImageSets/Main.

VOC counts pixels from 1 and its xmax and ymax are the last pixels of the object, so that the edges of its box are
xmin − 1, ymin − 1, xmax and ymax: with these, widths and overlaps are those of VOC's own programs. Writers that count
from 0 give xmin = 0 where an object touches the edge: the box is cut off there and is a pixel larger at the left and
the top. xmin = xmax would be an object one pixel wide; no one marks those, and it is taken as a box of no area.
"""

import xml.parsers.expat
from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder

from cnnlab.data.annotations import Annotation, Findings, Mark, agreed_size, checked, label_of
from cnnlab.data.draws import Number
from cnnlab.data.pictures import SUFFIXES
from cnnlab.errors import UserError

# Of the challenges 2007 to 2012, in the order of TFDS and of all published weights but for their background.
NAMES = tuple(
    """
aeroplane, bicycle, bird, boat, bottle, bus, car, cat, chair, cow, diningtable, dog, horse, motorbike, person,
pottedplant, sheep, sofa, train, tvmonitor
""".strip()
    .replace("\n", " ")
    .split(", ")
)
SPLITS = (("trainval", "test"), ("train", "test"), ("train", "val"))  # to train on and to test on, the first there is


def is_voc(folder: Path) -> bool:
    """Whether a folder looks like VOC's."""
    return (folder / "Annotations").is_dir() and (folder / "JPEGImages").is_dir()


def splits_of(folder: Path, lists: str = "Main") -> tuple[str, str]:
    """The lists of pictures to train and to test on: trainval and test, train and test, or train and val.

    Args:
      folder: as VOC's.
      lists: the folder within ImageSets: "Main", or "Segmentation".

    Raises:
      UserError: none of these pairs is there.
    """
    place = folder / "ImageSets" / lists
    for pair in SPLITS:
        if all((place / f"{name}.txt").is_file() for name in pair):
            return pair
    raise UserError(
        f"{place} should hold train.txt and test.txt (or val.txt), lists of the pictures of {folder / 'JPEGImages'}, "
        "a name without its suffix in each line"
    )


def listed(folder: Path, split: str, lists: str = "Main") -> list[str]:
    """The names of a split's pictures, in the order of its list.

    Raises:
      UserError: the list is missing, empty, or names a picture twice.
    """
    path = folder / "ImageSets" / lists / f"{split}.txt"
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: it should list the pictures of the split {split}") from error
    names: dict[str, int] = {}
    for line, text in enumerate(lines, 1):
        if text.split():
            name = text.split()[0]
            if name in names:
                raise UserError(f"{path}:{line}: {name} stands in line {names[name]} already")
            names[name] = line
    if not names:
        raise UserError(f"{path} lists no picture")
    return list(names)


def check_apart(folder: Path, first: str, second: str, lists: str = "Main") -> None:
    """Raises a `UserError` where two splits share pictures: what was trained on would be tested on."""
    both = sorted(set(listed(folder, first, lists)) & set(listed(folder, second, lists)))
    if both:
        place = folder / "ImageSets" / lists
        raise UserError(f"{both[0]} is in {place / first}.txt and in {second}.txt, as are {len(both) - 1} others")


def class_names_of(folder: Path, split: str) -> tuple[str, ...]:
    """The classes of a split's objects, sorted."""
    found = set()
    for name in listed(folder, split):
        path = folder / "Annotations" / f"{name}.xml"
        found |= {text_of(thing, "name", path) for thing in parse(path).findall("object")}
    if not found:
        raise UserError(f"no picture of {folder / 'ImageSets' / 'Main' / split}.txt has an object: there is no class")
    return tuple(sorted(found))


def read(folder: Path, split: str, class_names: Sequence[str]) -> list[Annotation]:
    """The pictures of a split and what is marked on them; VOC's difficult objects are `ignored`.

    What is repaired, left out or empty is told on stderr, with file and line.

    Raises:
      UserError: a picture without its annotation or the other way round, broken XML, an unknown class, a box that
        cannot be; see `annotations.checked`.
    """
    names, findings = listed(folder, split), Findings()
    pictures = {path.stem: path for path in (folder / "JPEGImages").iterdir() if path.suffix.lower() in SUFFIXES}
    of_list = f"{folder / 'ImageSets' / 'Main' / split}.txt"
    bare = [name for name in names if not (folder / "Annotations" / f"{name}.xml").is_file()]
    if bare:
        raise UserError(
            f"the picture {bare[0]} of {of_list} has no {folder / 'Annotations' / bare[0]}.xml, as {len(bare)} of "
            f"{len(names)} have none: annotate them, or take them from the list"
        )
    lost = [name for name in names if name not in pictures]
    if lost:
        raise UserError(
            f"the annotation {folder / 'Annotations' / lost[0]}.xml of {of_list} has no picture in "
            f"{folder / 'JPEGImages'}, as {len(lost)} of {len(names)} have none: add them, or take them from the list"
        )
    annotations = []
    for number, name in enumerate(names):
        path = folder / "Annotations" / f"{name}.xml"
        root = parse(path)
        height, width = agreed_size(pictures[name], _stated_size(root), str(path))
        marks = [_mark(thing, path, class_names) for thing in root.findall("object")]
        if not marks:
            findings.say(str(path), "has no object; its picture is background", "pictures have no object")
        annotations.append(checked(pictures[name], height, width, marks, findings, number))
    findings.close()
    return annotations


def parse(path: Path) -> Element:
    """An XML file whose elements have their line in the attribute "line".

    Raises:
      UserError: it cannot be read or is broken; the line is named.
    """
    builder = TreeBuilder()
    parser = xml.parsers.expat.ParserCreate()
    parser.StartElementHandler = lambda tag, _: builder.start(tag, {"line": str(parser.CurrentLineNumber)})
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(path.read_bytes(), True)
    except xml.parsers.expat.ExpatError as error:
        what = xml.parsers.expat.ErrorString(error.code)
        raise UserError(f"{path}:{error.lineno}: the XML is broken, at column {error.offset + 1} ({what})") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error
    return builder.close()


def place_of(element: Element, path: Path) -> str:
    """The file and line of an element, for messages."""
    return f"{path}:{element.get('line')}"


def text_of(element: Element, tag: str, path: Path) -> str:
    """The text of a part of an element.

    Raises:
      UserError: the part is missing or empty.
    """
    text = (element.findtext(tag) or "").strip()
    if not text:
        raise UserError(f"{place_of(element, path)}: <{element.tag}> has no <{tag}>")
    return text


def _mark(thing: Element, path: Path, class_names: Sequence[str]) -> Mark:
    label = label_of(text_of(thing, "name", path), class_names, place_of(thing.find("name"), path))
    box = thing.find("bndbox")
    if box is None:
        raise UserError(f"{place_of(thing, path)}: <object> has no <bndbox>")
    (x0, x1), (y0, y1) = (_edges(*(_number(box, axis + which, path) for which in ("min", "max"))) for axis in "xy")
    difficult = (thing.findtext("difficult") or "0").strip() == "1"
    return Mark((x0, y0, x1, y1), label, difficult, place_of(box, path))


def _edges(first: Number, last: Number) -> tuple[Number, Number]:
    """An object's edges by its first and last pixel, counted from 1; exchanged or of no width where those are.

    >>> _edges(1, 10), _edges(10, 1), _edges(5, 5)
    ((0, 10), (10, 0), (5, 5))
    """
    return first - (first < last), last - (last < first)


def _number(element: Element, tag: str, path: Path) -> float:
    text = text_of(element, tag, path)
    try:
        return float(text)
    except ValueError as error:
        raise UserError(f"{place_of(element.find(tag), path)}: <{tag}> is {text!r}, which is no number") from error


def _stated_size(root: Element) -> tuple[int, int] | None:
    """Height and width; None where they are missing or 0, as some programs leave them."""
    try:
        height, width = (int(float(root.findtext(f"size/{side}") or 0)) for side in ("height", "width"))
    except ValueError:
        return None
    return (height, width) if height > 0 and width > 0 else None
