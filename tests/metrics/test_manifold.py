"""Neighbours and balls around them, against loops in float64 and by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.errors import UserError
from cnnlab.metrics import distances
from cnnlab.metrics.manifold import manifold_scores, nearest


def points(n, seed, d=4, shift=0.0):
    return (np.random.default_rng(seed).normal(size=(n, d)) + shift).astype(np.float32)


def apart(x, y):
    return np.sqrt(np.square(x[:, None].astype(np.float64) - y).sum(-1))


def plain_scores(real, fake, k):
    radii, own_radii = (np.sort(apart(x, x), 1)[:, k] for x in (real, fake))
    squares = apart(fake, real)
    inside = squares <= radii
    return {
        "precision": inside.any(1).mean(),
        "recall": (squares <= own_radii[:, None]).any(0).mean(),
        "density": inside.sum() / (k * len(fake)),
        "coverage": inside.any(0).mean(),
    }


@pytest.mark.parametrize("numbers", [2**25, 100])
def test_nearest_in_blocks_or_not(monkeypatch, numbers):
    monkeypatch.setattr(distances, "NUMBERS", numbers)
    samples, train = points(9, 0), points(70, 1)
    index, found = nearest(jnp.asarray(samples), train, k=5)
    whole = apart(samples, train)
    np.testing.assert_array_equal(index, np.argsort(whole, 1)[:, :5])
    np.testing.assert_allclose(found, np.sort(whole, 1)[:, :5])


def test_pictures_that_were_learnt_by_heart():
    train = 100 + np.random.default_rng(0).random((40, 8, 8, 3), np.float32)
    index, found = nearest(train[[7, 30]], train, k=2)
    assert index[:, 0].tolist() == [7, 30]
    assert found[:, 0].tolist() == [0, 0]
    assert found[:, 1].min() > 1


def test_as_many_neighbours_as_there_are():
    train = points(3, 0)
    assert sorted(nearest(train[:1], train, k=3)[0][0].tolist()) == [0, 1, 2]
    for k in (0, 4):
        with pytest.raises(UserError, match=f"k is {k}: of 3 examples, 1 to 3 can be the nearest"):
            nearest(train, train, k)


@pytest.mark.parametrize(
    ("k", "shift", "numbers"), [(1, 0.0, 2**25), (3, 1.0, 2**25), (5, 2.0, 2**25), (3, 1.0, 60 * 15)]
)
def test_scores_are_those_of_plain_loops(monkeypatch, k, shift, numbers):
    monkeypatch.setattr(distances, "NUMBERS", numbers)
    real, fake = points(60, 0), points(45, 1, shift=shift)
    expected = plain_scores(real, fake, k)
    assert 0 < expected["recall"] < 1  # or the comparison would say little
    assert manifold_scores(jnp.asarray(real), fake, k) == pytest.approx(expected)


def test_equal_sets_overlap_and_distant_ones_do_not():
    real = points(30, 0)
    same = manifold_scores(real, real)
    assert (same["precision"], same["recall"], same["coverage"]) == (1, 1, 1)
    assert set(manifold_scores(real, real + 100).values()) == {0}


def test_a_collapsed_model_is_precise_and_recalls_nothing():
    real = points(30, 0)
    scores = manifold_scores(real, np.repeat(real.mean(0, keepdims=True), 20, 0))
    assert scores["precision"] == 1
    assert scores["recall"] == 0
    assert scores["coverage"] < 0.9


def test_pictures_are_as_good_as_rows():
    real, fake = points(20, 0, 12), points(20, 1, 12)
    pictures = (x.reshape(20, 2, 2, 3) for x in (real, fake))
    assert manifold_scores(*pictures) == manifold_scores(real, fake)


def test_too_few_for_neighbours():
    with pytest.raises(UserError, match="k is 3: in a set of 3 examples each has 1 to 2 neighbours"):
        manifold_scores(points(9, 0), points(3, 1))
