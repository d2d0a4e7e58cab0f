"""Figures of boxes: a picture with what was found on it, curves of precision over recall, sheets of mistakes."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cnnlab.figures import contact_sheet
from cnnlab.metrics.coco_scores import Judged
from cnnlab.metrics.detection import KINDS, NEAR, ClassScore, DetectionMetrics, overlaps, precision_recall

DPI = 110  # of saved figures, so that a picture's pixels can be drawn one for one
LEAST = 480  # pixels of an annotated picture's longer side; smaller ones are enlarged so that names can be read
SHOWN = 48  # pixels around a mistake that are shown at least
WHITE = (1.0, 1.0, 1.0)
CELL = 3.0  # inches that a picture of a sheet is wide
MANY = 12  # classes, above which their curves are thin, so that the mean is seen among them
Colour = tuple[float, float, float]


def class_colours(count: int) -> list[Colour]:
    """A colour for each class, bright and as far apart as so many can be; the first ones are the same for any count.

    Hues go by the golden angle, which keeps each far from those before it.
    """
    hues = 0.381966 * np.arange(count) % 1
    value = np.where(np.arange(count) % 3 == 1, 0.8, 1.0)
    return [tuple(map(float, hsv_to_rgb((hue, 0.85, v)))) for hue, v in zip(hues, value, strict=True)]


def draw_boxes(
    axes: Axes,
    boxes: Float[np.ndarray, "d 4"],
    captions: Sequence[str],
    colours: Sequence[Colour],
    dashed: bool = False,
) -> None:
    """Boxes x0 y0 x1 y1 in pixels of the picture on the axes, each with its caption in its upper left corner.

    Colours are seen on any ground: lines have a dark rim, captions stand on a patch of their colour.
    """
    across, down = (np.sort(limits) for limits in (axes.get_xlim(), axes.get_ylim()))
    style = {"fill": False, "linestyle": (0, (4, 3)) if dashed else "-"}
    for (x0, y0, x1, y1), caption, colour in zip(boxes, captions, colours, strict=True):
        # Pixel (0, 0) has its centre in (0, 0) on matplotlib's axes.
        place = (x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0
        axes.add_patch(Rectangle(*place, edgecolor="black", linewidth=3.0, alpha=0.6, **style))
        axes.add_patch(Rectangle(*place, edgecolor=colour, linewidth=1.6, **style))
        if caption:
            bright = np.dot(colour, (0.299, 0.587, 0.114)) > 0.55
            # Above the box, from its left edge; where that is near the picture's edge, within, or up to its right edge.
            high, left = y0 > down[0] + 0.04 * np.ptp(down), x0 < across[0] + 0.75 * np.ptp(across)
            axes.text(
                np.clip(x0 if left else x1, *across) - 0.5,
                np.clip(y0, *down) - 0.5,
                caption,
                fontsize=7,
                color="black" if bright else "white",
                ha="left" if left else "right",
                va="bottom" if high else "top",
                bbox={"facecolor": colour, "edgecolor": "none", "pad": 1.0, "alpha": 0.85},
            )


def draw_row(axes: Axes, row: Mapping[str, Any], class_names: Sequence[str]) -> None:
    """The boxes of a picture on the axes, in their classes' colours, the surest on top.

    Args:
      axes: that show the picture.
      row: plain values, as a task describes its findings: "boxes", x0 y0 x1 y1 in the picture's pixels, "classes",
        their names, and where they are findings "scores", from 0 to 1.
      class_names: all classes, whose order gives their colours.
    """
    colours = dict(zip(class_names, class_colours(len(class_names)), strict=True))
    scores = row.get("scores", [1.0] * len(row["classes"]))
    order = np.argsort(scores, kind="stable")
    captions = [row["classes"][i] + (f" {scores[i]:.0%}" if "scores" in row else "") for i in order]
    boxes = np.array(row["boxes"], np.float32).reshape(-1, 4)[order]
    draw_boxes(axes, boxes, captions, [colours[row["classes"][i]] for i in order])


def picture_figure(
    picture: UInt8[np.ndarray, "h w 3"],
    boxes: Float[np.ndarray, "d 4"],
    classes: Sequence[str],
    scores: Sequence[float],
    class_names: Sequence[str],
) -> Figure:
    """A picture with what was found on it, pixel for pixel (a small one enlarged); see `draw_row`."""
    height, width = picture.shape[:2]
    scale = max(1, math.ceil(LEAST / max(height, width)))
    figure = Figure(figsize=(scale * width / DPI, scale * height / DPI), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    axes.imshow(picture, aspect="auto", interpolation="nearest")
    draw_row(axes, {"boxes": boxes, "classes": classes, "scores": scores}, class_names)
    return figure


def boxes_sheet(
    pictures: Sequence[UInt8[np.ndarray, "h w 3"]],
    titles: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    class_names: Sequence[str],
    heading: str,
) -> Figure:
    """Pictures in a grid under their titles, each with its boxes; `rows` and `class_names` as in `draw_row`."""
    figure = contact_sheet(pictures, titles, heading, min(4, len(pictures)))
    grid = figure.axes[0].get_subplotspec().get_gridspec()
    tallest = max(picture.shape[0] / picture.shape[1] for picture in pictures)
    figure.set_size_inches(max(CELL * grid.ncols, 5), (CELL * tallest + 0.3) * grid.nrows + 0.4)
    for axes, row in zip(figure.axes, rows, strict=True):
        draw_row(axes, row, class_names)
    return figure


def precision_recall_figure(classes: Sequence[ClassScore]) -> Figure:
    """Precision over recall, a curve a class and their mean, the classes by falling average precision.

    A dot shows where findings of a score under a half begin.
    """
    known = sorted((each for each in classes if each.truths), key=lambda each: -each.average_precision)
    colours = dict(zip((each.name for each in classes), class_colours(len(classes)), strict=True))
    columns = math.ceil((len(known) + 2) / 24)
    figure = Figure(figsize=(8 + 2.2 * (columns - 1), 5), layout="constrained")
    axes = figure.add_subplot(
        xlabel="recall: share of the objects that are found",
        ylabel="precision: share of the findings that are right",
        title="Findings by falling score, at an IoU of 0.5",
        xlim=(0, 1.02),
        ylim=(0, 1.02),
    )
    axes.grid(alpha=0.3)
    if not known:
        return figure
    few, grid = len(known) <= MANY, np.linspace(0, 1, 101)
    means = np.zeros(len(grid))
    for each in known:
        precision, recall = precision_recall(each.right, each.truths)
        label = f"{each.name} {each.average_precision:.1%} of {each.truths:,}"
        line = {"color": colours[each.name], "linewidth": 1.5 if few else 0.8, "alpha": 1 if few else 0.6}
        axes.plot(recall, precision, label=label, **line)
        half = int(np.sum(each.score >= 0.5))
        if half:
            axes.plot(recall[half - 1], precision[half - 1], "o", **line, markersize=5 if few else 3)
        envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
        means += envelope[np.searchsorted(recall, grid - 1e-9)] / len(known)
    mean = np.mean([each.average_precision for each in known])
    axes.plot(grid, means, "k--", linewidth=2, label=f"mean {mean:.1%}")
    axes.plot([], [], "o", color="grey", markersize=5, label="score 50%")
    figure.legend(loc="outside right upper", fontsize=8, ncols=columns, title="AP50 of the objects")
    return figure


def mistakes_figure(
    metrics: DetectionMetrics,
    picture: Callable[[int], UInt8[np.ndarray, "h w 3"]],
    each: int = 8,
    more: Callable[[Axes, int, Sequence[int], Sequence[int], np.ndarray], None] | None = None,
) -> Figure:
    """The worst mistakes, a row a kind: parts of the pictures, the object or finding and what overlaps it.

    Args:
      metrics: of a test.
      picture: the stored picture by its index in the source.
      each: mistakes of a kind.
      more: draws further things on a mistake's axes, given the picture's index, which findings and which objects are
        shown, and the corner of the part, x y x y, that is shown.
    """
    kinds = {kind: rows for kind in KINDS if (rows := metrics.worst(kind)[:each])}
    colours = class_colours(len(metrics.class_names))
    figure = Figure(figsize=(1.8 * each, 2.4 * len(kinds) + 0.5), layout="constrained")
    if not kinds:
        figure.suptitle("No mistakes")
        return figure
    figure.suptitle("The worst mistakes; objects are white and dashed, findings have their class's colour")
    parts = np.atleast_1d(figure.subfigures(len(kinds), 1))
    for part, (kind, rows) in zip(parts, kinds.items(), strict=True):
        part.suptitle(f"{kind}: {KINDS[kind]}", fontsize=10, x=0.01, ha="left")
        for i, row in enumerate(rows):
            axes = part.add_subplot(1, each, i + 1)
            axes.set_title(_said(row, metrics.class_names), fontsize=7)
            axes.axis("off")
            _draw_mistake(axes, row, metrics.pictures[row["index"]], picture(row["index"]), colours, more)
    return figure


def _said(row: Mapping[str, Any], class_names: Sequence[str]) -> str:
    name = class_names[row["label"]]
    if row["kind"] == "missed":
        near = f"nearest IoU {row['overlap']:.2f}" if row["overlap"] else "nothing near"
        return f"{name}\n{near}, picture {row['index']}"
    place = f"on a {class_names[row['other']]}" if row["other"] >= 0 else f"IoU {row['overlap']:.2f}"
    return f"{name} {row['score']:.0%}\n{place}, picture {row['index']}"


def _draw_mistake(
    axes: Axes, row: Mapping[str, Any], judged: Judged, picture: np.ndarray, colours: list, more: Callable | None
) -> None:
    first, last = _window(row["box"], picture.shape[:2])
    axes.imshow(picture[first[1] : last[1], first[0] : last[0]])
    corner, box = np.tile(first, 2), np.array([row["box"]])
    missed = row["kind"] == "missed"
    near = overlaps(judged.boxes if missed else judged.true, box)[:, 0] >= NEAR
    findings, objects = [row["number"]], [row["number"]]
    if missed:
        findings = np.flatnonzero(near).tolist()
    else:
        objects = np.flatnonzero(near & ~judged.ignored).tolist()
    label = judged.predicted[findings]
    draw_boxes(axes, judged.boxes[findings] - corner, [""] * len(findings), [colours[k] for k in label])
    draw_boxes(axes, judged.true[objects] - corner, [""] * len(objects), [WHITE] * len(objects), dashed=True)
    if more is not None:
        more(axes, row["index"], findings, objects, corner)
    axes.set_xlim(-0.5, last[0] - first[0] - 0.5)
    axes.set_ylim(last[1] - first[1] - 0.5, -0.5)


def _window(box: Sequence[float], shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """First and last corner, x y, of a square twice as long as a box, around it, where the picture has room for it."""
    corners, room = np.reshape(box, (2, 2)), np.array(shape[::-1])
    side = np.minimum(max(2 * float(np.max(corners[1] - corners[0])), SHOWN), room).astype(int)
    first = np.clip(corners.mean(0) - side / 2, 0, room - side).astype(int)
    return first, first + side
