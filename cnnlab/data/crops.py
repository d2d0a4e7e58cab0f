"""The views of a picture that the papers test on: parts, scales and mirror images, cut on the device.

Each function takes stored pictures (n h w c) to views (n v size size c), for `cnnlab/testing.py` to average over.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, UInt8

from cnnlab.data.preprocess import rescale, shrunk
from cnnlab.errors import UserError


def ten_crops(pictures: UInt8[Array, "n h w c"], size: int, resize: int = 0) -> UInt8[Array, "n 10 size size c"]:
    """Ten views: the four corners and the centre, then the mirror images of these five.

    AlexNet's paper, section 4.1: 224×224 of 256×256. Larger pictures are scaled to resize×resize first, where that is
    not 0.

    >>> ten_crops(jnp.arange(9, dtype=jnp.uint8).reshape(1, 3, 3, 1), 1).ravel().tolist()
    [0, 2, 6, 8, 4, 0, 2, 6, 8, 4]

    Raises:
      UserError: the pictures are smaller than size×size.
    """
    if resize:
        pictures = shrunk(pictures, resize)
    return with_mirrors(_five(pictures[:, None], size))


def googlenet_scales(size: int) -> tuple[int, int, int, int]:
    """The shorter sides, in pixels, at which GoogLeNet's paper tests: 8, 9, 10 and 11 sevenths of the input's size.

    >>> googlenet_scales(224)
    (256, 288, 320, 352)
    """
    first, second, third, largest = (round(size * sevenths / 7) for sevenths in (8, 9, 10, 11))
    return first, second, third, largest


def googlenet_crops(
    pictures: UInt8[Array, "n s s c"] | UInt8[Array, "n 3 s s c"], size: int
) -> UInt8[Array, "n v size size c"]:
    """GoogLeNet's 144 views of three squares, or 48 of one square.

    The paper's section 7: at four scales (`googlenet_scales`) the left, the centre and the right square of a wide
    picture, or the top, the centre and the bottom one of a tall picture; of each square its four corners, its centre
    and the whole square made smaller to size×size; and all mirror images: 4 · 3 · 6 · 2 views. Of pictures that are
    stored as squares the three coincide, and 4 · 6 · 2 views, each standing for three equal ones, have the same mean.

    The order is: scales, smallest first; in each, squares; in each, the six parts. The mirror images come last, in the
    same order.

    Args:
      pictures: squares s×s, or three of each picture as `read_picture` makes them; best of s = the largest scale, for
        then nothing is scaled twice to be seen at that scale.
      size: of the network's input, in pixels.

    Raises:
      UserError: s is less than the largest scale.
    """
    scales = googlenet_scales(size)
    squares = pictures if pictures.ndim == 5 else pictures[:, None]
    if squares.shape[2] < scales[-1]:
        stored = f"{squares.shape[2]}×{squares.shape[2]}"
        raise UserError(
            f"GoogLeNet's views of {size}×{size} need pictures of {scales[-1]}×{scales[-1]}, these are {stored}"
        )
    return with_mirrors(jnp.concatenate([_six(rescale(squares, scale), size) for scale in scales], 1))


def mirrored_scales(pictures: UInt8[Array, "n h w c"], sizes: Sequence[int]) -> list[UInt8[Array, "n 2 _ _ c"]]:
    """Whole pictures and their mirror images, at several sizes: a list of (n 2 q q c), one for each q of `sizes`.

    VGG's paper, section 4.2, for dense testing (`cnnlab/models/dense.py`): 256, 384 and 512 for a net trained at
    scales of 256 to 512; S − 32, S and S + 32 for one trained at S. The paper's pictures keep their shape; stored ones
    are central squares.

    Raises:
      UserError: a size is larger than the pictures.
    """
    smallest = min(pictures.shape[1:3])
    for size in sizes:
        if size > smallest:
            raise UserError(f"a scale of {size} pixels is larger than the pictures, which have {smallest}")
    return [with_mirrors(rescale(pictures, size)[:, None]) for size in sizes]


def with_mirrors(views: UInt8[Array, "n v h w c"]) -> UInt8[Array, "n v2 h w c"]:
    """The views, then their mirror images (left and right exchanged).

    >>> with_mirrors(jnp.array([1, 2], jnp.uint8).reshape(1, 1, 1, 2, 1)).tolist()
    [[[[[1], [2]]], [[[2], [1]]]]]
    """
    return jnp.concatenate([views, views[:, :, :, ::-1]], 1)


def _five(squares: UInt8[Array, "n q h w c"], size: int) -> UInt8[Array, "n v size size c"]:
    """The four corners and the centre of each square, square by square."""
    height, width = squares.shape[2:4]
    if size > min(height, width):
        raise UserError(f"a crop of {size}×{size} does not fit into pictures of {height}×{width}")
    bottom, right = height - size, width - size
    places = ((0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2))
    parts = [squares[:, :, top : top + size, left : left + size] for top, left in places]
    return jnp.stack(parts, 2).reshape(len(squares), -1, size, size, squares.shape[-1])


def _six(squares: UInt8[Array, "n q h w c"], size: int) -> UInt8[Array, "n v size size c"]:
    """`_five` and the whole square made smaller, square by square."""
    n, q, *_, channels = squares.shape
    five = _five(squares, size).reshape(n, q, 5, size, size, channels)
    six = jnp.concatenate([five, rescale(squares, size)[:, :, None]], 2)
    return six.reshape(n, 6 * q, size, size, channels)
