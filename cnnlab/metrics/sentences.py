"""Scores of generated sentences by the references that people wrote: BLEU, CIDEr and METEOR.

The values are those of pycocoevalcap, the field's program, for the same words; its own tokeniser is another (the Penn
Treebank's, less punctuation: "man 's" where `data.text.words_of` has "mans").
"""

import collections
import importlib.util
import math
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from cnnlab.errors import UserError

LONGEST = 4  # words of an n-gram
SIGMA = 6.0  # of CIDEr-D's penalty, in words
TINY, SMALL = 1e-15, 1e-9  # the field's scorer adds them above and below, that 0 / 0 is next to nothing
JAR = "meteor-1.5.jar"

Words = tuple[str, ...]
Ngrams = collections.Counter[Words]


def bleu(candidates: Sequence[Words], references: Sequence[Sequence[Words]], most: int = LONGEST) -> tuple[float, ...]:
    """BLEU-1, BLEU-2 … of a whole corpus, from 0 to 1 (Papineni et al. 2002).

    BLEU-n is the geometric mean of the precisions of 1-grams to n-grams, times the brevity penalty exp(1 − r/c) where
    all candidates together have fewer words, c, than r. A candidate's n-gram is right as often as it stands in that one
    of its references that has it most often. r sums the length of each candidate's nearest reference, by length, the
    shorter one of two that are as near. A candidate without words has no n-grams, but makes c less than r.

    Args:
      candidates: a sentence of each picture.
      references: those of each picture, one at least, of any number.
      most: the longest n-grams.

    Raises:
      UserError: no candidates, not as many pictures with references, or a picture without.

    >>> bleu_1, bleu_2 = bleu([("a", "a", "star")], [[("a", "red", "star")]], most=2)
    >>> round(bleu_1, 6), round(bleu_2, 6)  # 2 of 3 words, for "a" stands there once; no pair of 2
    (0.666667, 0.0)
    """
    _check(candidates, references)
    right, tried = [0] * most, [0] * most
    length = wanted = 0
    for words, own in zip(candidates, references, strict=True):
        limits = Ngrams()
        for reference in own:
            limits |= _ngrams(reference, most)  # the greater count of each
        for ngram, count in _ngrams(words, most).items():
            right[len(ngram) - 1] += min(count, limits[ngram])
            tried[len(ngram) - 1] += count
        length += len(words)
        wanted += min((abs(len(reference) - len(words)), len(reference)) for reference in own)[1]
    ratio = (length + TINY) / (wanted + SMALL)
    brevity = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    precisions = [(n + TINY) / (of + SMALL) for n, of in zip(right, tried, strict=True)]
    return tuple(math.prod(precisions[:k]) ** (1 / k) * brevity for k in range(1, most + 1))


def cider(
    candidates: Sequence[Words], references: Sequence[Sequence[Words]]
) -> tuple[float, Float[np.ndarray, " pictures"]]:
    """CIDEr-D, the mean and each candidate's, from 0 to 10 (Vedantam et al. 2015, section 5).

    A sentence is a vector of its n-grams' counts, for n from 1 to 4, each weighted by log N / d, d of the N pictures
    having it in their references; what all pictures have counts for nothing, so a single picture's score is 0. The
    score is 10 times the mean, over a picture's references and the four n, of the cosine of the two vectors, the
    candidate's cut to the reference's, so that words do not pay for being repeated; and less by exp(−δ² / 2σ²) where
    the two differ by δ words, σ being 6. A candidate without words has 0.

    Args:
      candidates: a sentence of each picture.
      references: those of each picture, one at least, of any number.

    Raises:
      UserError: no candidates, not as many pictures with references, or a picture without.

    >>> mean, each = cider([("a", "star"), ("a", "ring")], [[("a", "star")], [("a", "circle")]])
    >>> mean, each.tolist()  # the first is right in "star" and "a star", of no 3 or 4; "a" weighs nothing
    (2.5, [5.0, 0.0])
    """
    _check(candidates, references)
    frequency = Ngrams()
    for own in references:
        frequency.update(set().union(*(_ngrams(words) for words in own)))
    each = np.zeros(len(candidates))
    for i, (words, own) in enumerate(zip(candidates, references, strict=True)):
        vector = _weighted(words, frequency, len(references))
        total = 0.0
        for reference in own:
            cosines = _clipped_cosines(vector, _weighted(reference, frequency, len(references)))
            total += math.fsum(cosines) / LONGEST * math.exp(-((len(words) - len(reference)) ** 2) / (2 * SIGMA**2))
        each[i] = 10 * total / len(own)
    return float(each.mean()), each


def has_meteor() -> bool:
    """Whether METEOR can be had: its program, which is part of pycocoevalcap, and java, which runs it."""
    return importlib.util.find_spec("pycocoevalcap") is not None and shutil.which("java") is not None


