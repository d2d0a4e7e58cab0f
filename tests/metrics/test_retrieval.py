"""Ranks of retrieval by hand: own sentences, ties, NaN, parts that are gone through one by one."""

import math

import numpy as np
import pytest

from cnnlab.errors import UserError
from cnnlab.metrics import distances
from cnnlab.metrics.retrieval import ranks, recalls

NAN, INF = math.nan, math.inf


def ranked(rows, owner, dtype=np.float32):
    pictures, sentences = ranks(np.array(rows, dtype), np.array(owner))
    return pictures.tolist(), sentences.tolist()


def by_sorting(scores, owner):
    """The same, without a tie or NaN, as by hand: all in order, and the place of the first that is right."""
    order = np.argsort(-scores, axis=1)
    pictures = [1 + next(k for k, j in enumerate(row) if owner[j] == i) for i, row in enumerate(order)]
    order = np.argsort(-scores, axis=0)
    return pictures, [1 + list(order[:, j]).index(owner[j]) for j in range(len(owner))]


def test_ranks_by_hand():
    # The first picture owns sentences 0 and 3, its best has 0.7 and two wrong ones more: rank 3. The second owns 1: 0.9
    # is more than all. The third owns 2: 0.5, and 0.8 and 0.6 are more.
    rows = [[0.2, 0.9, 0.8, 0.7], [0.1, 0.9, 0.6, 0.3], [0.6, 0.8, 0.5, 0.4]]
    # Down the columns: 0.2 below 0.6; 0.9 as much as the first picture's; 0.5 below 0.8 and 0.6; 0.7 the most.
    assert ranked(rows, [0, 1, 2, 0]) == ([3, 1, 3], [2, 2, 3, 1])


def test_own_sentences_are_not_in_each_others_way():
    assert ranked([[5, 5, 4, 1], [1, 1, 1, 9]], [0, 0, 0, 1]) == ([1, 1], [1, 1, 1, 1])
    # The best own one counts, not the first: one wrong sentence is above 0.6.
    assert ranked([[0.1, 0.2, 0.6, 0.7], [0, 0, 0, 1]], [0, 0, 0, 1])[0] == [2, 1]


@pytest.mark.parametrize("value", [0, 0.3, -INF, INF, NAN])
def test_scores_that_are_all_alike_have_the_last_rank(value):
    # Of five sentences the first picture owns three: two wrong ones before it. The other owns two: three before it.
    assert ranked(np.full((2, 5), value), [0, 0, 1, 1, 0]) == ([3, 4], [2] * 5)


def test_nan_is_the_last():
    # The first picture's own is NaN: last of three. The second's 0.1 has NaN and 0.05 below it. The third's −∞ is more
    # than NaN, and less than 0.
    rows = [[NAN, 0.4, 0.3], [NAN, 0.1, 0.05], [NAN, 0, -INF]]
    # Down: the first sentence's is NaN, last of three, although all are; 0.1 is below 0.4; −∞ the last.
    assert ranked(rows, [0, 1, 2]) == ([3, 1, 2], [3, 2, 3])
    # One of two own sentences is NaN: the other counts.
    assert ranked([[NAN, 0.5, 0.4], [0, 0, 1]], [0, 0, 1]) == ([1, 1], [2, 1, 1])
    # What is right is −∞ and all else NaN: the first rank.
    assert ranked([[-INF, NAN], [NAN, -INF]], [0, 1]) == ([1, 1], [1, 1])


@pytest.mark.parametrize("numbers", [1, 70, 10**6])
def test_many_are_as_by_sorting_whatever_the_parts(monkeypatch, numbers):
    random = np.random.default_rng(0)
    owner = random.permutation(np.concatenate([np.arange(12), random.integers(0, 12, 20)]))
    scores = random.permutation(12 * 32).reshape(12, 32).astype(np.float64)  # no two alike
    monkeypatch.setattr(distances, "NUMBERS", numbers)
    pictures, sentences = ranks(scores, owner)
    assert (pictures.tolist(), sentences.tolist()) == by_sorting(scores, owner)
    assert len(set(pictures.tolist())) > 3


def test_recalls_by_hand():
    found = recalls(np.array([1, 1, 2, 5, 6, 10, 11, 30]))
    assert found == {"R@1": 2 / 8, "R@5": 4 / 8, "R@10": 6 / 8, "median_rank": 5.5}
    assert recalls(np.array([7, 1, 1]))["median_rank"] == 1
    assert recalls(np.array([1])) == {"R@1": 1, "R@5": 1, "R@10": 1, "median_rank": 1}


def test_nothing_to_rank():
    pictures, sentences = ranks(np.zeros((0, 0), np.float32), np.zeros(0, int))
    assert len(pictures) == len(sentences) == 0
    found = recalls(pictures)
    assert list(found) == ["R@1", "R@5", "R@10", "median_rank"]
    assert all(map(math.isnan, found.values()))


def test_wrong_owners_are_refused():
    scores = np.zeros((2, 3), np.float32)
    for owner, picture in (([0, 1, 2], 2), ([0, -1, 1], -1)):
        with pytest.raises(
            UserError, match=rf"^picture {picture} owns a sentence and is none of the 2 pictures 0 to 1"
        ):
            ranks(scores, np.array(owner))
    with pytest.raises(UserError, match=r"^picture 1 has no sentence that could be found: leave it out$"):
        ranks(scores, np.array([0, 0, 0]))
    # The hook that checks signatures in tests refuses two lengths already; the function itself must do so without it.
    with pytest.raises(UserError, match=r"^3 sentences have 2 owners"):
        getattr(ranks, "__wrapped__", ranks)(scores, np.array([0, 1]))
