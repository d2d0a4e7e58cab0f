"""Figures of label maps: classes as colours over their pictures, outlines, legends, findings beside the truth."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, UInt8
from matplotlib.figure import Figure

from cnnlab.data.label_maps import VOID
from cnnlab.data.segmentation import BACKGROUND
from cnnlab.figures import boxes as box_figures
from cnnlab.figures import masks as mask_figures
from cnnlab.figures.boxes import CELL, class_colours

LEGEND = 22  # classes that a legend has room for; with more, those that are seen most


def colours_of(class_names: Sequence[str]) -> UInt8[np.ndarray, "k 3"]:
    """A colour for each class: black for the background, else bright and as far apart as so many can be."""
    named = [name for name in class_names if name != BACKGROUND]
    bright = dict(zip(named, class_colours(len(named)), strict=True))
    return np.array([[round(255 * part) for part in bright.get(name, (0, 0, 0))] for name in class_names], np.uint8)


def edges(labels: UInt8[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Pixels whose neighbour to the right or below is of another class.

    >>> edges(np.array([[0, 0, 1]], np.uint8)).tolist()
    [[False, True, False]]
    """
    found = np.zeros(labels.shape, bool)
    found[:, :-1] |= labels[:, 1:] != labels[:, :-1]
    found[:-1] |= labels[1:] != labels[:-1]
    return found


def overlay(
    picture: UInt8[np.ndarray, "h w 3"], labels: UInt8[np.ndarray, "h w"], class_names: Sequence[str]
) -> UInt8[np.ndarray, "h w 3"]:
    """A picture with its classes' colours over it and white lines between them; background and void stay as they are.

    Args:
      picture: the picture.
      labels: of its pixels.
      class_names: in the order of the labels.
    """
    colours = colours_of(class_names) / 255
    shown = [k for k in np.unique(labels) if k != VOID and class_names[k] != BACKGROUND]
    tinted = mask_figures.overlay(
        picture, labels == np.array(shown).reshape(-1, 1, 1), [tuple(colours[k]) for k in shown]
    )
    tinted[edges(labels)] = 255
    return tinted


def plain(labels: UInt8[np.ndarray, "h w"], class_names: Sequence[str]) -> UInt8[np.ndarray, "h w 3"]:
    """The classes' colours alone; void is light grey."""
    colours = np.full((VOID + 1, 3), 210, np.uint8)
    colours[: len(class_names)] = colours_of(class_names)
    return colours[labels]


def _add_legend(figure: Figure, labels: Sequence[np.ndarray], class_names: Sequence[str]) -> None:
    """Names beside their colours under the figure, of the classes that are seen."""
    counts = sum(np.bincount(each.ravel(), minlength=VOID + 1)[: len(class_names)] for each in labels)
    seen = [k for k in sorted(np.argsort(-counts, kind="stable")[:LEGEND]) if counts[k]]
    colours = colours_of(class_names) / 255
    mask_figures.add_legend(figure, [class_names[k] for k in seen], [tuple(colours[k]) for k in seen])


def overlay_figure(
    picture: UInt8[np.ndarray, "h w 3"], labels: UInt8[np.ndarray, "h w"], class_names: Sequence[str]
) -> Figure:
    """A picture with its classes over it, pixel for pixel (a small one enlarged), and a legend under it."""
    tinted, none = overlay(picture, labels, class_names), np.zeros((0, 4), np.float32)
    figure = box_figures.picture_figure(tinted, none, [], [], class_names)
    _add_legend(figure, [labels], class_names)
    return figure


def overlay_sheet(
    pictures: Sequence[UInt8[np.ndarray, "h w 3"]],
    labels: Sequence[UInt8[np.ndarray, "h w"]],
    titles: Sequence[str],
    class_names: Sequence[str],
    heading: str,
) -> Figure:
    """Pictures in a grid under their titles, each with its classes over it, and a legend."""
    cells = [(overlay(p, own, class_names),) for p, own in zip(pictures, labels, strict=True)]
    return _sheet(cells, titles, labels, class_names, heading, min(4, len(cells)))


def comparison_sheet(
    pictures: Sequence[UInt8[np.ndarray, "h w 3"]],
    truths: Sequence[UInt8[np.ndarray, "h w"]],
    found: Sequence[UInt8[np.ndarray, "h w"]],
    titles: Sequence[str],
    class_names: Sequence[str],
    heading: str,
) -> Figure:
    """Pictures, each beside its true classes and those found, two to a row, and a legend; void is light grey."""
    cells = [
        (picture, plain(truth, class_names), plain(guess, class_names))
        for picture, truth, guess in zip(pictures, truths, found, strict=True)
    ]
    return _sheet(cells, titles, [*truths, *found], class_names, heading, min(2, len(cells)))


def _sheet(
    cells: Sequence[Sequence[np.ndarray]],
    titles: Sequence[str],
    labels: Sequence[np.ndarray],
    class_names: Sequence[str],
    heading: str,
    columns: int,
) -> Figure:
    """Cells of one or more pictures side by side, `columns` of them in a row, each under its title."""
    each, rows = len(cells[0]), math.ceil(len(cells) / columns)
    tallest = max(cell[0].shape[0] / cell[0].shape[1] for cell in cells)
    side = CELL * 0.75 if each > 1 else CELL
    figure = Figure(figsize=(max(side * each * columns, 5), (side * tallest + 0.3) * rows + 0.6), layout="constrained")
    figure.suptitle(heading)
    for i, (cell, title) in enumerate(zip(cells, titles, strict=True)):
        for j, picture in enumerate(cell):
            axes = figure.add_subplot(rows, columns * each, i * each + j + 1)
            axes.imshow(picture, interpolation="nearest")
            axes.axis("off")
            if j == each // 2:
                axes.set_title(title, fontsize=8)
    _add_legend(figure, labels, class_names)
    return figure
