"""Beam search against all sequences, on a model of two words' memory."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.ops.beam_search import beam_search

START, END, WORDS, LENGTH = 0, 1, 5, 4
DRAW = np.random.default_rng(0)
# Log-probabilities of the next word by the row of the batch, the word before the last and the last.
TABLE = jax.nn.log_softmax(jnp.array(DRAW.normal(size=(2, WORDS, WORDS, WORDS)) * 2, jnp.float32))


def step(carry, last):
    row, before = carry
    return (row, last), TABLE[row, before, last]


def search(beam, length=LENGTH):
    carry = (jnp.arange(2), jnp.zeros(2, jnp.int32))
    return jax.jit(lambda carry: beam_search(step, carry, 2, START, END, length, beam))(carry)


def all_sequences(row):
    """Every sequence of up to `LENGTH` words with its log-probability, padded with END."""
    found = {}
    for words in itertools.product(range(WORDS), repeat=LENGTH):
        before, last, score, ended = 0, START, 0.0, False
        said = []
        for word in words:
            if not ended:
                score += float(TABLE[row, before, last, word])
                said.append(word)
                before, last, ended = last, word, word == END
        found[tuple(said + [END] * (LENGTH - len(said)))] = score
    return found


def test_a_wide_beam_finds_the_best_of_all():
    tokens, scores = search(WORDS**LENGTH // 5)
    for row in range(2):
        expected = sorted(all_sequences(row).items(), key=lambda item: -item[1])[:5]
        assert [tuple(t) for t in tokens[row, :5].tolist()] == [words for words, _ in expected]
        np.testing.assert_allclose(scores[row, :5], [score for _, score in expected], atol=1e-4)


def test_one_beam_is_greedy():
    tokens, scores = search(1)
    for row in range(2):
        before, last, total = 0, START, 0.0
        for place in range(LENGTH):
            logs = TABLE[row, before, last]
            word = int(jnp.argmax(logs))
            assert int(tokens[row, 0, place]) == word
            total += float(logs[word])
            before, last = last, word
            if word == END:
                assert (tokens[row, 0, place:] == END).all()
                break
        assert float(scores[row, 0]) == pytest.approx(total, abs=1e-4)


@pytest.mark.parametrize("beam", [2, 3, 7])
def test_scores_are_the_sequences_own_and_fall(beam):
    tokens, scores = search(beam)
    for row in range(2):
        every = all_sequences(row)
        assert [pytest.approx(every[tuple(t)], abs=1e-4) for t in tokens[row].tolist()] == scores[row].tolist()
        assert (np.diff(scores[row]) <= 0).all()
        assert len({tuple(t) for t in tokens[row].tolist()}) == beam
