"""A network's layers in a table: output shapes, parameters, multiply-adds and receptive fields.

Everything is read off the network's jaxpr, so nothing is computed and any Flax Linen module will do.
"""

import inspect
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from cnnlab.experiment import Experiment
from cnnlab.ops.forms import plain_forms
from cnnlab.ops.receptive_field import INPUT
from cnnlab.reach import Reach, merge, pixels, reach_through

Path = tuple[str, ...]


@dataclass(frozen=True)
class Layer:
    """One row of the table.

    Attributes:
      name: the module's path, as in "inception3a/conv1"; the model's class where the model itself is the layer.
      output_shape: for a batch of one; of the first array where the layer gives several. None: the layer did not run
        (an auxiliary classifier in evaluation).
      parameters: trainable numbers that the module itself holds.
      multiply_adds: of its convolutions and matrix products, for a batch of one.
      receptive_field: in input pixels, one number a spatial dimension, not cut at the picture's border. Empty where
        the input has none or the output does not depend on it.
    """

    name: str
    output_shape: tuple[int, ...] | None
    parameters: int
    multiply_adds: int
    receptive_field: tuple[int, ...]


@dataclass
class _Tally:
    """What a walk through the jaxpr has seen, by the index of the module that did it."""

    multiply_adds: Counter[int] = field(default_factory=Counter)
    outputs: dict[int, tuple[tuple[int, ...], Reach]] = field(default_factory=dict)


def summarize(model: nn.Module, x_shape: Sequence[int], **kwargs: Any) -> list[Layer]:
    """The layers of `model`, in order of execution.

    A layer is a module that calls no other module, or one that does and has parameters or multiply-adds of its own.
    One that is called several times is one row: its multiply-adds add up, its output is the last call's. Layers that
    have parameters and do not run come last.

    Multiply-adds are those computed: a sparse table that is laid into a dense kernel counts as dense, padding counts as
    pixels, every branch of a conditional counts, and a loop of unknown length counts once. The zeros that a transposed
    convolution puts between its inputs do not count. Receptive fields are exact for convolution, pooling, elementwise
    operations, slices and reshapes; where several inputs meet, the smallest that holds theirs is taken. A sum over a
    spatial dimension sees all of it, also the one in group normalization or in `jax.image.resize`.

    Args:
      model: called as `model.apply(variables, x, **kwargs)`, with `train=False` if its call has that argument.
      x_shape: of the float32 input, batch first and channels last; the batch is taken as 1.
      **kwargs: further arguments of the call; they hold for `init` too.

    >>> summarize(nn.Conv(8, (3, 3), name="conv"), (1, 5, 5, 2))[0].multiply_adds
    3600
    """
    tally, params, modules = _tallied(model, x_shape, kwargs)
    own = _own_parameters(params, modules)
    outer = {modules.index(path[:depth]) for path in modules for depth in range(len(path)) if path[:depth] in modules}
    ran = [i for i in [*tally.outputs, *tally.multiply_adds] if i not in outer or tally.multiply_adds[i] or own[i]]
    names = ["/".join(path) or type(model).__name__ for path in modules]
    return [_layer(names[i], i, own[i], tally) for i in dict.fromkeys([*ran, *sorted(own)])]


def reaches(model: nn.Module, x_shape: Sequence[int], **kwargs: Any) -> dict[str, Reach]:
    """What the output of each module that runs sees of the input, by the modules' paths, the model's own left out.

    Arguments as of `summarize`. Of a module that gives several arrays the first counts, of one that is called several
    times the last call.

    >>> height, width = reaches(nn.Sequential([nn.Conv(8, (3, 3))]), (1, 5, 5, 2))["layers_0"]
    >>> height.pixels(place=0, size=5)
    (-1, 2)
    """
    tally, _, modules = _tallied(model, x_shape, kwargs)
    return {"/".join(modules[i]): reach for i, (_, reach) in tally.outputs.items() if modules[i]}


