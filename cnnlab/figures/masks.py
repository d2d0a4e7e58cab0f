"""Figures of masks: translucent over the picture in their class's colour, with outlines; beneath boxes and a legend."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from cnnlab.data.outlines import polygons_of
from cnnlab.figures import boxes as box_figures
from cnnlab.figures.boxes import WHITE, Colour, class_colours
from cnnlab.metrics.masks import MaskMetrics
from cnnlab.ops.masks import COVERED, masks_of, paste

STRENGTH = 0.45  # of a mask's colour over its picture
BAND = 128  # rows that are tinted together
LEGEND = 0.25  # inches that a line of a legend is high
ENTRY = 1.5  # inches that a name in a legend is wide


def overlay(
    picture: UInt8[np.ndarray, "h w 3"], masks: Bool[np.ndarray, "d h w"], colours: Sequence[Colour]
) -> UInt8[np.ndarray, "h w 3"]:
    """A picture tinted where masks are, each in its colour, later ones over earlier ones.

    Pictures may be large: beside the result only `BAND` of its rows are held in memory.

    >>> red = overlay(np.zeros((1, 2, 3), np.uint8), np.array([[[True, False]]]), [(1.0, 0.0, 0.0)])
    >>> red.tolist()
    [[[115, 0, 0], [0, 0, 0]]]
    """
    tinted = picture.copy()
    for top in range(0, len(picture), BAND):
        rows = slice(top, top + BAND)
        if masks[:, rows].any():
            band = picture[rows].astype(np.float32)
            for mask, colour in zip(masks[:, rows], colours, strict=True):
                band[mask] += STRENGTH * (255 * np.array(colour, np.float32) - band[mask])
            tinted[rows] = np.round(band)
    return tinted


def draw_outlines(axes: Axes, polygons: Sequence[Sequence[float]], colour: Colour, dashed: bool = False) -> None:
    """Closed polygons x y x y …, in pixels of the picture on the axes, with a dark rim; cuts to holes are left out."""
    lines = [segment for polygon in polygons for segment in edges_of(polygon)]
    style = (0, (4, 3)) if dashed else "-"
    for width, edge, alpha in ((2.2, "black", 0.5), (1.1, colour, 1.0)):
        # Under boxes and their captions, which are of order 1 and more.
        drawn = LineCollection(lines, colors=[edge], linewidths=width, alpha=alpha, linestyles=[style], zorder=0.9)
        axes.add_collection(drawn, autolim=False)


def edges_of(polygon: Sequence[float]) -> Float[np.ndarray, "e 2 2"]:
    """A polygon's edges as they lie on matplotlib's axes, without those that it goes there and back; see `polygons_of`.

    >>> len(edges_of([0.0, 0.0, 9.0, 0.0, 9.0, 9.0, 5.0, 5.0, 9.0, 9.0, 0.0, 9.0]))
    4
    """
    points = np.array(polygon, np.float64).reshape(-1, 2)
    edges = np.stack([points, np.roll(points, -1, 0)], 1)
    keys = {tuple(edge.ravel().tolist()) for edge in edges}
    once = [tuple(edge[::-1].ravel().tolist()) not in keys for edge in edges]
    return edges[once] - 0.5  # pixel (0, 0) has its centre in (0, 0) there


def add_legend(figure: Figure, names: Sequence[str], colours: Sequence[Colour]) -> None:
    """Names with their colours in lines below all that the figure has, which keeps its size in inches."""
    if not names:
        return
    patches = [Patch(facecolor=c, edgecolor="black", label=n) for n, c in zip(names, colours, strict=True)]
    width, height = figure.get_size_inches()
    columns = max(1, int(width / ENTRY))
    room = LEGEND * math.ceil(len(names) / columns) + 0.1
    if figure.get_layout_engine() is None:
        figure.set_size_inches(width, height + room)
        for axes in figure.axes:
            x, y, across, down = axes.get_position().bounds
            axes.set_position((x, (y * height + room) / (height + room), across, down * height / (height + room)))
        figure.legend(handles=patches, loc="lower center", ncols=columns, fontsize=8, borderaxespad=0.2, frameon=False)
    else:
        figure.set_size_inches(width, height + room)
        figure.legend(handles=patches, loc="outside lower center", ncols=columns, fontsize=8, frameon=False)


def masks_figure(picture: UInt8[np.ndarray, "h w 3"], row: Mapping[str, Any], class_names: Sequence[str]) -> Figure:
    """A picture with what was found on it, pixel for pixel (a small one enlarged), and a legend below.

    Args:
      picture: the picture.
      row: "boxes", in its pixels, "classes", "scores", and "maps"; see `masks_of`.
      class_names: all classes, whose order gives their colours.
    """
    tinted, outlines = _drawn(picture, row, class_names)
    columns = (row["boxes"], row["classes"], row["scores"])
    figure = box_figures.picture_figure(tinted, *columns, class_names)
    _add(figure.axes[0], outlines)
    add_legend(figure, *_entries([row], class_names))
    return figure


def masks_sheet(
    pictures: Sequence[UInt8[np.ndarray, "h w 3"]],
    titles: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    class_names: Sequence[str],
    heading: str,
) -> Figure:
    """Pictures in a grid under their titles, each with its findings; rows as in `masks_figure`; one legend below."""
    drawn = [_drawn(picture, row, class_names) for picture, row in zip(pictures, rows, strict=True)]
    figure = box_figures.boxes_sheet([tinted for tinted, _ in drawn], titles, rows, class_names, heading)
    for axes, (_, outlines) in zip(figure.axes, drawn, strict=True):
        _add(axes, outlines)
    add_legend(figure, *_entries(rows, class_names))
    return figure


def mistakes_figure(
    metrics: MaskMetrics,
    picture: Callable[[int], UInt8[np.ndarray, "h w 3"]],
    truth: Callable[[int], Bool[np.ndarray, "k h w"]],
) -> Figure:
    """The worst mistakes by the masks' IoU, with outlines: objects' white, findings' in their class's colour.

    Args:
      metrics: of a test.
      picture, truth: the stored picture and its objects' masks by its index in the source.
    """
    colours = class_colours(len(metrics.class_names))

    def outline(axes: Axes, index: int, findings: Sequence[int], objects: Sequence[int], corner: Int[np.ndarray, "4"]):
        one, masks = metrics.masks.pictures[index], truth(index)
        for i in findings:
            mask = paste(one.maps[i] / COVERED, one.boxes[i], masks.shape[1:])
            draw_outlines(axes, _moved(mask, corner), colours[one.predicted[i]])
        for k in objects:
            draw_outlines(axes, _moved(masks[k], corner), WHITE, dashed=True)

    return box_figures.mistakes_figure(metrics.masks, picture, more=outline)


def _moved(mask: Bool[np.ndarray, "h w"], corner: Int[np.ndarray, "4"]) -> list[list[float]]:
    """A mask's outlines in pixels of the part of the picture that begins at a corner."""
    polygons = polygons_of(mask)
    return [(np.reshape(polygon, (-1, 2)) - corner[:2]).reshape(-1).tolist() for polygon in polygons]


