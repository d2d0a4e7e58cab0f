"""Random keys as a pure function of (seed, stream, step): step n draws the same numbers whoever computes it."""

import zlib

import jax
from jaxtyping import Array, Int, Key


def stream_key(seed: int, stream: str, step: int | Int[Array, ""] = 0) -> Key[Array, ""]:
    """The key of one stream ("init", "train" …) at one step.

    >>> bool(stream_key(0, "train", 3) == stream_key(0, "train", 3))
    True
    """
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), zlib.crc32(stream.encode())), step)
