"""What feature maps respond to most: the strongest activations over a data set, and the patches that caused them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from cnnlab.inspect.layers import check_layers, run, shapes
from cnnlab.reach import Reach


@dataclass(frozen=True)
class Strongest:
    """The strongest activations of each of a layer's feature maps, at most one a picture, the strongest first.

    Attributes:
      values: the activations.
      index: of the pictures.
      places: rows and columns in the feature map; of a layer without maps, 0.
    """

    values: Float[np.ndarray, "c k"]
    index: Int[np.ndarray, "c k"]
    places: Int[np.ndarray, "c k 2"]


def top_activations(
    model: nn.Module,
    variables: PyTree,
    batches: Iterable[tuple[Int[np.ndarray, " _"], Float[Array, "_ h w c"]]],
    layers: Sequence[str],
    most: int = 9,
) -> dict[str, Strongest]:
    """The strongest activations of every feature map of some layers, by layer.

    Of each picture only the maximum of a map counts, as in Zeiler, Fergus 2013, figure 2, so that `most` different
    pictures are found (fewer where there are fewer). Of equal places and of equal pictures the first wins.

    Args:
      model: the network.
      variables: its variables.
      batches: the pictures' numbers and the network's input, batch by batch; at least one, the first the largest.
      layers: whose outputs are feature maps (n, h, w, c), or units (n, c), which count as maps of one pixel.
      most: how many activations of each map.

    Raises:
      UserError: there is no such layer.
    """

    @jax.jit
    def step(variables: PyTree, x: Array) -> dict[str, tuple[Array, Array]]:
        found = run(model, variables, x)[1]
        flat = {layer: found[layer].reshape(len(x), -1, found[layer].shape[-1]) for layer in layers}
        return {layer: (maps.max(1), maps.argmax(1)) for layer, maps in flat.items()}

    best: dict[str, tuple[np.ndarray, ...]] = {}
    widths: dict[str, int] = {}
    size = 0
    for index, x in batches:
        size = max(size, len(x))
        # A last batch that is smaller is filled up, so that nothing is compiled again.
        full = jnp.concatenate([x, jnp.repeat(x[-1:], size - len(x), 0)]) if len(x) < size else x
        if not widths:
            found = shapes(model, variables, full)
            check_layers(layers, found)
            widths = {layer: found[layer][2] if len(found[layer]) == 4 else 1 for layer in layers}
        for layer, (values, places) in jax.device_get(step(variables, full)).items():
            new = values[: len(x)].T, np.broadcast_to(index, values[: len(x)].T.shape), places[: len(x)].T
            best[layer] = _strongest(best.get(layer), new, most)
    strongest = {}
    for layer in layers:
        values, index, places = best[layer]
        strongest[layer] = Strongest(values, index, np.stack(np.divmod(places, widths[layer]), -1))
    return strongest


def _strongest(old: tuple[np.ndarray, ...] | None, new: tuple[np.ndarray, ...], most: int) -> tuple[np.ndarray, ...]:
    """Of arrays (c, k) and (c, n), the first of which are values: in each row the places of the `most` largest."""
    both = new if old is None else tuple(np.concatenate(pair, 1) for pair in zip(old, new, strict=True))
    order = np.argsort(-both[0], 1, kind="stable")[:, :most]
    return tuple(np.take_along_axis(array, order, 1) for array in both)


def field_boxes(reach: Reach, places: Int[np.ndarray, "n 2"], size: tuple[int, int]) -> Int[np.ndarray, "n 4"]:
    """The receptive fields of a layer's units, in pixels of the network's input: top, left, bottom, right.

    Bottom and right are the pixels after the last. A box reaches over the picture's border where the field does. Along
    a dimension that a unit sees whole, or whose fields are at least as large as the picture, it is the whole picture.
    Where a layer below drops the last pixels, as its strides do not end at the border, a box there has them too.

    Args:
      reach: of the layer, by `summary.reaches`.
      places: rows and columns of the units.
      size: height and width of the input.

    >>> from cnnlab.ops.receptive_field import Field
    >>> from cnnlab.reach import Axis
    >>> rows, columns = Axis(Field(3, 1, -1), dim=1), Axis(Field(9, 1, -4), dim=2)
    >>> field_boxes((rows, columns), np.array([[0, 2]]), (8, 8)).tolist()
    [[-1, 0, 2, 8]]
    """
    edges = [np.stack([np.zeros(len(places), np.int64), np.full(len(places), end)]) for end in size]
    for axis, own in enumerate(reach):
        if own.dim is not None and own.field.size < size[axis]:
            edges[axis] = np.array([own.pixels(place, size[axis]) for place in places[:, own.dim - 1].tolist()]).T
    (top, bottom), (left, right) = edges
    return np.stack([top, left, bottom, right], 1)


def cut(
    pictures: Float[np.ndarray, "n h w c"], boxes: Int[np.ndarray, "n 4"], fill: float
) -> list[Float[np.ndarray, "_ _ c"]]:
    """A box of each picture; what lies outside the picture is `fill`.

    >>> cut(np.ones((1, 2, 2, 1)), np.array([[-1, 0, 1, 2]]), fill=0.5)[0][:, :, 0].tolist()
    [[0.5, 0.5], [1.0, 1.0]]
    """
    patches = []
    for picture, (top, left, bottom, right) in zip(pictures, boxes.tolist(), strict=True):
        height, width, channels = picture.shape
        patch = np.full((bottom - top, right - left, channels), fill, picture.dtype)
        seen = picture[max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
        row, column = max(-top, 0), max(-left, 0)
        patch[row : row + seen.shape[0], column : column + seen.shape[1]] = seen
        patches.append(patch)
    return patches
