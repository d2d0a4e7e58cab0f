"""Deep big simple nets: Ciresan, Meier, Gambardella, Schmidhuber, 2010: a plain perceptron, deep, wide, well deformed
data.

29×29 pixels, hidden layers of 2500, 2000, 1500, 1000 and 500 units, ten outputs: 12,115,010 parameters.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from cnnlab.errors import UserError, nearest
from cnnlab.ops.activations import relu, scaled_tanh
from cnnlab.ops.dense import Dense
from cnnlab.ops.dropout import Dropout

ACTIVATIONS = {"tanh": scaled_tanh, "sigmoid": nn.sigmoid, "relu": relu}


def uniform(key: Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Array:
    """Uniform in ±0.05, the paper's initialiser (section 2)."""
    return jax.random.uniform(key, shape, dtype, -0.05, 0.05)


class DeepBigSimpleNet(nn.Module):
    """The multilayer perceptron with the largest error reduction of the paper's table 1.

    Attributes:
      hidden: units of the hidden layers h1, h2, …
      num_classes: number of outputs.
      activation: of the hidden units: "tanh", the paper's 1.7159·tanh(2x/3), "sigmoid" or "relu".
      kernel_init: of the weights; the biases are uniform in ±0.05 all the same.
      input_dropout: the share of the pixels that is left out in training; the paper leaves out none.
      dropout: likewise of the hidden units.
      dtype: of the computation; parameters are float32.

    Takes pictures of any size; the paper's are 29×29×1.

    Raises:
      UserError: the activation is unknown.
    """

    hidden: tuple[int, ...] = (2500, 2000, 1500, 1000, 500)
    num_classes: int = 10
    activation: str = "tanh"
    kernel_init: nn.initializers.Initializer = uniform
    input_dropout: float = 0.0
    dropout: float = 0.0
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool = False) -> Float[Array, "n k"]:
        if self.activation not in ACTIVATIONS:
            near = nearest(self.activation, ACTIVATIONS) or f"; it must be one of {', '.join(ACTIVATIONS)}"
            raise UserError(f'the activation is "{self.activation}"{near}')

        def dense(units: int, name: str) -> Dense:
            inits = {"kernel_init": self.kernel_init, "bias_init": uniform}
            return Dense(units, dtype=self.dtype, name=name, **inits)

        x = x.reshape(x.shape[0], -1)
        if self.input_dropout:
            x = Dropout(self.input_dropout, name="drop0")(x, train=train)
        for number, units in enumerate(self.hidden, 1):
            x = ACTIVATIONS[self.activation](dense(units, f"h{number}")(x))
            if self.dropout:
                x = Dropout(self.dropout, name=f"drop{number}")(x, train=train)
        return dense(self.num_classes, "output")(x).astype(jnp.float32)
