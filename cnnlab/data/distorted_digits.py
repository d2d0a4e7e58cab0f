"""The distortions of MNIST on which spatial transformers are compared: Jaderberg et al. 2015, appendix A.4.

  R    rotated by up to 90° either way;
  RTS  rotated by up to 45°, scaled by 0.7 to 1.2 and put somewhere on 42×42 pixels;
  P    scaled by 0.75 to 1, then each corner moved by a normal number of pixels of deviation 5: a projective map;
  E    scaled by 0.75 to 1, then bent by a thin-plate spline, 16 control points moved with deviation 1.5;
  cluttered  somewhere on 60×60 pixels, among six 6×6 pieces of other digits (`clutter.py`).

Each is `(keys, batch) → batch`, a key an example, on the device; what else it moves than "image", `warp.py` says.
Numbers are the paper's; where it leaves something open, the function says what is done here.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key, UInt8

from cnnlab.data.augment import Augment, fixed
from cnnlab.data.clutter import clutter, digit_bank
from cnnlab.data.distort import about_centre, rotation
from cnnlab.data.draws import Batch, split, uniform, uniforms
from cnnlab.data.source import ArraySource, Source
from cnnlab.data.warp import Fields, warp
from cnnlab.ops.grid_sample import centres, control_points, thin_plate_grid

DIGIT = 28  # pixels of a side of MNIST's pictures

Corners = Float[Array, "n 4 2"]


def rotated(keys: Key[Array, " n"], batch: Batch) -> dict[str, Array]:
    """R: each picture turned about its centre, −90° to 90°."""
    return rotation(keys, batch, (-90, 90))


def rotated_scaled_moved(keys: Key[Array, " n"], batch: Batch, size: int = 42) -> dict[str, Array]:
    """RTS: each picture turned by −45° to 45°, scaled by 0.7 to 1.2, and put on size×size pixels of black.

    Its square, scaled and not turned, lies within them, all places equally likely.
    """
    degrees, scale, across, down = uniforms(keys, (-45, 45), (0.7, 1.2), (-1, 1), (-1, 1))
    angle = jnp.radians(degrees)
    turn = jnp.stack([jnp.cos(angle), jnp.sin(angle), -jnp.sin(angle), jnp.cos(angle)], -1).reshape(-1, 2, 2)
    height, width = batch["image"].shape[1:3]
    room = (size - scale[:, None] * jnp.array([width, height])) / 2
    shift = (size - jnp.array([width, height])) / 2 + room * jnp.stack([across, down], -1)
    return warp(batch, about_centre(batch, scale[:, None, None] * turn, shift), size=(size, size))


def projected(keys: Key[Array, " n"], batch: Batch, deviation: float = 5.0) -> dict[str, Array]:
    """P: each picture scaled about its centre by 0.75 to 1, then its corners moved apart by normal numbers of pixels.

    Where they would no longer make a convex shape, which no projective map can show, or one with an angle below 30° or
    over 150°, which shows no digit that can be read, they move half as far, or a quarter, or an eighth.
    """
    of_scale, of_corners = split(keys, 2)
    height, width = batch["image"].shape[1:3]
    square = jnp.array([[0, 0], [1, 0], [1, 1], [0, 1]]) - 0.5  # in the order of a walk around it
    scaled = uniform(of_scale, (0.75, 1))[:, None, None] * square * jnp.array([width, height])
    moves = deviation * _normal(of_corners, (4, 2))
    corners, done = scaled, jnp.zeros(len(keys), bool)
    for part in (1, 0.5, 0.25, 0.125):
        tried = scaled + part * moves
        fits = _convex(tried) & ~done
        corners, done = jnp.where(fits[:, None, None], tried, corners), done | fits
    return _by_field(batch, _from_quadrilateral(corners + jnp.array([width, height]) / 2, height, width))


def bent(keys: Key[Array, " n"], batch: Batch, deviation: float = 1.5) -> dict[str, Array]:
    """E: each picture scaled about its centre by 0.75 to 1, then bent by a thin-plate spline.

    Its control points are 4×4 from edge to edge. Each shows a place a normal number of pixels off, both ways.
    """
    of_scale, of_points = split(keys, 2)
    height, width = batch["image"].shape[1:3]
    half = jnp.array([width, height]) / 2
    moves = deviation * _normal(of_points, (16, 2)) / half
    grid = thin_plate_grid(control_points() + moves, (height, width))
    matrix = about_centre(batch, uniform(of_scale, (0.75, 1))[:, None, None] * jnp.eye(2))
    return warp(batch, matrix, jnp.moveaxis((grid - centres((height, width))) * half, -1, 1))


def _normal(keys: Key[Array, " n"], shape: tuple[int, ...]) -> Float[Array, "n ..."]:
    # Drawn flat: XLA on CPUs compiles draws in several dimensions ten times slower.
    return jax.vmap(lambda key: jax.random.normal(key, (math.prod(shape),)))(keys).reshape(-1, *shape)


def _convex(corners: Corners) -> Bool[Array, " n"]:
    """Whether every corner turns the same way, its angle from 30° to 150°."""
    edges = jnp.roll(corners, -1, 1) - corners
    after = jnp.roll(edges, -1, 1)
    turns = edges[..., 0] * after[..., 1] - edges[..., 1] * after[..., 0]
    lengths = jnp.linalg.norm(edges, axis=-1) * jnp.linalg.norm(after, axis=-1)
    return (turns >= 0.5 * lengths).all(-1)


def _from_quadrilateral(corners: Corners, height: int, width: int) -> Float[Array, "n 2 h w"]:
    """For each pixel the place x, y of the picture that a projective map, which takes its corners to these, puts there.

    The map from the unit square to a quadrilateral is known in closed form (Heckbert 1989, section 2.2.3); the one back
    is its adjugate, as a factor of the whole matrix does not matter.
    """
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = jnp.moveaxis(corners, 0, -1)
    dx1, dx2, dy1, dy2 = x1 - x2, x3 - x2, y1 - y2, y3 - y2
    sx, sy = x0 - x1 + x2 - x3, y0 - y1 + y2 - y3
    whole = dx1 * dy2 - dx2 * dy1
    g, h = (sx * dy2 - dx2 * sy) / whole, (dx1 * sy - sx * dy1) / whole
    a, b, c, d, e, f = x1 - x0 + g * x1, x3 - x0 + h * x3, x0, y1 - y0 + g * y1, y3 - y0 + h * y3, y0
    x, y = jnp.arange(width) + 0.5, jnp.arange(height)[:, None] + 0.5

    def along(p, q, r):
        return p[:, None, None] * x + q[:, None, None] * y + r[:, None, None]

    u, v = along(e - f * h, c * h - b, b * f - c * e), along(f * g - d, a - c * g, c * d - a * f)
    depth = along(d * h - e * g, b * g - a * h, a * e - b * d)
    # On the horizon it is 0; beyond, the places lie outside the picture by themselves.
    depth = jnp.where(jnp.abs(depth) < 1e-3, 1e-3, depth)
    return jnp.stack([u / depth * width, v / depth * height], 1)


def _by_field(batch: Batch, places: Fields) -> dict[str, Array]:
    """The batch with each pixel showing a place of its picture."""
    height, width = places.shape[2:]
    own = jnp.stack(jnp.meshgrid(jnp.arange(width) + 0.5, jnp.arange(height) + 0.5))
    same = jnp.broadcast_to(jnp.eye(2, 3), (len(places), 2, 3))
    return warp(batch, same, places - own)


class Distortion(NamedTuple):
    """One of the paper's.

    Attributes:
      function: makes `(keys, batch) → batch` of what makes digits to cut pieces of; only clutter needs them.
      size: height and width of its pictures.
      downsample: what the paper's transformed pictures are made smaller by.
    """

    function: Callable[[Callable[[], UInt8[np.ndarray, "m h w 1"]]], Augment]
    size: int
    downsample: int


def _cluttered(bank: Callable[[], UInt8[np.ndarray, "m h w 1"]]) -> Augment:
    digits = functools.cache(bank)  # read no sooner than the first batch is made
    return lambda keys, batch: clutter(keys, batch, digits(), size=60, pieces=6, piece=6)


DISTORTIONS = {
    "R": Distortion(lambda bank: rotated, DIGIT, 1),
    "RTS": Distortion(lambda bank: rotated_scaled_moved, 42, 2),
    "P": Distortion(lambda bank: projected, DIGIT, 1),
    "E": Distortion(lambda bank: bent, DIGIT, 1),
    "cluttered": Distortion(_cluttered, 60, 2),
}


def distorted(source: Source, distortion: Distortion) -> ArraySource:
    """A test set distorted once and for all, each picture by a key of its index: the same in all runs.

    Args:
      source: 28×28 digits, few enough to lie in memory. Clutter is made of pieces of them.
      distortion: of `DISTORTIONS`.
    """
    return fixed(source, distortion.function(functools.partial(digit_bank, source)))
