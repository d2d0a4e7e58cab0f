"""LeNet-5: LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition", 1998, section II.

The paper's net has a sparsely connected third layer, trainable subsampling, a scaled tanh and Euclidean RBF outputs,
and 60,000 trainable parameters. `variant="modern"` is what later texts call LeNet-5: full connections, ReLU, max
pooling and a linear softmax layer, 61,706 parameters.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from cnnlab.errors import UserError
from cnnlab.ops.activations import relu, scaled_tanh
from cnnlab.ops.conv import Conv, conv2d
from cnnlab.ops.dense import Dense
from cnnlab.ops.pooling import MaxPool, sum_pool

# Table I of the paper: row i lists the S2 maps that C3's map i sees.
C3_TABLE = (
    *((i, (i + 1) % 6, (i + 2) % 6) for i in range(6)),
    *((i, (i + 1) % 6, (i + 2) % 6, (i + 3) % 6) for i in range(6)),
    *((i, i + 1, (i + 3) % 6, (i + 4) % 6) for i in range(3)),
    tuple(range(6)),
)

# 7×12 pictures of the ten digits, the RBF units' fixed centres: '#' is +1, '.' is −1 (paper, section II-B, figure 3).
DIGIT_BITMAPS = """
..###.. ...##.. .#####. .#####. ....##. ####### ..####. ####### .#####. .#####.
.##.##. ..###.. ##...## ##...## ...###. ##..... .##.... ##...## ##...## ##...##
##...## .####.. ##...## .....## ..####. ##..... ##..... .....## ##...## ##...##
##...## ...##.. .....## .....## .##.##. ##..... ##..... ....##. ##...## ##...##
##...## ...##.. .....## .....## ##..##. ######. ##.###. ....##. .##.##. ##...##
##...## ...##.. ....##. ..####. ##..##. ##...## ###..## ...##.. ..###.. .######
##...## ...##.. ...##.. .....## ##..##. .....## ##...## ...##.. .##.##. ..##.##
##...## ...##.. ..##... .....## ####### .....## ##...## ..##... ##...## .....##
##...## ...##.. .##.... .....## ....##. .....## ##...## ..##... ##...## .....##
##...## ...##.. ##..... .....## ....##. .....## ##...## .##.... ##...## .....##
.##.##. ...##.. ##..... ##...## ....##. ##...## .##.##. .##.... ##...## ....##.
..###.. .###### ####### .#####. ....##. .#####. ..###.. ##..... .#####. .####..
"""


def rbf_codes(num_classes: int) -> np.ndarray:
    """The RBF units' fixed centres, (num_classes, 84), of ±1.

    Ten classes get the paper's 7×12 pictures of the digits; any other number gets random signs (the paper's second
    choice, section II-B), always the same for the same number.
    """
    if num_classes == 10:
        rows = [line.split() for line in DIGIT_BITMAPS.split("\n") if line]
        pictures = ["".join(row[digit] for row in rows) for digit in range(10)]
        return np.array([[1.0 if dot == "#" else -1.0 for dot in picture] for picture in pictures], np.float32)
    signs = np.random.default_rng(num_classes).integers(0, 2, (num_classes, 84))
    return (2 * signs - 1).astype(np.float32)


def uniform_fan_in(fan_in: int) -> nn.initializers.Initializer:
    """The paper's initialiser: uniform in ±2.4 / fan-in (appendix A)."""

    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -2.4 / fan_in, 2.4 / fan_in)

    return init


class Subsampling(nn.Module):
    """S layers: the sum of each 2×2 square times a trainable coefficient, plus a trainable bias, one pair a map."""

    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
        channels = x.shape[-1]
        scale = self.param("scale", uniform_fan_in(4), (channels,))
        bias = self.param("bias", uniform_fan_in(4), (channels,))
        x, scale, bias = nn.dtypes.promote_dtype(x, scale, bias, dtype=self.dtype)
        return sum_pool(x, 2) * scale + bias


