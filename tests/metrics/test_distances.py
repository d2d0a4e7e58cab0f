"""Distances between two sets, and the blocks that they are computed in."""

import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.errors import UserError
from cnnlab.metrics import distances


def test_distances_far_from_0():
    """Rounding must not grow with what all have in common."""
    rng = np.random.default_rng(0)
    x, y = (1000 + rng.random((n, 20), np.float32) for n in (5, 7))
    expected = np.square(x[:, None].astype(np.float64) - y).sum(-1)
    found = distances.squared_distances(jnp.asarray(x), jnp.asarray(y))
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_equal_rows_are_never_less_than_0_apart():
    x = jnp.asarray(np.random.default_rng(0).random((50, 300), np.float32))
    found = np.diagonal(distances.squared_distances(x, x))
    assert found.min() >= 0
    assert found.max() < 1e-3


def test_blocks_are_all_rows_once(monkeypatch):
    monkeypatch.setattr(distances, "NUMBERS", 100)
    for n, width in ((0, 10), (1, 10), (10, 10), (25, 10), (3, 1000)):
        rows = [list(range(n))[block] for block in distances.blocks(n, width)]
        assert [i for block in rows for i in block] == list(range(n))
        assert all(len(block) * width <= 100 or len(block) == 1 for block in rows)


def test_what_cannot_be_compared():
    with pytest.raises(UserError, match=r"shape \(4,\) cannot be compared with those of \(5,\)"):
        distances.check_alike(np.zeros((2, 4)), np.zeros((2, 5)))
    with pytest.raises(UserError, match="0 and 2 examples"):
        distances.check_alike(np.zeros((0, 4)), np.zeros((2, 4)))
