"""Deep big simple nets: Ciresan, Meier, Gambardella, Schmidhuber, 2010: a plain perceptron, deep, wide, well deformed
data.

29×29 pixels, hidden layers of 2500, 2000, 1500, 1000 and 500 units, ten outputs: 12,115,010 parameters.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from cnnlab.ops.activations import scaled_tanh


def uniform(key: Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Array:
    """Uniform in ±0.05, the paper's initialiser (section 2)."""
    return jax.random.uniform(key, shape, dtype, -0.05, 0.05)


class DeepBigSimpleNet(nn.Module):
    """The multilayer perceptron with the largest error reduction of the paper's table 1.

    Attributes:
      hidden: units of the hidden layers h1, h2, …
      num_classes: number of outputs.
      dtype: of the computation; parameters are float32.

    Takes pictures of any size; the paper's are 29×29×1.
    """

    hidden: tuple[int, ...] = (2500, 2000, 1500, 1000, 500)
    num_classes: int = 10
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool = False) -> Float[Array, "n k"]:
        x = x.reshape(x.shape[0], -1)
        for number, units in enumerate(self.hidden, 1):
            dense = nn.Dense(units, kernel_init=uniform, bias_init=uniform, dtype=self.dtype, name=f"h{number}")
            x = scaled_tanh(dense(x))
        last = nn.Dense(self.num_classes, kernel_init=uniform, bias_init=uniform, dtype=self.dtype, name="output")
        return last(x).astype(jnp.float32)
