"""The captioner: the paper's equations, steps and beam search that agree, what it learns by heart."""

import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnlab.models.captioner import THINGS, Captioner, CaptionNet, describe, sample, stepper, summary

START, END = 1, 2
KEY = jax.random.key(1)
KEYS = jax.random.split(KEY, 3)
FEATURES = jax.random.normal(jax.random.key(0), (3, 6))


@functools.cache
def made(cell="rnn", vocabulary=9, hidden=8, **fields):
    net = Captioner(vocabulary, hidden, cell, **fields)
    tokens = jnp.array([[START, 4, 5, 6], [START, 7, 8, 3], [START, 3, 3, 4]])
    return net, jax.jit(net.init)(jax.random.key(1), FEATURES, tokens), tokens


@pytest.mark.parametrize(("cell", "deep_output"), [("rnn", 0), ("lstm", 0), ("gru", 0), ("gru", 5)])
def test_steps_are_the_whole(cell, deep_output):
    net, variables, tokens = made(cell, deep_output=deep_output)
    whole = jax.nn.log_softmax(net.apply(variables, FEATURES, tokens))
    carry, step = net.apply(variables, FEATURES, method=net.begin), stepper(net, variables)
    for place in range(tokens.shape[1]):
        carry, logs = step(carry, tokens[:, place])
        np.testing.assert_allclose(logs, whole[:, place], atol=1e-5)


@pytest.mark.parametrize("deep_output", [0, 5])
def test_the_papers_equations_by_hand(deep_output):
    net, variables, tokens = made(deep_output=deep_output)
    p = jax.tree.map(np.asarray, variables["params"])
    linear = lambda name, x: x @ p[name]["kernel"] + p[name]["bias"]
    h = np.zeros(8)
    for place in range(4):
        word = p["words"]["embedding"][int(tokens[0, place])]
        x = linear("input", word)
        x = x + (linear("picture", np.asarray(FEATURES[0])) if place == 0 else 0)
        h = np.maximum(x + h @ p["recurrent"]["recurrent"]["kernel"] + p["recurrent"]["recurrent"]["bias"], 0)
        found = net.apply(variables, FEATURES, tokens)[0, place]
        seen = h
        if deep_output:
            seen = np.maximum(linear("deep_hidden", h) + word @ p["deep_words"]["kernel"], 0)
        np.testing.assert_allclose(found, linear("output", seen), atol=1e-4)


def test_a_beam_of_one_and_cold_draws_are_greedy():
    net, variables, _ = made()
    words, score = describe(net, variables, FEATURES, START, END, 5, beam=1)
    drawn, drawn_score = sample(net, variables, FEATURES, KEYS, START, END, 5, temperature=1e-4)
    assert words.shape == (3, 1, 5)
    assert (words[:, 0] == drawn).all()
    np.testing.assert_allclose(score[:, 0], drawn_score, atol=1e-4)


def test_draws_are_each_pictures_own():
    """What is said of a picture does not hang on those beside it; of one picture other keys draw other words."""
    net, variables, _ = made()
    drawn = jax.jit(lambda seen, keys: sample(net, variables, seen, keys, START, END, 8, temperature=9.0))
    whole, scores = drawn(FEATURES, KEYS)
    last, last_scores = drawn(FEATURES[1:], KEYS[1:])
    assert whole.shape == (3, 8)
    assert (last == whole[1:]).all()
    np.testing.assert_allclose(last_scores, scores[1:], atol=1e-4)
    often, _ = drawn(jnp.repeat(FEATURES[:1], 20, 0), jax.random.split(KEY, 20))
    assert len(set(map(tuple, often.tolist()))) > 10
    assert len(set(often[:, 0].tolist())) > 4  # of nine words that are nearly alike at such a heat
    assert (often[:, 0] != often[:, 1]).any()  # and each place draws anew


