"""Figures of localisation: pictures with the box that was found and the true one, and how well boxes lie."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.figure import Figure

from cnnlab.figures import contact_sheet
from cnnlab.figures.boxes import CELL, MANY, WHITE, class_colours, draw_boxes
from cnnlab.metrics.localisation import PLACED


def places_sheet(
    rows: Sequence[Mapping[str, Any]],
    picture: Callable[[int], UInt8[np.ndarray, "h w 3"]],
    class_names: Sequence[str],
    heading: str,
) -> Figure:
    """Pictures, each with the likeliest class's box in its colour, and the true box white and dashed.

    Args:
      rows: of each picture the fields of `LocalisationMetrics.pictures`.
      picture: the stored picture by its index in the source.
      class_names: all classes, whose order gives their colours.
      heading: of the sheet.
    """
    colours, pictures = class_colours(len(class_names)), [picture(int(row["index"])) for row in rows]
    heading += "; the true box is white and dashed, the box found has its class's colour"
    figure = contact_sheet(pictures, [_said(row, class_names) for row in rows], heading, min(4, len(rows)))
    grid = figure.axes[0].get_subplotspec().get_gridspec()
    tallest = max(shown.shape[0] / shown.shape[1] for shown in pictures)
    figure.set_size_inches(max(CELL * grid.ncols, 8), (CELL * tallest + 0.3) * grid.nrows + 0.4)
    for axes, row in zip(figure.axes, rows, strict=True):
        # The true one on top: between its dashes the other is seen where the two agree.
        draw_boxes(axes, row["box"][None], [""], [colours[row["classes"][0]]])
        draw_boxes(axes, row["true_box"][None], [""], [WHITE], dashed=True)
    return figure


def _said(row: Mapping[str, Any], class_names: Sequence[str]) -> str:
    """What was found, the true class where it is another, and how far the boxes overlap."""
    true, likeliest = row["label"], row["classes"][0]
    instead = "" if true == likeliest else f", in truth {class_names[true]}"
    return f"{class_names[likeliest]} {row['probability'][0]:.0%}{instead}, IoU {row['overlap'][0]:.2f}"


def overlaps_figure(
    overlap: Float[np.ndarray, " n"], label: Int[np.ndarray, " n"], class_names: Sequence[str]
) -> Figure:
    """The share of pictures whose box for the true class lies at an IoU of at least so much: of each class and of all.

    Args:
      overlap: the IoU of each picture's box.
      label: their classes.
      class_names: all classes.
    """
    right = float(np.mean(overlap >= PLACED))
    figure = Figure(figsize=(7.5, 5), layout="constrained")
    axes = figure.add_subplot(
        xlabel="IoU of the true class's box with the true one",
        ylabel="share of the pictures with at least that",
        title=f"{right:.1%} of {len(overlap):,} boxes in the right place, mean IoU {overlap.mean():.3f}",
        xlim=(0, 1),
        ylim=(0, 1.02),
    )
    axes.grid(alpha=0.3)
    if len(class_names) <= MANY:
        for k, colour in enumerate(class_colours(len(class_names))):
            if np.any(label == k):
                axes.step(*_falling(overlap[label == k]), where="pre", color=colour, label=class_names[k], linewidth=1)
    axes.step(*_falling(overlap), where="pre", color="black", linewidth=2, label="all")
    axes.axvline(PLACED, color="grey", linestyle=":", label=f"right from {PLACED}")
    axes.legend(loc="lower left")
    return figure


def _falling(overlap: Float[np.ndarray, " n"]) -> tuple[np.ndarray, np.ndarray]:
    """Overlaps, rising, from 0 to 1, and the share of them that is at least as large.

    >>> [part.tolist() for part in _falling(np.array([0.75, 0.25]))]
    [[0.0, 0.25, 0.75, 1.0], [1.0, 1.0, 0.5, 0.0]]
    """
    rising = np.sort(overlap)
    share = np.arange(len(rising), 0, -1) / len(rising)
    return np.concatenate([[0.0], rising, [1.0]]), np.concatenate([[1.0], share, [0.0]])
