"""Smallest changes: a linear classifier's are the distances to its borders."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from scipy.optimize import brentq
from scipy.optimize import minimize as scipy_minimise

from cnnlab.errors import UserError
from cnnlab.inspect.smallest import deepfool, lbfgs_attack, runner_up
from tests.inspect.test_attacks import flat

RANDOM = np.random.default_rng(0)
WEIGHTS = (RANDOM.normal(size=(48, 5)) * [1, 0.4, 1.6, 0.7, 1.2]).astype(np.float32)
X = RANDOM.uniform(0.35, 0.65, (6, 4, 4, 3)).astype(np.float32)  # far from black and white


def linear(weights, x):
    return (x.reshape(len(x), -1) - 0.5) @ weights


LINEAR = Partial(linear, jnp.asarray(WEIGHTS))
LABELS = LINEAR(jnp.asarray(X)).argmax(-1)


def borders(x, labels):
    """The distance of each picture to the border with each class, and the step to it: (n, k), (n, k, d)."""
    scores = flat(x - 0.5) @ WEIGHTS
    margins = np.take_along_axis(scores, labels[:, None], 1) - scores
    across = WEIGHTS.T[None] - WEIGHTS.T[labels][:, None]
    lengths = np.linalg.norm(across, axis=-1)
    lengths[np.arange(len(x)), labels] = np.nan
    return margins / lengths, (margins / lengths**2)[..., None] * across


def test_deepfool_goes_to_the_nearest_border():
    found = flat(deepfool(LINEAR, jnp.asarray(X), LABELS) - X)
    distances, steps = borders(X, np.asarray(LABELS))
    nearest = np.nanargmin(distances, 1)
    assert (nearest != np.asarray(runner_up(LINEAR, jnp.asarray(X), LABELS))).any()  # the nearest is not the likeliest
    np.testing.assert_allclose(found, 1.02 * steps[np.arange(6), nearest], atol=1e-5)
    assert (linear(WEIGHTS, found.reshape(X.shape) + X).argmax(-1) == nearest).all()


def test_deepfool_considers_the_likeliest_classes_only():
    found = flat(deepfool(LINEAR, jnp.asarray(X), LABELS, classes=1) - X)
    second = np.asarray(runner_up(LINEAR, jnp.asarray(X), LABELS))
    assert (second == np.argsort(linear(WEIGHTS, X))[:, -2]).all()
    steps = borders(X, np.asarray(LABELS))[1][np.arange(6), second]
    np.testing.assert_allclose(found, 1.02 * steps, atol=1e-5)


def two_classes(x):
    """Black and white pixels in plenty, and the least change in [0, 1] to the other class, by bisection."""
    across = WEIGHTS[:, 1] - WEIGHTS[:, 0]
    label = int((x - 0.5) @ across > 0)
    away = across * (1 - 2 * label)

    def score(length):
        return (np.clip(x + length * away, 0, 1) - 0.5) @ away

    return label, np.clip(x + brentq(score, 0, 10) * away, 0, 1) - x


def test_both_within_black_and_white():
    x = np.clip(RANDOM.normal(0.5, 0.8, (6, 4, 4, 3)), 0, 1).astype(np.float32)
    assert ((x == 0) | (x == 1)).mean() > 0.3
    pair = Partial(linear, jnp.asarray(WEIGHTS[:, :2]))
    labels, least = zip(*(two_classes(row) for row in flat(x)), strict=True)
    labels, least = np.array(labels), np.linalg.norm(np.stack(least), axis=1)
    for found, above in (
        # Two steps are enough, as pixels that would leave the range take no part in them.
        (deepfool(pair, jnp.asarray(x), jnp.asarray(labels), steps=2), 1.1),
        (lbfgs_attack(pair, jnp.asarray(x), jnp.asarray(1 - labels), rounds=14, steps=25), 1.02),
    ):
        assert (pair(found).argmax(-1) == 1 - labels).all()
        assert float(found.min()) >= 0
        assert float(found.max()) <= 1
        sizes = np.linalg.norm(flat(found - x), axis=1)
        assert (sizes > 0.999 * least).all()
        assert (sizes < above * least).all()


def least_to(x, target):
    """The size of the least change after which the target scores above all others."""
    others = [k for k in range(5) if k != target]
    ahead = WEIGHTS[:, [target]] - WEIGHTS[:, others]
    found = scipy_minimise(
        lambda r: (r @ r, 2 * r),
        np.zeros(48),
        jac=True,
        constraints={"type": "ineq", "fun": lambda r: (x + r - 0.5) @ ahead, "jac": lambda r: ahead.T},
    )
    return np.sqrt(found.fun)


def test_lbfgs_reaches_any_target():
    targets = (np.asarray(LABELS) + np.array([1, 2, 3, 4, 1, 0])) % 5
    sure = Partial(linear, 20 * jnp.asarray(WEIGHTS))  # the same borders, and less doubt of which class is near
    found = lbfgs_attack(sure, jnp.asarray(X), jnp.asarray(targets))
    assert (LINEAR(found).argmax(-1) == targets).all()
    sizes = np.linalg.norm(flat(found - X), axis=1)
    least = [least_to(x, target) for x, target in zip(flat(X), targets, strict=True)]
    assert (sizes[:5] > 0.999 * np.array(least[:5])).all()
    assert (sizes[:5] < 1.1 * np.array(least[:5])).all()
    assert sizes[5] == 0  # it is what it should be already


def test_what_is_wrong_already_stays():
    wrong = (LABELS + 1) % 5
    np.testing.assert_array_equal(deepfool(LINEAR, jnp.asarray(X), wrong), X)
    unreachable = Partial(lambda weights, x: linear(weights, x).at[:, 4].set(-1e3), jnp.asarray(WEIGHTS))
    np.testing.assert_array_equal(
        lbfgs_attack(unreachable, jnp.asarray(X), jnp.full(6, 4), rounds=2, steps=2), jnp.asarray(X)
    )


def test_a_network():
    layers = [nn.Conv(6, (3, 3)), nn.BatchNorm(use_running_average=True), nn.relu, nn.Conv(5, (3, 3)), nn.relu]
    model = nn.Sequential([*layers, lambda x: nn.max_pool(x, (2, 2), (2, 2)).mean((1, 2))])
    x = jax.random.uniform(jax.random.key(3), (4, 8, 8, 3))
    logits = Partial(model.apply, model.init(jax.random.key(0), x))
    labels = logits(x).argmax(-1)
    easy, small = deepfool(logits, x, labels), lbfgs_attack(logits, x, runner_up(logits, x, labels))
    for found in (easy, small):
        assert (logits(found).argmax(-1) != labels).all()
        assert float(found.min()) >= 0
        assert float(found.max()) <= 1
    whole = jax.jit(lambda x: deepfool(logits, x, labels, steps=2, classes=2))(x)
    np.testing.assert_allclose(whole, deepfool(logits, x, labels, steps=2, classes=2), atol=1e-4)


def test_no_steps_are_too_few():
    for attack in (
        lambda: deepfool(LINEAR, jnp.asarray(X), LABELS, steps=0),
        lambda: lbfgs_attack(LINEAR, jnp.asarray(X), LABELS, rounds=0),
    ):
        with pytest.raises(UserError, match="is 0; it must be at least 1"):
            attack()
