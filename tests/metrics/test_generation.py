"""What a test of an adversarial net collects and scores, against the scores' own functions and by hand."""

import math

import numpy as np
import pytest

from cnnlab.metrics.generation import GenerationMetrics, shares_figure
from cnnlab.metrics.parzen import parzen

DRAW = np.random.default_rng(0)
REAL = DRAW.integers(0, 256, (40, 2, 2, 1), dtype=np.uint8)


def outputs(samples, real, right=1.0, mask=None):
    """As `GAN.eval_step` gives them."""
    n = len(samples)
    mask = np.ones(n) if mask is None else mask
    said = np.full(n, right)
    return {
        "mask": mask,
        "index": np.arange(n),
        "sample": samples,
        "image": real,
        "real_right": said,
        "fake_right": 1 - said,
    }


def judge(pictures):
    """Features are the pixels; the class, of 3, is how bright the first one is."""
    x = pictures.reshape(len(pictures), -1) / 255
    return x, np.eye(3)[np.minimum((3 * x[:, 0]).astype(int), 2)]


def test_masked_rows_do_not_count_and_batches_are_one():
    samples = DRAW.random((40, 2, 2, 1)).astype(np.float32)
    whole, parts = GenerationMetrics(lambda: REAL), GenerationMetrics(lambda: REAL)
    whole.add(outputs(samples, REAL, 0.25))
    parts.add(outputs(samples[:30], REAL[:30], 0.25))
    filler = np.concatenate([samples[30:], samples[:5]]), np.concatenate([REAL[30:], 255 - REAL[:5]])
    parts.add(outputs(*filler, 0.25, np.arange(15) < 10))
    assert parts.compute() == whole.compute()
    assert whole.compute()["count"] == 40
    assert (whole.compute()["real_accuracy"], whole.compute()["fake_accuracy"]) == (0.25, 0.75)


def test_the_log_likelihood_is_of_pictures_that_did_not_choose_the_width():
    samples = (DRAW.random((40, 2, 2, 1)) / 2).astype(np.float32)
    metrics = GenerationMetrics(lambda: REAL)
    metrics.add(outputs(samples, REAL))
    pixels = REAL.astype(np.float32) / 255
    chosen = np.isin(np.arange(40), [0, 10, 20, 30])
    expected = parzen(samples, pixels[chosen], pixels[~chosen])
    scores = metrics.compute()
    assert scores["log_likelihood"] == pytest.approx(expected.mean, rel=1e-6)
    assert scores["log_likelihood_se"] == pytest.approx(expected.standard_error, rel=1e-6)
    assert "frechet" not in scores


def test_real_pictures_as_samples_have_the_judges_best_scores():
    metrics = GenerationMetrics(lambda: REAL, judge, ("dark", "grey", "white"))
    metrics.add(outputs(REAL.astype(np.float32) / 255, REAL))
    scores = metrics.compute()
    assert scores["frechet"] == pytest.approx(0, abs=1e-6)
    assert (scores["precision"], scores["recall"]) == (1, 1)
    shares = judge(REAL)[1].mean(0)
    assert scores["classes"] == 3
    assert scores["least_class"] == shares.min() > 0
    assert scores["class_entropy"] == pytest.approx(-(shares * np.log(shares)).sum())
    assert scores["prediction_entropy"] == 0


def test_a_collapsed_generator_is_found_out():
    samples = np.tile(np.array([0.9, 0.1, 0.2, 0.3], np.float32).reshape(1, 2, 2, 1), (40, 1, 1, 1))
    metrics = GenerationMetrics(lambda: REAL, judge, ("dark", "grey", "white"))
    metrics.add(outputs(samples, REAL))
    scores = metrics.compute()
    assert (scores["classes"], scores["least_class"], scores["class_entropy"], scores["recall"]) == (1, 0, 0, 0)
    # By hand: the other set does not vary, so the distance is that of the means and the real pictures' variances.
    real = REAL.reshape(40, 4) / 255
    stored = np.round(255 * samples[0].reshape(4)) / 255
    expected = np.square(real.mean(0) - stored).sum() + real.var(0, ddof=1).sum()
    assert scores["frechet"] == pytest.approx(expected, rel=1e-6)
    assert math.isfinite(scores["log_likelihood"])


def test_samples_stand_beside_their_neighbours():
    training = np.concatenate([REAL, 255 - REAL])
    samples = training[[3, 50, 7, *range(20, 29), 0]].astype(np.float32) / 255
    metrics = GenerationMetrics(lambda: training, judge, ("dark", "grey", "white"))
    metrics.add(outputs(samples, REAL[:13]))
    drawn = metrics.draw()
    assert set(drawn) == {"neighbours", "classes"}
    axes = drawn["neighbours"].axes
    assert len(axes) == 12 * 6
    for row in range(3):
        sample, first = (axes[6 * row + column].images[0].get_array() for column in (0, 1))
        np.testing.assert_allclose(sample, first, atol=1e-6)
        assert axes[6 * row + 1].get_title() == "0.00 away"


def test_the_shares_are_bars():
    drawn = shares_figure(np.array([0.5, 0.25, 0.25]), ("cat", "dog", "horse"))
    bars = drawn.axes[0].patches
    assert [bar.get_height() for bar in bars] == [50, 25, 25]
    assert [label.get_text() for label in drawn.axes[0].get_xticklabels()] == ["cat", "dog", "horse"]
