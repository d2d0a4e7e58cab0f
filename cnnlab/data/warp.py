"""Warps: pictures resampled through affine maps and displacement fields, what is marked on them moved along.

Coordinates are in pixels, x to the right and y down, (0, 0) the picture's upper left corner: pixel (i, j) covers
[j, j + 1] × [i, i + 1] and has its centre in (j + ½, i + ½). A box is x0 y0 x1 y1, its edges; a point is x y.

All functions take a key for each example and a batch, a mapping of which they change a copy: "image" (uint8, resampled
bilinearly), and where they are there "segmentation" (labels, the nearest one), "boxes", "proposals", which are boxes
too, and "points". All else passes.
What comes in from outside is `fill`, a colour of one number or one a channel, and `fill_label` (255 is VOC's "void").
A box that has left the picture becomes 0 0 0 0; points may lie outside. "masks", windows of the objects' boxes (see
`detection.py`), are mirrored with the picture; what moves pictures otherwise refuses them.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer, Shaped

from cnnlab.data.draws import Batch, check_label, fill_colour
from cnnlab.errors import UserError

Matrices = Float[Array, "n 2 3"]
Fields = Float[Array, "n 2 h w"]


def bilinear(
    pictures: Shaped[Array, "n h w c"],
    x: Float[Array, "n a b"],
    y: Float[Array, "n a b"],
    fill: Shaped[Array, " c"],
) -> Float[Array, "n a b c"]:
    """The values at places of each picture, between the centres of pixels by linear interpolation both ways.

    From the outermost centres to the picture's edge the value stays, so that an enlarged part has no rim of the fill's
    colour; over the half pixel beyond the edge it goes to `fill`, so that a move by whole pixels copies them.

    >>> picture, middle = jnp.array([[[[10], [20]]]]), jnp.array([[[0.5]]])
    >>> [float(bilinear(picture, x + 0 * middle, middle, jnp.array([0]))[0, 0, 0, 0]) for x in (0.0, 0.5, 0.75, 2.5)]
    [10.0, 10.0, 12.5, 0.0]
    """
    n, height, width, channels = pictures.shape
    padded = jnp.broadcast_to(fill.astype(pictures.dtype), (n, height + 2, width + 2, channels))
    padded = padded.at[:, 1:-1, 1:-1].set(pictures)

    def index(place, length):
        """Whole and broken part of where a place lies among the centres of the padded picture's pixels."""
        outside = jnp.minimum(place, 0) + jnp.maximum(place - length, 0)
        among = jnp.clip(jnp.clip(place - 0.5, 0, length - 1) + 2 * outside, -1, length) + 1
        whole = jnp.clip(jnp.floor(among), 0, length)
        return whole.astype(jnp.int32), (among - whole)[..., None]

    (row, below), (column, right) = index(y, height), index(x, width)
    take = jax.vmap(lambda picture, i, j: picture.at[i, j].get(mode="promise_in_bounds"))

    def across(i):
        left_one, right_one = (take(padded, i, column + step).astype(jnp.float32) for step in (0, 1))
        return left_one * (1 - right) + right_one * right

    return across(row) * (1 - below) + across(row + 1) * below


def nearest(
    labels: Integer[Array, "n h w"], x: Float[Array, "n a b"], y: Float[Array, "n a b"], fill_label: int
) -> Integer[Array, "n a b"]:
    """The label of the pixel that each place lies in, `fill_label` outside."""
    _, height, width = labels.shape
    row, column = jnp.floor(y).astype(jnp.int32), jnp.floor(x).astype(jnp.int32)
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    rows, columns = jnp.clip(row, 0, height - 1), jnp.clip(column, 0, width - 1)
    found = jax.vmap(lambda picture, i, j: picture[i, j])(labels, rows, columns)
    return jnp.where(inside, found, jnp.asarray(fill_label, labels.dtype))


def _apply(matrix: Matrices, x: Float[Array, "n a b"], y: Float[Array, "n a b"]) -> tuple[Array, Array]:
    # Sums of products and not a matrix product, which accelerators round to fewer digits than coordinates have.
    a, b, c, d, e, f = (matrix[:, i, j, None, None] for i in (0, 1) for j in (0, 1, 2))
    return a * x + b * y + c, d * x + e * y + f


def _inverse(matrix: Matrices) -> Matrices:
    (a, b, c), (d, e, f) = matrix[:, 0].T, matrix[:, 1].T
    rows = [e, -b, b * f - c * e], [-d, a, c * d - a * f]
    return jnp.stack([jnp.stack(row, -1) for row in rows], 1) / (a * e - b * d)[:, None, None]


