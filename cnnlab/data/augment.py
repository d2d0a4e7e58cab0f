"""Augmentation: random changes of training pictures, on the device, inside the train step.

Every function takes a key for each picture, so what happens to a picture depends on the step and on its place in the
global batch, not on how many devices share the work. `keys_of` makes the keys.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key, UInt8

from cnnlab.errors import UserError


def keys_of(key: Key[Array, ""], position: Int[Array, " n"]) -> Key[Array, " n"]:
    """A key for each example: that of the step, and the example's place in the global batch."""
    return jax.vmap(lambda place: jax.random.fold_in(key, place))(position)


def random_crop(
    keys: Key[Array, " n"],
    pictures: UInt8[Array, "n h w c"],
    size: int,
    padding: int = 0,
    fill: tuple[int, ...] = (0,),
) -> UInt8[Array, "n size size c"]:
    """A part of size×size of each picture, all places equally likely.

    Args:
      keys: one a picture.
      pictures: of any size.
      size: height and width of the part.
      padding: pixels put on each side first. The CIFAR recipe has 32 of 32 + 2·4.
      fill: their colour, one number or one a channel; the mean colour is what becomes 0 in the network's input.

    Raises:
      UserError: the part is larger than the padded picture.
    """
    n, height, width, channels = pictures.shape
    if min(height, width) + 2 * padding < size:
        raise UserError(f"a crop of {size}×{size} does not fit into pictures of {height}×{width} padded by {padding}")
    if padding:
        shape = (n, height + 2 * padding, width + 2 * padding, channels)
        around = jnp.broadcast_to(jnp.array(fill, jnp.uint8), shape)
        pictures = around.at[:, padding : padding + height, padding : padding + width].set(pictures)

    def crop(key, picture):
        room = jnp.array(picture.shape[:2]) - size
        top, left = jax.random.randint(key, (2,), 0, room + 1)
        return jax.lax.dynamic_slice(picture, (top, left, 0), (size, size, channels))

    return jax.vmap(crop)(keys, pictures)


def random_flip(keys: Key[Array, " n"], pictures: UInt8[Array, "n h w c"]) -> UInt8[Array, "n h w c"]:
    """Each picture or its mirror image (left and right exchanged), both equally likely."""
    mirrored = jax.vmap(jax.random.bernoulli)(keys)
    return jnp.where(mirrored[:, None, None, None], pictures[:, :, ::-1], pictures)


def crop_and_flip(
    keys: Key[Array, " n"],
    pictures: UInt8[Array, "n h w c"],
    size: int,
    padding: int = 0,
    fill: tuple[int, ...] = (0,),
) -> UInt8[Array, "n size size c"]:
    """`random_crop`, then `random_flip`: AlexNet's translations and reflections, and the usual recipe of CIFAR."""
    keys = jax.vmap(jax.random.split)(keys)
    return random_flip(keys[:, 1], random_crop(keys[:, 0], pictures, size, padding, fill))
