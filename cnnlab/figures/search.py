"""Figures of a search over boxes: which one was chosen, and what all of them scored."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure

from cnnlab.data.canvas import placed
from cnnlab.figures import contact_sheet
from cnnlab.figures.boxes import WHITE, draw_boxes

RIGHT, WRONG = (0.2, 0.85, 0.3), (1.0, 0.25, 0.2)
LIMIT = 10.0  # of the log-odds that are told apart by colour
ABREAST = 6  # pictures in a row of a sheet


class Map(NamedTuple):
    """What was scored at one scale.

    Attributes:
      scale: of the boxes.
      boxes: at all places, x0 y0 x1 y1 in the picture's pixels.
      scores: the log-odds of each class there, of n pictures.
    """

    scale: float
    boxes: Float[np.ndarray, "a b 4"]
    scores: Float[np.ndarray, "n a b k"]


def boxes_sheet(
    pictures: UInt8[np.ndarray, "n h w 1"], found: Mapping[str, np.ndarray], class_names: Sequence[str], heading: str
) -> Figure:
    """Pictures, each with the box chosen, green or, where its class is wrong, red, and the true one white and dashed.

    Args:
      pictures: stored ones.
      found: of each picture the fields of `BoxedMetrics.pictures`.
      class_names: in the order of the labels.
      heading: of the sheet.
    """
    right = found["predicted"] == found["label"]
    titles = [
        f"{class_names[found['predicted'][i]]} {found['probability'][i]:.1%}, IoU {found['overlap'][i]:.2f}"
        + ("" if right[i] else f"\nin truth {class_names[found['label'][i]]}")
        for i in range(len(pictures))
    ]
    heading += "\ngreen: the class is right; red: it is wrong; white and dashed: the true box"
    figure = contact_sheet(list(pictures), titles, heading, min(ABREAST, len(pictures)))
    _resize(figure, 2.2)
    for i, axes in enumerate(figure.axes):
        colour = RIGHT if right[i] else WRONG
        axes.title.set_color("black" if right[i] else (0.8, 0, 0))
        draw_boxes(axes, found["box"][i : i + 1], [""], [colour])
        draw_boxes(axes, found["true_box"][i : i + 1], [""], [WHITE], dashed=True)
    return figure


def predictions_sheet(
    pictures: Sequence[Mapping[str, np.ndarray]], names: Sequence[str], rows: Sequence[Mapping[str, Any]]
) -> Figure:
    """Pictures that were read for prediction with their likeliest class's box."""
    titles = [f"{name}\n{row['classes'][0]} {row['scores'][0]:.1%}" for name, row in zip(names, rows, strict=True)]
    sheet = contact_sheet([p["image"] for p in pictures], titles, "Predictions", min(ABREAST, len(pictures)))
    _resize(sheet, 2.2)
    for axes, picture, row in zip(sheet.axes, pictures, rows, strict=True):
        factor = np.array(picture["image"].shape[:2]) / picture["original"]
        draw_boxes(axes, placed(np.array(row["boxes"], np.float32), factor, 1), [""], [RIGHT])
    return sheet


def search_figure(pictures: UInt8[np.ndarray, "n h w 1"], maps: Sequence[Map], class_names: Sequence[str]) -> Figure:
    """A row a picture: itself with its best box, and for each scale what the surest class scored at each place.

    A place is drawn where the middle of its box lies. The best of all is ringed.
    """
    count = len(pictures)
    figure = Figure(figsize=(2.3 * (len(maps) + 1), 2.4 * count + 1.3), layout="constrained")
    figure.suptitle("All boxes: the log-odds of the surest class, where the middle of the box lies; the best is ringed")
    grid = figure.subplots(count, len(maps) + 1, squeeze=False)
    drawn = None
    for row, picture, i in zip(grid, pictures, range(count), strict=True):
        tops = [each.scores[i].max() for each in maps]
        winner = int(np.argmax(tops))
        a, b, k = np.unravel_index(maps[winner].scores[i].argmax(), maps[winner].scores[i].shape)
        box = maps[winner].boxes[a, b]
        row[0].imshow(picture[..., 0], cmap="gray", vmin=0, vmax=255)
        row[0].set_title(f"{class_names[k]}, log-odds {tops[winner]:.1f}", fontsize=9)
        draw_boxes(row[0], box[None], [""], [RIGHT])
        for axes, each in zip(row[1:], maps, strict=True):
            middles = (each.boxes[..., :2] + each.boxes[..., 2:]) / 2
            half = (middles[0, 1, 0] - middles[0, 0, 0]) / 2 if middles.shape[1] > 1 else 2.0
            (x0, y0), (x1, y1) = middles[0, 0] - half - 0.5, middles[-1, -1] + half - 0.5
            best, extent = each.scores[i].max(-1), (x0, x1, y1, y0)
            drawn = axes.imshow(best, cmap="coolwarm", vmin=-LIMIT, vmax=LIMIT, extent=extent, interpolation="nearest")
            axes.set(xlim=(-0.5, picture.shape[1] - 0.5), ylim=(picture.shape[0] - 0.5, -0.5), facecolor="0.85")
            axes.set_title(f"boxes × {each.scale:.2f}" if i == 0 else "", fontsize=9)
        x, y = (box[:2] + box[2:]) / 2 - 0.5
        row[1 + winner].plot(x, y, "o", markersize=9, fillstyle="none", color="black", markeredgewidth=2)
        for axes in row:
            axes.set(xticks=[], yticks=[])
    figure.colorbar(drawn, ax=grid, location="bottom", shrink=0.5, aspect=40, extend="both")
    return figure


def _resize(figure: Figure, cell: float) -> None:
    """Makes each picture of a contact sheet `cell` inches wide."""
    grid = figure.axes[0].get_subplotspec().get_gridspec()
    figure.set_size_inches(max(cell * grid.ncols, 6), (cell + 0.35) * grid.nrows + 0.6)
