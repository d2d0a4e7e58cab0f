"""From scores and offsets to boxes: the RPN's proposals, and a detector's findings. All shapes are fixed."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from cnnlab.ops import boxes as box_ops
from cnnlab.ops.nms import class_wise_nms


def rows(array: Array, indices: Int[Array, "n k"]) -> Array:
    """For each picture, the rows of its array at its indices.

    >>> rows(jnp.array([[1, 2, 3], [4, 5, 6]]), jnp.array([[2, 0], [1, 1]])).tolist()
    [[3, 1], [5, 5]]
    """
    return jax.vmap(lambda one, at: one[at])(array, indices)


def propose(
    scores: Float[Array, "n a"],
    offsets: Float[Array, "n a 4"],
    anchors: Sequence[Float[Array, "_ 4"]],
    size: Int[Array, "n 2"],
    before: int,
    after: int,
    threshold: float = 0.7,
    smallest: float = 1e-3,
) -> tuple[Float[Array, "n p 4"], Bool[Array, "n p"]]:
    """The RPN's proposals (Ren et al. 2015, section 3.3, "sharing features").

    Args:
      scores, offsets: of all anchors, map by map.
      anchors: of each map.
      size: (height, width) of each picture; boxes are cut to it.
      before: of each map, so many of the highest scores are looked at.
      after: at most so many proposals of a picture.
      threshold: of two of a map that overlap by a larger IoU, that with the higher score stays.
      smallest: sides, in pixels, below which a box is left out.

    Returns:
      Boxes by falling score, and which of them there are.
    """
    begin, parts = 0, []
    for level, own in enumerate(anchors):
        count = min(before, len(own))
        best, at = jax.lax.top_k(scores[:, begin : begin + len(own)], count)
        coded = rows(offsets[:, begin : begin + len(own)], at)
        found = box_ops.clip(box_ops.decode(coded, own[at]), size)
        parts.append((found, best, jnp.full(best.shape, level)))
        begin += len(own)
    found, best, level = (jnp.concatenate(part, 1) for part in zip(*parts, strict=True))
    valid = _larger(found, smallest)
    kept, valid = class_wise_nms(found, best, level, valid, threshold, min(after, found.shape[1]))
    return jnp.where(valid[..., None], rows(found, kept), 0.0), valid


def detect(
    scores: Float[Array, "n r k"],
    offsets: Float[Array, "n r k 4"],
    regions: Float[Array, "n r 4"],
    valid: Bool[Array, "n r"],
    size: Int[Array, "n 2"],
    weights: tuple[float, float, float, float],
    least: float = 0.05,
    threshold: float = 0.5,
    limit: int = 100,
    candidates: int = 2000,
    smallest: float = 1e-2,
) -> tuple[Float[Array, "n d 4"], Float[Array, "n d"], Int[Array, "n d"]]:
    """What a detector finds in a picture: its regions as its classes see them, those of each class thinned out.

    Args:
      scores: of each class, without the background.
      offsets: for each, the box coded against the region.
      regions: where it looked, and which of them there are (`valid`).
      size: (height, width) of each picture; boxes are cut to it.
      weights: of the code; see `boxes.decode`.
      least: score, positive, up to which nothing is found.
      threshold: of two of a class that overlap by a larger IoU, that with the higher score stays.
      limit: at most so many are found.
      candidates: at most so many, those of the highest scores, are compared with each other.
      smallest: sides, in pixels, below which a box is left out.

    Returns:
      Boxes, scores and classes, from 0, by falling score; where there are none, 0 and class −1.
    """
    n, r, k = scores.shape
    good = (scores > least) & valid[..., None]
    best, at = jax.lax.top_k(jnp.where(good, scores, -1.0).reshape(n, -1), min(candidates, r * k))
    region, label = at // k, at % k
    coded = rows(offsets.reshape(n, -1, 4), at)
    found = box_ops.clip(box_ops.decode(coded, rows(regions, region), weights), size)
    there = (best > 0) & _larger(found, smallest)
    kept, there = class_wise_nms(found, best, label, there, threshold, min(limit, best.shape[1]))
    label = jnp.where(there, rows(label, kept), -1)
    return jnp.where(there[..., None], rows(found, kept), 0.0), jnp.where(there, rows(best, kept), 0.0), label


def _larger(boxes: Float[Array, "n a 4"], smallest: float) -> Bool[Array, "n a"]:
    sides = boxes[..., 2:] - boxes[..., :2]
    return (sides >= smallest).all(-1)
