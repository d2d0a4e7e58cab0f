"""Figures and a table of what movements of the input do to a network; see `invariance.py`."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cnnlab.inspect.equivariance import UNRELATED, Movement

UNITS = {"shift": "shift, pixels", "rotation": "rotation, degrees", "scale": "enlarged, factor"}
MEASURES = {"equivariance": "Do the maps move along?", "invariance": "Does the output stay?"}
NUMBERED = 30  # layers up to which a heat map says its numbers
OUTPUT = "logits"  # beside the layers: the network's output


class Found(NamedTuple):
    """What a movement does.

    Attributes:
      accuracy: share of the examples that are classified rightly.
      errors: by measure ("equivariance", "invariance") and layer.
    """

    accuracy: float
    errors: dict[str, dict[str, float]]


def accuracy_figure(found: Mapping[Movement, Found], heading: str, said: str) -> Figure:
    """Accuracy above, the output's invariance error below, a column for each kind of movement."""
    kinds = list(dict.fromkeys(movement.kind for movement in found))
    drawn = Figure(figsize=(4.2 * len(kinds) + 0.6, 6.4), layout="constrained")
    drawn.suptitle(heading)
    panels = drawn.subplots(2, len(kinds), sharex="col", sharey="row", squeeze=False)
    for column, kind in enumerate(kinds):
        at = [movement.size for movement in found if movement.kind == kind]
        of_kind = [found[Movement(kind, size)] for size in at]
        panels[0, column].plot(at, [100 * one.accuracy for one in of_kind], "o-", markersize=4)
        errors = [one.errors["invariance"][OUTPUT] for one in of_kind]
        panels[1, column].plot(at, errors, "o-", color="tab:red", markersize=4)
        _prepare(list(panels[:, column]), kind, at)
        _unrelated(panels[1, column], named=column == 0)
    panels[0, 0].set(ylabel=said, ylim=(-3, 103))
    panels[1, 0].set_ylabel("change of the logits\ninvariance error")
    return drawn


def curves_figure(found: Mapping[Movement, Found], heading: str) -> Figure:
    """A curve for each layer: a row a measure, a column a kind of movement."""
    kinds = list(dict.fromkeys(movement.kind for movement in found))
    drawn = Figure(figsize=(4.2 * len(kinds) + 2, 7), layout="constrained")
    drawn.suptitle(heading)
    rows = _rows(found)
    panels = drawn.subplots(len(rows), len(kinds), sharex="col", sharey="row", squeeze=False)
    names = list(rows["invariance"])
    colours = dict(
        zip(names, 0.9 * matplotlib.colormaps["turbo"](np.linspace(0.05, 0.95, len(names)))[:, :3], strict=True)
    )
    for line, (name, layers) in enumerate(rows.items()):
        for column, kind in enumerate(kinds):
            axes, at = panels[line, column], [movement.size for movement in found if movement.kind == kind]
            for layer in layers:
                values = [found[Movement(kind, size)].errors[name][layer] for size in at]
                axes.plot(at, values, "o-", color=colours[layer], label=layer, markersize=3.5, linewidth=1.5)
            _unrelated(axes, named=column == 0)
        panels[line, 0].set_ylabel(f"{MEASURES[name]}\n{name} error")
        panels[line, -1].legend(
            *panels[line, -1].get_legend_handles_labels(), loc="center left", bbox_to_anchor=(1.01, 0.5)
        )
    for column, kind in enumerate(kinds):
        _prepare(list(panels[:, column]), kind, [movement.size for movement in found if movement.kind == kind])
    return drawn


def heat_figure(found: Mapping[Movement, Found], heading: str) -> Figure:
    """A row for each layer, a column for each movement, the error as a colour: a panel a measure and kind."""
    kinds = list(dict.fromkeys(movement.kind for movement in found))
    rows = _rows(found)
    counts = [sum(movement.kind == kind for movement in found) for kind in kinds]
    heights = [len(layers) for layers in rows.values()]
    size = (0.42 * sum(counts) + 3.5, 0.2 * sum(heights) + 2.4)
    drawn = Figure(figsize=size, layout="constrained")
    drawn.suptitle(heading)
    panels = drawn.subplots(len(rows), len(kinds), height_ratios=heights, width_ratios=counts, squeeze=False)
    for line, (name, layers) in enumerate(rows.items()):
        for column, kind in enumerate(kinds):
            axes, at = panels[line, column], [movement.size for movement in found if movement.kind == kind]
            values = np.array([[found[Movement(kind, size)].errors[name][layer] for size in at] for layer in layers])
            image = axes.imshow(values, cmap="viridis", vmin=0, vmax=UNRELATED, aspect="auto")
            axes.set_facecolor("0.85")
            axes.set_xticks(range(len(at)), [f"{size:g}" for size in at], rotation=90, fontsize=8)
            axes.set_yticks(range(len(layers)), layers if column == 0 else [""] * len(layers), fontsize=8)
            if line == len(rows) - 1:
                axes.set_xlabel(UNITS[kind])
            if len(layers) <= NUMBERED:
                _write(axes, values)
        panels[line, 0].set_title(f"{MEASURES[name]} ({name} error)", loc="left", fontsize=10)
    drawn.colorbar(image, ax=panels, label=f"error; 0 is exact, {UNRELATED:.2f} as of another picture; grey: no place")
    return drawn


def _write(axes: Axes, values: Float[np.ndarray, "layers movements"]) -> None:
    for row, column in np.argwhere(np.isfinite(values)):
        value = values[row, column]
        colour = "white" if value < 0.7 * UNRELATED else "black"
        axes.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize=6, color=colour)


def _rows(found: Mapping[Movement, Found]) -> dict[str, list[str]]:
    """The layers by measure, of measures that there are any of; without the output, which is a layer's."""
    errors = next(iter(found.values())).errors
    rows = {name: [layer for layer in errors[name] if layer != OUTPUT] for name in MEASURES}
    return {name: layers for name, layers in rows.items() if layers}


def _prepare(column: Sequence[Axes], kind: str, at: Sequence[float]) -> None:
    for axes in column:
        axes.grid(alpha=0.3)
    if kind == "scale":
        column[-1].set_xscale("log", base=2)
        column[-1].minorticks_off()
        column[-1].set_xticks(at, [f"{size:g}" for size in at], rotation=90 if len(at) > 8 else 0)
    column[-1].set_xlabel(UNITS[kind])


def _unrelated(axes: Axes, named: bool) -> None:
    axes.axhline(UNRELATED, color="grey", linestyle=":", zorder=0)
    if named:
        axes.annotate("another picture's", (axes.get_xlim()[0], UNRELATED), (3, 3), textcoords="offset points", size=8)


def format_table(found: Mapping[Movement, Found]) -> str:
    """Accuracy and the errors of every layer as plain text, a block for each kind of movement and measure."""
    blocks = []
    for kind in dict.fromkeys(movement.kind for movement in found):
        of_kind = {movement.size: one for movement, one in found.items() if movement.kind == kind}
        lines = [(UNITS[kind], *(f"{size:g}" for size in of_kind))]
        lines.append(("accuracy", *(f"{one.accuracy:.1%}" for one in of_kind.values())))
        for name, layers in _rows(found).items():
            lines.append((f"{name} error",))
            lines += [
                (f"  {layer}", *(f"{one.errors[name][layer]:.3f}" for one in of_kind.values())) for layer in layers
            ]
        width = max(len(line[0]) for line in lines)
        blocks += [f"{line[0]:{width}}" + "".join(f"{cell:>8}" for cell in line[1:]) for line in lines]
    return "\n".join(line.rstrip() for line in blocks)
