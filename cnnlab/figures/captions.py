"""Figures of captions: pictures with what is said of them, phrases in the colours of their boxes."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cnnlab.figures.boxes import CELL, Colour, class_colours, draw_boxes
from cnnlab.metrics.captions import Said

ACROSS = 42  # characters of a line under a picture
LINE = 0.15  # inches that it is high
COLUMNS = 4
TRUTH = {None: "black", True: "darkgreen", False: "firebrick"}
Picture = UInt8[np.ndarray, "_ _ 3"]
Line = tuple[str, Colour | str]  # and its colour


def captions_sheet(pictures: Sequence[Picture], said: Sequence[Said], heading: str) -> Figure:
    """Pictures in a grid, under each what is said of it, green where it is true and red where it is not, as far as that
    is known, and in grey the line beside it.
    """
    lines = [(textwrap.wrap(one.caption or "(nothing)", ACROSS), textwrap.wrap(one.beside, ACROSS)) for one in said]
    figure, cells = _grid(pictures, max(len(own) + len(beside) for own, beside in lines), heading)
    for axes, one, (own, beside) in zip(cells, said, lines, strict=True):
        text = [(line, TRUTH[one.true]) for line in own] + [(line, "grey") for line in beside]
        _write(axes, text)
    return figure


def alignment_sheet(
    pictures: Sequence[Picture], titles: Sequence[str], rows: Sequence[Mapping[str, Any]], heading: str
) -> Figure:
    """Pictures in a grid with the boxes that phrases belong to, under each its title and its phrases in these colours,
    with their scores.

    Args:
      pictures, titles: of any size; "" for none.
      rows: "phrases" and "boxes" of each, as `tasks.alignment.SentenceAlignment.describe` gives them.
      heading: of the figure.
    """
    lines = [_lines(title, row) for title, row in zip(titles, rows, strict=True)]
    figure, cells = _grid(pictures, max(map(len, lines)), heading)
    for axes, picture, row, text in zip(cells, pictures, rows, lines, strict=True):
        used = sorted({phrase["region"] for phrase in row["phrases"]})
        colours = class_colours(len(row["boxes"]))
        boxes = np.array(row["boxes"], np.float32).reshape(-1, 4)[used] * np.tile(picture.shape[1::-1], 2)
        draw_boxes(axes, boxes, [""] * len(used), [colours[region] for region in used])
        _write(axes, text)
    return figure


def _lines(title: str, row: Mapping[str, Any]) -> list[Line]:
    """The title, and each phrase with its score, in its colour: darkened, to be read on white."""
    colours = class_colours(len(row["boxes"]))
    text: list[Line] = [(line, "black") for line in textwrap.wrap(title, ACROSS)]
    for phrase in row["phrases"]:
        dark = tuple(0.75 * part for part in colours[phrase["region"]])
        said = f"{phrase['score']:.2f}  {phrase['words']}"
        text += [(line, dark) for line in textwrap.wrap(said, ACROSS, subsequent_indent=" " * 8)]
    return text


def _grid(pictures: Sequence[Picture], lines: int, heading: str) -> tuple[Figure, list[Axes]]:
    """A figure with a cell for each picture, and under it room for so many lines."""
    columns = min(COLUMNS, len(pictures))
    rows = math.ceil(len(pictures) / columns)
    tallest = max(picture.shape[0] / picture.shape[1] for picture in pictures)
    height = CELL * tallest + LINE * (lines + 1)
    whole = height * rows + 0.5
    figure, cells = Figure(figsize=(max(CELL * columns, 5), whole)), []
    figure.suptitle(heading, y=1 - 0.12 / whole, va="top")
    for i, picture in enumerate(pictures):
        row, column = divmod(i, columns)
        low = (height * (rows - 1 - row) + LINE * (lines + 1)) / whole
        axes = figure.add_axes(((column + 0.02) / columns, low, 0.96 / columns, 0.96 * CELL * tallest / whole))
        axes.imshow(picture, interpolation="nearest")
        axes.axis("off")
        axes.set_anchor("S")
        cells.append(axes)
    return figure, cells


def _write(axes: Axes, text: Sequence[Line]) -> None:
    for number, (line, colour) in enumerate(text):
        axes.annotate(
            line,
            (0, 0),
            (0, -(number + 0.9) * 72 * LINE),
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize=8,
            color=colour,
            parse_math=False,  # "$" is a sign like others
        )
