"""Sentences and regions in one space: Karpathy, Fei-Fei, "Deep visual-semantic alignments", 2015, section 3.1.

Every region of a picture and every word in its sentence, with the words around it, becomes a vector; a word belongs to
the region whose vector points its way.
"""

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int, Real

from cnnlab.models.fast_rcnn import FastRCNN
from cnnlab.ops.activations import relu
from cnnlab.ops.dense import Dense
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
        e = relu(Dense(self.hidden, dtype=self.dtype, name="input")(words))
        forward, backward = (cell_of(self.cell, self.hidden, self.dtype, name) for name in ("forward", "backward"))
        if forward.gates > 1:  # the paper's cell is given the word as it is
            e = Dense(2 * forward.gates * self.hidden, dtype=self.dtype, name="gates")(e)
            one, other = jnp.split(e, 2, -1)
        else:
            one = other = e
        forward, backward = nn.RNN(forward), nn.RNN(backward, reverse=True, keep_order=True)
        h = forward(one, seq_lengths=length) + backward(other, seq_lengths=length)
        return relu(Dense(self.joint, dtype=self.dtype, name="output")(h)).astype(jnp.float32)


class AlignmentNet(FastRCNN):
    """Pictures' regions and sentences' words to vectors in one space.

    What sees is a detector's body, as `models/detectors.py` puts it together: each region is pooled from its picture's
    maps, and its features, R-CNN's 4096 in the paper, are mapped linearly (equation 1).

    Attributes:
      num_classes: none, 0.
      backbone, head, strides, neck, pooling, pooled, dtype: see `FastRCNN`.
      vocabulary, joint, hidden, embedding, cell: see `SentenceEncoder`.
      places: five more features a region: its edges and its area, as shares of the picture's. The paper has no such
        thing; a pooled region no longer tells where it was and how large.
    """

    vocabulary: int = 0
    joint: int = 1000
    hidden: int = 300
    embedding: int = 300
    cell: str = "rnn"
    places: bool = False

    def setup(self) -> None:
        self.space = Dense(self.joint, dtype=self.dtype)
        self.sentences = SentenceEncoder(
            self.vocabulary, self.joint, self.hidden, self.embedding, self.cell, self.dtype
        )

    def __call__(self, x: Float[Array, "n h w c"], *, train: bool = False) -> tuple[Array, Array]:
        """The vectors of one region a picture, all of it, and of a word: for a summary, and to initialise."""
        one = jnp.ones((len(x), 1), jnp.int32)
        return self.regions(x, whole(x)[:, None], train=train), self.words(one, one[:, 0])

    def regions(
        self, x: Float[Array, "n h w c"], boxes: Float[Array, "n r 4"], *, train: bool = False
    ) -> Float[Array, "n r d"]:
        """The vectors of regions x0 y0 x1 y1, in pixels of the network's input."""
        pooled = self.pool(self.maps(x, train=train), boxes)
        n, r = pooled.shape[:2]
        features = self.head(pooled.reshape(n * r, *pooled.shape[2:]), train=train).reshape(n, r, -1)
        if self.places:
            shares = boxes / whole(x)[:, None, [2, 3, 2, 3]]
            area = (shares[..., 2] - shares[..., 0]) * (shares[..., 3] - shares[..., 1])
            features = jnp.concatenate([features, shares.astype(features.dtype), area[..., None]], -1)
        return self.space(features).astype(jnp.float32)

    def words(self, tokens: Int[Array, "m l"], length: Int[Array, " m"]) -> Float[Array, "m l d"]:
        """The vectors of sentences' words."""
        return self.sentences(tokens, length)


def whole(x: Real[Array, "n h w c"]) -> Float[Array, "n 4"]:
    """The box around all of each picture."""
    return jnp.tile(jnp.array([0.0, 0.0, x.shape[2], x.shape[1]]), (len(x), 1))


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


def ranking_loss(
    own: Float[Array, "n s"],
    sentences: Float[Array, "n m"],
    pictures: Float[Array, "k n s"],
    wrong_sentences: Bool[Array, "n m"],
    wrong_pictures: Bool[Array, "k n"],
    there: Bool[Array, "n s"],
    margin: float = 1.0,
) -> Float[Array, ""]:
    """What keeps each picture and its sentence a margin above all wrong pairs, in both directions (equation 9).

    Args:
      own: scores of pictures with their own sentences, of which they may have several.
      sentences: scores of these pictures with sentences of the whole batch,
      pictures: and of their sentences with pictures of the whole batch.
      wrong_sentences, wrong_pictures: which of those are wrong.
      there: which of their own sentences there are.
      margin: 1 in the paper.

    Returns:
      The mean over all n·s pairs of both sums; those that are not there count 0. The pairs themselves, which the
      paper's sums count as 1 each, are left out.

    >>> found, wrong = jnp.array([[2.0, 1.5], [0.0, 1.0]]), ~jnp.eye(2, dtype=bool)
    >>> own, there = jnp.diagonal(found)[:, None], jnp.ones((2, 1), bool)
    >>> float(ranking_loss(own, found, found[..., None], wrong, wrong, there))
    1.0
    """
    of_sentences = jnp.maximum(0, sentences[:, None] - own[..., None] + margin)
    of_pictures = jnp.maximum(0, pictures - own[None] + margin)
    lost = jnp.where(wrong_sentences[:, None], of_sentences, 0.0).sum(-1)
    lost += jnp.where(wrong_pictures[..., None], of_pictures, 0.0).sum(0)
    return jnp.where(there, lost, 0.0).mean()
