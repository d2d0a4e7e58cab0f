"""Judicious normalisation: the object upright, at a fixed size and place, found by the moments of its ink.

A box around the object, deskewed, takes out translation, scale, shear and stretch before a network sees the picture.
The practice is that of MNIST: LeCun et al. 1998, section III-A, put digits of 20×20 with their centre of mass in the
middle of 28×28, and also deskew them by their second moments. It works where the ink is the object's alone.

Pictures are white ink on black, from 0 to 255. Coordinates are as in `warp.py`: in pixels, x to the right and y down,
the centre of pixel (i, j) in (j + ½, i + ½).
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Real

from cnnlab.data.warp import bilinear
from cnnlab.errors import UserError

INK = 0.25  # of a picture's brightest pixel: from there on a pixel is the object's, when its box is measured
STEEPEST = 1.0  # pixels to the side a row: an object that leans by more than 45° is not a skewed upright one
SPREAD = 1 / 6  # pixels²: what interpolation between the centres of pixels adds to the variance of ink


class Moments(NamedTuple):
    """Where the ink of pictures lies, and how it spreads.

    Attributes:
      ink: the sum of all pixels, the mean of the channels.
      centre: of mass, x y; the picture's middle where there is no ink.
      covariance: [[xx, xy], [xy, yy]] about it, in pixels², each pixel's ink taken to be in its centre.
    """

    ink: Float[Array, " n"]
    centre: Float[Array, "n 2"]
    covariance: Float[Array, "n 2 2"]


def moments(pictures: Real[Array, "n h w c"]) -> Moments:
    """The first and second moments of pictures' ink.

    >>> found = moments(jnp.array([[[[0], [1], [3]]]]))
    >>> [found.ink.tolist(), found.centre.tolist(), found.covariance[0, 0].tolist()]
    [[4.0], [[2.25, 0.5]], [0.1875, 0.0]]
    """
    height, width = pictures.shape[1:3]
    ink = pictures.astype(jnp.float32).mean(-1)
    total = ink.sum((1, 2))
    share = ink / jnp.maximum(total, 1e-6)[:, None, None]
    across, down = jnp.arange(width) + 0.5, jnp.arange(height)[:, None] + 0.5
    x, y = ((share * place).sum((1, 2)) for place in (across, down))
    some = total > 0
    x, y = jnp.where(some, x, width / 2), jnp.where(some, y, height / 2)
    # About the centre and not about the origin, where small differences of large numbers would remain.
    dx, dy = across - x[:, None, None], down - y[:, None, None]
    xx, xy, yy = ((share * product).sum((1, 2)) for product in (dx * dx, dx * dy, dy * dy))
    return Moments(total, jnp.stack([x, y], -1), jnp.stack([xx, xy, xy, yy], -1).reshape(-1, 2, 2))


def skew(covariance: Float[Array, "n 2 2"]) -> Float[Array, " n"]:
    """How far objects lean, in pixels to the right a row further down; sheared back by it, their xy is 0.

    At most `STEEPEST` either way. It is 0 for ink in one row, which leans nowhere.

    >>> skew(jnp.array([[[2.0, 1.0], [1.0, 4.0 - SPREAD]]])).tolist()
    [0.25]
    """
    return jnp.clip(covariance[:, 0, 1] / (covariance[:, 1, 1] + SPREAD), -STEEPEST, STEEPEST)


def judicious(pictures: Real[Array, "n h w c"], size: int = 28, box: int = 20) -> Float[Array, "n {size} {size} c"]:
    """Pictures of their object alone, upright, its longer side `box` pixels long, its centre of mass in the middle.

    It is sheared along x until its ink's covariance xy is 0, then scaled alike in both directions. A picture without
    ink stays black. All is done in a single bilinear resampling, which smooths nothing: an object more than twice as
    long as `box` loses detail.

    Args:
      pictures: white ink on black, from 0 to 255, of any size.
      size: height and width of the new pictures.
      box: in pixels, at most `size`.

    Raises:
      UserError: `box` is not from 1 to `size`.
    """
    if not 1 <= box <= size:
        raise UserError(f"objects are to be {box} pixels long on pictures of {size}×{size}; it must be 1 to {size}")
    found = moments(pictures)
    lean = skew(found.covariance)[:, None, None]
    x, y = (found.centre[:, i, None, None] for i in (0, 1))
    longest = _longest_side(pictures, lean, x, y)
    scale = longest / box
    offset = (jnp.arange(size) + 0.5 - size / 2)[None]
    across, down = jnp.broadcast_arrays(offset[:, None, :] * scale, offset[:, :, None] * scale)
    return bilinear(pictures, x + across + lean * down, y + down, jnp.zeros(pictures.shape[-1], pictures.dtype))


def _longest_side(pictures: Real[Array, "n h w c"], lean: Array, x: Array, y: Array) -> Float[Array, "n 1 1"]:
    """The longer side of the box around each object after deskewing, in pixels; 1 where there is none."""
    height, width = pictures.shape[1:3]
    ink = pictures.astype(jnp.float32).mean(-1)
    inside = (ink > 0) & (ink >= INK * ink.max((1, 2), keepdims=True))
    down = jnp.arange(height)[:, None] + 0.5 - y
    across = jnp.arange(width) + 0.5 - x - lean * down
    return jnp.maximum(_extent(across, inside), _extent(down, inside))


def _extent(place: Array, inside: Bool[Array, "n h w"]) -> Float[Array, "n 1 1"]:
    """From the first edge to the last of the pixels inside."""
    low = jnp.where(inside, place, jnp.inf).min((1, 2), keepdims=True)
    high = jnp.where(inside, place, -jnp.inf).max((1, 2), keepdims=True)
    return jnp.where(high >= low, high - low, 0.0) + 1
