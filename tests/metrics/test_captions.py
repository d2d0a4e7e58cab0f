"""Scores of captions by hand: perplexity, references of the source, what is true of drawings, what is masked."""

import math

import numpy as np
import pytest

from cnnlab.data.captions import DrawnCaptions
from cnnlab.data.sentences import is_true
from cnnlab.data.text import END, build, words_of
from cnnlab.experiment import Metrics
from cnnlab.metrics import sentences
from cnnlab.metrics.captions import CaptionMetrics, Said

DRAWN = DrawnCaptions("test", np.array([3, 5, 8]), build([("a",)], 1), 48, 3)
WRONG = "nine purple stars"
VOCABULARY = build([words_of(one) for i in range(3) for one in DRAWN.sentences(i)] + [words_of(WRONG)], 1)


class Photographs:
    """Pictures of which it is not known what is true."""

    class_names = ()

    def __len__(self):
        return 2

    def batch(self, indices):
        return {}

    def sentences(self, index):
        return (("A red Circle!", "one circle"), ("two stars",))[index]


@pytest.fixture(autouse=True)
def without_java(monkeypatch):
    """METEOR's program takes seconds to start; `test_sentences.py` tests it."""
    monkeypatch.setattr(sentences, "has_meteor", lambda: False)


def outputs(*rows, vocabulary=VOCABULARY, mask=None):
    """One batch: of each picture (index, sentence, nats, words of its references)."""
    index, said, loss, words = zip(*rows, strict=True)
    tokens = [vocabulary.encode(words_of(one), 20)[1:] for one in said]
    return {
        "mask": np.ones(len(rows), np.float32) if mask is None else np.array(mask, np.float32),
        "index": np.array(index, np.int32),
        "tokens": np.where(np.cumsum(np.stack(tokens) == END, 1) > 0, END, tokens),  # as searches fill up
        "loss": np.array(loss, np.float32),
        "words": np.array(words, np.int32),
    }


def added(source, *batches, vocabulary=VOCABULARY):
    metrics = CaptionMetrics(vocabulary, source)
    for batch in batches:
        metrics.add(batch)
    return metrics


def test_perplexity_is_of_all_words_alike():
    one, other = (1, WRONG, 6 * math.log(8), 6), (0, WRONG, 2 * math.log(2), 2)
    scores = added(None, outputs(one), outputs(other)).compute()
    bits = (6 * 3 + 2 * 1) / 8
    assert scores == pytest.approx({"loss": bits * math.log(2), "perplexity": 2**bits, "count": 2}, rel=1e-6)
    assert list(scores)[-1] == "count"


def test_a_loss_beyond_all_numbers_has_a_perplexity_yet():
    scores = added(None, outputs((0, WRONG, 1e6, 1))).compute()
    assert scores["loss"] == 1e6
    assert math.isfinite(scores["perplexity"])


def test_references_are_the_sources():
    known = build([words_of(one) for i in range(2) for one in Photographs().sentences(i)], 1)
    batch = outputs((1, "two stars", 1, 1), (0, "a red circle", 1, 1), vocabulary=known)
    scores = added(Photographs(), batch, vocabulary=known).compute()
    assert scores["BLEU-1"] == pytest.approx(1)
    assert scores["BLEU-2"] == pytest.approx(1)
    assert set(scores) == {"loss", "perplexity", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "CIDEr", "count"}
    swapped = outputs((0, "two stars", 1, 1), (1, "a red circle", 1, 1), vocabulary=known)
    assert added(Photographs(), swapped, vocabulary=known).compute()["BLEU-1"] == pytest.approx(0)
    expected = sentences.scores(
        [("one", "red", "circle"), ("two", "stars")], [[("a", "red", "circle"), ("one", "circle")], [("two", "stars")]]
    )
    mixed = outputs((0, "one red circle", 1, 1), (1, "two stars", 1, 1), vocabulary=known)
    assert added(Photographs(), mixed, vocabulary=known).compute().items() >= expected.items()


def test_what_is_true_of_drawings():
    right = [DRAWN.sentences(i)[1] for i in range(3)]
    assert not is_true(WRONG, DRAWN.scene(1))
    rows = [(0, right[0], 1, 1), (1, WRONG, 1, 1), (2, right[2], 1, 1)]
    metrics = added(DRAWN, outputs(*rows[1:]), outputs(rows[0]))
    scores = metrics.compute()
    assert scores["true"] == pytest.approx(2 / 3)
    assert metrics.first(2) == [
        Said(0, " ".join(words_of(right[0])), DRAWN.sentences(0)[0], True),
        Said(1, WRONG, DRAWN.sentences(1)[0], False),
    ]


def test_what_is_masked_counts_for_nothing():
    some = outputs((0, WRONG, 1, 1), (1, WRONG, 2, 5), (0, "", math.nan, 9), mask=[1, 1, 0])
    assert added(DRAWN, some).compute() == added(DRAWN, outputs((1, WRONG, 2, 5), (0, WRONG, 1, 1))).compute()


def test_photographs_are_not_judged():
    metrics = added(Photographs(), outputs((1, WRONG, 1, 1)))
    assert "true" not in metrics.compute()
    assert metrics.first(5) == [Said(1, WRONG, "two stars", None)]


def test_no_pictures():
    metrics = added(DRAWN)
    assert metrics.compute() == {"loss": 0.0, "perplexity": 1.0, "count": 0}
    assert metrics.first(3) == []
    assert isinstance(metrics, Metrics)
