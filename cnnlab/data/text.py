"""Sentences to numbers and back: words, the vocabulary, and what is no sentence.

Tokenising is Karpathy's: the sentence in lower case, all that is neither letter nor digit dropped where it stands,
and what is left split at white space (Karpathy, Fei-Fei 2015, section 3.1.2; his neuraltalk2 drops ASCII punctuation,
this file also that of Unicode). So "man's" is "mans", "t-shirt" is "tshirt" and a "-" between spaces is nothing.
Writing without spaces between words comes out as one long word.
"""

import collections
import dataclasses
import json
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Key

from cnnlab.data.annotations import Findings
from cnnlab.errors import UserError

PAD, START, END, UNK = range(4)
SPECIAL = ("<pad>", "<start>", "<end>", "<unk>")  # no word that tokenising makes
MINIMUM = 5  # times that a word must occur among the training sentences, in the paper and here
KEPT = ("L", "M", "N")  # Unicode's letters, the marks on them, and numerals


def words_of(sentence: str) -> tuple[str, ...]:
    """The words of a sentence; see the top of this file.

    >>> words_of("A man's T-shirt, No. 7 - «Ça va?»")
    ('a', 'mans', 'tshirt', 'no', '7', 'ça', 'va')
    """
    text = unicodedata.normalize("NFKC", sentence).lower()
    kept = "".join(c for c in text if c.isspace() or unicodedata.category(c)[0] in KEPT)
    return tuple(map(sys.intern, kept.split()))  # millions of words of a few thousand kinds


def checked_words(sentence: str, place: str, most: int, cut: bool, findings: Findings) -> tuple[str, ...]:
    """The words of a sentence of a data set, none where it is empty.

    Args:
      sentence: as it is stored.
      place: where it stands, for messages: a file and a line of it.
      most: words it may have; 0: any number.
      cut: what is over `most` is cut off and told, not refused.
      findings: tells what is cut off, and which sentences are empty: the caller leaves those out.

    Raises:
      UserError: it has more words.
    """
    words = words_of(sentence)
    if not words:
        what = f'the sentence "{" ".join(sentence.split())[:30]}" has no words and is left out'
        findings.say(place, what, "sentences have no words and are left out")
    if not most or len(words) <= most:
        return words
    shown = f"the sentence has {len(words)} words, and config.words is {most}"
    if not cut:
        raise UserError(
            f"{place}: {shown}: make that {len(words)} or more, or set config.cut=true to cut sentences off"
        )
    findings.say(place, f"{shown}; cut off there", f"sentences have more than {most} words and were cut off there")
    return words[:most]


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The words that a network knows; word i of `words` has the number i + 4, after PAD 0, START 1, END 2 and UNK 3.

    Attributes:
      words: by falling count, those of one count by the alphabet.
      counts: how often each stands in the training sentences.
      unknown: how often other words stand there.
      sentences: how many there are.
      minimum: times that a word must stand there.

    Of the counts Karpathy's code makes a captioner's first biases, the logarithm of how often each word comes.

    >>> vocabulary = build([("a", "red", "circle"), ("a", "circle"), ("a", "star")], minimum=2)
    >>> vocabulary.words, len(vocabulary), vocabulary.unknown
    (('a', 'circle'), 6, 2)
    """

    words: tuple[str, ...]
    counts: tuple[int, ...]
    unknown: int
    sentences: int
    minimum: int = MINIMUM
    _numbers: dict[str, int] = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_numbers", {word: i for i, word in enumerate(self.words, len(SPECIAL))})

    def __len__(self) -> int:
        return len(SPECIAL) + len(self.words)

    def number(self, word: str) -> int:
        """A word's number; UNK where it is none of these."""
        return self._numbers.get(word, UNK)

    def word(self, number: int) -> str:
        """A number's word; those that are none are "<pad>", "<start>", "<end>" and "<unk>"."""
        return (*SPECIAL, *self.words)[number] if number < len(SPECIAL) else self.words[number - len(SPECIAL)]

    def encode(self, words: Sequence[str], length: int) -> Int[np.ndarray, " length"]:
        """START, the words' numbers, END, and PAD up to `length`.

        >>> build([("a", "star")], 1).encode(("a", "red", "star"), 6).tolist()
        [1, 4, 3, 5, 2, 0]

        Raises:
          UserError: they are too many.
        """
        if len(words) + 2 > length:
            raise UserError(f'"{" ".join(words)}" has {len(words)} words, and {length} tokens hold {length - 2}')
        tokens = np.full(length, PAD, np.int32)
        tokens[: len(words) + 2] = [START, *map(self.number, words), END]
        return tokens

    def decode(self, tokens: Iterable[int] | Int[Array | np.ndarray, " length"]) -> tuple[str, ...]:
        """The words of numbers, up to END; START and PAD are passed over, UNK is "<unk>".

        >>> build([("a", "star")], 1).decode([1, 4, 3, 5, 2, 0])
        ('a', '<unk>', 'star')
        """
        words = []
        for token in map(int, tokens):
            if token == END:
                break
            if token not in (PAD, START):
                words.append(self.word(token))
        return tuple(words)


