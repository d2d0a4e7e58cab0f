"""Sentences and regions in one space: Karpathy, Fei-Fei, "Deep visual-semantic alignments", 2015, section 3.1.

Every region of a picture and every word in its sentence, with the words around it, becomes a vector; a word belongs to
the region whose vector points its way.
"""

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from cnnlab.ops.activations import relu
from cnnlab.ops.recurrent import cell_of


class SentenceEncoder(nn.Module):
    """Words to vectors by a bidirectional recurrent network (equations 2 to 6).

    Attributes:
      vocabulary: how many words there are.
      joint: numbers of a vector, 1000 to 1600 in the paper.
      hidden: units of each direction, 300 to 600 in the paper.
      embedding: numbers of a word's own vector.
      cell: "rnn", the paper's; or "lstm" or "gru".
      dtype: of the computation; parameters are float32.

    Raises:
      UserError: an unknown cell.
    """

    vocabulary: int
    joint: int = 1000
    hidden: int = 300
    embedding: int = 300
    cell: str = "rnn"
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, tokens: Int[Array, "n l"], length: Int[Array, " n"]) -> Float[Array, "n l d"]:
        """A vector for each word; those from `length` on say nothing."""
        words = nn.Embed(self.vocabulary, self.embedding, dtype=self.dtype, name="words")(tokens)
        e = relu(nn.Dense(self.hidden, dtype=self.dtype, name="input")(words))
        forward, backward = (cell_of(self.cell, self.hidden, self.dtype, name) for name in ("forward", "backward"))
        forward, backward = nn.RNN(forward), nn.RNN(backward, reverse=True, keep_order=True)
        h = forward(e, seq_lengths=length) + backward(e, seq_lengths=length)
        return relu(nn.Dense(self.joint, dtype=self.dtype, name="output")(h)).astype(jnp.float32)


class Alignment(nn.Module):
    """Regions' features and sentences to vectors in one space.

    Attributes:
      vocabulary, joint, hidden, embedding, cell, dtype: see `SentenceEncoder`.
    """

    vocabulary: int
    joint: int = 1000
    hidden: int = 300
    embedding: int = 300
    cell: str = "rnn"
    dtype: DTypeLike | None = None

    def setup(self) -> None:
        self.regions = nn.Dense(self.joint, dtype=self.dtype)
        self.sentences = SentenceEncoder(
            self.vocabulary, self.joint, self.hidden, self.embedding, self.cell, self.dtype
        )

    def __call__(
        self, features: Float[Array, "n r f"], tokens: Int[Array, "m l"], length: Int[Array, " m"]
    ) -> tuple[Float[Array, "n r d"], Float[Array, "m l d"]]:
        """The vectors of pictures' regions (equation 1) and of sentences' words."""
        return self.regions(features).astype(jnp.float32), self.sentences(tokens, length)


def scores(
    regions: Float[Array, "n r d"],
    there: Bool[Array, "n r"],
    words: Float[Array, "m l d"],
    spoken: Bool[Array, "m l"],
    kind: Literal["max", "sum"] = "max",
) -> Float[Array, "n m"]:
    """How well each picture and each sentence fit: S_kl.

    Args:
      regions, words: vectors.
      there, spoken: which of them there are.
      kind: "max": each word's best region, Σ_t max_i v_i·s_t (equation 8); "sum": all that point its way,
        Σ_t Σ_i max(0, v_i·s_t) (equation 7).

    >>> one, all_of_it = jnp.array([[[1.0, 0.0], [0.0, 2.0]]]), jnp.ones((1, 2), bool)
    >>> [float(scores(one, all_of_it, jnp.array([[[1.0, 1.0], [3.0, 0.0]]]), all_of_it, kind)[0, 0])
    ...  for kind in ("max", "sum")]
    [5.0, 6.0]
    """
    products = jnp.einsum("nrd,mld->nmrl", regions, words)
    part = there[:, None, :, None]
    best = jnp.where(part, jnp.maximum(products, 0), 0).sum(2) if kind == "sum" else _largest(products, part)
    return jnp.where(spoken[None], best, 0.0).sum(-1)


def _largest(products: Float[Array, "n m r l"], part: Bool[Array, "n 1 r 1"]) -> Float[Array, "n m l"]:
    """The largest of the regions that are there; 0 where there is none."""
    found = jnp.where(part, products, -jnp.inf).max(2)
    return jnp.where(jnp.isfinite(found), found, 0.0)


def ranking_loss(found: Float[Array, "n n"], margin: float = 1.0) -> Float[Array, ""]:
    """What keeps each picture's own sentence a margin above all others of the batch, and the other way round (eq. 9).

    Args:
      found: scores of each picture with each sentence; the pairs are on the diagonal.
      margin: 1 in the paper.

    Returns:
      The mean over the pairs of both sums; the pairs themselves, which the paper's sums count as 1 each, left out.

    >>> float(ranking_loss(jnp.array([[2.0, 1.5], [0.0, 1.0]])))
    1.0
    """
    own, others = jnp.diagonal(found), 1 - jnp.eye(len(found))
    of_sentences = jnp.maximum(0, found - own[:, None] + margin)  # wrong sentences for each picture
    of_pictures = jnp.maximum(0, found - own[None] + margin)  # wrong pictures for each sentence
    return ((of_sentences + of_pictures) * others).sum() / len(found)
