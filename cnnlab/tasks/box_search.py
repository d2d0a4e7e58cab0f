"""Boxes of an object in a picture: all those that a search tries, and those that a net learns from.

A box is a square of FRAME × FRAME network pixels, each as wide as `scale` pixels of the picture. The network sees
MARGIN more on every side of it, and looks at boxes STRIDE of its pixels apart. Pictures are square and grey.
"""

import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key, Real

from cnnlab.data.boxed import cut
from cnnlab.data.draws import uniform
from cnnlab.errors import UserError
from cnnlab.models.sliding import STRIDE, WINDOW

FRAME = 28  # MNIST's pictures: the digit and the black around it
MARGIN = (WINDOW - FRAME) // 2
# How far off its object a box may lie, in network pixels and in steps of the scales, to be one of the object's; the
# search is never off by more than 2 and ½, but for objects in the picture's corners by up to 3, as its boxes lie within
# the picture. And how far off it must be at least to count as a box of the background.
GOOD = (2.5, 0.6)
BAD = (4.0, 1.0)


def scales_between(low: float, high: float, count: int) -> tuple[float, ...]:
    """`count` scales from `low` to `high`, each greater than the last by the same factor.

    >>> scales_between(0.5, 2.0, 3)
    (0.5, 1.0, 2.0)

    Raises:
      UserError: they are not positive and ascending, or there are fewer than two where they differ, than one at all.
    """
    if not 0 < low <= high < math.inf or count < 1 + (low < high):
        raise UserError(
            f"{count} scales from {low:g} to {high:g} are to be searched; they must be positive, ascending, and at "
            "least two where the last is not the first"
        )
    step = (high / low) ** (1 / max(1, count - 1))
    return tuple(round(low * step**i, 6) for i in range(count if low < high else 1))


def step_of(scales: Sequence[float]) -> float:
    """The logarithm of the factor from one scale to the next; that of 1.2 where there is only one."""
    return math.log(scales[1] / scales[0]) if len(scales) > 1 else math.log(1.2)


def edges(size: int, scale: float) -> Float[np.ndarray, " k"]:
    """Where boxes of a scale begin along a side of a picture: a stride apart, all within it, as far from both ends.

    >>> edges(60, 1.0).tolist()
    [0.0, 4.0, 8.0, 12.0, 16.0, 20.0, 24.0, 28.0, 32.0]

    Raises:
      UserError: a box is larger than the picture.
    """
    room = size / scale - FRAME
    if room < -1e-3:
        raise UserError(
            f"boxes of scale {scale:g} are {FRAME * scale:.0f}×{FRAME * scale:.0f}, and the pictures are "
            f"{size}×{size}: a box must fit"
        )
    count = int((max(room, 0) + 1e-3) // STRIDE) + 1
    return scale * ((room - STRIDE * (count - 1)) / 2 + STRIDE * np.arange(count))


def all_boxes(size: int, scale: float) -> Float[np.ndarray, "k k 4"]:
    """All boxes x0 y0 x1 y1 of a scale on a picture of size×size, by row and column."""
    y, x = np.meshgrid(edges(size, scale), edges(size, scale), indexing="ij")
    return np.stack([x, y, x + FRAME * scale, y + FRAME * scale], -1).astype(np.float32)


def field(pictures: Real[Array, "n s s 1"], scale: float) -> Float[Array, "n m m 1"]:
    """Pictures at the scale of the network's pixels, so that its windows on them are `all_boxes` with their margins."""
    starts = edges(pictures.shape[1], scale)
    first = jnp.full(len(pictures), starts[0] - MARGIN * scale, jnp.float32)
    step = jnp.full(len(pictures), scale, jnp.float32)
    return cut(pictures, first, first, step, WINDOW + STRIDE * (len(starts) - 1))


def window(pictures: Real[Array, "n s s 1"], boxes: Float[Array, "n 4"]) -> Float[Array, "n w w 1"]:
    """What the network sees of one box of each picture."""
    scale = (boxes[:, 2] - boxes[:, 0]) / FRAME
    return cut(pictures, boxes[:, 0] - MARGIN * scale, boxes[:, 1] - MARGIN * scale, scale, WINDOW)


def judged(
    boxes: Float[Array, "n 4"], truth: Float[Array, "n 4"], step: float
) -> tuple[Bool[Array, " n"], Bool[Array, " n"]]:
    """Which boxes are of the object, and which are of the background; those between are neither.

    Args:
      boxes: squares.
      truth: the object's.
      step: the logarithm of the factor from one scale of the search to the next.

    >>> boxes, truth = jnp.array([[2.0, 0, 30, 28], [4.0, 0, 32, 28], [6.0, 0, 34, 28]]), jnp.array([[0.0, 0, 28, 28]])
    >>> [each.tolist() for each in judged(boxes, jnp.repeat(truth, 3, 0), 0.2)]
    [[True, False, False], [False, False, True]]
    """
    side, own = boxes[:, 2] - boxes[:, 0], truth[:, 2] - truth[:, 0]
    centres = (boxes[:, :2] + boxes[:, 2:] - truth[:, :2] - truth[:, 2:]) / 2
    off = jnp.abs(centres).max(-1) * FRAME / own
    factor = jnp.abs(jnp.log(side / own)) / step
    return (off <= GOOD[0]) & (factor <= GOOD[1]), (off > BAD[0]) | (factor > BAD[1])


def drawn(keys: Key[Array, " n"], truth: Float[Array, "n 4"], size: int, scales: Sequence[float]) -> list[Array]:
    """Boxes to learn from, four of each picture: one on the object, two about it of any scale, and one anywhere.

    A part of an object may look like another one: the loop of a 9 in a small box is a 0. So most of the background is
    taken from there.

    Args:
      keys: one a picture.
      truth: the objects' boxes.
      size: of the pictures.
      scales: that are searched.
    """
    step = step_of(scales)
    own = (truth[:, 2] - truth[:, 0]) / FRAME
    middle = (truth[:, :2] + truth[:, 2:]) / 2
    shares = jnp.moveaxis(uniform(keys, (-1, 1), (4, 3)), 1, 0)  # of each box the place x y, and the scale
    low, high = (math.log(scales[i]) for i in (0, -1))

    def about(share: Array, off: float, scale: Array) -> Array:
        return _square(middle + off * own[:, None] * share[:, :2], scale)

    good = about(shares[0], GOOD[0], own * jnp.exp(shares[0][:, 2] * GOOD[1] * step))
    any_scale = [jnp.exp(low + (high - low) * (share[:, 2] + 1) / 2) for share in shares[1:]]
    near = [about(share, FRAME / 2, scale) for share, scale in zip(shares[1:3], any_scale[:2], strict=True)]
    room = size - FRAME * any_scale[2][:, None]
    anywhere = (room * shares[3][:, :2] + size) / 2
    return [good, *near, _square(anywhere, any_scale[2])]


def _square(middle: Float[Array, "n 2"], scale: Float[Array, " n"]) -> Float[Array, "n 4"]:
    half = FRAME / 2 * scale[:, None]
    return jnp.concatenate([middle - half, middle + half], -1)
