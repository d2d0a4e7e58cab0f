"""Cluttered digits: a digit anywhere on a larger black picture, among small pieces of other digits.

As in Mnih, Heess, Graves, Kavukcuoglu 2014 ("Recurrent models of visual attention"), section 4.1, and in Jaderberg et
al. 2015 ("Spatial transformer networks"), section 4.1 and appendix. In training every digit is placed anew each time;
`augment.fixed` makes a set to test on.
"""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, Real, UInt8

from cnnlab.data.boxed import place, weights_along
from cnnlab.data.draws import Batch, Range, check_range, split, uniform, uniforms
from cnnlab.data.source import Source
from cnnlab.errors import UserError


def digit_bank(source: Source, count: int = 1000) -> UInt8[np.ndarray, "m h w 1"]:
    """Up to `count` digits spread evenly over a source, to cut pieces of; see `clutter`."""
    return source.batch(np.linspace(0, len(source) - 1, min(count, len(source))).astype(np.int64))["image"]


def clutter(
    keys: Key[Array, " n"],
    batch: Batch,
    bank: Real[Array | np.ndarray, "m s s 1"],
    size: int = 60,
    pieces: int = 16,
    piece: int = 6,
    scale: Range = (1.0, 1.0),
) -> dict[str, Array]:
    """Places each digit on a black picture of size×size and scatters pieces of other digits over it.

    All places within the picture are equally likely. Where ink lies on ink, it adds up to at most 255. What is drawn
    depends on an example's key alone, not on the digits beside it in the batch.

    Args:
      keys: one a picture.
      batch: with "image", square and grey.
      bank: digits that pieces are cut from, a constant; a thousand are many enough that a picture's own is rare.
      size: height and width of the new pictures.
      pieces: how many there are in each; 0: none.
      piece: their height and width, cut at any place of a digit.
      scale: factors that the digits are enlarged by, all between equally likely. At 1 a digit is copied pixel by pixel.

    Returns:
      The batch with the new "image", and in "boxes" (n, 1, 4) the frame x0 y0 x1 y1 that the digit's picture has in it.

    Raises:
      UserError: see `check_fits`; the pictures are not square or not grey.
    """
    image = batch["image"]
    side = image.shape[1]
    if image.shape[1] != image.shape[2] or image.shape[3] != 1:
        shape = "×".join(map(str, image.shape[1:]))
        raise UserError(f"clutter is put around square grey pictures, and these are {shape}")
    check_fits(side, size, pieces, piece, scale, bank.shape[1])
    of_digit, of_pieces = split(keys, 2)
    factor, *places = uniforms(of_digit, scale, (0, 1), (0, 1))
    x, y = (_whole(place, size - side * factor) for place in places)
    along_y, along_x = (weights_along(-at / factor, 1 / factor, size, side) for at in (y, x))
    ink = place(image[..., 0], along_y, along_x)
    if pieces:
        ink += _scattered(of_pieces, jnp.asarray(bank[..., 0]), size, pieces, piece)
    boxes = jnp.stack([x, y, x + side * factor, y + side * factor], -1)[:, None]
    return {**batch, "image": jnp.round(jnp.minimum(ink, 255)).astype(jnp.uint8)[..., None], "boxes": boxes}


def _whole(share: Array, room: Array | int) -> Array:
    """A whole number from 0 to `room`, of a share that is equally likely anywhere from 0 to 1."""
    return jnp.minimum(jnp.floor(share * jnp.floor(room + 1)), jnp.floor(room))


def _scattered(keys: Array, bank: Array, size: int, pieces: int, piece: int) -> Array:
    """The pieces alone, (n, size, size), their ink added up."""
    shares = jnp.moveaxis(uniform(keys, (0, 1), (5, pieces)), 1, 0)
    rooms = (len(bank) - 1, bank.shape[1] - piece, bank.shape[2] - piece, size - piece, size - piece)
    which, row, column, x, y = (_whole(share, room) for share, room in zip(shares, rooms, strict=True))
    which, row, column, x, y = (at.astype(jnp.int32)[..., None, None] for at in (which, row, column, x, y))
    down, right = jnp.arange(piece)[:, None], jnp.arange(piece)
    pixel = jnp.arange(len(keys))[:, None, None, None] * size**2 + (y + down) * size + x + right
    canvas = jnp.zeros(len(keys) * size**2)
    # Added to a flat array pixel by pixel: on CPUs four times as fast as products with matrices that move them.
    canvas = canvas.at[pixel.ravel()].add(bank[which, row + down, column + right].ravel().astype(jnp.float32))
    return canvas.reshape(-1, size, size)


def check_fits(side: int, size: int, pieces: int, piece: int, scale: Range, of_bank: int) -> None:
    """Makes sure of `clutter`'s numbers, for digits of side×side and a bank of digits of of_bank×of_bank.

    Raises:
      UserError: one is out of its range, or the digits or the pieces do not fit.
    """
    check_range("scale", scale, 0.5, math.inf)
    largest = math.ceil(side * scale[1])
    if largest > size:
        raise UserError(
            f"digits of {side}×{side} enlarged by up to {scale[1]:g} are {largest}×{largest}: they do not fit on "
            f"pictures of {size}×{size}"
        )
    most = min(of_bank, size)
    if pieces < 0 or not 1 <= piece <= most:
        raise UserError(
            f"there are to be {pieces} pieces of {piece}×{piece}; it must be 0 or more, of 1×1 to {most}×{most}"
        )
