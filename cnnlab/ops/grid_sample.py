"""Sampling grids and the bilinear sampler of spatial transformers: Jaderberg et al. 2015, section 3.

Coordinates are normalised, x to the right and y down: −1 and 1 are the edges of a picture, so that pixel j of a row of
w has its centre in (2j + 1) / w − 1. They mean the same in a picture of any size. (This is what torch calls
`align_corners=False`; the values are those of its `grid_sample`.)

A grid (n, h, w, 2) says for each pixel of an output which place (x, y) of the input it shows. A kind of transform makes
it from θ, which maps places of the output to places of the input:
  affine      6 numbers, the rows of a 2×3 matrix;
  projective  8 numbers, the rows of a 3×3 matrix without its last, which is 1;
  tps         32 numbers: where a thin-plate spline takes each of 16 control points, row by row from the upper left.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from cnnlab.errors import UserError, nearest
from cnnlab.ops.forms import tuned

SIDE = 4  # control points of a spline along each axis
OUTSIDE = -3.0  # a coordinate a whole picture beyond the edge
LEAST_DEPTH = 1e-3  # of a projective map's denominator: what lies beyond is behind the eye

Size = tuple[int, int]
Grid = Float[Array, "n h w 2"]


def centres(size: Size) -> Float[np.ndarray, "h w 2"]:
    """The places of the centres of a picture's pixels: the grid of the identity.

    >>> centres((1, 2)).tolist()
    [[[-0.5, 0.0], [0.5, 0.0]]]
    """
    y, x = ((2 * np.arange(length) + 1) / length - 1 for length in size)
    return np.stack(np.broadcast_arrays(x, y[:, None]), -1).astype(np.float32)


def control_points(side: int = SIDE) -> Float[np.ndarray, "k 2"]:
    """side×side places evenly from edge to edge, row by row.

    >>> control_points(2).tolist()
    [[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]]
    """
    along = np.linspace(-1, 1, side, dtype=np.float32)
    return np.stack([np.tile(along, side), np.repeat(along, side)], -1)


def affine_grid(theta: Float[Array, "n 2 3"], size: Size) -> Grid:
    """Each place is θ · (x, y, 1): equation 1 of the paper."""
    x, y = np.moveaxis(centres(size), -1, 0)
    # Sums of products and not a matrix product, which accelerators round to fewer digits than coordinates have.
    a = theta[:, :, :, None, None]
    return jnp.moveaxis(a[:, :, 0] * x + a[:, :, 1] * y + a[:, :, 2], 1, -1)


def projective_grid(theta: Float[Array, "n 8"], size: Size) -> Grid:
    """Each place is (u / w, v / w) of (u, v, w) = θ · (x, y, 1); where w is not positive, one outside the picture."""
    x, y = np.moveaxis(centres(size), -1, 0)
    a, b, c, d, e, f, g, h = jnp.moveaxis(theta, -1, 0)[:, :, None, None]
    depth = g * x + h * y + 1
    ahead = depth > LEAST_DEPTH
    depth = jnp.where(ahead, depth, 1.0)
    places = jnp.stack([(a * x + b * y + c) / depth, (d * x + e * y + f) / depth], -1)
    return jnp.where(ahead[..., None], places, OUTSIDE)


def thin_plate_grid(theta: Float[Array, "n k 2"], size: Size) -> Grid:
    """The thin-plate spline that takes each of k = side² `control_points` to θ.

    Among all maps that do so it bends least (Bookstein 1989). It is linear in θ: the matrix of `_spline` is made once.

    Raises:
      UserError: k is not the square of a whole number from 2 up.
    """
    side = round(theta.shape[1] ** 0.5)
    if side < 2 or side**2 != theta.shape[1]:
        raise UserError(f"a thin-plate spline has 4, 9, 16 … control points in a square, not {theta.shape[1]}")
    grid = jnp.einsum("pk,nkd->npd", _spline(size, side), theta, precision="highest")
    return grid.reshape(-1, *size, 2)


@functools.cache
def _spline(size: Size, side: int) -> Float[np.ndarray, "p k"]:
    """What each control point's place counts in the place of each pixel; the rows' sums are 1."""
    points, pixels = control_points(side).astype(np.float64), centres(size).reshape(-1, 2)

    def basis(places):
        """r² log r² to each control point, and 1, x, y."""
        square = np.square(places[:, None] - points).sum(-1)
        bends = square * np.log(np.where(square > 0, square, 1))
        return np.concatenate([bends, np.ones((len(places), 1)), places], 1)

    rows = basis(points)
    k = len(points)
    system = np.zeros((k + 3, k + 3))
    system[:k], system[k:, :k] = rows, rows[:, k:].T
    return (basis(pixels) @ np.linalg.inv(system)[:, :k]).astype(np.float32)


KINDS: dict[str, Callable[[Array, Size], Array]] = {
    "affine": lambda theta, size: affine_grid(theta.reshape(-1, 2, 3), size),
    "projective": projective_grid,
    "tps": lambda theta, size: thin_plate_grid(theta.reshape(theta.shape[0], -1, 2), size),
}
IDENTITY: dict[str, tuple[float, ...]] = {
    "affine": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    "projective": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0),
    "tps": tuple(control_points().ravel().tolist()),
}


def check_kind(kind: str) -> None:
    """Raises a `UserError` unless there is such a kind of transform."""
    if kind not in KINDS:
        near = nearest(kind, KINDS) or f": there are {', '.join(KINDS)}"
        raise UserError(f'there is no transform "{kind}"{near}')


def transform_grid(kind: str, theta: Float[Array, "n p"], size: Size) -> Grid:
    """The grid of a kind of transform, for outputs of a size (height, width).

    >>> bool(jnp.allclose(transform_grid("tps", jnp.array([IDENTITY["tps"]]), (5, 6)), centres((5, 6)), atol=1e-5))
    True

    Raises:
      UserError: there is no such kind.
    """
    check_kind(kind)
    return KINDS[kind](theta, size)


def check_transform(kind: str, theta: Sequence[float | int], name: str = "θ") -> None:
    """Makes sure that a transform that a person gives shows a part of the picture, and not a line or a point of it.

    >>> check_transform("affine", (0.5, 0.0, 0.0, 0.0, 0.5, 0.0))

    Args:
      kind: of transform.
      theta: its numbers.
      name: of what holds them, for the message.

    Raises:
      UserError: it does not; or they are too few, too many or not finite.
    """
    check_kind(kind)
    right = f"the identity is {', '.join(f'{x:g}' for x in IDENTITY[kind][:8])}{' …' if kind == 'tps' else ''}"
    if len(theta) != len(IDENTITY[kind]):
        needed = f"an {kind}" if kind == "affine" else f"a {kind}"
        raise UserError(f"{name} has {len(theta)} numbers; {needed} transform takes {len(IDENTITY[kind])}: {right}")
    if not np.isfinite(theta).all():
        raise UserError(f"{name} holds a number that is not finite; {right}")
    with jax.ensure_compile_time_eval():  # also while a network is traced
        grid = np.asarray(transform_grid(kind, jnp.array([theta], jnp.float32), (16, 16)))[0].astype(np.float64)
    inside = (np.abs(grid) < 1).all(-1)
    if kind == "projective" and (grid == OUTSIDE).all(-1).any():
        raise UserError(f"{name} puts a part of the picture behind the eye: 1 + g·x + h·y must be positive; {right}")
    if not inside.any():
        raise UserError(f"{name} shows nothing of the picture, only what lies outside it; {right}")
    across, down = np.diff(grid, axis=1)[:-1], np.diff(grid, axis=0)[:, :-1]
    areas = across[..., 0] * down[..., 1] - across[..., 1] * down[..., 0]
    if np.abs(areas).max() < 1e-6:
        raise UserError(f"{name} is singular: it shows a line or a point of the picture, and nothing else; {right}")


def grid_sample(x: Float[Array, "n h w c"], grid: Float[Array, "n a b 2"], padding: str = "zero") -> Array:
    """The values of pictures, or of maps, at places: bilinear between the centres of pixels (equation 5).

    It is differentiable in both; the derivative by a place is 0 from the first pixel beyond the edge on, and where the
    place is not a number, which counts as outside.

    Args:
      x: pictures.
      grid: of each picture the places, in normalised coordinates.
      padding: what there is outside: "zero", or "border", the nearest pixel of the picture.

    Returns:
      (n, a, b, c).

    >>> row = jnp.array([1.0, 3.0]).reshape(1, 1, 2, 1)
    >>> places = jnp.array([[-0.5, 0], [0, 0], [1, 0], [2, 0]]).reshape(1, 1, 4, 2)
    >>> grid_sample(row, places).ravel().tolist(), grid_sample(row, places, "border").ravel().tolist()
    ([1.0, 2.0, 1.5, 0.0], [1.0, 2.0, 3.0, 3.0])

    Raises:
      UserError: an unknown padding.
    """
    modes = {"zero": "constant", "border": "edge"}
    if padding not in modes:
        raise UserError(f'the padding is "{padding}"; it must be "zero" or "border"')
    n, height, width, c = x.shape
    # With a pixel more on every side all four neighbours are always there, and only these pixels know of the padding.
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode=modes[padding])

    def index(place, length):
        """Whole and broken part of where a place lies among the centres of the padded picture's pixels."""
        among = (place.astype(jnp.float32) + 1) * (length / 2) + 0.5
        among = jnp.clip(jnp.where(jnp.isnan(among), 0.0, among), 0, length + 1)
        whole = jnp.clip(jnp.floor(among), 0, length)
        return whole.astype(jnp.int32), (among - whole)[..., None]

    (column, right), (row, below) = index(grid[..., 0], width), index(grid[..., 1], height)
    stride = width + 2
    first = jnp.arange(n)[:, None, None] * ((height + 2) * stride) + row * stride + column
    blend = _blend_on_cpus if tuned() else _blend
    return blend(padded.reshape(-1, c), first, right, below, stride).astype(x.dtype)


