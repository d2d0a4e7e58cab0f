"""What layers make of pictures: their feature maps, each with its number and its maximum.

A layer's output is what its module gives: of a convolution before its rectifier, so that there are values of both
signs. All maps of a layer share one scale whose middle, white, is 0: a ReLU after it lets through what is red.
"""

import math
from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict
from jaxtyping import Array, Float, PyTree
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from cnnlab.inspect.layers import channel_numbers, check_channels, check_layers, maps_of, run, shapes, spread
from cnnlab.inspect.nonlinearities import nonlinearities
from cnnlab.inspect.subject import Subject
from cnnlab.transfer import patterns

CHANNELS = 16  # of each layer, without config.channels
ABREAST = 8  # maps of a picture beside one another; the others stand below
GAP, LINE = 0.08, 0.22  # between tiles, and for a line of text, in parts of a picture's width


def feature_maps(
    model: nn.Module, variables: PyTree, x: Float[Array, "n h w c"], layers: Sequence[str]
) -> dict[str, Float[Array, "n ..."]]:
    """The outputs of layers in evaluation mode: maps (n, h, w, channels), of dense layers (n, units).

    Args:
      model: the network.
      variables: its variables.
      x: its input.
      layers: their paths, "conv5" or "conv2_1/conv1".

    Raises:
      UserError: there is no such layer.
    """
    found = run(model, variables, x)[1]
    check_layers(layers, found)
    return {name: found[name].astype(jnp.float32) for name in layers}


def default_layers(found: Mapping[str, tuple[int, ...]], params: PyTree) -> list[str]:
    """A few layers with parameters, spread evenly over the depth of the network, the first and the last too.

    Those that give maps larger than a pixel; where there are none, dense layers. Of layers within each other only the
    outermost counts: of a residual block the whole.

    Args:
      found: the shapes of all layers' outputs, in the order of the network.
      params: its parameters.

    >>> found = {"block/conv": (1, 4, 4, 2), "block": (1, 4, 4, 2), "pool": (1, 2, 2, 2), "fc": (1, 10)}
    >>> params = {"block": {"conv": {"kernel": np.zeros((3, 3, 1, 2))}}, "fc": {"kernel": np.zeros((8, 10))}}
    >>> default_layers(found, params)
    ['block']
    """
    paths = [path[:-1] for path, leaf in flatten_dict(params).items() if leaf.ndim > 1]
    weighted = {"/".join(path[:depth]) for path in paths for depth in range(1, len(path) + 1)}
    own = [name for name in found if name in weighted]
    outer = [name for name in own if not any(name.startswith(f"{other}/") for other in own)]
    chosen = [name for name in outer if math.prod(found[name][1:-1]) > 1] or outer
    return spread(chosen)


def strongest(maps: Float[np.ndarray, "n h w c"], most: int = CHANNELS) -> list[int]:
    """The channels with the largest maxima over all pictures and places, the largest first.

    >>> strongest(np.array([[[[1.0, 5.0, 3.0]]]]), 2)
    [1, 2]
    """
    return np.argsort(-maps.max((0, 1, 2)), kind="stable")[:most].tolist()


