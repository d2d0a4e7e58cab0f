"""What generator and discriminator make small, and penalties on the discriminator's slope."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

softplus = jax.nn.softplus
Logits = Callable[[Float[Array, "n h w c"]], Float[Array, " n"]]

# What each side makes small, of the discriminator's logits of real and of false pictures; means over the batch.
# "minimax" and "non_saturating" share the discriminator's −log D(x) − log(1 − D(G(z))) (equation 1); the generator's
# log(1 − D(G(z))) has hardly a gradient while it is bad, so the paper lets it make −log D(G(z)) small instead.
DISCRIMINATOR_LOSSES: dict[str, Callable] = {
    "minimax": lambda real, fake: jnp.mean(softplus(-real) + softplus(fake)),
    "non_saturating": lambda real, fake: jnp.mean(softplus(-real) + softplus(fake)),
    "wasserstein": lambda real, fake: jnp.mean(fake - real),  # Arjovsky, Chintala, Bottou 2017
    "hinge": lambda real, fake: jnp.mean(jax.nn.relu(1 - real) + jax.nn.relu(1 + fake)),  # Lim, Ye 2017
}
GENERATOR_LOSSES: dict[str, Callable] = {
    "minimax": lambda fake: -jnp.mean(softplus(fake)),
    "non_saturating": lambda fake: jnp.mean(softplus(-fake)),
    "wasserstein": lambda fake: -jnp.mean(fake),
    "hinge": lambda fake: -jnp.mean(fake),
}


def slope_of_one(logits: Logits, x: Float[Array, "n h w c"]) -> Float[Array, ""]:
    """(|∇D| − 1)², the mean over a batch: the penalty of WGAN-GP (Gulrajani et al. 2017, equation 3).

    Args:
      logits: the discriminator.
      x: pictures between real and false ones.
    """
    return jnp.mean(jnp.square(jnp.sqrt(_squared_slopes(logits, x) + 1e-12) - 1))


def no_slope(logits: Logits, x: Float[Array, "n h w c"]) -> Float[Array, ""]:
    """½ |∇D|², the mean over a batch: R₁ (Mescheder, Geiger, Nowozin 2018, section 4.1), where `x` is real."""
    return jnp.mean(_squared_slopes(logits, x)) / 2


def _squared_slopes(logits: Logits, x: Float[Array, "n h w c"]) -> Float[Array, " n"]:
    slopes = jax.grad(lambda x: logits(x).sum())(x)
    return jnp.square(slopes).sum((1, 2, 3))


def diversity(fake: tuple[Array, Array], real: tuple[Array, Array]) -> Float[Array, ""]:
    """How much false pictures vary, pixel by pixel, in proportion to real ones: the root of the variances' ratio.

    Args:
      fake, real: the mean of each pixel over the batch, and of its square.

    0 where all are the same picture, about 1 where all is well.

    >>> one, two = (jnp.zeros(3), jnp.ones(3)), (jnp.zeros(3), jnp.full(3, 4.0))
    >>> float(diversity(one, two))
    0.5
    """
    variances = [jnp.maximum(squares - jnp.square(mean), 0).sum() for mean, squares in (fake, real)]
    return jnp.sqrt(variances[0] / jnp.maximum(variances[1], 1e-12))
