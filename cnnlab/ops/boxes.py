"""Boxes: areas, overlaps, the code that regressors learn, and moves within pictures.

A box is x0 y0 x1 y1, its edges in pixels (not the last pixels: the width is x1 − x0); coordinates are those of
`data/warp.py`. A box counts only if it `has_area`: one that is empty, turned inside out or not finite overlaps nothing,
and is coded as 0. So no function here makes a NaN of boxes without one, and rows that pad a list may be 0 0 0 0.
"""

import math

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Real

LARGEST_LOG = math.log(1000 / 16)  # of a side that `decode` makes, over the anchor's

Weights = tuple[float, float, float, float]


def has_area(boxes: Real[Array, "*b 4"]) -> Bool[Array, "*b"]:
    """Which boxes count: x1 > x0, y1 > y0, and an area that is finite.

    >>> has_area(jnp.array([[0, 0, 2, 1], [0, 0, 0, 0], [2, 0, 0, 1]])).tolist()
    [True, False, False]
    """
    width, height = _sides(boxes)
    return (width > 0) & (height > 0) & (width * height < jnp.inf)


def area(boxes: Real[Array, "*b 4"]) -> Real[Array, "*b"]:
    """In square pixels; 0 where a box does not count.

    >>> area(jnp.array([[0.0, 0.0, 2.0, 1.5], [2.0, 0.0, 0.0, 1.0]])).tolist()
    [3.0, 0.0]
    """
    width, height = _sides(boxes)
    return jnp.where(has_area(boxes), width * height, 0)


def intersection(a: Float[Array, "*b n 4"], b: Float[Array, "*b m 4"]) -> Float[Array, "*b n m"]:
    """The area that each of `a` has in common with each of `b`; 0 where one of them does not count."""
    a, b = a[..., :, None, :], b[..., None, :, :]
    sides = jnp.minimum(a[..., 2:], b[..., 2:]) - jnp.maximum(a[..., :2], b[..., :2])
    common = jnp.maximum(sides[..., 0], 0) * jnp.maximum(sides[..., 1], 0)
    return jnp.where(has_area(a) & has_area(b), common, 0)


def iou(a: Float[Array, "*b n 4"], b: Float[Array, "*b m 4"]) -> Float[Array, "*b n m"]:
    """The intersection over the union of each of `a` and each of `b`, 0 to 1; 0 where one of them does not count.

    >>> iou(jnp.array([[0.0, 0.0, 2.0, 2.0]]), jnp.array([[0.0, 0.0, 2.0, 1.0], [1.0, 1.0, 6.0, 2.0]])).tolist()
    [[0.5, 0.125]]
    """
    return _iou_and_union(a, b)[0]


def giou(a: Float[Array, "*b n 4"], b: Float[Array, "*b m 4"]) -> Float[Array, "*b n m"]:
    """Generalised IoU (Rezatofighi et al. 2019): less the share of the smallest box around both that neither covers.

    −1 to 1, and with a slope where the boxes are apart. A box that does not count covers nothing; two at the same point
    have 0. Pairs in order are those of `a[:, None]` and `b[:, None]`.

    >>> giou(jnp.array([[0.0, 0.0, 1.0, 1.0]]), jnp.array([[0.0, 0.0, 1.0, 1.0], [3.0, 0.0, 4.0, 1.0]])).tolist()
    [[1.0, -0.5]]
    """
    share, union = _iou_and_union(a, b)
    a, b = a[..., :, None, :], b[..., None, :, :]
    low, high = jnp.minimum(a[..., :2], b[..., :2]), jnp.maximum(a[..., 2:], b[..., 2:])
    around = area(jnp.concatenate([low, high], -1))
    uncovered = (around - union) / jnp.where(around > 0, around, 1)
    return share - jnp.where(around > 0, jnp.maximum(uncovered, 0), 0)


def encode(
    boxes: Float[Array, "*b 4"], anchors: Float[Array, "*b 4"], weights: Weights = (1.0, 1.0, 1.0, 1.0)
) -> Float[Array, "*b 4"]:
    """The offsets t from anchors to boxes (Girshick et al. 2013, appendix C; Ren et al. 2015, equation 2).

    Args:
      boxes, anchors: in pairs.
      weights: of tx, ty, tw and th; torchvision's heads have (10, 10, 5, 5), about one over their standard deviations.

    Returns:
      How far right and below of the anchor's centre that of the box lies, in widths and heights of the anchor, and the
      logarithms of the box's width and height over the anchor's; 0 where one of the two does not count.

    >>> encode(jnp.array([0.0, 0.0, 2.0, 2.0]), jnp.array([1.0, 0.0, 3.0, 2.0])).tolist()
    [-0.5, 0.0, 0.0, 0.0]
    """
    counts = (has_area(boxes) & has_area(anchors))[..., None]
    unit = jnp.array([0, 0, 1, 1], boxes.dtype)
    boxes, anchors = jnp.where(counts, boxes, unit), jnp.where(counts, anchors, unit)
    centre, sides = _centre_and_sides(boxes)
    from_centre, from_sides = _centre_and_sides(anchors)
    moved = (centre - from_centre) / from_sides
    t = jnp.concatenate([moved, jnp.log(sides / from_sides)], -1) * jnp.asarray(weights, boxes.dtype)
    return jnp.where(counts, t, 0)


