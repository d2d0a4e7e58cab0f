"""Classes that samples show: by hand."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.errors import UserError
from cnnlab.metrics.coverage import class_shares, coverage, entropy, inception_score


def sure(labels, k):
    return np.eye(k)[labels]


def test_entropies():
    assert entropy(jnp.full(8, 1 / 8)) == pytest.approx(math.log(8))
    assert entropy(sure([1], 3)).tolist() == [0]
    assert not np.signbit(entropy(sure([1], 3))).any()
    np.testing.assert_allclose(entropy(np.array([[[0.25, 0.75]]])), [[math.log(4) - 0.75 * math.log(3)]])


def test_shares_of_classes():
    np.testing.assert_array_equal(class_shares(sure([0, 2, 2, 0, 2], 4)), [0.4, 0, 0.6, 0])
    np.testing.assert_array_equal(class_shares(np.array([[0.5, 0.5]])), [1, 0])


def test_a_class_counts_from_its_share_on():
    p = sure([0] * 19 + [1], 2)  # 1 has a twentieth, a tenth of an even share of a half
    assert coverage(p)["classes"] == 2
    assert coverage(p, least=0.11)["classes"] == 1


def test_collapse_onto_one_class():
    scores = coverage(np.full((6, 4), 0.1) + 0.6 * sure([3] * 6, 4))
    own = float(entropy(np.array([0.1, 0.1, 0.1, 0.7])))
    assert scores == pytest.approx(
        {"classes": 1, "class_entropy": 0, "prediction_entropy": own, "inception_score": 1}, abs=1e-9
    )


def test_all_classes_alike_and_each_sure():
    scores = coverage(sure([0, 1, 2, 3, 4] * 3, 5))
    assert scores == pytest.approx(
        {"classes": 5, "class_entropy": math.log(5), "prediction_entropy": 0, "inception_score": 5}
    )


def test_inception_score_is_the_mean_divergence():
    p = np.random.default_rng(0).dirichlet(np.full(7, 0.3), 50)
    divergence = np.sum(p * np.log(p / p.mean(0)), 1).mean()
    assert inception_score(p) == pytest.approx(math.exp(divergence), rel=1e-9)


def test_no_samples():
    with pytest.raises(UserError, match="no samples"):
        coverage(np.zeros((0, 3)))