def format_table(layers: Sequence[Layer]) -> str:
    """The layers as plain text in aligned columns, the totals in the last line.

    >>> print(format_table([Layer("conv", (1, 5, 5, 8), 152, 3600, (3, 3))]))
    layer  output   parameters  multiply-adds  receptive field
    conv   1×5×5×8         152          3,600              3×3
    total                  152          3,600
    """

    def cross(sizes):
        return "×".join(map(str, sizes))

    head = ("layer", "output", "parameters", "multiply-adds", "receptive field")
    body = [
        (
            layer.name,
            "not run" if layer.output_shape is None else cross(layer.output_shape),
            f"{layer.parameters:,}",
            f"{layer.multiply_adds:,}",
            cross(layer.receptive_field),
        )
        for layer in layers
    ]
    parameters, multiply_adds = sum(layer.parameters for layer in layers), sum(layer.multiply_adds for layer in layers)
    lines = [head, *body, ("total", "", f"{parameters:,}", f"{multiply_adds:,}", "")]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:{'<' if i < 2 else '>'}{widths[i]}}" for i, cell in enumerate(line)).rstrip()
        for line in lines
    )


def report(experiment: Experiment) -> str:
    """The table of an experiment's network on one of its pictures; no data are read."""
    picture = jax.ShapeDtypeStruct((1, *experiment.picture_shape), jnp.uint8)
    shape = jax.eval_shape(experiment.task.preprocess, picture).shape
    heading = (
        f"{experiment.name}: {type(experiment.task.model).__name__} on an input of {'×'.join(map(str, shape[1:]))}"
    )
    return f"{heading}\n{format_table(summarize(experiment.task.model, shape))}"


def _tallied(model: nn.Module, x_shape: Sequence[int], kwargs: dict[str, Any]) -> tuple[_Tally, Any, list[Path]]:
    """What a walk through the model has seen, the parameters' shapes, and the modules by the tally's indices."""
    if "train" in inspect.signature(type(model).__call__).parameters:
        kwargs = {"train": False} | kwargs
    jaxpr, params, modules = _trace(model, jax.ShapeDtypeStruct((1, *x_shape[1:]), jnp.float32), kwargs)
    tally = _Tally()
    # The inputs are the variables, one by one, and last x.
    _walk(jaxpr, [()] * (len(jaxpr.invars) - 1) + [pixels(len(x_shape))], tally, owner=modules.index(()))
    return tally, params, modules


def _trace(model: nn.Module, x: jax.ShapeDtypeStruct, kwargs: dict[str, Any]) -> tuple[Jaxpr, Any, list[Path]]:
    """The model's marked jaxpr, its parameters' shapes, and the modules that the marks stand for."""
    modules: list[Path] = []

    def apply(variables, x):
        return model.apply(variables, x, rngs=jax.random.key(0), mutable=nn.DenyList("params"), **kwargs)

    with plain_forms(), nn.intercept_methods(_marker(modules)):
        variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, **kwargs), x)
        jaxpr = jax.make_jaxpr(apply)(variables, x).jaxpr
    return jaxpr, variables.get("params", {}), modules


def _layer(name: str, index: int, parameters: int, tally: _Tally) -> Layer:
    shape, reach = tally.outputs.get(index, (None, ()))
    sizes = tuple(math.ceil(axis.field.size) for axis in reach)
    return Layer(name, shape, parameters, tally.multiply_adds[index], sizes)


def _marker(modules: list[Path]):
    """A Flax interceptor that marks, in the jaxpr, every module's equations and the first array of its output.

    The mark carries the index of the module's path in `modules`, which it fills. Flax's own scopes would not do: they
    are no full paths, and other functions' scopes look the same.
    """

    def intercept(call, args, kwargs, context):
        path = context.module.path
        if path not in modules:
            modules.append(path)
        mark = f"cnnlab#{modules.index(path)}"
        with jax.named_scope(mark):
            leaves, tree = jax.tree.flatten(call(*args, **kwargs))
        first = next((i for i, leaf in enumerate(leaves) if isinstance(leaf, jax.Array)), None)
        if first is not None:
            leaves[first] = checkpoint_name(leaves[first], mark)
        return jax.tree.unflatten(tree, leaves)

    return intercept


def _marked(text: str, default: int | None) -> int | None:
    """The index in the innermost mark in a scope's or a checkpoint's name."""
    marks = re.findall(r"cnnlab#(\d+)", text)
    return int(marks[-1]) if marks else default