def build(sentences: Iterable[Sequence[str]], minimum: int = MINIMUM) -> Vocabulary:
    """The vocabulary of training sentences: the words that stand there `minimum` times or more.

    Raises:
      UserError: no word does, or `minimum` is less than 1.
    """
    if minimum < 1:
        raise UserError(f"the words of a vocabulary must occur {minimum} times: it must be 1 or more")
    total, counts = 0, collections.Counter[str]()
    for words in sentences:
        total += 1
        counts.update(words)
    kept = sorted((word for word, count in counts.items() if count >= minimum), key=lambda word: (-counts[word], word))
    if not kept:
        often = max(counts.values(), default=0)
        raise UserError(
            f"no word of the {total} training sentences stands there {minimum} times, which a vocabulary asks for: the "
            f"most frequent one does {often} times"
        )
    known = tuple(counts[word] for word in kept)
    return Vocabulary(tuple(kept), known, counts.total() - sum(known), total, minimum)


def parse_json(path: Path) -> object:
    """What a JSON file holds.

    Raises:
      UserError: it cannot be read, is broken, or is no UTF-8; the line is named.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: the JSON is broken, at column {error.colno} ({error.msg})") from error


def read_text(path: Path) -> str:
    """A text file in UTF-8, with or without a byte order mark.

    Raises:
      UserError: it cannot be read or is no UTF-8; the line is named.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        wrong = error.object[error.start]
        raise UserError(f"{path}:{line}: the byte 0x{wrong:02x} is no UTF-8: save the file as UTF-8") from error


def mask_of(length: Int[Array | np.ndarray, "*n"], most: int) -> Bool[Array | np.ndarray, "*n {most}"]:
    """Which of `most` tokens count, the first `length` of each sentence.

    >>> mask_of(np.array([3, 0]), 4).astype(int).tolist()
    [[1, 1, 1, 0], [0, 0, 0, 0]]
    """
    return np.arange(most) < length[..., None]


def drawn_sentences(batch: Mapping[str, Array], count: int, rng: Key[Array, ""]) -> dict[str, Array]:
    """A batch with `count` of the sentences of each picture, those that there are first, in an order of chance."""
    keys = jax.vmap(lambda position: jax.random.fold_in(rng, position))(batch["position"])
    chance = jax.vmap(lambda key: jax.random.uniform(key, batch["length"].shape[1:]))(keys)
    order = jnp.argsort(jnp.where(batch["length"] > 0, chance, 2.0), 1)[:, :count]
    tokens = jnp.take_along_axis(batch["tokens"], order[..., None], 1)
    return {**batch, "tokens": tokens, "length": jnp.take_along_axis(batch["length"], order, 1)}
