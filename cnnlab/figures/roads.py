"""Figures of road maps: over their pictures, right and wrong in colours, and the curve of precision over recall."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, UInt8
from matplotlib.figure import Figure
from PIL import Image

from cnnlab.data.road_patches import WindowSource
from cnnlab.figures import masks as mask_figures
from cnnlab.figures.boxes import CELL, picture_figure
from cnnlab.metrics.roads import Curve, Labelled, highest_within

SHEET = 12  # pictures on the contact sheet of a prediction
SHOWN = 600  # pixels of a sheet's picture at most, on its longer side
LONGEST = 4000  # those of an annotated picture
RIGHT, WRONG, MISSED, FOUND = (0.1, 0.9, 0.2), (1.0, 0.1, 0.1), (0.2, 0.45, 1.0), (1.0, 0.75, 0.0)
KNOWN = {"right": RIGHT, "wrong": WRONG, "missed": MISSED}
UNKNOWN = {"said to be road": FOUND}


def overlay(
    picture: UInt8[np.ndarray, "h w 3"],
    found: Bool[np.ndarray, "h w"],
    truth: Bool[np.ndarray, "h w"] | None,
    slack: float,
) -> UInt8[np.ndarray, "h w 3"]:
    """A picture with a road map over it.

    Args:
      picture: the picture.
      found: pixels that are said to be of a road.
      truth: those that are; what was found within `slack` pixels of them is green, else red, and what has nothing found
        within as many is blue. None: what was found is yellow.
      slack: in pixels.
    """
    if truth is None:
        return mask_figures.overlay(picture, found[None], [FOUND])
    near_truth, near_found = highest_within(truth, slack), highest_within(found, slack)
    masks = np.stack([found & near_truth, found & ~near_truth, truth & ~near_found])
    return mask_figures.overlay(picture, masks, list(KNOWN.values()))


def _add_legend(figure: Figure, known: bool, unknown: bool = False) -> None:
    named = (KNOWN if known else {}) | (UNKNOWN if unknown else {})
    mask_figures.add_legend(figure, list(named), list(named.values()))


def overlay_figure(
    picture: UInt8[np.ndarray, "h w 3"],
    found: Bool[np.ndarray, "h w"],
    truth: Bool[np.ndarray, "h w"] | None,
    slack: float,
) -> Figure:
    """`overlay`, pixel for pixel, and a legend under it.

    A small picture is enlarged; one whose longer side is over `LONGEST` is reduced to that, as drawing takes many times
    the memory of the picture.
    """
    none = np.zeros((0, 4), np.float32)
    figure = picture_figure(smaller(overlay(picture, found, truth, slack), LONGEST), none, [], [], [])
    _add_legend(figure, truth is not None, truth is None)
    return figure


def smaller(picture: UInt8[np.ndarray, "h w *c"], most: int = SHOWN) -> UInt8[np.ndarray, "h2 w2 *c"]:
    """A picture, reduced where its longer side is over `most`.

    >>> smaller(np.zeros((1200, 600), np.uint8)).shape
    (600, 300)
    """
    if max(picture.shape[:2]) <= most:
        return picture
    image = Image.fromarray(picture)
    image.thumbnail((most, most))
    return np.asarray(image)


def overlay_sheet(
    pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    found: Sequence[Bool[np.ndarray, "_ _"]],
    truths: Sequence[Bool[np.ndarray, "_ _"] | None],
    titles: Sequence[str],
    slack: float,
) -> Figure:
    """Pictures in a grid under their titles, each with its road map over it, and a legend."""
    cells = [smaller(overlay(*each, slack)) for each in zip(pictures, found, truths, strict=True)]
    columns = min(4, len(cells))
    figure = _grid(cells, titles, columns, "Predictions")
    _add_legend(figure, any(t is not None for t in truths), any(t is None for t in truths))
    return figure


def findings_sheet(first: Sequence[Labelled], source: WindowSource, threshold: float, slack: float) -> Figure:
    """Pictures of a test, a row each: as they are, true roads, probability of a road, and the road map over them.

    Args:
      first: what was found.
      source: of the pictures.
      threshold: probability from which on a pixel is said to be of a road.
      slack: pixels that are forgiven.
    """
    cells, titles = [], []
    for one in first:
        picture, truth = source.picture(one.index), source.truth(one.index)
        over = overlay(picture, one.probability >= 255 * threshold, truth, slack)
        cells += [picture, np.where(truth, 255, 0).astype(np.uint8), one.probability, over]
        score = "no road" if math.isnan(one.break_even) else f"break-even {one.break_even:.1%}"
        titles += [source.maps.name(one.index), "true roads", "probability of a road", f"road map, {score}"]
    heading = f"Roads with a probability from {threshold:g} on, right within {slack:g} pixels"
    figure = _grid([smaller(cell) for cell in cells], titles, 4, heading)
    _add_legend(figure, True)
    return figure


def _grid(cells: Sequence[np.ndarray], titles: Sequence[str], columns: int, heading: str) -> Figure:
    rows, tallest = math.ceil(len(cells) / columns), max(cell.shape[0] / cell.shape[1] for cell in cells)
    size = (max(0.8 * CELL * columns, 5), (0.8 * CELL * tallest + 0.25) * rows + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(heading)
    for i, (cell, title) in enumerate(zip(cells, titles, strict=True)):
        axes = figure.add_subplot(rows, columns, i + 1)
        axes.imshow(cell, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_title(title, fontsize=8)
        axes.axis("off")
    return figure


def curve_figure(curve: Curve, threshold: float, slack: float) -> Figure:
    """Precision over recall of all test pictures, with the break-even point and the threshold that is used."""
    figure = Figure(figsize=(5.5, 5), layout="constrained")
    value, at = curve.break_even()
    said = "there are none" if math.isnan(value) else f"break-even {value:.1%}, at a threshold of {at:g}"
    title = f"Roads within {slack:g} pixels: {said}"
    axes = figure.add_subplot(xlabel="relaxed recall", ylabel="relaxed precision", title=title)
    axes.title.set_fontsize(10)
    some = curve.found[::-1].cumsum()[::-1] > 0  # where nothing is found, precision says nothing
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", linewidth=1)
    axes.plot(curve.recall[some], curve.precision[some], linewidth=1.8)
    axes.plot([value], [value], "o", color="black", label=f"break-even {value:.1%}")
    precision, recall = curve.at(threshold)
    said = f"threshold {threshold:g}: precision {precision:.1%}, recall {recall:.1%}"
    axes.plot([recall], [precision], "s", markerfacecolor="none", color="C3", label=said)
    low = (
        min(0.9, max(0.0, math.floor(10 * min(value - 0.25, precision - 0.05, recall - 0.05)) / 10))
        if value == value
        else 0
    )
    axes.set(xlim=(low, 1.005), ylim=(low, 1.005))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left")
    return figure
