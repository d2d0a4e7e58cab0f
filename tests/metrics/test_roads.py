"""Relaxed precision and recall against brute force over all pairs of pixels; break-even by hand; windows as wholes."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.checkpoint import Checkpoints
from cnnlab.data.road_patches import Tiling, WindowSource
from cnnlab.metrics.roads import LEVELS, Curve, RoadMetrics, curve_of, highest_within, nothing
from cnnlab.state import TrainState


def drawn(seed, height=17, width=23):
    random = np.random.default_rng(seed)
    return random.random((height, width)), random.random((height, width)) < 0.06


def brute(found, truth, slack):
    """Precision and recall by the distances of all pairs of pixels, in float64."""
    a, b = np.argwhere(found), np.argwhere(truth)
    distance = np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1))
    return (distance.min(1) <= slack).mean(), (distance.min(0) <= slack).mean()


@pytest.mark.parametrize("slack", [0.0, 1.0, 1.5, 3.0, 4.3])
def test_the_curve_is_that_of_all_pairs_of_pixels(slack):
    probability, truth = drawn(0)
    curve = curve_of(probability, truth, slack)
    for threshold in (0.1, 0.5, 0.9, 0.97):
        expected = brute(np.floor(probability * LEVELS) >= threshold * LEVELS, truth, slack)
        assert curve.at(threshold) == pytest.approx(expected)


def test_a_slack_beyond_the_picture():
    assert highest_within(np.eye(2, 3, dtype=bool), 5.0).all()


def test_counts_of_pictures_add_up():
    (p, t), (q, u) = drawn(1), drawn(2)
    both = curve_of(p, t, 0.0) + curve_of(q, u, 0.0)
    flat, true = np.concatenate([p.ravel(), q.ravel()]), np.concatenate([t.ravel(), u.ravel()])
    found = np.floor(flat * LEVELS) >= 600
    assert both.at(0.6) == pytest.approx(((found & true).sum() / found.sum(), (found & true).sum() / true.sum()))


def test_break_even_by_hand():
    # Up to the threshold 0.2, 3 of 8 are right and 6 of 8 true pixels found; up to 0.7, 3 of 4, and 4 of 8.
    found, right, true = (np.zeros(LEVELS + 1, np.int64) for _ in range(3))
    found[200], found[700] = 4, 4
    right[700] = 3
    true[0], true[200], true[700] = 2, 2, 4
    curve = Curve(found, right, true)
    assert curve.at(0.2) == (0.375, 0.75)
    assert curve.at(0.7) == (0.75, 0.5)
    value, threshold = curve.break_even()
    assert value == 0.5
    assert threshold == 0.201  # the first of those that do as well
    assert curve.at(1.0) == (1.0, 0.0)  # nothing is found, so nothing is wrong


def test_perfect_and_one_that_knows_nothing():
    truth = drawn(3)[1]
    assert curve_of(truth.astype(float), truth).break_even()[0] == 1.0
    share = truth.mean()
    assert curve_of(np.full(truth.shape, 0.4), truth, 0.0).break_even()[0] == pytest.approx(share)


def test_without_a_road():
    value, threshold = curve_of(np.full((4, 4), 0.5), np.zeros((4, 4), bool)).break_even()
    assert math.isnan(value)
    assert math.isnan(threshold)
    assert math.isnan(nothing().break_even()[0])


class Known:
    """Two pictures whose maps are known."""

    maps = (drawn(5, 40, 52), drawn(6, 33, 38))

    def __len__(self):
        return 2

    def name(self, index):
        return str(index)

    def size(self, index):
        return self.maps[index][0].shape

    def read(self, index, rows, columns):
        probability, truth = self.maps[index]
        return np.repeat(np.uint8(255 * probability)[..., None], 3, -1)[rows, columns], truth[rows, columns]

    def truth(self, index):
        return self.maps[index][1]


def test_metrics_put_windows_together_and_leave_out_the_padding():
    tiling = Tiling(24, 8, 4, 3)
    source, metrics = WindowSource(Known(), tiling), RoadMetrics(3.0, 0.5)
    metrics.source = source
    padded = [np.pad(p, ((0, 40), (0, 40))) for p, _ in Known.maps]
    for start in range(0, len(source), 4):
        index = np.arange(start, start + 4)
        mask = (index < len(source)).astype(np.float32)
        index = np.where(mask > 0, index, 0)
        places = [source.places[i] for i in index]
        sums = [padded[i][y : y + tiling.span, x : x + tiling.span] * tiling.counts for i, y, x in places]
        metrics.add({"mask": mask, "index": index, "sums": np.stack(sums)})
    expected = curve_of(*Known.maps[0]) + curve_of(*Known.maps[1])
    scores = metrics.compute()
    assert scores["count"] == 2
    assert scores["break_even"] == pytest.approx(expected.break_even()[0], abs=2e-3)  # a level, as sums are rounded
    assert (scores["precision"], scores["recall"]) == pytest.approx(expected.at(0.5), abs=2e-3)
    said = [np.where(t, p, 1 - p) for p, t in Known.maps]
    assert scores["loss"] == pytest.approx(np.mean([-np.log(s).mean() for s in said]), rel=1e-4)
    assert [one.index for one in metrics.first] == [0, 1]
    np.testing.assert_allclose(metrics.first[0].probability, 255 * Known.maps[0][0], atol=0.51)


class Bare(Known):
    """A picture without a road."""

    maps = ((drawn(5, 40, 52)[0], np.zeros((40, 52), bool)),)

    def __len__(self):
        return 1


def test_a_test_without_a_road_has_numbers_that_rank_checkpoints(tmp_path):
    tiling = Tiling(24, 8, 4, 3)
    source, metrics = WindowSource(Bare(), tiling), RoadMetrics(3.0, 0.5)
    metrics.source = source
    for index in range(len(source)):
        sums = 0.75 * tiling.counts[None]
        metrics.add({"mask": np.ones(1, np.float32), "index": np.array([index]), "sums": sums})
    expected = {"break_even": 0.0, "precision": 0.0, "loss": pytest.approx(-math.log(0.25)), "count": 1}
    assert metrics.compute() == expected
    assert math.isnan(metrics.first[0].break_even)  # figures say "no road"
    checkpoints = Checkpoints(tmp_path, best="-break_even")
    state = TrainState(step=jnp.int32(1), params={"w": jnp.ones(2)}, model_state={}, opt_state=())
    for step in (1, 2):
        checkpoints.save(step, state, [], metrics.compute())
    checkpoints.finish()
    assert checkpoints.steps() == [1, 2]
