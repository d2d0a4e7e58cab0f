"""LAPGAN: Denton, Chintala, Szlam, Fergus 2015: a Laplacian pyramid of generative adversarial nets.

The coarsest picture is made of noise by a first pair of nets; each further level doubles its size: the picture is
enlarged, and a pair of its own adds what the enlarging cannot know, the residual (section 3, figures 1 and 2).

The paper's (section 4) are 100 numbers of noise and two hidden layers, of 1200 units in the coarsest generator and 600
in its discriminator, with dropout; at the levels a generator of three convolutions, which sees one plane of noise
beside the picture, and a discriminator of two, with dropout; and a class's way into a level, through a linear layer to
one more plane. The sizes of the convolutions, the missing output nonlinearities, the sum of residual and picture as the
discriminator's input and the weights of the coarsest nets at the start follow the authors' published code. Biases that
start at 0 are ours, and so are down- and upsampling, of which the paper only says that both smooth. The paper's
pictures are 28×28 crops of CIFAR-10, in levels of 8, 14 and 28 pixels; here each level has exactly twice the size of
the one before, such as 8, 16 and 32.
"""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from cnnlab.errors import UserError
from cnnlab.models.gan import join_label, one_hot
from cnnlab.ops.activations import relu
from cnnlab.ops.conv import Conv
from cnnlab.ops.dense import Dense
from cnnlab.ops.dropout import Dropout
from cnnlab.ops.pooling import sum_pool

# Torch's default at the time: uniform in ±1 / √(fan-in).
INIT = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")

Pictures = Float[Array, "n _ _ c"]


def shrink(x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
    """Pictures of half the height and width: the mean of each 2×2 square. A last odd row or column is dropped.

    >>> shrink(jnp.array([[1.0, 3.0], [5.0, 7.0]])[None, :, :, None]).tolist()
    [[[[4.0]]]]
    """
    return sum_pool(x, 2) / 4


def enlarge(x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
    """Pictures of twice the height and width, by linear interpolation.

    A new pixel lies a quarter of an old one from the nearest: it gets 3/4 of that and 1/4 of the next. Outside the
    picture its border goes on.

    >>> enlarge(jnp.array([0.0, 4.0]).reshape(1, 1, 2, 1))[0, :, :, 0].tolist()
    [[0.0, 1.0, 3.0, 4.0], [0.0, 1.0, 3.0, 4.0]]
    """
    n, height, width, channels = x.shape
    return jax.image.resize(x, (n, 2 * height, 2 * width, channels), "linear")


def pyramid(x: Pictures, levels: int) -> tuple[Pictures, list[tuple[Pictures, Pictures]]]:
    """The Laplacian pyramid: the coarsest pictures, and of each level the residual and the enlarged coarser picture.

    Args:
      x: pictures.
      levels: how often they are halved.

    Returns:
      The coarsest pictures and (residual, enlarged) from the coarsest level to the finest; a level's picture is their
      sum. An enlarged picture is what a level's nets take as `condition`, a residual what they make and judge.

    Raises:
      UserError: the pictures cannot be halved so often.
    """
    height, width = x.shape[1:3]
    if height % 2**levels or width % 2**levels:
        raise UserError(
            f"pictures of {height}×{width} cannot be halved {levels} times: a pyramid of {levels} levels needs "
            f"multiples of {2**levels}"
        )
    found = []
    for _ in range(levels):
        coarse = shrink(x)
        enlarged = enlarge(coarse)
        found.append((x - enlarged, enlarged))
        x = coarse
    return x, found[::-1]


def assemble(coarsest: Pictures, residuals: Sequence[Pictures]) -> Pictures:
    """The pictures of which `pyramid` gives the coarsest and the residuals, from the coarsest level to the finest."""
    x = coarsest
    for residual in residuals:
        x = enlarge(x) + residual
    return x


def class_plane(
    label: Int[Array, " n"] | None, num_classes: int, shape: Sequence[int], dtype: DTypeLike | None
) -> Float[Array, "n h w 1"]:
    """A picture of the class, learnt: a linear layer named "label" and rectifiers. Called within a module.

    Raises:
      UserError: there are no labels.
    """
    height, width = shape[:2]
    plane = Dense(height * width, kernel_init=INIT, dtype=dtype, name="label")(one_hot(label, num_classes))
    return relu(plane).reshape(-1, height, width, 1)


def check_condition(x: Float[Array, "n h w _"], condition: Pictures | None) -> Float[Array, "n h w _"]:
    """`condition`, if it is there and of the height and width of `x`.

    Raises:
      UserError: there are none, or of another size.
    """
    if condition is None or condition.shape[:3] != x.shape[:3]:
        found = "none" if condition is None else "{}×{}".format(*condition.shape[1:3])
        wanted = "{}×{}".format(*x.shape[1:3])
        raise UserError(
            f"a level of LAPGAN needs the enlarged coarser pictures, {wanted}, as condition; it has {found}"
        )
    return condition


class CoarsestGenerator(nn.Module):
    """Noise to the coarsest pictures, through fully connected layers.

    The output is linear. `low` = −1 and `high` = 1 are the range of real pictures; it may pass it.

    Attributes:
      shape: height, width and channels of the pictures.
      hidden: units of the rectified layers h1, h2, …
      noise: numbers of noise a picture.
      num_classes: the classes on which it is conditional; 0: none. The class is joined to the noise.
      dtype: of the computation; parameters are float32.

    `label` is passed over where there are no classes, `condition` always.
    """

    shape: tuple[int, int, int] = (8, 8, 3)
    hidden: tuple[int, ...] = (1200, 1200)
    noise: int = 100
    num_classes: int = 0
    dtype: DTypeLike | None = None

    low, high = -1.0, 1.0

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
        init = nn.initializers.normal(0.05)
        x = join_label(z, label, self.num_classes)
        for number, units in enumerate(self.hidden, 1):
            x = relu(Dense(units, kernel_init=init, dtype=self.dtype, name=f"h{number}")(x))
        x = Dense(math.prod(self.shape), kernel_init=init, dtype=self.dtype, name="output")(x)
        return x.astype(jnp.float32).reshape(-1, *self.shape)


class CoarsestDiscriminator(nn.Module):
    """The coarsest pictures to logits that they are real, through fully connected layers with dropout.

    Attributes:
      hidden: units of the rectified layers h1, h2, …
      dropout: share of each hidden layer's units that is dropped in training.
      num_classes: the classes on which it is conditional; 0: none. The class is joined to the pixels.
      dtype: of the computation; parameters are float32.

    `label` is passed over where there are no classes, `condition` always.
    """

    hidden: tuple[int, ...] = (600, 600)
    dropout: float = 0.5
    num_classes: int = 0
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "n h w c"],
        condition: Float[Array, "n h w c"] | None = None,
        label: Int[Array, " n"] | None = None,
        *,
        train: bool = False,
    ) -> Float[Array, " n"]:
        init = nn.initializers.normal(0.005)
        x = join_label(x.reshape(x.shape[0], -1), label, self.num_classes)
        for number, units in enumerate(self.hidden, 1):
            x = relu(Dense(units, kernel_init=init, dtype=self.dtype, name=f"h{number}")(x))
            x = Dropout(self.dropout, name=f"drop{number}")(x, train=train)
        logits = Dense(1, kernel_init=init, dtype=self.dtype, name="output")(x)
        return logits[:, 0].astype(jnp.float32)


