"""The captioner: the paper's equations, steps and beam search that agree, what it learns by heart."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnlab.models.captioner import Captioner, describe, sample, stepper

START, END = 1, 2
FEATURES = jax.random.normal(jax.random.key(0), (3, 6))


def made(cell="rnn", vocabulary=9, hidden=8, **fields):
    net = Captioner(vocabulary, hidden, cell, **fields)
    tokens = jnp.array([[START, 4, 5, 6], [START, 7, 8, 3], [START, 3, 3, 4]])
    return net, jax.jit(net.init)(jax.random.key(1), FEATURES, tokens), tokens


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_steps_are_the_whole(cell):
    net, variables, tokens = made(cell)
    whole = jax.nn.log_softmax(net.apply(variables, FEATURES, tokens))
    carry, step = net.apply(variables, FEATURES, method=net.begin), stepper(net, variables)
    for place in range(tokens.shape[1]):
        carry, logs = step(carry, tokens[:, place])
        np.testing.assert_allclose(logs, whole[:, place], atol=1e-5)


def test_the_papers_equations_by_hand():
    net, variables, tokens = made()
    p = jax.tree.map(np.asarray, variables["params"])
    linear = lambda name, x: x @ p[name]["kernel"] + p[name]["bias"]
    h = np.zeros(8)
    for place in range(4):
        x = linear("input", p["words"]["embedding"][int(tokens[0, place])])
        x = x + (linear("picture", np.asarray(FEATURES[0])) if place == 0 else 0)
        h = np.maximum(x + h @ p["recurrent"]["recurrent"]["kernel"] + p["recurrent"]["recurrent"]["bias"], 0)
        found = net.apply(variables, FEATURES, tokens)[0, place]
        np.testing.assert_allclose(found, linear("output", h), atol=1e-4)


def test_a_beam_of_one_and_cold_draws_are_greedy():
    net, variables, _ = made()
    words, score = describe(net, variables, FEATURES, START, END, 5, beam=1)
    drawn, drawn_score = sample(net, variables, FEATURES, jax.random.key(0), START, END, 5, temperature=1e-4)
    assert words.shape == (3, 1, 5)
    assert (words[:, 0] == drawn).all()
    np.testing.assert_allclose(score[:, 0], drawn_score, atol=1e-4)


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
