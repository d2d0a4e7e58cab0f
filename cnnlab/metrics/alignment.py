"""Scores of alignment: how well pictures and sentences find each other (Karpathy, Fei-Fei 2015, section 4.1)."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from cnnlab.metrics import retrieval
from cnnlab.metrics.distances import blocks

DIRECTIONS = ("to_sentences", "to_pictures")


def pair_scores(
    regions: Sequence[Float[np.ndarray, "_ d"]],
    words: Sequence[Float[np.ndarray, "_ d"]],
    kind: Literal["max", "sum"] = "max",
) -> Float[np.ndarray, "n m"]:
    """The score of every picture with every sentence, of the vectors of one region or more, and of one word or more.

    The same numbers as `models.alignment.scores`, whatever memory all pairs at once would take.

    >>> pair_scores([np.array([[1.0, 0.0], [0.0, 2.0]])], [np.array([[1.0, 1.0], [3.0, 0.0]])])
    array([[5.]])
    """
    seen = np.concatenate(regions)
    found = np.zeros((len(regions), len(words)), seen.dtype)
    for part in blocks(len(words), len(seen) * max(map(len, words))):
        products = seen @ np.concatenate(words[part]).T
        if kind == "sum":
            best = np.add.reduceat(np.maximum(products, 0), _starts(regions))
        else:
            best = np.maximum.reduceat(products, _starts(regions))
        found[:, part] = np.add.reduceat(best, _starts(words[part]), 1)
    return found


def _starts(each: Sequence[np.ndarray]) -> Int[np.ndarray, " k"]:
    """Where each begins when they stand one after the other."""
    return np.cumsum([0, *(len(own) for own in each[:-1])])


@dataclasses.dataclass(frozen=True, eq=False)
class Vectors:
    """A picture's vectors.

    Attributes:
      regions: of its regions.
      boxes: of the regions, in shares of the picture's width and height.
      words: of each of its sentences' words.
      tokens: of the sentences, without START and END.
      places: the region that each word belongs to.
    """

    regions: Float[np.ndarray, "r d"]
    boxes: Float[np.ndarray, "r 4"]
    words: tuple[Float[np.ndarray, "_ d"], ...]
    tokens: tuple[tuple[int, ...], ...]
    places: tuple[tuple[int, ...], ...]


@dataclasses.dataclass
class AlignmentMetrics:
    """The vectors of pictures, scored all against all in the end.

    Attributes:
      kind: of the scores; see `pair_scores`.
    """

    kind: Literal["max", "sum"] = "max"
    _found: dict[int, Vectors] = dataclasses.field(default_factory=dict)

    def add(self, outputs: Mapping[str, np.ndarray]) -> None:
        """Adds a batch of `SentenceAlignment.eval_step`'s outputs."""
        for i in np.flatnonzero(outputs["mask"] > 0):
            there, lengths = outputs["there"][i], outputs["length"][i]
            spoken = [(k, count) for k, count in enumerate(lengths) if count > 0]
            number = np.cumsum(there) - 1  # of a region among those that there are
            tokens, places = outputs["tokens"][i], number[outputs["place"][i]]
            self._found[int(outputs["index"][i])] = Vectors(
                outputs["regions"][i][there].copy(),
                outputs["boxes"][i][there].copy(),
                tuple(outputs["words"][i, k, :count].copy() for k, count in spoken),
                *(tuple(tuple(own[k, :count].tolist()) for k, count in spoken) for own in (tokens, places)),
            )

    def compute(self) -> dict[str, float]:
        """R@1, R@5, R@10 and the median rank "to_sentences" and "to_pictures", "recall", the mean of both R@1, and
        "count", the pictures.
        """
        pictures = [self._found[i] for i in sorted(self._found)]
        owner = np.array([k for k, one in enumerate(pictures) for _ in one.words], np.int64)
        if not len(owner):
            return {"recall": 0.0, "count": 0}
        words = [own for one in pictures for own in one.words]
        found = retrieval.ranks(pair_scores([one.regions for one in pictures], words, self.kind), owner)
        scores = {
            f"{direction}_{name}": value
            for direction, ranks in zip(DIRECTIONS, found, strict=True)
            for name, value in retrieval.recalls(ranks).items()
        }
        recall = sum(scores[f"{direction}_R@1"] for direction in DIRECTIONS) / 2
        return {"recall": recall, **scores, "count": len(pictures)}

    def first(self, count: int) -> list[tuple[int, Vectors]]:
        """The first pictures, with their numbers."""
        return sorted(self._found.items())[:count]
