"""Losses and penalties of adversarial nets, by hand."""

import math

import jax
import jax.numpy as jnp
import pytest

from cnnlab.tasks import gan_losses


def test_the_papers_losses():
    real, fake = jnp.array([2.0, 0.0]), jnp.array([-1.0, 1.0])
    sigmoid = lambda x: 1 / (1 + math.exp(-x))
    value = sum(-math.log(sigmoid(x)) for x in (2, 0)) / 2 + sum(-math.log(1 - sigmoid(x)) for x in (-1, 1)) / 2
    for name in ("minimax", "non_saturating"):
        assert float(gan_losses.DISCRIMINATOR_LOSSES[name](real, fake)) == pytest.approx(value, rel=1e-5)
    own = sum(math.log(1 - sigmoid(x)) for x in (-1, 1)) / 2
    assert float(gan_losses.GENERATOR_LOSSES["minimax"](fake)) == pytest.approx(own, rel=1e-5)
    own = sum(-math.log(sigmoid(x)) for x in (-1, 1)) / 2
    assert float(gan_losses.GENERATOR_LOSSES["non_saturating"](fake)) == pytest.approx(own, rel=1e-5)
    assert float(gan_losses.DISCRIMINATOR_LOSSES["wasserstein"](real, fake)) == -1
    assert float(gan_losses.DISCRIMINATOR_LOSSES["hinge"](real, fake)) == 0.5 + 1
    assert float(gan_losses.GENERATOR_LOSSES["hinge"](fake)) == 0


def test_slopes():
    """Of a quadratic whose slope at x is x: of lengths 5 and 13."""
    x = jnp.array([[3.0, 4.0], [5.0, 12.0]]).reshape(2, 1, 2, 1)
    half_square = lambda x: jnp.square(x).sum((1, 2, 3)) / 2
    assert float(gan_losses.slope_of_one(half_square, x)) == pytest.approx((4**2 + 12**2) / 2, rel=1e-5)
    assert float(gan_losses.no_slope(half_square, x)) == pytest.approx((25 + 169) / 4, rel=1e-5)


def test_diversity():
    pictures = jax.random.uniform(jax.random.key(0), (50, 4, 4, 1))
    moments = lambda x: (x.mean(0), jnp.square(x).mean(0))
    assert float(gan_losses.diversity(moments(pictures), moments(pictures))) == pytest.approx(1)
    one = jnp.broadcast_to(pictures[:1], pictures.shape)
    assert float(gan_losses.diversity(moments(one), moments(pictures))) < 1e-2
