"""What all augmentations share: the batch they take, draws by a key for each example, and checks of their parameters.

A range is a pair (low, high) and all between is equally likely; where both are the same, it is always that.
"""

import math
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key, UInt8

from cnnlab.errors import UserError

Batch = Mapping[str, Array]
Number = float | int
Range = Sequence[Number]


def split(keys: Key[Array, " n"], count: int) -> list[Key[Array, " n"]]:
    """`count` keys of each key."""
    parts = jax.vmap(lambda key: jax.random.split(key, count))(keys)
    return [parts[:, i] for i in range(count)]


def uniform(keys: Key[Array, " n"], limits: Range, shape: tuple[int, ...] = ()) -> Float[Array, "n ..."]:
    """Numbers of a range, an array of `shape` for each key."""
    low, high = map(float, limits)
    # Drawn flat: XLA on CPUs compiles draws in several dimensions ten times slower.
    count = math.prod(shape)
    drawn = jax.vmap(lambda key: jax.random.uniform(key, (count,), jnp.float32, low, high))(keys)
    return drawn.reshape(-1, *shape)


def uniforms(keys: Key[Array, " n"], *ranges: Range) -> Float[Array, "k n"]:
    """A number of each range, for each key, in a single draw: k draws take XLA k times as long to compile."""
    low, high = jnp.array(ranges, jnp.float32).T[:, :, None]
    return low + (high - low) * uniform(keys, (0, 1), (len(ranges),)).T


def coin(keys: Key[Array, " n"], probability: Number) -> Bool[Array, " n"]:
    """True with a probability, for each key.

    Raises:
      UserError: the probability is not one.
    """
    if not 0 <= probability <= 1:
        raise UserError(f"probability is {probability}; it must be from 0 to 1")
    return jax.vmap(lambda key: jax.random.bernoulli(key, float(probability)))(keys)


def check_range(name: str, limits: Range, lowest: Number = -math.inf, highest: Number = math.inf) -> None:
    """Makes sure that a parameter is a range within bounds.

    >>> check_range("degrees", (-15, 15), -180, 180)

    Raises:
      UserError: it is not.
    """
    ordered = len(limits) == 2 and lowest <= limits[0] <= limits[1] <= highest
    if not (ordered and all(map(math.isfinite, limits))):
        bounds = [f"from {lowest:g} up"] * (lowest > -math.inf) + [f"up to {highest:g}"] * (highest < math.inf)
        right = f"two numbers, low and high, {' and '.join(bounds)}".rstrip(", ")
        raise UserError(f"{name} is {_shown(limits)}; it must be {right}")


def fill_colour(fill: Sequence[Number], channels: int) -> UInt8[Array, " c"]:
    """The colour of what comes in from outside, a number a channel.

    >>> fill_colour((7,), 3).tolist()
    [7, 7, 7]

    Raises:
      UserError: there are neither one number nor one a channel; one is no value of a uint8 pixel.
    """
    if len(fill) not in (1, channels) or not all(0 <= value <= 255 for value in fill):
        count = "one number" if channels == 1 else f"one number or {channels}"
        raise UserError(f"fill is {_shown(fill)}; it must be {count}, from 0 to 255")
    return jnp.broadcast_to(jnp.array(fill, jnp.uint8), (channels,))


def check_label(fill_label: int, segmentation: Array) -> None:
    """Makes sure that the label of what comes in from outside fits the segmentation's type.

    Raises:
      UserError: it does not.
    """
    bounds = jnp.iinfo(segmentation.dtype)
    if not bounds.min <= fill_label <= bounds.max:
        right = f"{bounds.min} to {bounds.max}, as the segmentation is {segmentation.dtype}"
        raise UserError(f"fill_label is {fill_label}; it must be from {right}")


def _shown(values: Sequence[Number]) -> str:
    return f"({', '.join(f'{value:g}' for value in values)})"
