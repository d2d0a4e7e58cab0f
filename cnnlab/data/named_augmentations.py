"""Augmentations by name, as `config.augment` lists them: "crop=4,flip" is the usual recipe of CIFAR."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from cnnlab.data import augment, colour, distort
from cnnlab.data.augment import Augment, compose, keys_of
from cnnlab.data.draws import Batch
from cnnlab.data.preprocess import shrunk
from cnnlab.errors import UserError, nearest


def named(text: str, stored: int, size: int, fill: tuple[int, ...] = (0,), resize: int = 0) -> Augment | None:
    """One augmentation that does those of a list in turn; None of an empty list.

    Args:
      text: names with commas between; "name=number" changes how much is done.
      stored: height and width of the pictures, in pixels.
      size: of the network's input: what crops are cut to.
      fill: the colour of what comes in from outside.
      resize: what larger pictures are scaled to before "crop"; 0: nothing.

    What the number is, and its usual value:

    * crop: pixels put around first, 0; then a part, all places equally likely (AlexNet; with 4 ResNet on CIFAR)
    * resized_crop: the smallest share of the picture that the part may be, 0.08; of random shape too (GoogLeNet)
    * scale_jitter: the largest size that the picture is scaled to before a part is cut, in smallest sizes, 2; the
      smallest is 8/7 of the network's input (VGG's 256 to 512; 1.875 gives ResNet's 256 to 480)
    * flip, vertical_flip: the probability, 0.5
    * grayscale: the probability, 0.1
    * colour_jitter: brightness, contrast and saturation change by a factor of 1 ± it, the hue by a quarter of it, 0.4
    * colour_noise: the standard deviation along the principal components, 0.1 (AlexNet)
    * translation: ± shares of the picture, 0.1
    * rotation, affine: ± degrees, 15; the second scales and shears too (Ciresan)
    * scaling: by a factor of 1 ± it, 0.2
    * elastic: the strength, 1 (Ciresan's, for pictures of any size)
    * cutout: the side of the square, in sides of the input, 0.5

    >>> named("crop=4, flip", stored=32, size=32) is not None, named("", stored=32, size=32)
    (True, None)

    Raises:
      UserError: an unknown name, or a number that is none or out of its range.
    """
    makers = _makers(size, fill, resize or stored)
    chosen = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, amount = (word.strip() for word in part.partition("="))
        if name not in makers:
            near = nearest(name, makers) or ": it knows " + ", ".join(makers)
            raise UserError(f"config.augment knows no {name!r}{near}")
        usual, maker = makers[name]
        try:
            number = float(amount) if amount else usual
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise UserError(f"config.augment has {part!r}: after the = comes a number, as in {name}={usual:g}")
        chosen.append(maker(number))
    if not chosen:
        return None
    made = compose(*chosen)
    try:  # now rather than in the first step
        jax.eval_shape(lambda: made(keys_of(jax.random.key(0), jnp.arange(1)), _example(stored)))
    except UserError as error:
        raise UserError(f"config.augment is {text!r}: {error}") from error
    return made


def _makers(size: int, fill: tuple[int, ...], resize: int) -> dict[str, tuple[float, Callable[[float], Augment]]]:
    """By name the usual number, and what makes the augmentation of a number."""
    fixed = functools.partial

    def part(padding: float) -> Augment:
        return fixed(_part, resize=resize, size=size, padding=round(padding), fill=fill)

    def jitter(by: float) -> Augment:
        about = (1 - by, 1 + by)
        return fixed(colour.colour_jitter, brightness=about, contrast=about, saturation=about, hue=(-by / 4, by / 4))

    def scales(most: float) -> Augment:
        return fixed(augment.scale_jitter, size=size, shorter=(size * 8 / 7, size * 8 / 7 * most))

    def moved(by: float) -> Augment:
        return fixed(distort.translation, horizontal=(-by, by), vertical=(-by, by), fill=fill)

    def affine(degrees: float) -> Augment:
        return fixed(distort.affine_distortion, degrees=degrees, gentle=(), fill=fill)

    def square(share: float) -> Augment:
        if not 0 < round(share * size) <= size:
            raise UserError(f"config.augment has cutout={share:g}; the square must be of a pixel up to the whole input")
        return fixed(augment.cutout, size=round(share * size), fill=fill)

    return {
        "crop": (0.0, part),
        "resized_crop": (0.08, lambda least: fixed(augment.random_resized_crop, size=size, area=(least, 1.0))),
        "scale_jitter": (2.0, scales),
        "flip": (0.5, lambda probability: fixed(augment.horizontal_flip, probability=probability)),
        "vertical_flip": (0.5, lambda probability: fixed(augment.vertical_flip, probability=probability)),
        "grayscale": (0.1, lambda probability: fixed(colour.grayscale, probability=probability)),
        "colour_jitter": (0.4, jitter),
        "colour_noise": (0.1, lambda deviation: fixed(colour.colour_noise, deviation=deviation)),
        "translation": (0.1, moved),
        "rotation": (15.0, lambda degrees: fixed(distort.rotation, degrees=(-degrees, degrees), fill=fill)),
        "affine": (15.0, affine),
        "scaling": (0.2, lambda by: fixed(distort.scaling, factor=(1 - by, 1 + by), fill=fill)),
        "elastic": (1.0, lambda strength: fixed(_bent, strength=strength, fill=fill)),
        "cutout": (0.5, square),
    }


def bend_fields(side: int, strength: float = 1.0) -> dict[str, tuple[float, float]]:
    """The ranges of `distort.elastic` that bend pictures of a size as Ciresan's bend 29×29 pixels."""
    scale = side / 29
    return {
        "sigma": (max(0.5, 5 * scale), max(0.5, 6 * scale)),
        "alpha": (36 * strength * scale**2, 38 * strength * scale**2),
    }


def _part(keys: Key[Array, " n"], batch: Batch, resize: int, **crop) -> dict[str, Array]:
    return augment.random_crop(keys, {**batch, "image": shrunk(batch["image"], resize)}, **crop)


def _bent(keys: Key[Array, " n"], batch: Batch, strength: float, fill: tuple[int, ...]) -> dict[str, Array]:
    return distort.elastic(keys, batch, **bend_fields(min(batch["image"].shape[1:3]), strength), fill=fill)


def _example(stored: int) -> dict[str, Array]:
    return {"image": jnp.zeros((1, stored, stored, 3), jnp.uint8), "label": jnp.zeros(1, jnp.int32)}
