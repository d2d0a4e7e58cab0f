"""Parts of pictures, as people write them: boxes by name, for all pictures or for each; and random boxes like them."""

import itertools
import json
import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image, ImageOps

from cnnlab.errors import UserError, nearest
from cnnlab.inspect.masks import Box, bounding_box

FIELD = "config.correspondence.parts"
ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "centre", "right")


def thirds(height: int, width: int) -> dict[str, Box]:
    """A picture's nine equal parts, three by three, by name; "top left" comes first.

    >>> thirds(9, 6)["middle right"]
    (3, 4, 6, 6)
    """
    y, x = (np.round(np.linspace(0, side, 4)).astype(int).tolist() for side in (height, width))
    return {
        f"{row} {column}": (y[i], x[j], y[i + 1], x[j + 1])
        for (i, row), (j, column) in itertools.product(enumerate(ROWS), enumerate(COLUMNS))
    }


def random_boxes(
    rng: np.random.Generator, boxes: Int[np.ndarray, "m n 4"], height: int, width: int, draws: int
) -> Int[np.ndarray, "draws n 4"]:
    """Boxes of the parts' sizes, each part's in turn, at places drawn for each picture by itself.

    Args:
      rng: what is drawn with.
      boxes: of the parts, a row of pictures each.
      height, width: within which all boxes lie.
      draws: how many rows of boxes to draw.
    """
    like = boxes[np.arange(draws) % len(boxes)]
    size = like[..., 2:] - like[..., :2]
    first = rng.integers(0, np.array([height, width]) - size + 1)
    return np.concatenate([first, first + size], -1)


def written_parts(text: str, height: int, width: int) -> dict[str, Box]:
    """The parts that "NAME=Y0:X0:Y1:X1;…" names, in pixels of pictures of this size.

    >>> written_parts("left eye=2:3:5:8; nose=4:4:6:6", 9, 9)
    {'left eye': (2, 3, 5, 8), 'nose': (4, 4, 6, 6)}

    Raises:
      UserError: it is written otherwise; a box is empty or lies outside; a name comes twice.
    """
    parts: dict[str, Box] = {}
    for entry in filter(None, (entry.strip() for entry in text.split(";"))):
        name, _, numbers = (word.strip() for word in entry.partition("="))
        box = numbers.split(":")
        if not name or len(box) != 4 or not all(edge.strip().isdecimal() for edge in box):
            raise UserError(
                f'{FIELD} has "{entry}"; a part is NAME=Y0:X0:Y1:X1, pixels of the picture, with ; between two parts, '
                "or all is the name of a .json file"
            )
        if name in parts:
            raise UserError(f'{FIELD} has two parts "{name}"')
        parts[name] = _box([int(edge) for edge in box], height, width, f'{FIELD}: part "{name}"')
    return parts


def read_parts(path: Path) -> dict[str, dict[str, Any]]:
    """A JSON file {PART: {PICTURE: [y0, x0, y1, x1], …}, …}; the boxes are as they stand there.

    Raises:
      UserError: there is no such file, or it holds something else.
    """
    try:
        parts = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"{FIELD}: {path} cannot be read ({error.strerror})") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {error.lineno}, column {error.colno}: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text, so no JSON") from error
    if not isinstance(parts, dict) or not parts or not all(isinstance(boxes, dict) for boxes in parts.values()):
        raise UserError(f'{path} must be like {{"left eye": {{"picture.png": [y0, x0, y1, x1]}}}}')
    return parts


def _box(box: Any, height: int, width: int, where: str) -> Box:
    """The box, or a `UserError` where it is none in a picture of this size."""
    if not isinstance(box, list) or len(box) != 4 or not all(type(edge) in (int, float) for edge in box):
        raise UserError(f"{where}: a box is [y0, x0, y1, x1] in pixels, not {json.dumps(box)}")
    y0, x0, y1, x1 = (round(edge) if math.isfinite(edge) else -1 for edge in box)
    if not (0 <= y0 < y1 <= height and 0 <= x0 < x1 <= width):
        raise UserError(
            f"{where}: the box {y0}:{x0}:{y1}:{x1} must lie in the picture, {height} high and {width} wide, "
            "y0 above y1 and x0 left of x1"
        )
    return y0, x0, y1, x1


def boxes_of_files(
    path: Path, files: Sequence[Path], read: Callable[[Path], UInt8[np.ndarray, "h w c"]]
) -> dict[str, Int[np.ndarray, "n 4"]]:
    """The boxes of a JSON file, of parts in picture files, as they lie in the pictures that are read from those.

    Args:
      path: of the JSON file, whose boxes are in pixels of each file as a viewer shows it, upright.
      files: pictures, each of which has every part.
      read: a file as the picture that is stored of it.

    A box that lies in what is cut off in reading is empty.

    Raises:
      UserError: what `read_parts` raises; a picture that is not there, or without a box, or with one outside of it.
    """
    names = [file.name for file in files]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{path}: --input names two pictures {name}; boxes need pictures of different names")
    found = {}
    for part, boxes in read_parts(path).items():
        for name in boxes:
            if name not in names:
                hint = nearest(name, names)
                raise UserError(f'{path}: part "{part}" has a box for {name}, which --input does not name{hint}')
        rows = []
        for file in files:
            if file.name not in boxes:
                raise UserError(f'{path}: part "{part}" has no box for {file.name}')
            with Image.open(file) as image:
                width, height = ImageOps.exif_transpose(image).size
            box = _box(boxes[file.name], height, width, f'{path}: part "{part}" of {file.name}')
            rows.append(stored_box(read, (height, width), box))
        found[part] = np.array(rows)
    return found


def stored_box(read: Callable[[Path], UInt8[np.ndarray, "h w c"]], size: tuple[int, int], box: Box) -> Box:
    """Where a box of a picture file of this height and width comes to lie when the file is read; empty: cut off.

    Reading scales, stretches or crops: what it does to the box is seen from a picture that is black but for it.
    """
    y0, x0, y1, x1 = box
    stored = []
    with tempfile.TemporaryDirectory() as folder:
        for light in (0, 255):
            probe = np.zeros(size, np.uint8)
            probe[y0:y1, x0:x1] = light
            Image.fromarray(probe).save(Path(folder) / "probe.png")
            stored.append(read(Path(folder) / "probe.png").astype(int))
    change = np.abs(stored[1] - stored[0]).max(-1)
    return bounding_box(change > change.max() / 2)