class LevelGenerator(nn.Module):
    """A plane of noise and the enlarged coarser picture to the residual of a level.

    The output is linear. `low` = −1 and `high` = 1 are the range of real pictures: residuals of real ones reach from −2
    to 2, and the picture made is `condition` plus the output.

    Attributes:
      shape: height, width and channels of the level's pictures.
      width: channels of the hidden convolutions conv1 and conv2.
      num_classes: the classes on which it is conditional; 0: none. The class becomes one more plane (`class_plane`).
      dtype: of the computation; parameters are float32.

    `label` is passed over where there are no classes.

    Raises:
      UserError: there is no `condition`, or of another size.
    """

    shape: tuple[int, int, int] = (32, 32, 3)
    width: int = 128
    num_classes: int = 0
    dtype: DTypeLike | None = None

    low, high = -1.0, 1.0

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """The shape of one example's noise: one plane."""
        return (*self.shape[:2], 1)

    @nn.compact
    def __call__(
        self,
        z: Float[Array, "n h w 1"],
        condition: Pictures | None = None,
        label: Int[Array, " n"] | None = None,
        *,
        train: bool = False,
    ) -> Float[Array, "n h w c"]:
        planes = [z, check_condition(z, condition)]
        if self.num_classes:
            planes.append(class_plane(label, self.num_classes, self.shape, self.dtype))
        x = jnp.concatenate(planes, -1)
        for number in (1, 2):
            conv = Conv(self.width, 7, padding=3, kernel_init=INIT, dtype=self.dtype, name=f"conv{number}")
            x = relu(conv(x))
        last = Conv(self.shape[2], 5, padding=2, kernel_init=INIT, dtype=self.dtype, name="output")
        return last(x).astype(jnp.float32)


class LevelDiscriminator(nn.Module):
    """A residual and the enlarged coarser picture to logits that the residual is real. The nets see their sum.

    Attributes:
      width: channels of the convolutions conv1 and conv2.
      padding: zeros on each side of their inputs: the authors have none; pictures smaller than 9×9 need 2.
      dropout: share of conv2's units that is dropped in training.
      num_classes: the classes on which it is conditional; 0: none. The class becomes one more plane (`class_plane`).
      dtype: of the computation; parameters are float32.

    `label` is passed over where there are no classes.

    Raises:
      UserError: there is no `condition`, or of another size; a picture too small.
    """

    width: int = 128
    padding: int = 0
    dropout: float = 0.5
    num_classes: int = 0
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "n h w c"],
        condition: Pictures | None = None,
        label: Int[Array, " n"] | None = None,
        *,
        train: bool = False,
    ) -> Float[Array, " n"]:
        shape = x.shape[1:]
        x = x + check_condition(x, condition)
        if self.num_classes:
            x = jnp.concatenate([x, class_plane(label, self.num_classes, shape, self.dtype)], -1)
        for number, stride in ((1, 1), (2, 2)):
            conv = Conv(self.width, 5, stride, self.padding, kernel_init=INIT, dtype=self.dtype, name=f"conv{number}")
            x = relu(conv(x))
        x = Dropout(self.dropout, name="drop2")(x.reshape(x.shape[0], -1), train=train)
        return Dense(1, kernel_init=INIT, dtype=self.dtype, name="output")(x)[:, 0].astype(jnp.float32)
