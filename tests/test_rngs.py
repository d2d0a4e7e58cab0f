"""Random keys: the same for the same (seed, stream, step), different for all others."""

import zlib

import jax
import jax.numpy as jnp
import pytest

from cnnlab.rngs import stream_key


def data(key):
    return tuple(jax.random.key_data(key).tolist())


def test_keys_differ_in_seed_stream_and_step():
    keys = {
        data(stream_key(seed, stream, step))
        for seed in (0, 1, 2**31)
        for stream in ("init", "train", "dropout")
        for step in (0, 1, 100_000)
    }
    assert len(keys) == 27


def test_the_definition():
    expected = jax.random.fold_in(jax.random.fold_in(jax.random.key(7), zlib.crc32(b"train")), 5)
    assert data(stream_key(7, "train", 5)) == data(expected)
    assert data(stream_key(7, "train")) == data(stream_key(7, "train", 0))


@pytest.mark.parametrize("step", [0, 3])
def test_a_traced_step_gives_the_same_key(step):
    traced = jax.jit(lambda n: stream_key(1, "train", n))(jnp.int32(step))
    assert data(traced) == data(stream_key(1, "train", step))
