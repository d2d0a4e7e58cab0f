"""Alignment: the bidirectional network by hand, lengths, scores and the ranking loss written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.models.alignment import Alignment, SentenceEncoder, ranking_loss, scores


def relu(x):
    return np.maximum(x, 0)


def test_the_sentence_encoder_by_hand():
    net = SentenceEncoder(7, joint=3, hidden=4, embedding=5)
    tokens, length = jnp.array([[2, 5, 6, 0]]), jnp.array([3])
    variables = net.init(jax.random.key(0), tokens, length)
    p = jax.tree.map(np.asarray, variables["params"])
    e = relu(p["words"]["embedding"][np.array([2, 5, 6])] @ p["input"]["kernel"] + p["input"]["bias"])
    states = {}
    for name, order in (("forward", (0, 1, 2)), ("backward", (2, 1, 0))):
        w, h = p[name]["recurrent"], np.zeros(4)
        for t in order:
            h = relu(e[t] + h @ w["kernel"] + w["bias"])
            states[name, t] = h
    expected = [
        relu((states["forward", t] + states["backward", t]) @ p["output"]["kernel"] + p["output"]["bias"])
        for t in range(3)
    ]
    np.testing.assert_allclose(net.apply(variables, tokens, length)[0, :3], expected, atol=1e-5)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_padding_changes_nothing(cell):
    net = Alignment(9, joint=4, hidden=6, embedding=6, cell=cell)
    features = jax.random.normal(jax.random.key(0), (2, 3, 5))
    tokens, length = jnp.array([[1, 2, 3, 0, 0], [4, 5, 6, 7, 8]]), jnp.array([3, 5])
    variables = jax.jit(net.init)(jax.random.key(1), features, tokens, length)
    regions, words = net.apply(variables, features, tokens, length)
    assert (regions.shape, words.shape) == ((2, 3, 4), (2, 5, 4))
    _, other = net.apply(variables, features, tokens.at[0, 3:].set(8), length)
    np.testing.assert_allclose(words[0, :3], other[0, :3], atol=1e-6)
    _, short = net.apply(variables, features[:1], tokens[:1, :3], length[:1])
    np.testing.assert_allclose(words[0, :3], short[0], atol=1e-6)


def by_hand(v, there, s, spoken, kind):
    found = np.zeros((len(v), len(s)))
    for k in range(len(v)):
        for m in range(len(s)):
            for t in np.flatnonzero(spoken[m]):
                products = [float(v[k, i] @ s[m, t]) for i in np.flatnonzero(there[k])]
                found[k, m] += max(products) if kind == "max" else sum(max(0, x) for x in products)
    return found


@pytest.mark.parametrize("kind", ["max", "sum"])
def test_scores_by_hand(kind):
    draw = np.random.default_rng(0)
    v, s = draw.normal(size=(3, 4, 2)).astype(np.float32), draw.normal(size=(2, 5, 2)).astype(np.float32)
    there = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [0, 1, 0, 0]], bool)
    spoken = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], bool)
    found = scores(jnp.array(v), jnp.array(there), jnp.array(s), jnp.array(spoken), kind)
    np.testing.assert_allclose(found, by_hand(v, there, s, spoken, kind), atol=1e-5)


def test_a_picture_without_regions_scores_nothing():
    found = scores(jnp.ones((1, 2, 3)), jnp.zeros((1, 2), bool), jnp.ones((1, 4, 3)), jnp.ones((1, 4), bool))
    assert float(found[0, 0]) == 0
    gradient = jax.grad(
        lambda v: scores(v, jnp.zeros((1, 2), bool), jnp.ones((1, 4, 3)), jnp.ones((1, 4), bool)).sum()
    )(jnp.ones((1, 2, 3)))
    assert np.isfinite(gradient).all()


def test_the_ranking_loss_by_hand():
    found = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    total = 0.0
    for k in range(4):
        for m in range(4):
            if m != k:
                total += max(0, found[k, m] - found[k, k] + 0.5) + max(0, found[m, k] - found[k, k] + 0.5)
    assert float(ranking_loss(jnp.array(found), 0.5)) == pytest.approx(total / 4, rel=1e-5)
    assert float(ranking_loss(10 * jnp.eye(3))) == 0
