"""Retrieval scores: at which rank the right sentence of a picture is found, and the right picture of a sentence.

Karpathy, Fei-Fei 2015, section 4.1: every picture is to find one of its own sentences among all, and every sentence its
picture.
"""

import numpy as np
from jaxtyping import Float, Int

from cnnlab.errors import UserError
from cnnlab.metrics.distances import blocks

AMONG = (1, 5, 10)


def ranks(
    scores: Float[np.ndarray, "pictures sentences"], owner: Int[np.ndarray, " sentences"]
) -> tuple[Int[np.ndarray, " pictures"], Int[np.ndarray, " sentences"]]:
    """The ranks of what is right, from 1: of each picture's best sentence, and of each sentence's picture.

    A picture's own sentences do not stand in each other's way: the rank of its best is 1 more than the wrong sentences
    that score as much or more. Ties count against what is right, or scores that are all alike would have rank 1. A
    score of NaN is the least of all; where what is right has no other, it is the last.

    Args:
      scores: how well each sentence fits each picture, the greater the better.
      owner: the picture of each sentence, by its row. Each picture has one sentence at least, of any number.

    Raises:
      UserError: not an owner for each sentence, an owner that is no picture, or a picture without a sentence.

    >>> scores = np.array([[0.9, 0.1, 0.8], [0.9, 0.2, 0.3]])
    >>> pictures, sentences = ranks(scores, np.array([0, 0, 1]))
    >>> pictures.tolist(), sentences.tolist()  # the first sentence has two pictures of one score
    ([1, 2], [2, 2, 2])
    """
    count, total = scores.shape
    _check(count, total, owner)
    right = scores[owner, np.arange(total)]
    best = np.full(count, np.nan, scores.dtype)
    np.fmax.at(best, owner, right)  # NaN only where all are
    # All that score as much or more are counted, then a picture's own taken off; nothing is as much as NaN.
    pictures, sentences = np.zeros(count, np.int64), np.zeros(total, np.int64)
    for rows in blocks(count, max(total, 1)):
        pictures[rows] = (scores[rows] >= best[rows, None]).sum(1)
        sentences += (scores[rows] >= right).sum(0)
    pictures += 1 - np.bincount(owner[right >= best[owner]], minlength=count)
    lost = np.isnan(best)
    pictures[lost] = 1 + total - np.bincount(owner, minlength=count)[lost]
    sentences[np.isnan(right)] = count
    return pictures, sentences


def recalls(ranks: Int[np.ndarray, " n"]) -> dict[str, float]:
    """ "R@1", "R@5" and "R@10", the shares from 0 to 1 of ranks up to that, and "median_rank", the best being 1.

    Of an even number the median is the mean of the middle two. Of no ranks at all everything is NaN.

    >>> recalls(np.array([1, 3, 6, 40]))
    {'R@1': 0.25, 'R@5': 0.5, 'R@10': 0.75, 'median_rank': 4.5}
    """
    if not len(ranks):
        return dict.fromkeys([*(f"R@{k}" for k in AMONG), "median_rank"], float("nan"))
    found = {f"R@{k}": float(np.mean(ranks <= k)) for k in AMONG}
    return {**found, "median_rank": float(np.median(ranks))}


def _check(count: int, total: int, owner: Int[np.ndarray, " n"]) -> None:
    if len(owner) != total:
        raise UserError(f"{total} sentences have {len(owner)} owners: each must have one")
    if wrong := [int(i) for i in owner if not 0 <= i < count]:
        raise UserError(f"picture {wrong[0]} owns a sentence and is none of the {count} pictures 0 to {count - 1}")
    if len(bare := np.setdiff1d(np.arange(count), owner)):
        raise UserError(f"picture {bare[0]} has no sentence that could be found: leave it out")