def test_a_sentences_score_is_its_log_probability():
    net, variables, _ = made()
    words, score = describe(net, variables, FEATURES, START, END, 4, beam=3)
    for row in range(3):
        said = words[row, 0].tolist()
        tokens = jnp.array([[START, *said[:-1]]])
        logs = jax.nn.log_softmax(net.apply(variables, FEATURES[row : row + 1], tokens))[0]
        last = said.index(END) + 1 if END in said else len(said)
        assert float(score[row, 0]) == pytest.approx(sum(float(logs[t, said[t]]) for t in range(last)), abs=1e-4)


def test_it_learns_three_sentences_by_heart():
    net, variables, tokens = made(hidden=24)
    targets = jnp.concatenate([tokens[:, 1:], jnp.full((3, 1), END)], 1)
    optimizer = optax.adam(1e-2)

    @jax.jit
    def step(params, state):
        loss = lambda p: optax.softmax_cross_entropy_with_integer_labels(
            net.apply({"params": p}, FEATURES, tokens), targets
        ).mean()
        updates, state = optimizer.update(jax.grad(loss)(params), state)
        return optax.apply_updates(params, updates), state

    params, state = variables["params"], optimizer.init(variables["params"])
    for _ in range(150):
        params, state = step(params, state)
    words, score = describe(net, {"params": params}, FEATURES, START, END, 5, beam=2)
    assert words[:, 0, :4].tolist() == targets.tolist()
    assert float(score[:, 0].min()) > -0.5


def test_dropout_is_for_training():
    net, variables, tokens = made(dropout=0.5)
    still = net.apply(variables, FEATURES, tokens)
    assert (still == net.apply(variables, FEATURES, tokens)).all()
    dropped = net.apply(variables, FEATURES, tokens, train=True, rngs={"dropout": jax.random.key(0)})
    assert float(jnp.abs(dropped - still).max()) > 1e-3


class Maps(nn.Module):
    """Two maps, of which a captioner sees the last, and a vector as fc7 is one."""

    maps: tuple[str, ...] = ("a", "b")

    @nn.compact
    def __call__(self, x, *, train):
        found = {"a": x[:, ::2], "b": nn.Conv(5, (4, 4), 4)(x)}
        found["fc"] = nn.Dense(7)(found["b"].reshape(len(x), -1)) * (2 if train else 1)
        return {name: found[name] for name in self.maps}


X = jax.random.normal(jax.random.key(5), (2, 8, 16, 3))
SENTENCES = jnp.array([[[START, 4, 5], [START, 6, 0], [0, 0, 0]], [[START, 7, 8], [START, 4, 5], [START, 3, 3]]])


@functools.cache
def net_of_fc():
    net = CaptionNet(Maps(("a", "fc")), 9, 6)
    return net, jax.jit(net.init)(jax.random.key(1), X)


def applied(method, *arguments, **fields):
    net, variables = net_of_fc()
    return jax.jit(functools.partial(net.apply, method=method, **fields))(variables, *arguments)


@pytest.mark.parametrize(("fields", "size"), [({}, 5), ({"flat": True}, 5 + 2 * 4 * 5)])
def test_what_the_captioner_sees(fields, size):
    net = CaptionNet(Maps(), 9, 6, **fields)
    variables = net.init(jax.random.key(1), X, method=net.features)
    seen = net.apply(variables, X, method=net.features)
    last = np.asarray(Maps().apply({"params": variables["params"]["backbone"]}, X, train=False)["b"])
    assert seen.shape == (2, size)
    np.testing.assert_allclose(seen[:, :5], last.mean((1, 2)), atol=1e-5)
    np.testing.assert_allclose(seen[:, 5:], last.reshape(2, -1)[:, : size - 5], atol=1e-5)


