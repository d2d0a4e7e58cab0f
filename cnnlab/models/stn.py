"""Spatial transformer networks: Jaderberg, Simonyan, Zisserman, Kavukcuoglu, 2015.

A `SpatialTransformer` is a layer: a localisation net looks at pictures, or at maps, and says by θ which part of them is
to be seen and how it lies; the grid of θ is sampled. It begins as the identity and learns with the network around it,
from the network's loss alone. `STCNN` and `STFCN` are the paper's nets for distorted MNIST (appendix A.4), with a
transformer in front or without.
"""

import math
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PyTree

from cnnlab.errors import UserError
from cnnlab.ops.activations import relu
from cnnlab.ops.conv import Conv
from cnnlab.ops.dense import Dense
from cnnlab.ops.grid_sample import IDENTITY, check_kind, check_transform, grid_sample, transform_grid
from cnnlab.ops.pooling import AvgPool, MaxPool


class DenseLocaliser(nn.Module):
    """The localisation net of ST-FCN: fully connected layers of rectified units.

    Attributes:
      hidden: units of the layers.
      dtype: of the computation; parameters are float32.
    """

    hidden: tuple[int, ...] = (32, 32, 32)
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n k"]:
        x = x.reshape(x.shape[0], -1)
        for number, units in enumerate(self.hidden, 1):
            x = relu(Dense(units, dtype=self.dtype, name=f"h{number}")(x))
        return x


class ConvLocaliser(nn.Module):
    """The localisation net of ST-CNN: on pictures of half the size two 5×5 convolutions, a maximum of 2×2 squares
    between them, and a fully connected layer.

    Attributes:
      features: filters of each convolution.
      hidden: units of the last layer.
      dtype: of the computation; parameters are float32.

    It takes pictures from 28×28 up. For smaller maps: `DenseLocaliser`.
    """

    features: int = 20
    hidden: int = 20
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n k"]:
        x = AvgPool(2, 2, name="half")(x)
        x = relu(Conv(self.features, 5, dtype=self.dtype, name="conv1")(x))
        x = MaxPool(2, 2, name="pool1")(x)
        x = relu(Conv(self.features, 5, dtype=self.dtype, name="conv2")(x))
        return relu(Dense(self.hidden, dtype=self.dtype, name="h3")(x.reshape(x.shape[0], -1)))


class SpatialTransformer(nn.Module):
    """A layer that turns, moves, scales or bends its input as its localisation net says; at any depth of a network.

    Attributes:
      kind: of transform: "affine", "projective" or "tps"; see `ops/grid_sample.py`.
      localiser: makes the localisation net: (n, h, w, c) → (n, k). θ is a linear function of the k numbers.
      parallel: transformers side by side, each with a localisation net of its own, for as many things to look at
        (section 3.4); their outputs follow each other in the channels.
      size: height and width of the output; None: the input's.
      padding: "zero" or "border"; see `grid_sample`.
      initial: θ to begin with; (): the identity.
      dtype: of the localisation net's computation. θ, grid and sampling are float32: coordinates need the digits.

    Sows "theta" (n, p), "grid" (n, h, w, 2) and "transformed" (n, h, w, c) into "intermediates", a value of each for
    each parallel transformer; see `transforms`.

    Raises:
      UserError: there is no such kind, or `initial` is no transform that shows something.
    """

    kind: str = "affine"
    localiser: Callable[..., nn.Module] = ConvLocaliser
    parallel: int = 1
    size: tuple[int, int] | None = None
    padding: str = "zero"
    initial: tuple[float, ...] = ()
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c2"]:
        check_kind(self.kind)
        if self.parallel < 1:
            raise UserError(f"{self.parallel} spatial transformers in parallel: there must be at least 1")
        if self.initial:
            check_transform(self.kind, self.initial, "the initial transform")
        begin = jnp.array(self.initial or IDENTITY[self.kind])
        outputs = []
        for number in range(1, self.parallel + 1):
            seen = self.localiser(dtype=self.dtype, name=f"localiser{number}")(x).astype(jnp.float32)
            inits = {"kernel_init": nn.initializers.zeros, "bias_init": lambda *_: begin}
            theta = Dense(len(begin), name=f"theta{number}", **inits)(seen)
            grid = transform_grid(self.kind, theta, self.size or x.shape[1:3])
            outputs.append(grid_sample(x, grid, self.padding))
            for name, value in (("theta", theta), ("grid", grid), ("transformed", outputs[-1])):
                self.sow("intermediates", name, value)
        return jnp.concatenate(outputs, -1)


