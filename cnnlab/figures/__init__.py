"""Figures that people read: curves, confusions, filters, contact sheets. Each returns a matplotlib figure."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure


def curves(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Each metric of a run against the step, one panel a metric, up to four abreast; one line a split.

    Args:
      rows: of metrics.jsonl: "step", "split", and metrics by name.
    """
    names = sorted({name for row in rows for name in row} - {"step", "split", "count"})
    columns, lines = min(max(len(names), 1), 4), max(1, math.ceil(len(names) / 4))
    figure = Figure(figsize=(5 * columns, 3.5 * lines), layout="constrained")
    for i, name in enumerate(names):
        axes = figure.add_subplot(lines, columns, i + 1, title=name, xlabel="step")
        for split in sorted({row["split"] for row in rows}, reverse=True):
            points = [(row["step"], row[name]) for row in rows if row["split"] == split and name in row]
            if points:
                axes.plot(*zip(*points, strict=True), label=split, marker="." if len(points) < 50 else None)
        if all(row.get(name, 1) > 0 for row in rows):
            axes.set_yscale("log")
        axes.grid(alpha=0.3, which="both")
        axes.legend()
    return figure


def confusion(matrix: Int[np.ndarray, "k k"], class_names: Sequence[str]) -> Figure:
    """The confusion matrix; the colour is the share of the true class, the number the count."""
    classes = len(matrix)
    size = min(max(4.0, 0.45 * classes + 2), 16)
    figure = Figure(figsize=(size, size), layout="constrained")
    wrong = int(matrix.sum() - np.trace(matrix))
    axes = figure.add_subplot(
        xlabel="predicted", ylabel="true", title=f"{wrong} of {matrix.sum()} wrong ({wrong / max(matrix.sum(), 1):.2%})"
    )
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    if classes <= 30:
        axes.set_xticks(range(classes), class_names, rotation=90 if max(map(len, class_names)) > 2 else 0)
        axes.set_yticks(range(classes), class_names)
        for i, j in np.argwhere(matrix):
            axes.text(j, i, matrix[i, j], ha="center", va="center", color="white" if share[i, j] > 0.5 else "black")
    return figure


def filter_tiles(kernel: Float[np.ndarray, "h w c k"], title: str) -> Figure:
    """Filters as tiles: in colour where they see three channels, else in grey, black the lowest weight of all."""
    low, high = float(kernel.min()), float(kernel.max())
    tiles = np.moveaxis((kernel - low) / max(high - low, 1e-12), -1, 0)
    return contact_sheet(list(tiles), [""] * len(tiles), f"{title}, weights {low:.2f} (black) to {high:.2f} (white)")


def contact_sheet(pictures: Sequence[np.ndarray], titles: Sequence[str], heading: str, columns: int = 0) -> Figure:
    """Pictures (h, w, 1 or 3) in a grid, each under its title; uint8, or floats from 0 to 1.

    `columns` is how many stand in a row; 0: as many as make the grid a square.
    """
    columns = columns or min(len(pictures), max(4, math.ceil(math.sqrt(len(pictures)))))
    rows = math.ceil(len(pictures) / columns)
    titled = any(titles)
    figure = Figure(figsize=(max(1.5 * columns, 5), (1.9 if titled else 1.5) * rows + 0.5), layout="constrained")
    figure.suptitle(heading)
    for i, (picture, title) in enumerate(zip(pictures, titles, strict=True)):
        axes = figure.add_subplot(rows, columns, i + 1)
        white = 255 if picture.dtype == np.uint8 else 1
        axes.imshow(picture.squeeze(-1) if picture.shape[-1] == 1 else picture, cmap="gray", vmin=0, vmax=white)
        axes.set_title(title, fontsize=8)
        axes.axis("off")
    return figure


def neighbours_figure(
    samples: Float[np.ndarray, "n h w c"],
    neighbours: Float[np.ndarray, "n k h w c"],
    distances: Float[np.ndarray, "n k"],
) -> Figure:
    """Samples, each at the left of a row of the training pictures that are nearest to it, under their distances.

    A model that has only learnt its training pictures by heart shows them again, at distances near 0.

    Args:
      samples: pictures from 0 to 1.
      neighbours: of each, the nearest first; see `metrics/manifold.py`.
      distances: in L2, over all pixels.
    """
    count, k = distances.shape
    pictures, titles = [], []
    for i in range(count):
        pictures += [samples[i], *neighbours[i]]
        titles += [f"sample {i + 1}", *(f"{distance:.2f} away" for distance in distances[i])]
    heading = f"Samples, and the {f'{k} training pictures' if k > 1 else 'training picture'} nearest to each"
    return contact_sheet(pictures, titles, heading, k + 1)
