"""Beam search: the likeliest sequences of a model that makes them step by step, a few kept at each; jittable."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, PyTree

LEAST = -1e9  # a log-probability that nothing reaches

# (carry of rows, their last tokens) → (carry, log-probabilities of the next token)
Step = Callable[[PyTree, Int[Array, " m"]], tuple[PyTree, Float[Array, "m v"]]]


def beam_search(
    step: Step, carry: PyTree, count: int, start: int, end: int, length: int, beam: int
) -> tuple[Int[Array, "n b l"], Float[Array, "n b"]]:
    """The likeliest sequences found, the best first.

    Args:
      step: see `Step`; rows are `count` × `beam`.
      carry: what the first step is given, of `count` rows.
      count: sequences that are looked for, n.
      start, end: the tokens that sequences begin after and end with.
      length: tokens at most, the end's among them.
      beam: sequences kept at each step, b; 1 is greedy.

    Returns:
      Tokens, `end` from the end on, and log-probabilities, the end's among them. A sequence that has not ended within
      `length` has the log-probability of what there is.
    """
    carry = jax.tree.map(lambda leaf: jnp.repeat(leaf, beam, 0), carry)
    tokens = jnp.full((count, beam, length), end, jnp.int32)
    # All beams begin alike: only the first of them counts.
    scores = jnp.where(jnp.arange(beam) == 0, 0.0, LEAST) * jnp.ones((count, 1))
    last = jnp.full((count, beam), start, jnp.int32)
    ended = jnp.zeros((count, beam), bool)

    def extend(kept: tuple, place: Array) -> tuple[tuple, None]:
        carry, tokens, scores, last, ended = kept
        carry, logs = step(carry, last.reshape(-1))
        logs = logs.reshape(count, beam, -1)
        vocabulary = logs.shape[-1]
        only_end = jnp.where(jnp.arange(vocabulary) == end, 0.0, LEAST)
        total = scores[..., None] + jnp.where(ended[..., None], only_end, logs)
        scores, best = lax.top_k(total.reshape(count, -1), beam)
        row, word = best // vocabulary, best % vocabulary
        at = (jnp.arange(count)[:, None] * beam + row).reshape(-1)
        carry = jax.tree.map(lambda leaf: leaf[at], carry)
        tokens = jnp.take_along_axis(tokens, row[..., None], 1).at[:, :, place].set(word)
        ended = jnp.take_along_axis(ended, row, 1) | (word == end)
        return (carry, tokens, scores, word.astype(jnp.int32), ended), None

    (_, tokens, scores, _, _), _ = lax.scan(extend, (carry, tokens, scores, last, ended), jnp.arange(length))
    return tokens, scores