class STCNN(nn.Module):
    """The convolutional net of the paper's distorted MNIST, 9×9 and 7×7 filters; with a transformer, ST-CNN.

    Attributes:
      filters: of each convolution.
      num_classes: number of outputs.
      transformer: what the pictures go through first; None: the plain CNN.
      downsample: what the transformed pictures are made smaller by, as means of squares (2 for RTS and clutter).
      dtype: of the computation; parameters are float32.
    """

    filters: int = 64
    num_classes: int = 10
    transformer: SpatialTransformer | None = None
    downsample: int = 1
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool = False) -> Float[Array, "n k"]:
        x = _transformed(self, x)
        for number, size in ((1, 9), (2, 7)):
            x = relu(Conv(self.filters, size, dtype=self.dtype, name=f"conv{number}")(x))
            # Rows left over get windows too, as in Caffe: else 7×7 filters would not fit on what is left of 21×21
            # pixels. They make a single pixel of it.
            x = MaxPool(2, 2, ceil=True, name=f"pool{number}")(x) if x.shape[1] > 1 else x
        x = x.reshape(x.shape[0], -1)
        return Dense(self.num_classes, dtype=self.dtype, name="output")(x).astype(jnp.float32)


class STFCN(nn.Module):
    """The fully connected net of the paper's distorted MNIST; with a transformer, ST-FCN.

    Attributes:
      units: of each of the two hidden layers.
      num_classes, transformer, downsample, dtype: see `STCNN`.
    """

    units: int = 256
    num_classes: int = 10
    transformer: SpatialTransformer | None = None
    downsample: int = 1
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool = False) -> Float[Array, "n k"]:
        x = _transformed(self, x).reshape(x.shape[0], -1)
        for number in (1, 2):
            x = relu(Dense(self.units, dtype=self.dtype, name=f"fc{number}")(x))
        return Dense(self.num_classes, dtype=self.dtype, name="output")(x).astype(jnp.float32)


def _transformed(net: STCNN | STFCN, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c2"]:
    if net.transformer is None:
        return x
    x = net.transformer(x)
    return AvgPool(net.downsample, net.downsample, name="downsample")(x) if net.downsample > 1 else x


def widest(net: Callable[[int], nn.Module], shape: Sequence[int], parameters: int) -> int:
    """The width at which a net has as many parameters as it may have.

    Args:
      net: makes it, given the width of two layers in a row: the parameters are a quadratic function of it.
      shape: of a picture, (height, width, channels).
      parameters: as many or fewer.

    Raises:
      UserError: they are not enough for a width of 1.
    """

    def count(width: int) -> int:
        x = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
        found = jax.eval_shape(net(width).init, jax.random.key(0), x)["params"]
        return sum(leaf.size for leaf in jax.tree.leaves(found))

    one, two, three = map(count, (1, 2, 3))
    if one > parameters:
        raise UserError(f"{parameters} parameters are too few: the narrowest net has {one}")
    square = (three - 2 * two + one) // 2
    linear = two - one - 3 * square
    rest = one - square - linear - parameters
    return (math.isqrt(linear**2 - 4 * square * rest) - linear) // (2 * square)


def transforms(
    model: nn.Module, variables: PyTree, x: Float[Array, "n h w c"]
) -> dict[str, list[dict[str, Float[Array, "n ..."]]]]:
    """What the spatial transformers of any network make of its input, in evaluation mode.

    Returns:
      By the transformer's layer, for each of its parallel ones: "theta", "grid" and "transformed".
    """
    _, state = model.apply(variables, x, train=False, mutable=["intermediates"])
    found: dict[str, list] = {}
    for (*layer, name), values in flatten_dict(state.get("intermediates", {})).items():
        if name in ("theta", "grid", "transformed"):
            each = found.setdefault("/".join(layer), [{} for _ in values])
            for own, value in zip(each, values, strict=True):
                own[name] = value
    return found