class TableConv(nn.Module):
    """C3: a 5×5 convolution that has only the connections of `C3_TABLE`: 60 kernels of 25 weights and 16 biases.

    Only the connected weights are parameters. They are laid into a dense kernel whose other weights are constant zeros,
    because one dense convolution is faster than 16 small ones.
    """

    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n h w 6"]) -> Float[Array, "n h2 w2 16"]:
        inputs = np.concatenate([np.array(row) for row in C3_TABLE])
        outputs = np.repeat(np.arange(16), [len(row) for row in C3_TABLE])

        def init(key, shape):
            # Every weight of a map is drawn from ±2.4 / that map's own number of inputs.
            fan_in = 25.0 * np.array([len(C3_TABLE[o]) for o in outputs])
            return jax.random.uniform(key, shape, jnp.float32, -1.0, 1.0) * (2.4 / fan_in)

        weights = self.param("kernel", init, (5, 5, len(inputs)))
        bias = self.param("bias", uniform_fan_in(25 * 4), (16,))
        kernel = jnp.zeros((5, 5, 6, 16), weights.dtype).at[:, :, inputs, outputs].set(weights)
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        return conv2d(x, kernel) + bias


class RBF(nn.Module):
    """Euclidean RBF units: the squared distance of the input from each class's code. No parameters."""

    codes: tuple[tuple[float, ...], ...]

    @nn.compact
    def __call__(self, x: Float[Array, "n d"]) -> Float[Array, "n k"]:
        # The sum of squares stays float32: in bfloat16 its rounding is as large as the differences between classes.
        difference = x.astype(jnp.float32)[:, None, :] - jnp.array(self.codes)
        return jnp.einsum("nkd,nkd->nk", difference, difference)


class LeNet(nn.Module):
    """LeNet-5 for 32×32 pictures.

    Attributes:
      num_classes: number of output units.
      variant: "paper" or "modern".
      dtype: of the computation; parameters are float32.

    The output is one logit a class. In the paper's variant it is −y, minus the RBF penalty of equation 7, so that the
    greatest is the prediction in both.
    """

    num_classes: int = 10
    variant: str = "paper"
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n 32 32 c"], *, train: bool = False) -> Float[Array, "n k"]:
        if self.variant not in ("paper", "modern"):
            raise UserError(f'the variant of LeNet is "{self.variant}"; it must be "paper" or "modern"')
        paper = self.variant == "paper"
        squash = scaled_tanh if paper else relu

        def conv(features, size, x, name):
            inits = {}
            if paper:
                init = uniform_fan_in(size * size * x.shape[-1])
                inits = {"kernel_init": init, "bias_init": init}
            return Conv(features, size, dtype=self.dtype, name=name, **inits)(x)

        def pool(x, name):
            if paper:
                return squash(Subsampling(dtype=self.dtype, name=name)(x))
            return MaxPool(2, 2, name=name)(x)

        x = pool(squash(conv(6, 5, x, "C1")), "S2")
        x = TableConv(dtype=self.dtype, name="C3")(x) if paper else conv(16, 5, x, "C3")
        x = pool(squash(x), "S4")
        x = squash(conv(120, 5, x, "C5"))
        x = x.reshape(x.shape[0], -1)
        inits = {"kernel_init": uniform_fan_in(120), "bias_init": uniform_fan_in(120)} if paper else {}
        x = squash(Dense(84, dtype=self.dtype, name="F6", **inits)(x))
        if paper:
            codes = tuple(map(tuple, rbf_codes(self.num_classes).tolist()))
            return -RBF(codes, name="output")(x)
        return Dense(self.num_classes, dtype=self.dtype, name="output")(x).astype(jnp.float32)


def map_loss(logits: Float[Array, "n k"], labels: Array, *, j: float) -> Float[Array, " n"]:
    """The paper's discriminative loss for RBF outputs, per example (equation 9).

    y_D + log(e^−j + Σ_i e^−y_i), where y_i = −logits_i is class i's penalty and D the true class. The first term pulls
    the true class's penalty down; the second pushes the others' up, the less the further they are beyond j already.

    Args:
      logits: minus the penalties, as `LeNet(variant="paper")` gives them.
      labels: the true classes.
      j: positive.
    """
    own = jnp.take_along_axis(logits, labels[:, None], 1)[:, 0]
    rubbish = jnp.full_like(logits[:, :1], -j)
    return jax.nn.logsumexp(jnp.concatenate([logits, rubbish], 1), axis=1) - own
