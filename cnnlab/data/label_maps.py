"""Label maps: pictures whose pixels are classes, as indices, as a palette's indices, or as colours of a table.

255 is void: pixels of no class, which are neither learnt nor judged.
"""

import csv
import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from cnnlab.errors import UserError

VOID = 255
VOID_NAMES = ("void", "unlabelled", "unlabeled", "ignore", "ignored")  # of a table: its pixels are void
TABLES = ("classes.csv", "class_dict.csv")  # files of a folder that hold its table
Colour = tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class ClassTable:
    """The classes of label maps.

    Attributes:
      names: in the order of the labels.
      values: of each class the value that its pixels have in maps of indices.
      colours: of each its colour in maps of colours; empty: there are none.
      void_values, void_colours: likewise of what is void besides 255.
      path: the file that says so; None: none does.
    """

    names: tuple[str, ...]
    values: tuple[int, ...]
    colours: tuple[Colour, ...] = ()
    void_values: tuple[int, ...] = ()
    void_colours: tuple[Colour, ...] = ()
    path: Path | None = None

    def __str__(self) -> str:
        return f"the {len(self.names)} classes" + (f" of {self.path}" if self.path else "")


def plain_table(names: Sequence[str]) -> ClassTable:
    """Classes whose values are 0, 1 … as those of VOC."""
    return ClassTable(tuple(names), tuple(range(len(names))))


def read_table(path: Path) -> ClassTable:
    """A table of lines "name,r,g,b", or "name" alone for maps of indices; the first line may be a header.

    The value of a class in a map of indices is the number of its line, from 0; lines named as in `VOID_NAMES` are void.

    Raises:
      UserError: a line is neither, a name or a colour stands twice, or there are fewer than two classes.
    """
    try:
        rows = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines(), skipinitialspace=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read: it should have a line name,r,g,b for each class") from error
    lines = [(number, [cell.strip() for cell in row]) for number, row in enumerate(rows, 1) if any(row)]
    if lines and lines[0][1][0].lower() in ("name", "class", "label"):
        lines = lines[1:]
    names, colours = [], []
    for number, row in lines:
        numbers = [int(cell) if cell.isdigit() else -1 for cell in row[1:]]
        if len(row) not in (1, 4) or not row[0] or not all(0 <= value <= 255 for value in numbers):
            raise UserError(
                f'{path}:{number}: "{",".join(row)}" is no class: a line is name,r,g,b, of numbers from 0 to 255, or '
                "name alone"
            )
        if row[0] in names or (numbers and tuple(numbers) in colours):
            raise UserError(f'{path}:{number}: the class "{",".join(row)}" has the name or the colour of another')
        names.append(row[0])
        colours.append(tuple(numbers))
    if len({len(colour) for colour in colours}) > 1:
        raise UserError(f"{path} has colours for some of its classes only: give all of them one, or none")
    void = [name.lower() in VOID_NAMES for name in names]
    kept = [i for i, leave in enumerate(void) if not leave]
    if len(kept) < 2:
        raise UserError(f"{path} has {len(kept)} classes; there must be two or more (the background is one)")
    coloured = bool(colours[0])
    return ClassTable(
        tuple(names[i] for i in kept),
        tuple(kept),
        tuple(colours[i] for i in kept) if coloured else (),
        tuple(i for i, leave in enumerate(void) if leave),
        tuple(colour for colour, leave in zip(colours, void, strict=True) if leave and coloured),
        path,
    )


def table_of(folder: Path) -> Path | None:
    """The file of a folder that holds its table; None: there is none."""
    return next((folder / name for name in TABLES if (folder / name).is_file()), None)


