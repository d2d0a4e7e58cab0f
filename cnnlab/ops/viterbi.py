"""The likeliest labels of a chain, where neighbours that agree are worth something: exactly, by Viterbi's algorithm."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int


def viterbi(scores: Float[Array, "l r"], there: Bool[Array, " l"], beta: Float[Array, ""] | float) -> Int[Array, " l"]:
    """The labels a with the largest Σ_t scores[t, a_t] + β Σ_t 1[a_t = a_{t+1}] (Karpathy, Fei-Fei 2015, eq. 10–12).

    Args:
      scores: of each place of the chain, of each label.
      there: places that are part of the chain, the first ones; the others get the last one's label.
      beta: β, what two neighbours with the same label are worth.

    Of equal sums the one whose last labels are the smallest.

    >>> scores = jnp.array([[1.0, 0.0], [0.0, 0.4], [1.0, 0.0]])
    >>> [viterbi(scores, jnp.ones(3, bool), beta).tolist() for beta in (0.0, 1.0)]
    [[0, 1, 0], [0, 0, 0]]
    """
    labels = scores.shape[1]
    agree = beta * jnp.eye(labels, dtype=scores.dtype)

    def forward(best: Array, place: tuple[Array, Array]) -> tuple[Array, Array]:
        own, part = place
        paths = best[:, None] + agree  # by the label before and the label here
        before = jnp.argmax(paths, 0)
        moved = jnp.max(paths, 0) + own
        return jnp.where(part, moved, best), jnp.where(part, before, jnp.arange(labels))

    first = jnp.where(there[0], scores[0], 0.0)
    best, before = lax.scan(forward, first, (scores[1:], there[1:]))
    last = jnp.argmax(best)

    def backward(label: Array, row: Array) -> tuple[Array, Array]:
        return row[label], row[label]

    _, earlier = lax.scan(backward, last, before, reverse=True)
    return jnp.concatenate([earlier, last[None]]).astype(jnp.int32)


def viterbi_of_all(
    scores: Float[Array, "n l r"], there: Bool[Array, "n l"], beta: Float[Array, ""] | float
) -> Int[Array, "n l"]:
    """`viterbi` of several chains."""
    return jax.vmap(lambda own, part: viterbi(own, part, beta))(scores, there)
