"""Generative adversarial nets: Goodfellow, Pouget-Abadie, Mirza, Xu, Warde-Farley, Ozair, Courville, Bengio 2014.

A generator makes pictures of noise; a discriminator tells them from real ones. The paper leaves the sizes open; these
are of the authors' published recipe for MNIST: 2,503,984 and 1,231,441 parameters. That recipe also starts the
generator's output biases at the log odds of the pixels' means; here they start at 0.

The networks of `dcgan.py` and `lapgan.py` are called in the same way.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from cnnlab.errors import UserError
from cnnlab.ops.activations import relu
from cnnlab.ops.dense import Dense
from cnnlab.ops.dropout import Dropout
from cnnlab.ops.maxout import Maxout


def uniform(bound: float) -> nn.initializers.Initializer:
    """The recipe's initialiser: uniform in ±bound."""

    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def one_hot(label: Int[Array, " n"] | None, num_classes: int, dtype: DTypeLike = jnp.float32) -> Float[Array, "n k"]:
    """The classes as rows of zeros with a one.

    Raises:
      UserError: there are no labels.
    """
    if label is None:
        raise UserError(f"this network is conditional on {num_classes} classes: it needs the label of each example")
    return jax.nn.one_hot(label, num_classes, dtype=dtype)


def join_label(x: Float[Array, "n *s c"], label: Int[Array, " n"] | None, num_classes: int) -> Float[Array, "n *s d"]:
    """The input and its class side by side (Mirza, Osindero 2014, "Conditional generative adversarial nets").

    A vector gets the one-hot class behind it, a picture a plane a class, of ones or zeros. Without classes it stays.

    >>> join_label(jnp.array([[0.5, 0.25]]), jnp.array([1]), 3).tolist()
    [[0.5, 0.25, 0.0, 1.0, 0.0]]

    Raises:
      UserError: there are classes, but no labels.
    """
    if num_classes == 0:
        return x
    codes = one_hot(label, num_classes, x.dtype).reshape(x.shape[0], *[1] * (x.ndim - 2), num_classes)
    return jnp.concatenate([x, jnp.broadcast_to(codes, (*x.shape[:-1], num_classes))], -1)


class Generator(nn.Module):
    """Noise to pictures between `low` = 0 and `high` = 1, through fully connected layers.

    Attributes:
      shape: height, width and channels of the pictures.
      hidden: units of the rectified layers h1, h2, …
      noise: numbers of noise a picture.
      num_classes: the classes on which it is conditional; 0: none.
      init_range: weights start uniform in ± this.
      dtype: of the computation; parameters are float32.

    `label` is passed over where there are no classes, `condition` always.
    """

    shape: tuple[int, int, int] = (28, 28, 1)
    hidden: tuple[int, ...] = (1200, 1200)
    noise: int = 100
    num_classes: int = 0
    init_range: float = 0.05
    dtype: DTypeLike | None = None

    low, high = 0.0, 1.0

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """The shape of one example's noise."""
        return (self.noise,)

    @nn.compact
    def __call__(
        self,
        z: Float[Array, "n d"],
        condition: Float[Array, "n h w c"] | None = None,
        label: Int[Array, " n"] | None = None,
        *,
        train: bool = False,
    ) -> Float[Array, "n h w c"]:
        init = uniform(self.init_range)
        x = join_label(z, label, self.num_classes)
        for number, units in enumerate(self.hidden, 1):
            x = relu(Dense(units, kernel_init=init, dtype=self.dtype, name=f"h{number}")(x))
        x = Dense(math.prod(self.shape), kernel_init=init, dtype=self.dtype, name="output")(x)
        return nn.sigmoid(x.astype(jnp.float32)).reshape(-1, *self.shape)


class Discriminator(nn.Module):
    """Pictures to logits that they are real, through layers of maxout units with dropout.

    Attributes:
      hidden: units of the maxout layers h1, h2, …
      pieces: linear pieces of a unit.
      dropout: shares of the pixels and of each hidden layer's units that are dropped in training.
      num_classes: the classes on which it is conditional; 0: none. The class is joined to the pixels and never dropped.
      outputs: logits a picture: 1, whether it is real; or one a class, of a net that is taught the classes.
      init_range: weights start uniform in ± this.
      dtype: of the computation; parameters are float32.

    `label` is passed over where there are no classes, `condition` always.
    """

    hidden: tuple[int, ...] = (240, 240)
    pieces: int = 5
    dropout: tuple[float, float] = (0.2, 0.5)
    num_classes: int = 0
    outputs: int = 1
    init_range: float = 0.005
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "n h w c"],
        condition: Float[Array, "n h w c"] | None = None,
        label: Int[Array, " n"] | None = None,
        *,
        train: bool = False,
    ) -> Float[Array, "n *k"]:
        init = uniform(self.init_range)
        of_pixels, of_units = self.dropout
        x = Dropout(of_pixels, name="drop0")(x.reshape(x.shape[0], -1), train=train)
        x = join_label(x, label, self.num_classes)
        for number, units in enumerate(self.hidden, 1):
            x = Maxout(units, self.pieces, kernel_init=init, dtype=self.dtype, name=f"h{number}")(x)
            x = Dropout(of_units, name=f"drop{number}")(x, train=train)
        logits = Dense(self.outputs, kernel_init=init, dtype=self.dtype, name="output")(x)
        return (logits if self.outputs > 1 else logits[:, 0]).astype(jnp.float32)
