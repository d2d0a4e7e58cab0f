"""Hiding parts of pictures: boxes painted over, in a colour that a config field names, in what a network sees."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Real

from cnnlab.errors import UserError

GREY = 127.5  # half way from black to white

Box = tuple[int, int, int, int]  # y0, x0, y1, x1, without the last row and column


def covered(
    pictures: Real[Array, "n h w c"], boxes: Int[Array, "n 4"], colour: Real[Array, " c"]
) -> Float[Array, "n h w c"]:
    """Each picture with its own box painted over.

    Args:
      pictures: stored ones, 0 to 255.
      boxes: y0, x0, y1, x1, without the last row and column; they may reach over the border, and be empty.
      colour: of the paint.
    """
    y, x = jnp.arange(pictures.shape[1])[:, None], jnp.arange(pictures.shape[2])[None, :]
    y0, x0, y1, x1 = (edge[:, None, None] for edge in boxes.T)
    inside = (y >= y0) & (y < y1) & (x >= x0) & (x < x1)
    return jnp.where(inside[..., None], colour, pictures).astype(jnp.float32)


def bounding_box(mask: Bool[np.ndarray, "h w"]) -> Box:
    """The smallest box round all that is true: y0, x0, y1, x1, without the last row and column; empty where none is.

    >>> bounding_box(np.array([[False, False], [True, False]]))
    (1, 0, 2, 1)
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return 0, 0, 0, 0
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def seen_window(preprocess: Callable[[Array], Array], picture_shape: tuple[int, int, int]) -> Box:
    """The part of stored pictures that the network sees: y0, x0, y1, x1. Many recipes cut off the border.

    >>> seen_window(lambda pictures: pictures[:, 2:7, 1:], (8, 8, 3))
    (2, 1, 7, 8)
    """
    # A pixel is seen where the input has a derivative by it. Random numbers, for one by one no two cancel out.
    draw = np.random.default_rng(0)
    picture = jnp.asarray(draw.uniform(0, 255, (1, *picture_shape)), jnp.float32)
    x, pull = jax.vjp(preprocess, picture)
    (by_pixel,) = pull(jnp.asarray(draw.normal(size=x.shape), x.dtype))
    return bounding_box(np.asarray(by_pixel[0] != 0).any(-1))


def paint(fill: str, pictures: Real[np.ndarray, "n h w c"], field: str) -> Float[np.ndarray, " c"]:
    """The colour that a config field names.

    Args:
      fill: "grey", half way from black to white; "mean", the pictures' mean colour; or one of one's own from 0 to 255,
        a number for each channel or one for all: "124,116,104".
      pictures: stored ones.
      field: whose value `fill` is.

    >>> paint("255, 0, 0", np.zeros((1, 2, 2, 3)), "config.occlusion.fill").tolist()
    [255.0, 0.0, 0.0]

    Raises:
      UserError: it is none of these.
    """
    channels = pictures.shape[-1]
    if fill == "grey":
        return np.full(channels, GREY)
    if fill == "mean":
        return pictures.mean((0, 1, 2))
    try:
        colour = [float(part) for part in fill.split(",")]
    except ValueError:
        colour = []
    if len(colour) not in (1, channels) or not all(0 <= value <= 255 for value in colour):
        numbers = "a number" if channels == 1 else f"one number or {channels} with commas between,"
        raise UserError(f'{field} is "{fill}"; it must be "grey", "mean" or {numbers} from 0 to 255')
    return np.broadcast_to(np.asarray(colour), channels)
