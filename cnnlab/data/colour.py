"""Changes of colour: grey, jitter of brightness, contrast, saturation and hue, AlexNet's noise along principal colours.

All take a key for each example and a batch, and change only a copy's "image": uint8, rounded once at the end. Pictures
have one channel (grey) or three (RGB).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, UInt8

from cnnlab.data.draws import Batch, Number, Range, check_range, coin, uniforms
from cnnlab.errors import UserError

# Of red, green and blue in how bright a colour looks (ITU-R BT.601).
LUMA = (0.299, 0.587, 0.114)
# The principal components of ImageNet's colours: eigenvalues and eigenvectors, one a row, of the covariance of RGB
# values from 0 to 1. As published with Facebook's ResNet (fb.resnet.torch, datasets/imagenet.lua), from which most
# later code has them; AlexNet's paper gives none. `colour_components` computes those of other pictures.
IMAGENET_EIGENVALUES = (0.2175, 0.0188, 0.0045)
IMAGENET_EIGENVECTORS = ((-0.5675, -0.5808, -0.5836), (0.7192, -0.0045, -0.6948), (0.4009, -0.8140, 0.4203))


def _grey(pictures: Float[Array, "n h w c"]) -> Float[Array, "n h w 1"]:
    if pictures.shape[-1] == 1:
        return pictures
    return sum(weight * pictures[..., i : i + 1] for i, weight in enumerate(LUMA))


def _changed(batch: Batch, pictures: Float[Array, "n h w c"]) -> dict[str, Array]:
    return {**batch, "image": jnp.clip(jnp.round(pictures), 0, 255).astype(jnp.uint8)}


def _check_channels(pictures: UInt8[Array, "n h w c"]) -> None:
    if pictures.shape[-1] not in (1, 3):
        raise UserError(f"pictures have {pictures.shape[-1]} channels; changes of colour take 1 (grey) or 3 (RGB)")


def grayscale(keys: Key[Array, " n"], batch: Batch, probability: Number = 0.1) -> dict[str, Array]:
    """Takes the colour from some pictures: all channels become 0.299 R + 0.587 G + 0.114 B.

    Args:
      keys: one a picture.
      batch: with "image".
      probability: of a picture to become grey.

    Raises:
      UserError: the probability is not one; pictures are neither grey nor RGB.
    """
    image = batch["image"]
    _check_channels(image)
    chosen = coin(keys, probability)[:, None, None, None]
    wide = image.astype(jnp.float32)
    return _changed(batch, jnp.where(chosen, _grey(wide), wide))


def _turn_hue(pictures: Float[Array, "n h w 3"], turn: Float[Array, "n 1 1"]) -> Float[Array, "n h w 3"]:
    """Colours with their hue moved by a share of the circle (HSV), value and saturation kept."""
    red, green, blue = jnp.moveaxis(pictures, -1, 0)
    value, low = pictures.max(-1), pictures.min(-1)
    chroma = value - low
    part = 1 / jnp.maximum(chroma, 1e-6)
    # In sixths of the circle, from red; where there is no chroma the hue does not matter.
    hue = jnp.where(
        value == red,
        (green - blue) * part,
        jnp.where(value == green, 2 + (blue - red) * part, 4 + (red - green) * part),
    )
    hue = hue + 6 * turn

    def channel(offset):
        k = offset + hue
        k -= 6 * jnp.floor(k / 6)  # the operator % is many times slower on CPUs
        return value - chroma * jnp.clip(jnp.minimum(k, 4 - k), 0, 1)

    return jnp.stack([channel(5), channel(3), channel(1)], -1)


def colour_jitter(
    keys: Key[Array, " n"],
    batch: Batch,
    brightness: Range = (0.6, 1.4),
    contrast: Range = (0.6, 1.4),
    saturation: Range = (0.6, 1.4),
    hue: Range = (-0.1, 0.1),
) -> dict[str, Array]:
    """Changes each picture's brightness, then its contrast, saturation and hue, by amounts drawn for the picture.

    Args:
      keys: one a picture.
      batch: with "image".
      brightness: range of the factor of all values, 0 to 10; 0 is black, 1 no change.
      contrast: range of the factor of the distance to the picture's mean grey, 0 to 10.
      saturation: range of the factor of each pixel's distance to its own grey, 0 to 10; 0 is grey.
      hue: range of the turn, in colour circles, −0.5 to 0.5: a third turns red into green.

    Saturation and hue change nothing in grey pictures.

    Raises:
      UserError: a range is out of bounds; pictures are neither grey nor RGB.
    """
    image = batch["image"]
    _check_channels(image)
    for name, limits in (("brightness", brightness), ("contrast", contrast), ("saturation", saturation)):
        check_range(name, limits, 0, 10)
    check_range("hue", hue, -0.5, 0.5)
    drawn = uniforms(keys, brightness, contrast, saturation, hue)
    bright, apart, vivid, turn = drawn[..., None, None, None]

    def within(pictures):
        return jnp.clip(pictures, 0, 255)

    # Each step clips, as a hue is only one of a colour that can be shown.
    wide = within(image * bright)
    middle = _grey(wide).mean((1, 2, 3), keepdims=True)
    wide = within(middle + (wide - middle) * apart)
    if image.shape[-1] == 3:
        grey = _grey(wide)
        wide = _turn_hue(within(grey + (wide - grey) * vivid), turn[..., 0])
    return _changed(batch, wide)


def colour_noise(
    keys: Key[Array, " n"],
    batch: Batch,
    deviation: Number = 0.1,
    eigenvalues: tuple[Number, ...] = IMAGENET_EIGENVALUES,
    eigenvectors: tuple[tuple[Number, ...], ...] = IMAGENET_EIGENVECTORS,
) -> dict[str, Array]:
    """Adds to all pixels of a picture the same random colour, along the principal components of all pictures' colours.

    Krizhevsky et al. 2012 (AlexNet), section 4.1: Σ αᵢ λᵢ pᵢ, αᵢ drawn from N(0, `deviation`) once a picture. Pixels
    are taken as from 0 to 1 here: with the paper's 0 to 255 the literal λ would be larger than all colours.

    Args:
      keys: one a picture.
      batch: with "image", RGB.
      deviation: of α, at least 0; the paper's 0.1.
      eigenvalues: λ of the covariance of RGB values from 0 to 1; ImageNet's by default, see `colour_components`.
      eigenvectors: p, one a row.

    Raises:
      UserError: the deviation is negative; pictures are not RGB.
    """
    image = batch["image"]
    if image.shape[-1] != 3:
        raise UserError(f"colour_noise takes RGB pictures; the number of channels is {image.shape[-1]}")
    if not deviation >= 0:
        raise UserError(f"deviation is {deviation}; it must be at least 0")
    alpha = deviation * jax.vmap(lambda key: jax.random.normal(key, (3,)))(keys)
    along = 255 * np.asarray(eigenvalues)[:, None] * np.asarray(eigenvectors)
    noise = (alpha[:, :, None] * jnp.asarray(along, jnp.float32)).sum(1)
    return _changed(batch, image + noise[:, None, None, :])


def colour_components(
    pictures: UInt8[np.ndarray, "n h w 3"],
) -> tuple[tuple[float, ...], tuple[tuple[float, ...], ...]]:
    """Eigenvalues, largest first, and eigenvectors, one a row, of the colours of some pictures, for `colour_noise`.

    They are those of the covariance of all pixels' RGB values, taken as from 0 to 1. On the host.

    >>> values, vectors = colour_components(np.array([[[[0, 0, 0], [255, 0, 0]]]], np.uint8))
    >>> [round(value, 3) for value in values], [abs(round(part, 3)) for part in vectors[0]]
    ([0.25, 0.0, 0.0], [1.0, 0.0, 0.0])
    """
    pixels = pictures.reshape(-1, 3) / 255
    values, vectors = np.linalg.eigh(np.cov(pixels.T, bias=True))
    return tuple(values[::-1].tolist()), tuple(map(tuple, vectors.T[::-1].tolist()))