def test_named_things_are_what_is_seen():
    net = CaptionNet(Maps(), 9, 6, kinds=(2, 3))
    variables = jax.tree.map(lambda x: x + 0.1 * jnp.cos(jnp.arange(x.size)).reshape(x.shape), net.init(KEY, X))
    logits, names = net.apply(variables, X, SENTENCES, method=net.logits)
    features = net.apply(variables, X, method=net.features)
    last = np.asarray(Maps().apply({"params": variables["params"]["backbone"]}, X, train=False)["b"])
    own, words = (jax.tree.map(np.asarray, variables["params"][name]) for name in ("namer", "words_namer"))
    for kind, (one, other) in enumerate(itertools.product(range(2), range(3))):
        kernel = own["kernel"][:, kind] + words["kernel"][:, one] + words["kernel"][:, 2 + other]
        np.testing.assert_allclose(names[..., kind], last @ kernel + own["bias"][kind], atol=1e-5)
    np.testing.assert_allclose(features, summary(nn.sigmoid(names)), rtol=1e-5)
    np.testing.assert_allclose(logits, net.apply(variables, features, SENTENCES, method=net.logits_of), atol=1e-5)


def test_names_are_unlikely_at_first():
    net = CaptionNet(Maps(), 9, 6, kinds=(2, 3))
    names = net.apply(net.init(KEY, 0 * X), 0 * X, SENTENCES, method=net.logits)[1]
    np.testing.assert_allclose(nn.sigmoid(names), 0.01, rtol=1e-5)


def test_a_summary_counts_and_adds_up_where_things_are():
    sure = jnp.zeros((1, 2, 4, 2)).at[0, 0, 1, 0].set(1.0).at[0, 1, 3, 0].set(0.5).at[0, 1, 0, 1].set(1.0)
    expected = [1.5, 1, -0.25 + 0.5 * 0.75, -0.75, -0.5 + 0.5 * 0.5, 0.5]
    np.testing.assert_allclose(summary(sure)[0], np.sqrt(6 / THINGS) * np.array(expected), rtol=1e-6)


def test_sentences_are_of_their_pictures():
    net, variables = net_of_fc()
    assert set(variables["params"]) == {"backbone", "captioner"}
    (found, names), features = applied(net.logits, X, SENTENCES), applied(net.features, X)
    assert names is None
    assert features.shape == (2, 7)
    own = {"params": variables["params"]["captioner"]}
    alone = jax.jit(Captioner(9, 6).apply)(own, jnp.repeat(features, 3, 0), SENTENCES.reshape(6, 3))
    np.testing.assert_allclose(found, alone.reshape(2, 3, 3, 9), atol=1e-5)
    np.testing.assert_allclose(applied(None, X), jnp.stack([found[0, 0, 0], found[1, 1, 0]]), atol=1e-5)
    carry = applied(net.begin, features)
    for place in range(3):  # step by step the same
        carry, logits = applied(net.step, carry, SENTENCES[:, 0, place])
        np.testing.assert_allclose(logits, found[:, 0, place], atol=1e-5)


def test_training_reaches_the_backbone():
    net, _ = net_of_fc()
    still, moving = (applied(net.features, X, train=train) for train in (False, True))
    np.testing.assert_allclose(moving, 2 * still, rtol=1e-5)
    logits = [applied(net.logits, X, SENTENCES, train=train)[0] for train in (False, True)]
    assert float(jnp.abs(logits[1] - logits[0]).max()) > 1e-3


def test_numbers_of_half_the_width():
    """In bfloat16 too sentences are searched for and drawn in loops, which carry one type from word to word."""
    exact, variables, tokens = made()
    net = exact.clone(dtype=jnp.bfloat16)
    logits = jax.jit(net.apply)(variables, FEATURES, tokens)
    assert logits.dtype == jnp.float32
    np.testing.assert_allclose(logits, jax.jit(exact.apply)(variables, FEATURES, tokens), atol=0.1)
    words, score = jax.jit(lambda v: describe(net, v, FEATURES, START, END, 3, beam=2))(variables)
    assert (words.shape, score.dtype) == ((3, 2, 3), jnp.float32)
    drawn = jax.jit(lambda v: sample(net, v, FEATURES, KEYS, START, END, 3))(variables)
    assert drawn[0].shape == (3, 3)