def _drawn(
    picture: UInt8[np.ndarray, "h w 3"], row: Mapping[str, Any], class_names: Sequence[str]
) -> tuple[UInt8[np.ndarray, "h w 3"], list[tuple[list[list[float]], Colour]]]:
    """The picture under its findings' masks, the surest on top, and each one's outlines and colour."""
    colours = dict(zip(class_names, class_colours(len(class_names)), strict=True))
    order = np.argsort(row["scores"], kind="stable")
    boxes = np.array(row["boxes"], np.float32).reshape(-1, 4)
    masks = masks_of(np.asarray(row["maps"])[order], boxes[order], picture.shape[:2])
    own = [colours[row["classes"][i]] for i in order]
    outlines = [(polygons_of(mask), colour) for mask, colour in zip(masks, own, strict=True)]
    return overlay(picture, masks, own), outlines


def _add(axes: Axes, outlines: Sequence[tuple[list[list[float]], Colour]]) -> None:
    for polygons, colour in outlines:
        draw_outlines(axes, polygons, colour)


def _entries(rows: Sequence[Mapping[str, Any]], class_names: Sequence[str]) -> tuple[list[str], list[Colour]]:
    """The classes that occur, in their order, and their colours."""
    there = {name for row in rows for name in row["classes"]}
    pairs = zip(class_names, class_colours(len(class_names)), strict=True)
    found = [(name, colour) for name, colour in pairs if name in there]
    return [name for name, _ in found], [colour for _, colour in found]