def _neighbours(places: Float[Array, "m c"], first: Int[Array, "n a b"], stride: int) -> list[Array]:
    """The upper left, upper right, lower left and lower right one."""
    return [places.at[first + step].get(mode="promise_in_bounds") for step in (0, 1, stride, stride + 1)]


def _blend(places: Float[Array, "m c"], first: Int[Array, "n a b"], right: Array, below: Array, stride: int) -> Array:
    """What lies `right` and `below` of the first of four neighbours, in parts of a pixel."""
    a, b, c, d = _neighbours(places, first, stride)
    return (a * (1 - right) + b * right) * (1 - below) + (c * (1 - right) + d * right) * below


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _blend_on_cpus(places: Array, first: Array, right: Array, below: Array, stride: int) -> Array:
    return _blend(places, first, right, below, stride)


def _blend_forward(places: Array, first: Array, right: Array, below: Array, stride: int) -> tuple[Array, tuple]:
    return _blend(places, first, right, below, stride), (places, first, right, below)


def _blend_backward(stride: int, kept: tuple, g: Array) -> tuple:
    """The gradient by the picture is a loop that adds two neighbours at once: XLA's scatter adds one by one."""
    places, first, right, below = kept
    a, b, c, d = _neighbours(places, first, stride)
    by_right = (g * ((b - a) * (1 - below) + (d - c) * below)).sum(-1, keepdims=True)
    by_below = (g * ((c - a) * (1 - right) + (d - b) * right)).sum(-1, keepdims=True)
    flat, at = g.reshape(-1, g.shape[-1]), first.reshape(-1)
    across = jnp.concatenate([1 - right, right], -1).reshape(-1, 2, 1)
    down = jnp.concatenate([1 - below, below], -1).reshape(-1, 2)

    def add(k, total):
        pair = across[k] * flat[k]
        for i in (0, 1):
            begin = (at[k] + i * stride, 0)
            here = lax.dynamic_slice(total, begin, pair.shape)
            total = lax.dynamic_update_slice(total, here + down[k, i] * pair, begin)
        return total

    nothing = jnp.zeros(places.shape, jnp.float32)
    return lax.fori_loop(0, len(at), add, nothing).astype(places.dtype), None, by_right, by_below


_blend_on_cpus.defvjp(_blend_forward, _blend_backward)