def decode(
    t: Float[Array, "*b 4"], anchors: Float[Array, "*#b 4"], weights: Weights = (1.0, 1.0, 1.0, 1.0)
) -> Float[Array, "*b 4"]:
    """The boxes that offsets lead to: the inverse of `encode`, but no side grows more than 1000/16-fold.

    Args:
      t: the offsets; several of an anchor, one a class, say, with `anchors[..., None, :]`.
      anchors: from which they lead.
      weights: see `encode`.

    >>> decode(jnp.array([0.5, 0.0, 0.0, 99.0]), jnp.array([0.0, 0.0, 2.0, 2.0])).round(1).tolist()
    [1.0, -61.5, 3.0, 63.5]
    """
    centre, sides = _centre_and_sides(anchors)
    t = t / jnp.asarray(weights, t.dtype)
    centre = t[..., :2] * sides + centre
    half = 0.5 * (jnp.exp(jnp.minimum(t[..., 2:], LARGEST_LOG)) * sides)
    return jnp.concatenate([centre - half, centre + half], -1)


def clip(boxes: Float[Array, "*b n 4"], size: Real[Array, "*b 2"]) -> Float[Array, "*b n 4"]:
    """Boxes cut off at the edges of their pictures; one that lies outside is left without area.

    Args:
      boxes: of each picture.
      size: height and width of each picture.

    >>> clip(jnp.array([[-1.0, 2.0, 5.0, 9.0]]), jnp.array([8, 4])).tolist()
    [[0.0, 2.0, 4.0, 8.0]]
    """
    return jnp.clip(boxes, 0, _limits(size).astype(boxes.dtype))


def inside(boxes: Float[Array, "*b n 4"], size: Real[Array, "*b 2"]) -> Bool[Array, "*b n"]:
    """Which boxes lie within their pictures, edges included (Ren et al. 2015 train on no others).

    Args:
      boxes, size: see `clip`.

    >>> inside(jnp.array([[0.0, 0.0, 4.0, 8.0], [0.0, 0.0, 5.0, 8.0]]), jnp.array([8, 4])).tolist()
    [True, False]
    """
    return ((boxes >= 0) & (boxes <= _limits(size))).all(-1)


def flip(boxes: Float[Array, "*b n 4"], size: Real[Array, "*b 2"]) -> Float[Array, "*b n 4"]:
    """Boxes as they lie when their pictures are mirrored left to right; one that does not count becomes 0 0 0 0.

    Args:
      boxes, size: see `clip`.

    >>> flip(jnp.array([[0.0, 1.0, 3.0, 2.0], [0.0, 0.0, 0.0, 0.0]]), jnp.array([8, 4])).tolist()
    [[1.0, 1.0, 4.0, 2.0], [0.0, 0.0, 0.0, 0.0]]
    """
    width = size[..., None, 1].astype(boxes.dtype)
    x0, y0, x1, y1 = jnp.moveaxis(boxes, -1, 0)
    mirrored = jnp.stack([width - x1, y0, width - x0, y1], -1)
    return jnp.where(has_area(boxes)[..., None], mirrored, 0)


def scale(boxes: Float[Array, "*b n 4"], old: Real[Array, "*b 2"], new: Real[Array, "*b 2"]) -> Float[Array, "*b n 4"]:
    """Boxes as they lie when their pictures are resized.

    Args:
      boxes: of each picture.
      old, new: height and width of each picture before and after. Where the old one is 0, as of examples that fill up a
        batch, boxes stay.

    >>> scale(jnp.array([[0.0, 1.0, 3.0, 2.0]]), jnp.array([8, 4]), jnp.array([16, 4])).tolist()
    [[0.0, 2.0, 3.0, 4.0]]
    """
    old, new = (_limits(size).astype(boxes.dtype) for size in (old, new))
    return jnp.where(old > 0, boxes * new / jnp.maximum(old, 1), boxes)


def _sides(boxes: Array) -> tuple[Array, Array]:
    return boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]


def _centre_and_sides(boxes: Array) -> tuple[Array, Array]:
    sides = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + 0.5 * sides, sides


def _limits(size: Array) -> Array:
    """Width and height twice, as a box's coordinates have them, for all boxes of a picture."""
    return jnp.concatenate([size[..., ::-1], size[..., ::-1]], -1)[..., None, :]


def _iou_and_union(a: Array, b: Array) -> tuple[Array, Array]:
    common = intersection(a, b)
    union = area(a)[..., :, None] + area(b)[..., None, :] - common
    return common / jnp.where(union > 0, union, 1), union
