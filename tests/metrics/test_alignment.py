"""Scores of alignment: pairs as the network has them, ranks by hand, padding, which regions words belong to."""

import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.experiment import Metrics
from cnnlab.metrics import alignment, distances, retrieval
from cnnlab.metrics.alignment import AlignmentMetrics, pair_scores
from cnnlab.models.alignment import scores


def vectors(counts, seed, d=3):
    random = np.random.default_rng(seed)
    return [random.normal(size=(count, d)).astype(np.float32) for count in counts]


def padded(each, fill):
    """Vectors with others behind them that do not count, and which do."""
    most = max(map(len, each))
    rows = [np.concatenate([own, np.full((most - len(own), own.shape[1]), fill, np.float32)]) for own in each]
    return np.stack(rows), np.arange(most) < np.array([[len(own)] for own in each])


@pytest.mark.parametrize("kind", ["max", "sum"])
@pytest.mark.parametrize("block", [1, 100, 2**25])
def test_pairs_are_those_of_the_network(kind, block, monkeypatch):
    monkeypatch.setattr(distances, "NUMBERS", block)
    regions, words = vectors((3, 1, 2, 4), 0), vectors((2, 5, 1, 3, 1), 1)
    arrays = *padded(regions, 9.0), *padded(words, -9.0)
    expected = scores(*map(jnp.asarray, arrays), kind)
    found = pair_scores(regions, words, kind)
    assert found.shape == (4, 5)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def outputs(index, regions, words, tokens, mask=None):
    """One batch: of each picture its regions and its sentences' words, padded with what does not count."""
    n, each, most = len(index), max(map(len, words)), max(len(own) for one in words for own in one)
    region, there = padded(regions, 50.0)
    batch = {
        "mask": np.ones(n, np.float32) if mask is None else np.array(mask, np.float32),
        "index": np.array(index, np.int32),
        "regions": region,
        "there": there,
        "boxes": np.tile(np.arange(region.shape[1], dtype=np.float32)[None, :, None], (n, 1, 4)),
        "words": np.full((n, each, most, region.shape[2]), 70.0, np.float32),
        "length": np.zeros((n, each), np.int32),
        "tokens": np.full((n, each, most), 9, np.int32),
        "place": np.zeros((n, each, most), np.int32),
    }
    for i, one in enumerate(words):
        for k, own in enumerate(one):
            batch["words"][i, k, : len(own)], batch["length"][i, k] = own, len(own)
            batch["tokens"][i, k, : len(own)] = tokens[i][k]
    return batch


# Three pictures of one region each, along the axes; sentences of one word.
AXES = [np.eye(3, dtype=np.float32)[i : i + 1] for i in range(3)]


def word(*numbers):
    return np.array([numbers], np.float32)


SENTENCES = [
    [word(2, 1, 0), word(0, 3, 1)],  # the first finds its picture; the second finds the second
    [word(0, 1, 5)],  # its picture is second
    [word(0, 0, 4)],  # its picture is first; the picture finds the one before, which scores 5
]
TOKENS = [[(4,), (5,)], [(6,)], [(7,)]]


def test_ranks_by_hand():
    metrics = AlignmentMetrics()
    metrics.add(outputs([1, 2], AXES[1:], SENTENCES[1:], TOKENS[1:]))  # in another order
    metrics.add(outputs([0], AXES[:1], SENTENCES[:1], TOKENS[:1]))
    found = metrics.compute()
    # Pictures: 0 finds its own first; 1 has 3 (wrong) before 1, and another 1, a tie; 2 has 5 before its 4.
    pictures, sentences = np.array([1, 3, 2]), np.array([1, 3, 2, 1])
    assert found == {
        "recall": pytest.approx((1 / 3 + 2 / 4) / 2),
        **{f"to_sentences_{name}": value for name, value in retrieval.recalls(pictures).items()},
        **{f"to_pictures_{name}": value for name, value in retrieval.recalls(sentences).items()},
        "count": 3,
    }
    assert list(found)[-1] == "count"
    assert found["to_sentences_median_rank"] == 2
    assert found["to_pictures_R@5"] == 1


def test_the_kind_of_scores_is_kept():
    regions = [np.array([[3, 0], [0, 3]], np.float32), np.array([[4, 0], [0, 0]], np.float32)]
    sentences = [[np.array([[1, 1]], np.float32)], [np.array([[1, 0]], np.float32)]]
    batch = outputs([0, 1], regions, sentences, [[(4,)], [(5,)]])
    recalls = {}
    for kind in ("max", "sum"):
        metrics = AlignmentMetrics(kind)
        metrics.add(batch)
        recalls[kind] = metrics.compute()["to_pictures_R@1"]
    assert recalls == {"max": 0.5, "sum": 1.0}  # 3 < 4, 3 + 3 > 4


def test_padding_and_masks_count_for_nothing():
    regions, sentences = vectors((3, 1), 0), [vectors((2, 1), 1), vectors((3,), 2)]
    tokens = [[(4, 5), (6,)], [(7, 8, 4)]]
    batch = outputs([4, 9], regions, sentences, tokens)
    batch["place"][0, 0] = [2, 1, 0]
    metrics = AlignmentMetrics()
    metrics.add(batch)
    metrics.add(outputs([4], [AXES[0]], [[word(1, 1, 1)]], [[(4,)]], mask=[0]))
    (index, first), (last, second) = metrics.first(5)
    assert (index, last) == (4, 9)
    assert (first.regions == regions[0]).all()
    assert first.boxes[:, 0].tolist() == [0, 1, 2]
    assert [own.tolist() for own in first.words] == [own.tolist() for own in sentences[0]]
    assert first.tokens == ((4, 5), (6,))
    assert first.places == ((2, 1), (0,))
    assert second.tokens == ((7, 8, 4),)
    assert metrics.first(1)[0][0] == 4


def test_places_are_numbers_of_the_regions_that_there_are():
    batch = outputs([0], [vectors((4,), 0)[0]], [[vectors((3,), 1)[0]]], [[(4, 5, 6)]])
    batch["there"][0] = [True, False, True, True]
    batch["place"][0, 0] = [3, 0, 2]
    metrics = AlignmentMetrics()
    metrics.add(batch)
    ((_, one),) = metrics.first(1)
    assert one.places == ((2, 0, 1),)
    assert one.boxes[:, 0].tolist() == [0, 2, 3]
    assert (one.regions == batch["regions"][0, [0, 2, 3]]).all()


def test_no_pictures():
    metrics = AlignmentMetrics()
    assert metrics.compute() == {"recall": 0.0, "count": 0}
    assert metrics.first(3) == []
    assert isinstance(metrics, Metrics)
    assert set(alignment.DIRECTIONS) == {"to_sentences", "to_pictures"}
