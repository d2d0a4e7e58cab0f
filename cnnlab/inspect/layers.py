"""A network's layers from outside: what each gives, and what the network would give if one gave something else.

A layer is a module, named by its path as `summary` prints it ("conv5", "conv2_1/conv1"). Any Flax network will do;
nothing is written into it for this.
"""

import inspect
from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Array, Float, PyTree

from cnnlab.errors import UserError, nearest
from cnnlab.ops import forms
from cnnlab.transfer import patterns

LAYERS = 5  # that are drawn where config.layers names none


def run(
    model: nn.Module, variables: PyTree, x: Float[Array, "n ..."], added: Mapping[str, Array] | None = None
) -> tuple[Float[Array, "n ..."], dict[str, Array]]:
    """The network's outputs in evaluation mode, and every layer's, in the order in which they are computed.

    Args:
      model: the network.
      variables: its variables.
      x: its input.
      added: by layer, what is added to its output on the way. With zeros the network stays as it is, and a gradient by
        them is a gradient by the layer's output.

    Of a layer that runs several times the last output is given; those that give more than one array are left out.

    Raises:
      UserError: `added` names no layer; those that there are, are listed.

    >>> import jax.numpy as jnp
    >>> model, x = nn.Sequential([nn.Dense(2), nn.relu, nn.Dense(1)]), jnp.ones((1, 3))
    >>> _, found = run(model, model.init(jax.random.key(0), x), x)
    >>> {name: output.shape for name, output in found.items()}
    {'layers_0': (1, 2), 'layers_2': (1, 1)}
    """
    found: dict[str, Array] = {}
    added = added or {}

    def intercept(call, args, kwargs, context):
        output = call(*args, **kwargs)
        name = "/".join(context.module.path)
        if name and context.method_name == "__call__" and isinstance(output, jax.Array):
            output = output + added[name] if name in added else output
            found.pop(name, None)
            found[name] = output
        return output

    train = {"train": False} if "train" in inspect.signature(type(model).__call__).parameters else {}
    with forms.unrolled(), nn.intercept_methods(intercept):
        outputs = model.apply(variables, x, **train)
    check_layers(list(added), found)
    return outputs, found


def shapes(model: nn.Module, variables: PyTree, x: Array | jax.ShapeDtypeStruct) -> dict[str, tuple[int, ...]]:
    """The shape of each layer's output for the input `x`, in the order of the network; nothing is computed.

    Args:
      model: the network.
      variables: its variables or their shapes.
      x: its input or its shape.
    """
    found: dict[str, tuple[int, ...]] = {}

    def trace(variables: PyTree, x: Array) -> None:
        found.update((name, output.shape) for name, output in run(model, variables, x)[1].items())

    jax.eval_shape(trace, variables, x)
    return found


def check_layers(layers: Sequence[str], known: Mapping[str, object]) -> None:
    """Raises a `UserError` for the first layer that is not among the known; those that are, are listed."""
    for layer in layers:
        if layer not in known:
            raise UserError(f"there is no layer {layer!r}{nearest(layer, known)}: there are {', '.join(known)}")


def maps_of(shapes: Mapping[str, tuple[int, ...]], layers: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Of all layers those that give feature maps (n, h, w, c), or of `layers` those named.

    Without `layers`: those at the top of the network whose maps are larger than one pixel.

    Raises:
      UserError: a name is no layer's, or that layer gives no maps.
    """
    maps = {name: shape for name, shape in shapes.items() if len(shape) == 4}
    check_layers(layers, shapes)
    for layer in layers:
        if layer not in maps:
            raise UserError(f"layer {layer} gives {shapes[layer]}, no feature maps; those that do: {', '.join(maps)}")
    top = [name for name, shape in maps.items() if "/" not in name and shape[1] * shape[2] > 1]
    return {name: maps[name] for name in layers or top}


def check_channels(layer: str, channels: Sequence[int], shape: Sequence[int]) -> None:
    """Raises a `UserError` for the first number that is no channel of a layer whose output has this shape."""
    for channel in channels:
        if not 0 <= channel < shape[-1]:
            raise UserError(f"layer {layer} has no channel {channel}: it has 0 to {shape[-1] - 1}")


def channel_numbers(text: str) -> list[int]:
    """The numbers that config.channels has, parted by commas.

    >>> channel_numbers("3, 17")
    [3, 17]

    Raises:
      UserError: one is no number.
    """
    parts = patterns(text)
    for part in parts:
        if not part.isdecimal():
            raise UserError(f"config.channels is {text!r}: {part!r} is no number of a feature map")
    return [int(part) for part in parts]


def spread(names: Sequence[str]) -> list[str]:
    """Up to `LAYERS` of the names, evenly spread, the first and the last among them.

    >>> spread(["conv1", "conv2", "conv3", "conv4", "conv5", "conv6", "fc7", "fc8", "fc9"])
    ['conv1', 'conv3', 'conv5', 'fc7', 'fc9']
    """
    places = np.linspace(0, len(names) - 1, min(LAYERS, len(names))).round().astype(int)
    return [names[place] for place in places]


def class_number(name: str, class_names: Sequence[str]) -> int:
    """The label of a class that is given by name, or by number where no class has that name.

    >>> class_number("dog", ("cat", "dog")), class_number("0", ("cat", "dog"))
    (1, 0)

    Raises:
      UserError: there is no such class.
    """
    if name in class_names:
        return list(class_names).index(name)
    if name.isdecimal() and int(name) < len(class_names):
        return int(name)
    listed = f": there are {', '.join(class_names)}" if len(class_names) <= 20 else ""
    raise UserError(
        f"there is no class {name!r}{nearest(name, class_names) or listed}, numbers 0 to {len(class_names) - 1}"
    )
