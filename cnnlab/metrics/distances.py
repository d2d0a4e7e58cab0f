"""Distances between all pairs of two sets of pictures or features, a block at a time."""

from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cnnlab.errors import UserError

NUMBERS = 2**25  # distances that are computed at once: 128 MiB


def as_rows(x: Float[Array | np.ndarray, "n ..."]) -> Float[Array, "n d"]:
    """Each example's numbers, whatever their shape, as one row, in float32."""
    return jnp.asarray(x, jnp.float32).reshape(len(x), -1)


def check_alike(first: Array | np.ndarray, second: Array | np.ndarray) -> None:
    """Raises a `UserError` where two sets have no examples, or examples of different shapes."""
    if not len(first) or not len(second):
        raise UserError(f"{len(first)} and {len(second)} examples cannot be compared: both sets must have some")
    if first.shape[1:] != second.shape[1:]:
        raise UserError(f"examples of shape {first.shape[1:]} cannot be compared with those of {second.shape[1:]}")


def blocks(n: int, width: int) -> Iterator[slice]:
    """Slices of n rows that are `width` numbers long each, as many rows at a time as make `NUMBERS` numbers.

    >>> [(rows.start, rows.stop) for rows in blocks(5, NUMBERS // 2)]
    [(0, 2), (2, 4), (4, 5)]
    """
    size = max(1, NUMBERS // width)
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def squared_distances(x: Float[Array, "n d"], y: Float[Array, "m d"]) -> Float[Array, "n m"]:
    """|x − y|² of each row of x and each row of y.

    By |x|² + |y|² − 2xy, whose matrix product is many times faster than differences. What rounding leaves is about
    10⁻⁶ of the largest |x|² + |y|², which is why both are moved to y's mean first.

    >>> squared_distances(jnp.array([[0.0, 0.0], [3.0, 1.0]]), jnp.array([[3.0, 4.0], [3.0, 0.0]])).tolist()
    [[25.0, 9.0], [9.0, 1.0]]
    """
    centre = y.mean(0)
    x, y = x - centre, y - centre
    product = jnp.dot(x, y.T, precision="highest")  # GPUs would else round x and y to ten bits
    return jnp.maximum(jnp.square(x).sum(1)[:, None] + jnp.square(y).sum(1) - 2 * product, 0)