def read_labels(path: Path, table: ClassTable, size: tuple[int, int] | None = None) -> UInt8[np.ndarray, "h w"]:
    """A label map of a file, its classes 0 … K − 1 and void 255.

    Args:
      path: grey values and palettes' indices are values of the table's classes, colours their colours. A palette is
        taken by its colours where the table has some.
      table: the classes.
      size: (height, width) of its picture, which it must have; None: any.

    Raises:
      UserError: it cannot be read, has another size, or a value or a colour that is no class: named, with its place.
    """
    try:
        with Image.open(path) as image:
            image.load()
    except Exception as error:  # a decoder may trip over damaged bytes in any way
        raise UserError(f"the mask {path} cannot be read ({' '.join(str(error).split())})") from error
    if size and image.size != size[::-1]:
        raise UserError(
            f"the mask {path} is {image.width}×{image.height}, and its picture {size[1]}×{size[0]}: they must be alike"
        )
    if table.colours and image.mode not in ("1", "L", "I", "I;16"):
        return _of_colours(np.asarray(image.convert("RGB")), table, path)
    if image.mode not in ("1", "L", "P", "I", "I;16"):
        lacking = f"{table.path} has none" if table.path else "there is no table of them"
        raise UserError(
            f"the mask {path} is a picture of colours, and {lacking}: put a classes.csv with a line name,r,g,b for "
            "each class into the folder, or save indices"
        )
    return _of_values(np.asarray(image).astype(np.int64), table, path)


def _of_values(values: np.ndarray, table: ClassTable, path: Path) -> UInt8[np.ndarray, "h w"]:
    found, largest = np.full(values.shape, VOID, np.uint8), max(*table.values, *table.void_values, VOID)
    lookup = np.full(largest + 1, -1, np.int64)
    lookup[[*table.void_values, VOID]] = VOID
    lookup[list(table.values)] = np.arange(len(table.values))
    known = np.where((values >= 0) & (values <= largest), lookup[np.clip(values, 0, largest)], -1)
    if (known < 0).any():
        row, column = np.argwhere(known < 0)[0]
        value, odd = values[row, column], len(np.unique(values[known < 0]))
        raise UserError(
            f"the mask {path} has the value {value} in row {row}, column {column}, and {odd - 1} other odd values: "
            f"{table} have 0 to {max(table.values)}, and void is 255. (Is it a palette's picture saved as grey tones? "
            "Save the indices.)"
        )
    found[:] = known
    return found


def _of_colours(colours: np.ndarray, table: ClassTable, path: Path) -> UInt8[np.ndarray, "h w"]:
    codes = _codes(colours)
    known = _codes(np.array([*table.colours, *table.void_colours], np.uint8))
    labels = np.array([*range(len(table.colours)), *[VOID] * len(table.void_colours)], np.uint8)
    order = np.argsort(known)
    place = np.clip(np.searchsorted(known[order], codes), 0, len(known) - 1)
    wrong = known[order][place] != codes
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        colour = " ".join(map(str, colours[row, column]))
        raise UserError(
            f"the mask {path} has the colour {colour} in row {row}, column {column}, and {np.mean(wrong):.2%} of its "
            f"pixels have one that none of {table} has: add it there (as void, to leave it out); a JPEG changes colours"
        )
    return labels[order][place]


def _codes(colours: UInt8[np.ndarray, "*n 3"]) -> np.ndarray:
    """A colour as one number."""
    return colours.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])


def palette(count: int) -> UInt8[np.ndarray, "count 3"]:
    """VOC's colours: the bits of a label, three at a time, are the highest bits of red, green and blue.

    >>> palette(3).tolist()
    [[0, 0, 0], [128, 0, 0], [0, 128, 0]]
    """
    labels, colours = np.arange(count), np.zeros((count, 3), np.int64)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= ((labels >> (3 * bit + channel)) & 1) << (7 - bit)
    return colours.astype(np.uint8)


def png_of(labels: UInt8[np.ndarray, "h w"], colours: UInt8[np.ndarray, "k 3"]) -> bytes:
    """A label map as a PNG file's bytes, with a palette as VOC's are stored: its pixels are the labels, void is cream.

    Args:
      labels: the map.
      colours: of the first labels; the others have VOC's.
    """
    image, content = Image.fromarray(labels), io.BytesIO()
    image.putpalette(np.concatenate([colours, palette(VOID + 1)[len(colours) :]]).tobytes())
    image.save(content, "PNG")
    return content.getvalue()
