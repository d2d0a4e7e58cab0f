"""The deconvnet as its paper builds it: layer by layer, with recorded switches and transposed filters.

Zeiler, Fergus 2013, section 2.1 and figure 1. It suits networks that are a chain of convolutions, rectifiers and max
pooling; `deconvnet.project` gives the same for these, and goes through any other network too.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jax import lax
from jaxtyping import Array, Float, Int, Int8, PyTree

from cnnlab.errors import UserError
from cnnlab.inspect.layers import check_layers, run, shapes
from cnnlab.ops.conv import Conv, pair
from cnnlab.ops.dropout import Dropout
from cnnlab.ops.lrn import LRN
from cnnlab.ops.pooling import MaxPool
from cnnlab.ops.switches import Sides, max_pool_with_switches, unpool

NO_CHAIN = "up to {} there is more than a chain of convolutions, rectifiers and max pooling: {}"
TOLERANCE = 1e-5  # of rounding: the same values may be computed twice


@struct.dataclass
class Filters:
    """A convolution on the way up. Attributes: its kernel and geometry, and the size of its input."""

    kernel: Float[Array, "kh kw cg k"]
    stride: tuple[int, int] = struct.field(pytree_node=False)
    padding: tuple[int, int] = struct.field(pytree_node=False)
    groups: int = struct.field(pytree_node=False)
    size: tuple[int, int] = struct.field(pytree_node=False)


@struct.dataclass
class Switches:
    """A max pooling on the way up. Attributes: the places of its maxima, its geometry, and the size of its input."""

    places: Int8[Array, "n h w c"]
    window: int = struct.field(pytree_node=False)
    stride: int = struct.field(pytree_node=False)
    sides: Sides = struct.field(pytree_node=False)
    size: tuple[int, int] = struct.field(pytree_node=False)


@struct.dataclass
class Rise:
    """One layer on the way up.

    Attributes:
      name: its path.
      output: what it gives.
      memory: what the way down needs of it; None: nothing, as it passes signals down unchanged.
    """

    name: str = struct.field(pytree_node=False)
    output: Float[Array, "n h w c"]
    memory: Filters | Switches | None


def ascend(model: nn.Module, variables: PyTree, x: Float[Array, "n h w c"], layer: str) -> list[Rise]:
    """A picture's way up to `layer`, each layer with what the way down needs.

    Contrast normalisation (`LRN`) is not undone on the way down, as in the paper. What the network does between its
    layers may only be rectifying; that is checked by the numbers.

    Args:
      model: the network.
      variables: its variables.
      x: its input.
      layer: one that gives feature maps.

    Raises:
      UserError: there is no such layer, or the network is no chain up to it.
    """

    @jax.jit
    def up(variables: PyTree, x: Array) -> tuple[list[Rise], list[Array]]:
        rises: list[Rise] = []
        breaks: list[Array] = []

        def intercept(call, args, kwargs, context):
            output, module = call(*args, **kwargs), context.module
            name = "/".join(module.path)
            if context.method_name != "__call__" or not name or (rises and rises[-1].name == layer):
                return output
            if not isinstance(module, Conv | MaxPool | LRN | Dropout):
                raise UserError(NO_CHAIN.format(layer, name))
            breaks.append(_break(args[0], rises[-1].output if rises else x))
            rises.append(Rise(name, output, _memory(module, args[0])))
            return output

        with nn.intercept_methods(intercept):
            run(model, variables, x)
        return rises, breaks

    check_layers([layer], shapes(model, variables, x))
    rises, breaks = up(variables, x)
    for rise, gap in zip(rises, breaks, strict=True):
        if gap > TOLERANCE:
            raise UserError(NO_CHAIN.format(layer, rise.name))
    return rises


def _break(x: Array, before: Array) -> Float[Array, ""]:
    """How far `x` is from both `before` and its rectified values, as a share of its largest value."""
    if x.shape != before.shape:
        return jnp.float32(jnp.inf)
    gaps = [jnp.abs(x - y).max() for y in (before, jnp.maximum(before, 0))]
    return (jnp.minimum(*gaps) / jnp.maximum(jnp.abs(x).max(), 1e-30)).astype(jnp.float32)


def _memory(module: nn.Module, x: Array) -> Filters | Switches | None:
    size = (x.shape[1], x.shape[2])
    if isinstance(module, Conv):
        kernel = module.variables["params"]["kernel"]
        return Filters(kernel, pair(module.stride), pair(module.padding), module.groups, size)
    if isinstance(module, MaxPool):
        sides = module.sides(x)
        places = max_pool_with_switches(x, module.window, module.stride, sides)[1]
        return Switches(places, module.window, module.stride, sides, size)
    return None


def descend(rises: list[Rise], unit: Int[Array, "n 3"]) -> Float[Array, "n h w c"]:
    """One activation of the last layer, projected down to the network's input.

    All others of the layer are set to zero. Then, from layer to layer: unpool by the switches, rectify, filter with the
    transposed filters. Feature maps are rectified ones in the paper: so is the activation.

    Args:
      rises: of `ascend`.
      unit: row, column and channel in the last layer, for each picture.
    """
    top = rises[-1].output
    place = (jnp.arange(len(top)), *unit.T)
    signal = jnp.zeros_like(top).at[place].set(top[place])
    for rise in reversed(rises):
        match rise.memory:
            case Filters(kernel, stride, padding, groups, size):
                signal = jnp.maximum(signal, 0)
                signal = transposed_conv(signal, kernel.astype(signal.dtype), stride, padding, groups, size)
            case Switches(places, window, stride, sides, size):
                signal = unpool(signal, places, window, stride, sides, size)
    return signal


def transposed_conv(
    y: Float[Array, "n h2 w2 k"],
    kernel: Float[Array, "kh kw cg k"],
    stride: tuple[int, int],
    padding: tuple[int, int],
    groups: int,
    size: tuple[int, int],
) -> Float[Array, "n h w c"]:
    """The transpose of `conv2d`, without bias: each value spreads its filter over the pixels that the filter saw.

    It is a convolution of `y`, with stride − 1 zeros between its pixels, with the filters flipped in both directions,
    inputs and outputs exchanged within each group.

    Args:
      y: of the convolution's output's shape.
      kernel, stride, padding, groups: of the convolution.
      size: height and width of its input.

    >>> transposed_conv(jnp.full((1, 1, 1, 1), 2.0), jnp.arange(4.0).reshape(2, 2, 1, 1), (1, 1), (0, 0), 1, (2, 2))[
    ...     0, :, :, 0
    ... ].tolist()
    [[0.0, 2.0], [4.0, 6.0]]
    """
    rows, columns, inputs, outputs = kernel.shape
    flipped = kernel[::-1, ::-1].reshape(rows, columns, inputs, groups, outputs // groups)
    flipped = flipped.transpose(0, 1, 4, 3, 2).reshape(rows, columns, outputs // groups, groups * inputs)
    before = [k - 1 - p for k, p in zip((rows, columns), padding, strict=True)]
    after = [s - (n - 1) * step - 1 + p for s, n, step, p in zip(size, y.shape[1:3], stride, padding, strict=True)]
    return lax.conv_general_dilated(
        y,
        flipped,
        (1, 1),
        list(zip(before, after, strict=True)),
        lhs_dilation=stride,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )
