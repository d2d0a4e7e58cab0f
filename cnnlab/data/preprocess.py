"""From stored uint8 pictures to a network's input, on the device."""

import jax.numpy as jnp
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
