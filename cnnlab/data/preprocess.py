"""From stored uint8 pictures to a network's input, on the device."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8


def pad_and_scale(image: UInt8[Array, "n h w c"], size: int, low: float, high: float) -> Float[Array, "n size size c"]:
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

    def normalise(self, pictures: UInt8[Array, "n h w 3"]) -> Float[Array, "n h w 3"]:
        """Stored pictures as the network's input."""
        scale = 1 / (255 * np.array(self.std))
        shift = -np.array(self.mean) / np.array(self.std)
        return pictures * jnp.asarray(scale, jnp.float32) + jnp.asarray(shift, jnp.float32)