def meteor(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> float | None:
    """METEOR 1.5 of a whole corpus, from 0 to 1 (Denkowski, Lavie 2014), for English.

    By its authors' program in Java, as pycocoevalcap starts it; seconds go by until it has read its paraphrases. It
    splits words anew: "<unk>" is three to it. None where it cannot be had; where java is there but fails, one line on
    stderr says why.

    Args:
      candidates: a sentence of each picture; one without words has 0.
      references: those of each picture, one at least, of any number.

    Raises:
      UserError: no candidates, not as many pictures with references, or a picture without.
    """
    _check(candidates, references)
    if not has_meteor():
        return None
    lines = [
        " ||| ".join(["SCORE", *map(_one_line, own), _one_line(words)])
        for words, own in zip(candidates, references, strict=True)
    ]
    # pycocoevalcap's own class stops for good where java dies, and leaves its pipes open.
    with tempfile.TemporaryFile() as said:
        try:
            return _by_java(lines, said)
        except (OSError, ValueError) as error:
            said.seek(0)
            why = said.readline().decode(errors="replace").strip() or str(error)
            print(f"METEOR is left out: java failed ({why})", file=sys.stderr, flush=True)
            return None


def scores(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> dict[str, float]:
    """ "BLEU-1" to "BLEU-4" and "CIDEr"; {} of no candidates.

    Args:
      candidates: a sentence of each picture.
      references: those of each picture, one at least, of any number.

    Raises:
      UserError: not as many pictures with references, or a picture without.

    >>> scores([], [])
    {}
    """
    if not len(candidates) and not len(references):
        return {}
    found = {f"BLEU-{n}": value for n, value in enumerate(bleu(candidates, references), 1)}
    found["CIDEr"], _ = cider(candidates, references)
    return found


def _check(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> None:
    if len(candidates) != len(references):
        raise UserError(
            f"{len(candidates)} sentences cannot be scored by the references of {len(references)} pictures: there must "
            "be one for each"
        )
    if not len(candidates):
        raise UserError("there are no sentences to score")
    for i, own in enumerate(references):
        if not len(own):
            raise UserError(f"the sentence of picture {i} cannot be scored: the picture has no references")


def _ngrams(words: Words, most: int = LONGEST) -> Ngrams:
    """How often each run of 1 to `most` words stands there."""
    return Ngrams(words[i : i + n] for n in range(1, most + 1) for i in range(len(words) - n + 1))


def _weighted(words: Words, frequency: Ngrams, pictures: int) -> tuple[dict[Words, float], list[float]]:
    """CIDEr's vector of a sentence, and its length for each n."""
    vector = {
        ngram: count * (math.log(pictures) - math.log(max(1, frequency[ngram])))
        for ngram, count in _ngrams(words).items()
    }
    squares = [0.0] * LONGEST
    for ngram, weight in vector.items():
        squares[len(ngram) - 1] += weight**2
    return vector, list(map(math.sqrt, squares))


def _clipped_cosines(candidate, reference) -> list[float]:
    """The cosine of two vectors of `_weighted` for each n, 0 where one is 0."""
    products = [0.0] * LONGEST
    for ngram, weight in candidate[0].items():
        other = reference[0].get(ngram, 0.0)
        products[len(ngram) - 1] += min(weight, other) * other
    lengths = [a * b for a, b in zip(candidate[1], reference[1], strict=True)]
    return [product / length if length else 0.0 for product, length in zip(products, lengths, strict=True)]


def _one_line(words: Words) -> str:
    """A sentence as METEOR's program reads it: a line is a request, and bars part its sentences."""
    return " ".join(" ".join(words).replace("|||", " ").split())


def _by_java(lines: Sequence[str], said) -> float:
    """The program's score; each of the lines is answered by its counts, and these together by the scores.

    Raises:
      OSError, ValueError: it could not be started, ended, or answered something else.
    """
    folder = Path(importlib.util.find_spec("pycocoevalcap").submodule_search_locations[0]) / "meteor"
    command = ["java", "-Xmx2G", "-jar", JAR, "-", "-", "-stdio", "-l", "en", "-norm"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=folder, stdin=pipe, stdout=pipe, stderr=said, encoding="utf-8") as java:

        def answer() -> str:
            found = java.stdout.readline().strip()
            if not found or found.startswith("Error"):
                raise ValueError(found or "it ended without an answer")
            return found

        def ask(line: str) -> str:
            java.stdin.write(f"{line}\n")
            java.stdin.flush()
            return answer()

        try:
            found = float(ask(" ||| ".join(["EVAL", *map(ask, lines)])))  # the first sentence's own
            for _ in lines:
                found = float(answer())
            return found  # the last is the corpus's
        finally:
            java.kill()
