"""Attacks within a ball: projections by hand, a linear classifier with known answers, a network with batch norm."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import Partial

from cnnlab.data.augment import keys_of
from cnnlab.errors import UserError
from cnnlab.inspect import attacks
from cnnlab.models.resnet_cifar import ResNetCifar
from tests.small import random_array

KEYS = keys_of(jax.random.key(0), jnp.arange(4))
WEIGHTS = np.array([[1.0, -1.0], [2.0, 1.0], [-2.0, 0.0], [1.0, 1.0]], np.float32)  # four pixels, two classes
TOWARDS = np.array([-2.0, -1.0, 2.0, 0.0], np.float32)  # the second class's weights less the first's


def linear(weights, x):
    return x.reshape(len(x), -1) @ weights


LINEAR = Partial(linear, jnp.asarray(WEIGHTS))


def pictures(*rows):
    return jnp.asarray(rows, jnp.float32).reshape(len(rows), 2, 2, 1)


def flat(x):
    return np.asarray(x).reshape(len(x), -1)


def test_projection_in_the_maximum_norm():
    x, clean = pictures([0.0, 0.5, 1.4, -0.3]), pictures([0.5, 0.45, 0.9, 0.05])
    np.testing.assert_allclose(flat(attacks.project(x, clean, 0.2, "linf")), [[0.3, 0.5, 1.0, 0.0]], atol=1e-6)


def test_projection_in_l2_by_hand():
    clean = pictures([0.5, 0.9, 0, 0], [0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5], [0.2, 0.2, 0.2, 0.2])
    x = pictures([0.9, 1.7, 0, 0], [0.8, 0.9, 0.5, 0.5], [0.53, 0.54, 0.5, 0.5], [0.2, 0.2, 0.2, 0.2])
    found = flat(attacks.project(x, clean, 0.3, "l2"))
    # 0.16 s² + 0.1² = 0.3² for s = √½: to scale first and cut then would lead to (0.634, 1).
    np.testing.assert_allclose(found[0], [0.5 + 0.4 * np.sqrt(0.5), 1, 0, 0], atol=1e-5)
    np.testing.assert_allclose(found[1], [0.5 + 0.3 * 0.6, 0.5 + 0.3 * 0.8, 0.5, 0.5], atol=1e-5)
    np.testing.assert_allclose(found[2:], flat(x)[2:], atol=1e-6)  # near enough already
    np.testing.assert_array_equal(flat(attacks.project(x, clean, 0.0, "l2")), flat(clean))


def test_nothing_allowed_is_nearer_than_the_projection():
    random = np.random.default_rng(0)
    clean, x = random.uniform(0, 1, (1, 4)), random.normal(0.5, 2, (1, 4))
    found = flat(attacks.project(pictures(*x), pictures(*clean), 0.4, "l2"))
    assert np.linalg.norm(found - clean) <= 0.4 + 1e-5
    others = clean + random.normal(0, 0.2, (20_000, 4))
    allowed = others[(np.linalg.norm(others - clean, axis=1) <= 0.4) & ((others >= 0) & (others <= 1)).all(1)]
    assert len(allowed) > 1000
    assert np.linalg.norm(found - x) <= np.linalg.norm(allowed - x, axis=1).min() + 1e-5


def test_log_odds_are_cross_entropy_without_its_rounding():
    logits, labels = random_array((5, 7)), jnp.array([0, 3, 6, 2, 2])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    np.testing.assert_allclose(jax.nn.softplus(attacks.log_odds(logits, labels)), losses, rtol=1e-5)
    sure = jnp.array([[200.0, 0.0, 1.0]])
    gradient = jax.grad(lambda z: attacks.log_odds(z, jnp.array([0])).sum())(sure)
    np.testing.assert_allclose(gradient[0], [-1, 1 / (1 + np.e), np.e / (1 + np.e)], rtol=1e-4)


def test_fgsm_on_a_linear_classifier():
    x, labels = pictures([0.5, 0.5, 0.5, 0.5], [0.5, 0.02, 0.97, 0.5]), jnp.array([0, 1])
    found = attacks.fgsm(LINEAR, x, labels, epsilon=0.1)
    # A pixel that does not matter stays; one at the end of its range does not leave it.
    np.testing.assert_allclose(flat(found), [[0.4, 0.4, 0.6, 0.5], [0.6, 0.12, 0.87, 0.5]], atol=1e-6)
    for_it = attacks.fgsm(LINEAR, x, labels, epsilon=0.1, targeted=True)
    np.testing.assert_allclose(flat(for_it), [[0.6, 0.6, 0.4, 0.5], [0.4, 0, 1, 0.5]], atol=1e-6)
    round_it = attacks.fgsm(LINEAR, x[:1], labels[:1], epsilon=0.3, norm="l2")
    np.testing.assert_allclose(flat(round_it)[0], 0.5 + 0.3 * TOWARDS / 3, atol=1e-5)


@pytest.mark.parametrize("norm", attacks.NORMS)
def test_more_steps_reach_the_best_change_of_a_linear_classifier(norm):
    x, labels = pictures(*np.random.default_rng(1).uniform(0.3, 0.7, (4, 4))), jnp.array([0, 1, 0, 1])
    best = flat(attacks.fgsm(LINEAR, x, labels, epsilon=0.2, norm=norm))
    signs = np.where(labels == 0, 1, -1)[:, None]
    if norm == "l2":
        np.testing.assert_allclose(best, flat(x) + 0.2 * signs * TOWARDS / 3, atol=1e-5)
    np.testing.assert_allclose(flat(attacks.iterated_fgsm(LINEAR, x, labels, epsilon=0.2, norm=norm)), best, atol=1e-5)
    found = flat(attacks.pgd(LINEAR, x, labels, KEYS, epsilon=0.2, norm=norm))
    moving = TOWARDS != 0  # the fourth pixel does not matter, and may stay where it was drawn
    np.testing.assert_allclose(found[:, moving], best[:, moving], atol=1e-5 if norm == "linf" else 0.02)


def test_steps_are_projected_and_add_up():
    x, labels = pictures([0.5, 0.5, 0.5, 0.5]), jnp.array([0])
    one = attacks.iterated_fgsm(LINEAR, x, labels, epsilon=0.1, steps=1)
    np.testing.assert_allclose(flat(one), flat(attacks.fgsm(LINEAR, x, labels, epsilon=0.1)), atol=1e-6)
    start = attacks.random_start(KEYS[:1], x, 0.1, "linf")
    found = attacks.pgd(LINEAR, x, labels, KEYS[:1], epsilon=0.1, steps=1)
    np.testing.assert_allclose(flat(found), np.clip(flat(start) + 0.25 * np.sign(TOWARDS), 0.4, 0.6), atol=1e-6)


def test_random_starts_fill_the_ball():
    x = jnp.full((4000, 2, 2, 1), 0.5)
    keys = keys_of(jax.random.key(1), jnp.arange(4000))
    for norm in attacks.NORMS:
        change = attacks.random_start(keys, x, 0.4, norm) - x
        assert abs(float(change.mean())) < 0.01
        radii = np.sort(attacks.size(change, norm)) / 0.4
        # Even in four dimensions: the share within radius r of 1 is r⁴.
        np.testing.assert_allclose(radii**4, np.linspace(0, 1, 4000), atol=0.04)
    np.testing.assert_array_equal(attacks.random_start(keys[:9], x[:9], 0.4, norm), (x + change)[:9])
    dark = attacks.random_start(keys, 0 * x, 0.4, "linf")
    assert float(dark.min()) == 0
    assert float(dark.max()) > 0.39


def network():
    """Batch normalisation whose averages are not those of the batch."""
    model, x = ResNetCifar(depth=8), random_array((3, 8, 8, 3))
    variables = model.init(jax.random.key(0), x)
    stats = jax.tree.map(lambda leaf: leaf - 0.3, variables["batch_stats"])
    params = {**variables["params"], "fc": {"kernel": random_array((64, 10), 1), "bias": jnp.zeros(10)}}
    return Partial(functools.partial(model.apply, train=False), {"params": params, "batch_stats": stats})


def test_on_a_network_each_picture_is_by_itself():
    logits, x = network(), jax.random.uniform(jax.random.key(2), (3, 8, 8, 3))
    labels = logits(x).argmax(-1)
    together = attacks.pgd(logits, x, labels, KEYS[:3], epsilon=0.05, steps=3)
    alone = attacks.pgd(logits, x[1:2], labels[1:2], KEYS[1:2], epsilon=0.05, steps=3)
    np.testing.assert_allclose(together[1], alone[0], atol=1e-4)
    assert (attacks.log_odds(logits(together), labels) > attacks.log_odds(logits(x), labels)).all()
    back = attacks.iterated_fgsm(logits, x, labels, epsilon=0.05, steps=3, targeted=True)
    assert (attacks.log_odds(logits(back), labels) < attacks.log_odds(logits(x), labels)).all()
    whole = jax.jit(lambda x: attacks.pgd(logits, x, labels, KEYS[:3], epsilon=0.05, steps=3))(x)
    np.testing.assert_allclose(whole, together, atol=1e-4)
    for found in (together, back):
        assert float(found.min()) >= 0
        assert float(found.max()) <= 1
        assert float(jnp.abs(found - x).max()) <= 0.05 + 1e-6


def test_what_is_out_of_range():
    x, labels = pictures([0.5, 0.5, 0.5, 0.5]), jnp.array([0])
    with pytest.raises(UserError, match="norm is 'max'; it must be one of linf, l2"):
        attacks.fgsm(LINEAR, x, labels, epsilon=0.1, norm="max")
    with pytest.raises(UserError, match="steps is 0; it must be at least 1"):
        attacks.iterated_fgsm(LINEAR, x, labels, epsilon=0.1, steps=0)
    for epsilon, norm, most in ((1.1, "linf", "1"), (-0.1, "linf", "1"), (float("nan"), "linf", "1"), (3.0, "l2", "2")):
        with pytest.raises(UserError, match=f"norm {norm} it must be from 0 to {most}$"):
            attacks.check_epsilon(epsilon, norm, (2, 2, 1))
    attacks.check_epsilon(1.9, "l2", (2, 2, 1))
