"""Counterfeiters and police as one network: generators, each with its discriminator."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from cnnlab.models import lapgan

Target = tuple[Float[Array, "n _ _ c"], Float[Array, "n _ _ c"] | None]


class Adversaries(nn.Module):
    """One generator and its discriminator, or a pyramid of them, the coarsest first (LAPGAN).

    Attributes:
      generators: each `(z, condition, label, *, train) → pictures`, with `noise_shape`; see `models/gan.py`.
      discriminators: each `(x, condition, label, *, train) → logits` that x is real.

    They are independent of one another in training: a finer pair is given the real picture, made coarse, as condition.
    """

    generators: tuple[nn.Module, ...]
    discriminators: tuple[nn.Module, ...]

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], label: Int[Array, " n"] | None = None, *, train: bool = False
    ) -> Float[Array, "n levels"]:
        """The discriminators' logits of real pictures; the generators run too, on noise of zeros, for `summary`."""
        logits = []
        for generator, discriminator, (real, condition) in zip(
            self.generators, self.discriminators, self.targets(x), strict=True
        ):
            z = jnp.zeros((len(x), *generator.noise_shape), x.dtype)
            own = jnp.zeros(len(x), jnp.int32) if label is None and generator.num_classes else label
            generator(z, condition, own, train=train)
            logits.append(discriminator(real, condition, own, train=train))
        return jnp.stack(logits, 1)

    def targets(self, x: Float[Array, "n h w c"]) -> list[Target]:
        """What each level is to make of real pictures, and its condition: one picture, or its pyramid."""
        coarsest, finer = lapgan.pyramid(x, len(self.generators) - 1)
        return [(coarsest, None), *finer]
