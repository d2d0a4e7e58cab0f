"""Viterbi against every labelling there is."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.ops.viterbi import viterbi, viterbi_of_all


def best_by_trial(scores, beta):
    length, labels = scores.shape
    value = lambda a: (
        sum(scores[t, a[t]] for t in range(length)) + beta * sum(a[t] == a[t + 1] for t in range(length - 1))
    )
    return max(itertools.product(range(labels), repeat=length), key=value)


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0, 5.0, -0.5])
def test_the_best_of_all_labellings(beta):
    draw = np.random.default_rng(0)
    for _ in range(10):
        scores = draw.normal(size=(5, 3)).astype(np.float32)
        found = jax.jit(viterbi)(jnp.array(scores), jnp.ones(5, bool), beta)
        assert tuple(found.tolist()) == best_by_trial(scores, beta)


def test_a_chain_that_ends_before_the_padding():
    draw = np.random.default_rng(1)
    scores = draw.normal(size=(2, 6, 4)).astype(np.float32)
    there = jnp.arange(6) < jnp.array([[3], [6]])
    found = viterbi_of_all(jnp.array(scores), there, 0.7)
    assert tuple(found[0, :3].tolist()) == best_by_trial(scores[0, :3], 0.7)
    assert found[0, 3:].tolist() == [int(found[0, 2])] * 3
    assert tuple(found[1].tolist()) == best_by_trial(scores[1], 0.7)
