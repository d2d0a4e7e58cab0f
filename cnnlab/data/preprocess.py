"""From stored pictures, 0 to 255, to a network's input, on the device.

They are uint8 but where somebody changes them by less than a grey level, as adversaries do: then floats.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Real, Shaped

from cnnlab.errors import UserError


def pad_and_scale(image: Real[Array, "n h w c"], size: int, low: float, high: float) -> Float[Array, "n size size c"]:
    """Pads with black to size×size, the picture in the middle, then maps black (0) to `low` and white (255) to `high`.

    LeNet-5's input is 32×32 with the background at −0.1 and the ink at 1.175, which gives MNIST a mean of about 0 and a
    variance of about 1 (LeCun et al. 1998, section II-B).

    >>> row = pad_and_scale(jnp.full((1, 28, 28, 1), 255, jnp.uint8), 32, -0.1, 1.175)[0, 16, :3, 0]
    >>> [round(x, 3) for x in row.tolist()]
    [-0.1, -0.1, 1.175]
    """
    height, width = image.shape[1:3]
    top, left = (size - height) // 2, (size - width) // 2
    if top < 0 or left < 0:
        raise ValueError(f"pictures of {height}×{width} do not fit into {size}×{size}")
    image = jnp.pad(image, ((0, 0), (top, size - height - top), (left, size - width - left), (0, 0)))
    return image.astype(jnp.float32) * ((high - low) / 255) + low


def centre_crop(pictures: Shaped[Array, "n h w c"], size: int) -> Shaped[Array, "n size size c"]:
    """The middle size×size of each picture; where a pixel is left over, it is at the right and below.

    >>> centre_crop(jnp.arange(9).reshape(1, 3, 3, 1), 1).tolist()
    [[[[4]]]]

    Raises:
      UserError: the pictures are smaller.
    """
    height, width = pictures.shape[1:3]
    top, left = (height - size) // 2, (width - size) // 2
    if top < 0 or left < 0:
        raise UserError(f"a crop of {size}×{size} does not fit into pictures of {height}×{width}")
    return pictures[:, top : top + size, left : left + size]


def rescale(pictures: Real[Array, "*n h w c"], size: int) -> Real[Array, "*n size size c"]:
    """Pictures scaled to size×size, bilinear; a smaller picture's pixels are weighted means of all that they cover.

    >>> rescale(jnp.array([[0, 100], [100, 200]], jnp.uint8)[None, :, :, None], 1).tolist()
    [[[[100]]]]
    """
    shape = (*pictures.shape[:-3], size, size, pictures.shape[-1])
    if shape == pictures.shape:
        return pictures
    scaled = jax.image.resize(pictures.astype(jnp.float32), shape, "linear", antialias=True)
    if jnp.issubdtype(pictures.dtype, jnp.inexact):
        return scaled
    return jnp.clip(jnp.round(scaled), 0, 255).astype(pictures.dtype)  # rounding errors may lead beyond white


def shrunk(pictures: Real[Array, "n h w c"], size: int) -> Real[Array, "n h2 w2 c"]:
    """Squares larger than size×size scaled to that; others as they are."""
    return rescale(pictures, size) if min(pictures.shape[1:3]) > size else pictures


def contrast_normalise(pictures: Real[Array, "n h w c"]) -> Float[Array, "n h w c"]:
    """Global contrast normalisation: each picture, all its pixels and channels together, to mean 0 and variance 1.

    One whose standard deviation is below a grey level keeps it; one without contrast becomes 0.

    >>> contrast_normalise(jnp.array([[[[1], [3]]]], jnp.uint8)).ravel().tolist()
    [-1.0, 1.0]
    """
    wide = pictures.astype(jnp.float32)
    centred = wide - wide.mean((1, 2, 3), keepdims=True)
    size = jnp.sqrt(jnp.square(centred).mean((1, 2, 3), keepdims=True))
    return centred / jnp.maximum(size, 1.0)


@dataclasses.dataclass(frozen=True)
class Convention:
    """What a network expects of its pictures, which are RGB.

    Attributes:
      size: height and width of the network's input, in pixels.
      resize: the shorter side that a picture is scaled to before its centre is cut out.
      mean, std: of each channel, of pixel values between 0 and 1: the input is (pixel / 255 − mean) / std.
    """

    size: int
    resize: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def normalise(self, pictures: Real[Array, "n h w 3"]) -> Float[Array, "n h w 3"]:
        """Stored pictures as the network's input."""
        scale = 1 / (255 * np.array(self.std))
        shift = -np.array(self.mean) / np.array(self.std)
        return pictures * jnp.asarray(scale, jnp.float32) + jnp.asarray(shift, jnp.float32)

    def crop_and_normalise(self, pictures: Real[Array, "n h w 3"]) -> Float[Array, "n size size 3"]:
        """Stored or augmented pictures as the network's input: their centre, normalised.

        What is stored larger than `resize`, so that training can cut smaller parts, is scaled to that first.
        """
        return self.normalise(centre_crop(shrunk(pictures, self.resize), self.size))

    @property
    def colour(self) -> tuple[int, ...]:
        """The mean as a pixel's colour, which becomes about 0 in the network's input."""
        return tuple(round(255 * mean) for mean in self.mean)