def move_points(points: Shaped[Array, "n m 2"], matrix: Matrices, field: Fields | None = None) -> Float[Array, "n m 2"]:
    """Where points of the pictures lie after `warp`.

    With a field it is the q for which q + field(q) is the matrix's, found by iteration: to well under a pixel where the
    field is smooth enough not to fold the picture.
    """
    x, y = _apply(matrix, points[..., :1].astype(jnp.float32), points[..., 1:].astype(jnp.float32))
    if field is None:
        return jnp.concatenate([x, y], -1)
    height, width = field.shape[2:]
    grid, zeros = jnp.moveaxis(field, 1, -1), jnp.zeros(2)

    def closer(_, place):
        clipped = jnp.clip(place, 0, jnp.array([width, height]))
        return jnp.concatenate([x, y], -1) - bilinear(grid, clipped[..., :1], clipped[..., 1:], zeros)[:, :, 0]

    return jax.lax.fori_loop(0, 10, closer, jnp.concatenate([x, y], -1))


def move_boxes(
    boxes: Shaped[Array, "n m 4"], matrix: Matrices, size: tuple[int, int], field: Fields | None = None
) -> Float[Array, "n m 4"]:
    """The smallest upright boxes around what becomes of boxes after `warp`, cut off at the picture's edges.

    Args:
      boxes: x0 y0 x1 y1; an empty one, as pads a list, becomes 0 0 0 0.
      matrix: of the map.
      size: height and width of the new picture.
      field: of the map; then the edges, which it bends, are followed at five places each.
    """
    x0, y0, x1, y1 = jnp.moveaxis(boxes.astype(jnp.float32), -1, 0)
    width, height = x1 - x0, y1 - y0
    places = []
    for t in (0,) if field is None else (0, 0.25, 0.5, 0.75):
        places += [(x0 + t * width, y0), (x1, y0 + t * height), (x1 - t * width, y1), (x0, y1 - t * height)]
    outline = jnp.stack([jnp.stack(place, -1) for place in places], 2)
    moved = move_points(outline.reshape(len(boxes), -1, 2), matrix, field).reshape(outline.shape)
    limit = jnp.array([size[1], size[0]], jnp.float32)
    low, high = jnp.clip(moved.min(2), 0, limit), jnp.clip(moved.max(2), 0, limit)
    # Emptied ones must not come back to life when a later rotation turns a line into a box.
    there = ((width > 0) & (height > 0))[..., None] & (high > low).all(-1, keepdims=True)
    return jnp.where(there, jnp.concatenate([low, high], -1), 0)


def move_marks(batch: Batch, matrix: Matrices, size: tuple[int, int], field: Fields | None = None) -> dict[str, Array]:
    """A copy of the batch with its boxes and points moved; the rest as it is.

    Raises:
      UserError: it has masks, which only flips can move.
    """
    if "masks" in batch:
        raise UserError(
            "objects' masks are mirrored with their pictures, and cannot be moved otherwise: only flip them"
        )
    moved = dict(batch)
    for name in ("boxes", "proposals"):
        if name in batch:
            moved[name] = move_boxes(batch[name], matrix, size, field)
    if "points" in batch:
        moved["points"] = move_points(batch["points"], matrix, field)
    return moved


def warp(
    batch: Batch,
    matrix: Matrices,
    field: Fields | None = None,
    size: tuple[int, int] | None = None,
    fill: tuple[int, ...] = (0,),
    fill_label: int = 255,
) -> dict[str, Array]:
    """Everything of a batch moved by an affine map and then bent by a field, in a single resampling.

    Args:
      batch: with "image".
      matrix: a picture's point (x, y) goes to matrix · (x, y, 1).
      field: for each pixel of the new picture how far right and below of it, in pixels, that lies which it shows.
      size: height and width of the new pictures, by default the old ones'.
      fill, fill_label: of what comes in from outside.

    A picture that is made smaller is not smoothed first: it may be as far as half the size before detail is lost.
    """
    image = batch["image"]
    height, width = size or image.shape[1:3]
    moved = move_marks(batch, matrix, (height, width), field)
    shape = (len(image), height, width)
    x = jnp.broadcast_to(jnp.arange(width) + 0.5, shape)
    y = jnp.broadcast_to(jnp.arange(height)[:, None] + 0.5, shape)
    if field is not None:
        x, y = x + field[:, 0], y + field[:, 1]
    x, y = _apply(_inverse(matrix), x, y)
    values = bilinear(image, x, y, fill_colour(fill, image.shape[-1]))
    moved["image"] = jnp.round(values).astype(jnp.uint8)
    if "segmentation" in batch:
        check_label(fill_label, batch["segmentation"])
        moved["segmentation"] = nearest(batch["segmentation"], x, y, fill_label)
    return moved
