"""Figures of spatial transformers: what is looked at, drawn on the picture, and what is made of it."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Shaped
from matplotlib.axes import Axes
from matplotlib.figure import Figure

LINES = 5  # of the lattice, each way
COLOURS = ("#ff8c1a", "#35b6ff", "#7be04b", "#ff5ad1")  # of parallel transformers
TOP = "#ffffff"  # of the frame's upper edge
PICTURES = 16  # in one figure, at most
COLUMNS = 8

Seen = Sequence[Mapping[str, Float[np.ndarray, "n ..."]]]


def transforms_figure(pictures: Shaped[np.ndarray, "n h w c"], seen: Seen, titles: Sequence[str], name: str) -> Figure:
    """For each picture: the picture with the sampled grid on it, and below what the grid makes of it.

    Args:
      pictures: uint8, or floats from 0 to 1; of more than `PICTURES` the first.
      seen: of each parallel transformer "grid" (n, a, b, 2), in normalised coordinates, and "transformed" (n, a, b, c).
      titles: a short one for each picture.
      name: of the transformer's layer.
    """
    count = min(len(pictures), PICTURES)
    columns = min(count, COLUMNS)
    bands, rows = -(-count // columns), 1 + len(seen)
    figure = Figure(figsize=(max(1.35 * columns, 7) + 0.5, 1.5 * bands * rows + 1), layout="constrained")
    many = "frames: what each transformer samples" if len(seen) > 1 else "orange frame: what is sampled"
    figure.suptitle(
        f"{name}: above the input with its grid ({many}; its white edge becomes the top);\nbelow what comes out of it",
        fontsize=10,
    )
    for i in range(count):
        band, column = divmod(i, columns)
        first = band * rows * columns + column + 1
        axes = figure.add_subplot(bands * rows, columns, first)
        axes.set_title(titles[i], fontsize=8)
        _show(axes, pictures[i])
        for part, colour in zip(seen, COLOURS * len(seen), strict=False):
            draw_grid(axes, part["grid"][i], pictures.shape[1:3], colour)
        _with_margin(axes, pictures.shape[1:3])
        for number, part in enumerate(seen):
            axes = figure.add_subplot(bands * rows, columns, first + (number + 1) * columns)
            _show(axes, part["transformed"][i])
            axes.axis("on")
            axes.set(xticks=[], yticks=[])
            for spine in axes.spines.values():
                spine.set(color=COLOURS[number % len(COLOURS)], linewidth=1.5)
            axes.spines["top"].set(color="#aaaaaa")
    return figure


def draw_grid(axes: Axes, grid: Float[np.ndarray, "a b 2"], size: tuple[int, int], colour: str) -> None:
    """Draws the frame of a sampling grid, its upper edge white, and a lattice within it.

    Args:
      axes: that show a picture by `imshow`.
      grid: normalised coordinates.
      size: height and width of the picture.
      colour: of the lines.
    """
    places = (grid.astype(np.float64) + 1) * np.array(size[::-1]) / 2 - 0.5
    rows, columns = (np.linspace(0, length - 1, LINES).round().astype(int) for length in grid.shape[:2])
    for lines, ends in (([places[i] for i in rows], rows), ([places[:, j] for j in columns], columns)):
        for number, line in enumerate(lines):
            edge = number in (0, len(ends) - 1)
            axes.plot(*line.T, color=colour, linewidth=1.4 if edge else 0.5, alpha=1 if edge else 0.7)
    axes.plot(*places[0].T, color=TOP, linewidth=1.6)


def _with_margin(axes: Axes, size: tuple[int, int]) -> None:
    """Room for what the grid takes from around the picture, in grey, so that the picture's own edge is seen."""
    height, width = size
    axes.set(xlim=(-0.5 - width / 4, 1.25 * width - 0.5), ylim=(1.25 * height - 0.5, -0.5 - height / 4))
    axes.axis("on")
    axes.set(xticks=[], yticks=[], facecolor="#707070")


def _show(axes: Axes, picture: Shaped[np.ndarray, "h w c"]) -> None:
    """A picture in grey or colour; of maps the mean of their channels, from its lowest value to its highest."""
    if picture.shape[-1] in (1, 3):
        white = 255 if picture.dtype == np.uint8 else 1
        shown = picture.squeeze(-1) if picture.shape[-1] == 1 else np.clip(picture, 0, white)
        axes.imshow(shown, cmap="gray", vmin=0, vmax=white)
    else:
        axes.imshow(picture.mean(-1), cmap="gray")
    axes.axis("off")
