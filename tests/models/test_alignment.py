"""Alignment: the bidirectional network by hand, lengths, scores and the ranking loss written out."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.models.alignment import AlignmentNet, SentenceEncoder, ranking_loss, scores
from cnnlab.models.detectors import small


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
    net = SentenceEncoder(9, joint=4, hidden=6, embedding=6, cell=cell)
    tokens, length = jnp.array([[1, 2, 3, 0, 0], [4, 5, 6, 7, 8]]), jnp.array([3, 5])
    variables = jax.jit(net.init)(jax.random.key(1), tokens, length)
    words = net.apply(variables, tokens, length)
    assert words.shape == (2, 5, 4)
    other = net.apply(variables, tokens.at[0, 3:].set(8), length)
    np.testing.assert_allclose(words[0, :3], other[0, :3], atol=1e-6)
    short = net.apply(variables, tokens[:1, :3], length[:1])
    np.testing.assert_allclose(words[0, :3], short[0], atol=1e-6)


def net_and_variables(places):
    net = small(AlignmentNet, 0, width=4, channels=8).clone(vocabulary=9, joint=5, hidden=6, embedding=6, places=places)
    x = jax.random.normal(jax.random.key(0), (2, 32, 64, 3))
    return net, jax.jit(net.init)(jax.random.key(1), x), x


def test_regions_are_mapped_linearly():
    net, variables, x = net_and_variables(places=True)
    boxes = jnp.array([[[0.0, 0.0, 64.0, 32.0], [16.0, 8.0, 48.0, 24.0]]] * 2)
    found = net.apply(variables, x, boxes, method=net.regions)
    assert found.shape == (2, 2, 5)

    def features(net):
        return net.head(net.pool(net.maps(x), boxes).reshape(4, 7, 7, 8), train=False).reshape(2, 2, -1)

    shares = np.array([[0, 0, 1, 1, 1], [0.25, 0.25, 0.75, 0.75, 0.25]], np.float32)
    seen = np.concatenate([nn.apply(features, net)(variables), np.tile(shares, (2, 1, 1))], -1)
    space = variables["params"]["space"]
    np.testing.assert_allclose(found, seen @ space["kernel"] + space["bias"], atol=1e-4)


def test_places_are_a_field():
    wide, narrow = (net_and_variables(places)[1]["params"]["space"]["kernel"].shape[0] for places in (True, False))
    assert wide - narrow == 5


def test_what_is_not_used_is_not_there():
    _, variables, _ = net_and_variables(places=False)
    assert set(variables["params"]) == {"backbone", "neck", "head", "space", "sentences"}


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
    draw = np.random.default_rng(0)
    n, each, margin = 3, 2, 0.5
    found = draw.normal(size=(n, n, each)).astype(np.float32)  # picture, and sentence by its picture
    there = np.array([[1, 1], [1, 0], [1, 1]], bool)
    total = 0.0
    for k in range(n):
        for s in np.flatnonzero(there[k]):
            own = found[k, k, s]
            for j in range(n):
                if j != k:
                    total += max(0, found[j, k, s] - own + margin)
                    total += sum(max(0, found[k, j, t] - own + margin) for t in np.flatnonzero(there[j]))
    other = ~np.eye(n, dtype=bool)
    wrong = np.repeat(other, each, 1) & there.reshape(-1)
    own = np.stack([found[k, k] for k in range(n)])
    arrays = map(jnp.array, (own, found.reshape(n, -1), found, wrong, other, there))
    assert float(ranking_loss(*arrays, margin)) == pytest.approx(total / (n * each), rel=1e-5)