def _own_parameters(params: Any, modules: list[Path]) -> Counter[int]:
    """The number of parameters that each module holds itself: those that lie in it and in no module inside it."""
    own = Counter()
    for keys, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        path = tuple(getattr(key, "key", None) for key in keys)
        while path not in modules:
            path = path[:-1]
        own[modules.index(path)] += leaf.size
    return own


def _walk(jaxpr: Jaxpr, reaches: Sequence[Reach], tally: _Tally, owner: int) -> list[Reach]:
    """Follows a jaxpr from its inputs' reaches to its outputs', and tallies what its equations do."""
    env = dict(zip(jaxpr.invars, reaches, strict=True))

    def look(atom):
        return () if isinstance(atom, Literal) else env.get(atom, ())

    for eqn in jaxpr.eqns:
        # Scopes inside a called jaxpr start anew, so that without a mark the caller's owner holds.
        index = _marked(str(eqn.source_info.name_stack), owner)
        env.update(zip(eqn.outvars, _step(eqn, [look(atom) for atom in eqn.invars], tally, index), strict=True))
    return [look(atom) for atom in jaxpr.outvars]


def _step(eqn: JaxprEqn, ins: list[Reach], tally: _Tally, owner: int) -> list[Reach]:
    """The reaches of one equation's outputs."""
    name, params = eqn.primitive.name, eqn.params
    if name == "scan":
        return _scan(params, ins, tally, owner)
    if name == "while":
        return _walk(params["body_jaxpr"].jaxpr, ins[params["cond_nconsts"] :], tally, owner)
    if name == "cond":
        branches = [_walk(branch.jaxpr, ins[1:], tally, owner) for branch in params["branches"]]
        return [merge(outs) for outs in zip(*branches, strict=True)]
    called = params.get("jaxpr", params.get("call_jaxpr"))
    called = called.jaxpr if isinstance(called, ClosedJaxpr) else called
    # A reduction has a jaxpr too, but it is that of the operation on two numbers.
    if isinstance(called, Jaxpr) and not name.startswith("reduce") and len(called.invars) == len(ins):
        return _walk(called, ins, tally, owner)
    if multiply_adds := _multiply_adds(eqn):
        tally.multiply_adds[owner] += multiply_adds
    if name == "name" and params["name"] == INPUT:
        return [pixels(eqn.outvars[0].aval.ndim)]
    if name == "name" and (output := _marked(params["name"], None)) is not None:
        tally.outputs[output] = (eqn.outvars[0].aval.shape, ins[0])
    return [reach_through(eqn, ins)] * len(eqn.outvars)


def _scan(params: dict[str, Any], ins: list[Reach], tally: _Tally, owner: int) -> list[Reach]:
    """A scan is its body, `length` times over: fields grow with every turn. The scanned dimension is the first."""
    if "ft_in" in params:  # jax 0.11 and newer
        fixed, carried, _ = (len(list(part.vals)) for part in params["ft_in"].unpack())
    else:
        fixed, carried = params["num_consts"], params["num_carry"]
    carry, ys = ins[fixed : fixed + carried], []
    xs = [tuple(axis.shifted(-1) for axis in reach) for reach in ins[fixed + carried :]]
    for _ in range(params["length"]):
        outs = _walk(params["jaxpr"].jaxpr, [*ins[:fixed], *carry, *xs], tally, owner)
        carry, ys = outs[:carried], outs[carried:]
    return [*carry, *(tuple(axis.shifted(1) for axis in reach) for reach in ys)]


def _multiply_adds(eqn: JaxprEqn) -> int:
    """The multiply-adds of one equation; zero for all but convolutions and matrix products."""
    outputs, params = math.prod(eqn.outvars[0].aval.shape), eqn.params
    if eqn.primitive.name == "conv_general_dilated":
        kernel = eqn.invars[1].aval.shape
        # The kernel's input dimension is already that of one group of channels.
        taps = math.prod(kernel) // kernel[params["dimension_numbers"].rhs_spec[0]]
        return outputs * taps // math.prod(params["lhs_dilation"])
    if eqn.primitive.name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        return outputs * math.prod(eqn.invars[0].aval.shape[dim] for dim in contracted)
    return 0
