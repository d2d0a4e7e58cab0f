"""First-layer filters: the only ones that can be looked at as pictures directly."""

import math
from collections.abc import Sequence

import jax
import numpy as np
from flax.traverse_util import flatten_dict
from jaxtyping import Float, PyTree
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from cnnlab.errors import UserError
from cnnlab.inspect.subject import Subject

UNITS = 64  # of a dense first layer: those that are shown


def first_layer_kernel(
    params: PyTree, picture: Sequence[int] | None = None
) -> tuple[str, Float[np.ndarray, "h w c k"]] | None:
    """The name and weights of the layer that sees the picture, or None where there is none.

    It is the convolution with the first four-dimensional kernel larger than 1×1 whose input has one or three channels.

    Args:
      params: the network's parameters.
      picture: height, width and channels of its input. With it, and where there is no such convolution, it is the dense
        layer with the first kernel that has a row for every number of the picture: a unit's weights are as large as it.

    >>> first_layer_kernel({"C1": {"kernel": np.zeros((5, 5, 1, 6))}})[0]
    'C1'
    >>> name, kernel = first_layer_kernel({"h1": {"kernel": np.zeros((48, 10))}}, (4, 4, 3))
    >>> name, kernel.shape
    ('h1', (4, 4, 3, 10))
    """
    kernels = {path[:-1]: leaf for path, leaf in flatten_dict(params).items() if path[-1] == "kernel"}
    for path, leaf in kernels.items():
        if leaf.ndim == 4 and leaf.shape[2] in (1, 3) and leaf.shape[0] > 1:
            return "/".join(path), np.asarray(leaf)
    for path, leaf in kernels.items():
        if picture is not None and leaf.ndim == 2 and leaf.shape[0] == math.prod(picture):
            return "/".join(path), np.asarray(leaf).reshape(*picture, -1)
    return None


def tiles(kernel: Float[np.ndarray, "h w c k"]) -> Float[np.ndarray, "k h w c"]:
    """Filters as pictures from 0 to 1, each on a scale of its own: 0.5 is a weight of 0, 0 and 1 are ∓ its largest.

    So weak filters show as much as strong ones, and no weight looks like none in all of them.

    >>> tiles(np.array([-1.0, 2.0, 0.0]).reshape(1, 3, 1, 1))[0, 0, :, 0].tolist()
    [0.25, 1.0, 0.5]
    """
    largest = np.abs(kernel).max((0, 1, 2))
    return np.moveaxis(0.5 + kernel / (2 * np.where(largest > 0, largest, 1)), -1, 0)


def figure(kernel: Float[np.ndarray, "h w c k"], heading: str) -> Figure:
    """Filters as `tiles`, in colour where they see three channels; over each its number and the size of its scale."""
    columns = math.ceil(1.3 * math.sqrt(kernel.shape[-1]))
    rows = math.ceil(kernel.shape[-1] / columns)
    tall, gap, line = kernel.shape[0] / kernel.shape[1], 0.08, 0.2  # in parts of a tile's width
    down = tall + line + gap
    drawn = Figure(figsize=(max(0.95 * columns * (1 + gap), 5), 0.95 * rows * down + 0.6), layout="constrained")
    drawn.suptitle(f"{heading}\ngrey: 0; dark and bright ends: ∓ the number over it", fontsize=10)
    # One panel for all: hundreds would take minutes to lay out.
    axes = drawn.add_subplot(xlim=(0, columns * (1 + gap)), ylim=(rows * down, 0), aspect="equal")
    axes.axis("off")
    largest = np.abs(kernel).max((0, 1, 2))
    for number, tile in enumerate(tiles(kernel)):
        left, top = number % columns * (1 + gap), number // columns * down + line
        shown = tile.squeeze(-1) if tile.shape[-1] == 1 else tile
        axes.imshow(
            shown, cmap="gray", vmin=0, vmax=1, extent=(left, left + 1, top + tall, top), interpolation="nearest"
        )
        title = f"{number}: ±{largest[number]:.2g}"
        axes.text(left + 0.5, top - line / 2, title, ha="center", va="center", fontsize=6)
    return drawn


def draw(subject: Subject, options: ConfigDict) -> dict[str, Figure]:
    """The filters of the layer that sees the picture; of a dense one the weights of the first `UNITS` units.

    Raises:
      UserError: the network has no such layer.
    """
    picture = subject.x.shape[1:]
    found = first_layer_kernel(jax.device_get(subject.variables["params"]), picture)
    if found is None:
        raise UserError(f"no layer of {subject.experiment.name} sees the picture itself: there are no filters to show")
    name, kernel = found
    height, width, channels, count = kernel.shape
    if (height, width) == picture[:2] and count > UNITS:
        return {"filters": figure(kernel[..., :UNITS], f"{name}: the weights of the first {UNITS} of {count:,} units")}
    return {"filters": figure(kernel, f"{name}: {count:,} filters of {height}×{width}×{channels}")}