def rectangle(units: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n rows columns"]:
    """Units that have no places, as a map about twice as wide as high, row by row; NaN where the last row ends early.

    >>> rectangle(np.arange(7.0)[None])[0].tolist()
    [[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, nan]]
    """
    columns = math.ceil(math.sqrt(2 * units.shape[1]))
    rows = math.ceil(units.shape[1] / columns)
    filled = np.full((len(units), rows * columns), np.nan, np.float32)
    filled[:, : units.shape[1]] = units
    return filled.reshape(len(units), rows, columns)


def figure(
    heading: str,
    pictures: Float[np.ndarray, "n h w c"],
    titles: Sequence[str],
    tiles: Float[np.ndarray, "n rows columns k"],
    names: Sequence[str],
    scale: str,
) -> Figure:
    """A picture, and beside it its maps in lines of `ABREAST`, each under its name and its maximum; so the next below.

    All maps are on one scale, 0 white.

    Args:
      heading: of the whole.
      pictures: for the eye, 0 to 1.
      titles: of the pictures.
      tiles: the maps; NaN is left blank.
      names: of the maps.
      scale: what the values are.
    """
    count, high, wide, columns = tiles.shape
    tall, width = pictures.shape[1] / pictures.shape[2], wide / high  # the pictures are 1 wide, the maps 1 high
    abreast, lines = min(columns, ABREAST), math.ceil(columns / ABREAST)
    step, line = width + GAP, 1 + LINE + GAP
    down = max(tall + LINE + GAP, lines * line) + (LINE if lines > 1 else 0)  # a gap where blocks, not rows, end
    across, deep = 1 + GAP + abreast * step, count * down
    drawn = Figure(figsize=(0.95 * across + 1.2, 0.95 * deep + 0.6), layout="constrained")
    drawn.suptitle(heading, fontsize=10)
    axes = drawn.add_subplot(xlim=(0, across), ylim=(deep, 0), aspect="equal")
    axes.axis("off")
    limit = max(float(np.nanmax(np.abs(tiles))), 1e-12)
    norm = Normalize(-limit, limit)
    for row in range(count):
        top = row * down + LINE
        picture = pictures[row].squeeze(-1) if pictures.shape[-1] == 1 else pictures[row]
        _tile(axes, picture, (0.0, top, 1.0, tall), titles[row], cmap="gray", vmin=0, vmax=1)
        for place in range(columns):
            tile, left = tiles[row, :, :, place], 1 + 2 * GAP + place % abreast * step
            above = f"{names[place]}: " if names[place] else ""
            box = (left, top + place // abreast * line, width, 1.0)
            _tile(axes, tile, box, f"{above}max {np.nanmax(tile):.3g}", cmap="RdBu_r", norm=norm)
    bar = drawn.colorbar(ScalarMappable(norm, "RdBu_r"), ax=axes, fraction=0.02, shrink=0.8, aspect=40, label=scale)
    bar.ax.axhline(0, color="black", linewidth=0.5)
    return drawn


def _tile(axes: Axes, image: np.ndarray, box: tuple[float, float, float, float], title: str, **style: object) -> None:
    """An image in a box (left, top, width, height), under a title that is cut to its width."""
    left, top, width, height = box
    axes.imshow(image, extent=(left, left + width, top + height, top), interpolation="nearest", **style)
    title = title if len(title) <= 16 else f"{title[:15]}…"
    axes.text(left + width / 2, top - LINE / 2, title, ha="center", va="center", fontsize=6)


def draw(subject: Subject, options: ConfigDict) -> dict[str, Figure]:
    """A figure a layer, of config.layers or of some spread over the depth: what it makes of each picture.

    Of each layer the `CHANNELS` strongest feature maps or those of config.channels; of a dense layer all units.

    Raises:
      UserError: there is no such layer or channel, or a layer is to show channels that gives no maps.
    """
    x, variables = subject.x, subject.variables
    found = shapes(subject.model, variables, x)
    layers = patterns(options.layers) or default_layers(found, variables["params"])
    check_layers(layers, found)
    channels = channel_numbers(options.channels)
    if channels:
        for layer, shape in maps_of(found, layers).items():
            check_channels(layer, channels, shape)
    maps = jax.jit(lambda variables, x: feature_maps(subject.model, variables, x, layers))(variables, x)
    follows = nonlinearities(subject.model, variables, x)
    pictures, drawn = subject.shown(x), {}
    for layer in layers:
        output = np.asarray(maps[layer])
        if math.prod(output.shape[1:-1]) > 1 or channels:
            chosen = channels or strongest(output)
            which = "by number" if channels else "by number, the largest maxima first"
            heading = f"{layer}: {len(chosen)} of {output.shape[-1]} feature maps, {which}"
            tiles, names = output[..., chosen], [str(channel) for channel in chosen]
        else:
            heading = f"{layer}: all {output.shape[-1]} units, row by row"
            tiles, names = rectangle(output.reshape(len(output), -1))[..., None], [""]
        scale = "the layer's output" + ("; the ReLU after it makes blue 0" if follows[layer][0] == "relu" else "")
        print(f"{layer:24} {found[layer][1:]} from {output.min():.3g} to {output.max():.3g}", flush=True)
        drawn[f"features_{layer.replace('/', '_')}"] = figure(heading, pictures, subject.titles, tiles, names, scale)
    return drawn
