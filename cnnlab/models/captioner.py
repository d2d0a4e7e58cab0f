"""Sentences about pictures: Karpathy, Fei-Fei, "Deep visual-semantic alignments", 2015, section 3.3.

A recurrent network says a picture word by word. It sees the picture's features at the first word only.
"""

import itertools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, Key, PyTree

from cnnlab.data.text import START
from cnnlab.ops.beam_search import Step, beam_search
from cnnlab.ops.dense import Dense
from cnnlab.ops.dropout import Dropout
from cnnlab.ops.recurrent import cell_of, first_carry

THINGS = 3  # in a picture, about, where they are named


class Captioner(nn.Module):
    """The multimodal recurrent network (equations 13 to 15).

    Attributes:
      vocabulary: how many words there are.
      hidden: units, 512 in the paper.
      cell: "rnn", the paper's; or "lstm" or "gru".
      dropout: share of the numbers that words give to the recurrent layer, and of the hidden vectors', that are dropped
        in training, never of what is carried from word to word.
      deep_output: rectified units that see the hidden vector and the last word, and from which the next word is chosen
        (Pascanu et al. 2014, "How to construct deep recurrent neural networks", section 3.3.2); 0: it is chosen from
        the hidden vector itself, as in the paper.
      dtype: of the computation; parameters are float32.

    Raises:
      UserError: an unknown cell.
    """

    vocabulary: int
    hidden: int = 512
    cell: str = "rnn"
    dropout: float = 0.0
    deep_output: int = 0
    dtype: DTypeLike | None = None

    def setup(self) -> None:
        # As large as the picture's features: else what was said is at first lost beside what is seen.
        init = nn.initializers.normal(1.0)
        self.words = nn.Embed(self.vocabulary, self.hidden, embedding_init=init, dtype=self.dtype)
        self.recurrent = cell_of(self.cell, self.hidden, self.dtype)
        self.input = Dense(self.recurrent.gates * self.hidden, dtype=self.dtype)
        self.picture = Dense(self.recurrent.gates * self.hidden, dtype=self.dtype)
        if self.deep_output:
            self.deep_hidden = Dense(self.deep_output, dtype=self.dtype)
            self.deep_words = Dense(self.deep_output, use_bias=False, dtype=self.dtype)
        self.output = Dense(self.vocabulary, dtype=self.dtype)
        self.drop_words, self.drop_hidden = Dropout(self.dropout), Dropout(self.dropout)

    def __call__(
        self, features: Float[Array, "n f"], tokens: Int[Array, "m l"], *, train: bool = False
    ) -> Float[Array, "m l v"]:
        """The logits of the word after each of the given ones, the first of which is START.

        Of several sentences a picture, those of the first come first; each picture must have as many.
        """
        x = self.drop_words(self._given(self.input, tokens), train=train)
        seen = jnp.repeat(self.picture(features), len(tokens) // len(features), 0)
        x = x.at[:, 0].add(seen.astype(x.dtype))
        h = self.recurrent.sequence(first_carry(self.recurrent, len(tokens)), x)
        return self._logits(h, tokens, train)

    def _given(self, layer: Dense, tokens: Int[Array, "*n"]) -> Float[Array, "*n d"]:
        """What a layer makes of words: of each word of the vocabulary once, where that is less work."""
        if tokens.size > self.vocabulary:
            return layer(self.words(jnp.arange(self.vocabulary)))[tokens]
        return layer(self.words(tokens))

    def _logits(self, h: Float[Array, "*n d"], tokens: Int[Array, "*n"], train: bool) -> Float[Array, "*n v"]:
        h = self.drop_hidden(h, train=train)
        if self.deep_output:
            h = nn.relu(self.deep_hidden(h) + self._given(self.deep_words, tokens))
        return self.output(h).astype(jnp.float32)

    def begin(self, features: Float[Array, "n f"]) -> PyTree:
        """What the first `step` is given."""
        seen = self.picture(features)
        return first_carry(self.recurrent, features.shape[0]), seen

    def step(self, carry: PyTree, tokens: Int[Array, " n"]) -> tuple[PyTree, Float[Array, "n v"]]:
        """The logits of the next word, given what was said before and the last word."""
        inner, seen = carry
        inner, h = self.recurrent(inner, self._given(self.input, tokens) + seen)
        return (inner, jnp.zeros_like(seen)), self._logits(h, tokens, train=False)


class CaptionNet(nn.Module):
    """A picture to its sentence: features of a network for classes, and a `Captioner` that sees them.

    Attributes:
      backbone: gives the maps that its attribute `maps` names; the last of them is used: "fc7" of VGG, AlexNet and
        ZFNet, as in the paper; or a map (n, h, w, c), the mean over its places.
      vocabulary, hidden, cell, dropout, deep_output, dtype: see `Captioner`.
      flat: besides the mean, in which is lost what is where, all places of a map, flattened.
      kinds: what things are told apart by, how many of each: (5, 6, 3) are 5 shapes times 6 colours times 3 sizes. Then
        the network names things, and the captioner sees `summary` of the names in place of the map. The paper's CNN
        had learnt to name classes before; here `logits` gives the names too, to be learnt along.
    """

    backbone: nn.Module
    vocabulary: int
    hidden: int = 512
    cell: str = "rnn"
    dropout: float = 0.0
    deep_output: int = 0
    flat: bool = False
    kinds: tuple[int, ...] = ()
    dtype: DTypeLike | None = None

    def setup(self) -> None:
        self.captioner = Captioner(self.vocabulary, self.hidden, self.cell, self.dropout, self.deep_output, self.dtype)
        if self.kinds:
            # At first all is 1 % likely everywhere: else that most is not there would drown what there is.
            rare, none = nn.initializers.constant(math.log(0.01 / 0.99)), nn.initializers.zeros
            self.namer = Dense(math.prod(self.kinds), kernel_init=none, bias_init=rare, dtype=self.dtype)
            self.words_namer = Dense(sum(self.kinds), False, kernel_init=none, dtype=self.dtype)

    def __call__(self, x: Float[Array, "n h w c"], *, train: bool = False) -> Float[Array, "n v"]:
        """The logits of the first word."""
        tokens = jnp.full((len(x), 1), START, jnp.int32)
        return self.captioner(self.features(x, train=train), tokens, train=train)[:, 0]

    def features(self, x: Float[Array, "n h w c"], *, train: bool = False) -> Float[Array, "n f"]:
        """What the captioner sees of each picture."""
        return self.see(x, train=train)[0]

    def see(
        self, x: Float[Array, "n h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "n f"], Float[Array, "n p q k"] | None]:
        """`features`, and the logits of each kind of thing at each place, None without `kinds`."""
        seen = self.backbone(x, train=train)[self.backbone.maps[-1]]
        if self.kinds:
            names = self._names(seen)
            return summary(nn.sigmoid(names)), names
        if seen.ndim == 2:
            return seen, None
        mean = seen.mean((1, 2))
        return jnp.concatenate([mean, seen.reshape(seen.shape[0], -1)], -1) if self.flat else mean, None

    def _names(self, seen: Float[Array, "n h w c"]) -> Float[Array, "n h w k"]:
        """Logits of each kind's being at each place: what speaks for its shape, for its colour, …, and for it alone.

        What tells a red star from other red things, and from other stars, is learnt from all of them.
        """
        ends = list(itertools.accumulate(self.kinds))[:-1]
        found = self.namer(seen).reshape(*seen.shape[:-1], *self.kinds)
        for axis, part in enumerate(jnp.split(self.words_namer(seen), ends, -1)):
            others = [1 if i != axis else count for i, count in enumerate(self.kinds)]
            found += part.reshape(*seen.shape[:-1], *others)
        return found.reshape(*seen.shape[:-1], -1).astype(jnp.float32)

    def logits(
        self, x: Float[Array, "n h w c"], tokens: Int[Array, "n s l"], *, train: bool = False
    ) -> tuple[Float[Array, "n s l v"], Float[Array, "n p q k"] | None]:
        """The logits of the word after each, of several sentences a picture (see `Captioner`), and `see`'s names."""
        features, names = self.see(x, train=train)
        return self.logits_of(features, tokens, train=train), names

    def logits_of(
        self, features: Float[Array, "n f"], tokens: Int[Array, "n s l"], *, train: bool = False
    ) -> Float[Array, "n s l v"]:
        """`logits` of pictures whose features are known."""
        n, each, length = tokens.shape
        return self.captioner(features, tokens.reshape(-1, length), train=train).reshape(n, each, length, -1)

    def begin(self, features: Float[Array, "n f"]) -> PyTree:
        """See `Captioner`."""
        return self.captioner.begin(features)

    def step(self, carry: PyTree, tokens: Int[Array, " n"]) -> tuple[PyTree, Float[Array, "n v"]]:
        """See `Captioner`."""
        return self.captioner.step(carry, tokens)


def summary(sure: Float[Array, "n h w k"]) -> Float[Array, "n f"]:
    """How many things there are of each kind, and the sums of how far right and how far down they are, from −1 to 1.

    So whether one lies left of another is the difference of two numbers.

    Args:
      sure: the probability of each kind at each place.

    All are multiplied alike, so that they count as much as other features: the square mean is then about 1.
    """
    _, height, width, kinds = sure.shape
    down, right = ((2 * jnp.arange(size) + 1) / size - 1 for size in (height, width))
    sums = [sure.sum((1, 2)), jnp.einsum("nhwk,w->nk", sure, right), jnp.einsum("nhwk,h->nk", sure, down)]
    return jnp.concatenate(sums, -1) * math.sqrt(3 * kinds / THINGS)


Net = Captioner | CaptionNet


def stepper(model: Net, variables: Any) -> Step:
    """`model.step` as `beam_search` takes it."""

    def step(carry: PyTree, tokens: Int[Array, " n"]) -> tuple[PyTree, Float[Array, "n v"]]:
        carry, logits = model.apply(variables, carry, tokens, method=model.step)
        return carry, jax.nn.log_softmax(logits)

    return step


def describe(
    model: Net,
    variables: Any,
    features: Float[Array, "n f"],
    start: int,
    end: int,
    length: int,
    beam: int = 7,
) -> tuple[Int[Array, "n b l"], Float[Array, "n b"]]:
    """The likeliest sentences about pictures that beam search finds, the best first, and their log-probabilities.

    Args:
      model, variables: a trained captioner.
      features: of the pictures.
      start, end: those words.
      length: words at most, `end` among them.
      beam: sentences kept at each step, 7 in the paper's best figures; 1 takes the likeliest word each time.
    """
    carry = model.apply(variables, features, method=model.begin)
    return beam_search(stepper(model, variables), carry, features.shape[0], start, end, length, beam)


def sample(
    model: Net,
    variables: Any,
    features: Float[Array, "n f"],
    keys: Key[Array, " n"],
    start: int,
    end: int,
    length: int,
    temperature: float = 1.0,
) -> tuple[Int[Array, "n l"], Float[Array, " n"]]:
    """Sentences drawn word by word, and their log-probabilities.

    Args:
      model, variables, features, start, end, length: see `describe`.
      keys: of the draws, one a picture: what is said of it depends neither on the others nor on how many there are.
      temperature: logits are divided by it for the draw: under 1 likelier words, over 1 odder ones.
    """
    step = stepper(model, variables)
    count = features.shape[0]

    def extend(kept: tuple, place: Array) -> tuple[tuple, Array]:
        carry, last, score, ended = kept
        carry, logs = step(carry, last)
        own = jax.vmap(jax.random.fold_in, (0, None))(keys, place)
        drawn = jax.vmap(jax.random.categorical)(own, logs / temperature)
        word = jnp.where(ended, end, drawn).astype(jnp.int32)
        gained = jnp.take_along_axis(logs, word[:, None], 1)[:, 0]
        return (carry, word, score + jnp.where(ended, 0.0, gained), ended | (word == end)), word

    first = (
        model.apply(variables, features, method=model.begin),
        jnp.full(count, start, jnp.int32),
        jnp.zeros(count),
        jnp.zeros(count, bool),
    )
    (_, _, score, _), words = jax.lax.scan(extend, first, jnp.arange(length))
    return words.T, score
