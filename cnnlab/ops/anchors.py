"""Anchors: the boxes, at each place of a map, that a region proposal network judges and moves (Ren et al. 2015, 3.1.1).

Boxes are x0 y0 x1 y1 in pixels of the picture; see `ops/boxes.py`. Which of them lie within it says `boxes.inside`.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cnnlab.errors import UserError

Number = int | float
Stride = Number | tuple[Number, Number]  # down and right, where they differ


def cell_anchors(sizes: Sequence[Number], ratios: Sequence[Number], rounded: bool = False) -> Float[Array, "a 4"]:
    """The anchors of one place, around (0, 0): ratio by ratio, and for each size by size.

    Args:
      sizes: sides of the square ones, in pixels; (128, 256, 512) in the paper. One of another ratio has the same area.
      ratios: heights over widths; (½, 1, 2) in the paper.
      rounded: to whole pixels from the centre (a half to the even number), with which torchvision's published detectors
        were trained.

    >>> cell_anchors((16,), (0.25, 1)).tolist()
    [[-16.0, -4.0, 16.0, 4.0], [-8.0, -8.0, 8.0, 8.0]]
    """
    if not (sizes and ratios and min(*sizes, *ratios) > 0):
        raise UserError(f"anchors need sizes and ratios above 0, not sizes {tuple(sizes)} and ratios {tuple(ratios)}")
    root = np.sqrt(np.asarray(ratios, np.float32))[:, None]
    size = np.asarray(sizes, np.float32)
    half = np.stack([1 / root * size, root * size], -1).reshape(-1, 2) / 2
    if rounded:
        half = np.round(half)
    return jnp.asarray(np.concatenate([-half, half], 1))


def grid_anchors(
    map_shape: tuple[int, int],
    stride: Stride,
    cell: Float[Array, "a 4"],
    offset: float = 0.0,
) -> Float[Array, "n 4"]:
    """The anchors of all places of a map: row by row, column by column, and at each place as in `cell`.

    Args:
      map_shape: height and width of the map.
      stride: pixels of the picture from one place to the next, or (down, right) where they differ.
      cell: of one place; see `cell_anchors`.
      offset: where the first place's centre lies, in strides: 0 is torchvision's; ½ is the middle of the pixels that
        the place stands for, as in the paper's own programs.

    >>> grid_anchors((1, 2), 16, jnp.array([[-8.0, -8.0, 8.0, 8.0]]), offset=0.5).tolist()
    [[0.0, 0.0, 16.0, 16.0], [16.0, 0.0, 32.0, 16.0]]
    """
    height, width = map_shape
    down, right = stride if isinstance(stride, tuple) else (stride, stride)
    y = ((jnp.arange(height) + offset) * down).astype(cell.dtype)
    x = ((jnp.arange(width) + offset) * right).astype(cell.dtype)
    y, x = jnp.broadcast_arrays(y[:, None], x[None, :])
    centres = jnp.stack([x, y, x, y], -1)
    return (centres[:, :, None] + cell).reshape(-1, 4)


def pyramid_anchors(
    map_shapes: Sequence[tuple[int, int]],
    strides: Sequence[Stride],
    cells: Sequence[Float[Array, "_ 4"]],
    offset: float = 0.0,
) -> Float[Array, "n 4"]:
    """The anchors of several maps, one map after the other; for each map the arguments of `grid_anchors`."""
    maps = zip(map_shapes, strides, cells, strict=True)
    return jnp.concatenate([grid_anchors(shape, stride, cell, offset) for shape, stride, cell in maps])
