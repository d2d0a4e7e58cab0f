"""Transfer learning: layers chosen by name, frozen, or trained at a rate of their own.

A layer is a path in the parameters, as in "conv1" or "conv2_1/bn1". A pattern names it, or all layers below it, and may
hold * and ?: "conv2_1" is all of that block, "conv*" every layer whose name begins so, "*" all.
"""

import fnmatch
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import flax.linen as nn
import jax
import optax
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import PyTree

from cnnlab.errors import UserError, nearest
from cnnlab.ops import forms

Path = tuple[str, ...]


def patterns(text: str) -> tuple[str, ...]:
    """Patterns as a config field has them, parted by commas.

    >>> patterns("conv*, fc6")
    ('conv*', 'fc6')
    """
    return tuple(part.strip() for part in text.split(",") if part.strip())


def factors(text: str) -> dict[str, float]:
    """Patterns with a factor each, as a config field has them.

    >>> factors("conv*=0.1, fc6=0.5")
    {'conv*': 0.1, 'fc6': 0.5}

    Raises:
      UserError: it is written otherwise.
    """
    try:
        return {name.strip(): float(factor) for name, factor in (part.split("=") for part in patterns(text))}
    except ValueError as error:
        raise UserError(f"config.rates is {text!r}: write it as 'conv*=0.1,fc6=0.5', say") from error


def layer_names(params: PyTree) -> list[str]:
    """The layers that have parameters, sorted.

    >>> layer_names({"fc": {"kernel": 0, "bias": 0}, "block": {"conv1": {"kernel": 0}}})
    ['block/conv1', 'fc']
    """
    return sorted({"/".join(path[:-1]) for path in flatten_dict(params)})


def matches(path: Path, patterns: tuple[str, ...]) -> bool:
    """Whether a pattern names a layer, or a module that the layer is part of.

    >>> matches(("block2", "conv1"), ("block2",)), matches(("block2", "conv1"), ("block?/bn*", "fc"))
    (True, False)
    """
    wholes = ["/".join(path[: i + 1]) for i in range(len(path))]
    return any(fnmatch.fnmatchcase(whole, pattern) for whole in wholes for pattern in patterns)


def check_patterns(field: str, patterns: tuple[str, ...], params: PyTree, what: str = "layer") -> None:
    """Raises a `UserError` for the first pattern that names no layer.

    Args:
      field: where the patterns come from, for the message.
      patterns: as in `matches`.
      params: a network's parameters, or their shapes.
      what: what they are, for the message: those that are frozen are not among an optimizer's.
    """
    names = layer_names(params)
    for pattern in patterns:
        if not any(matches(tuple(name.split("/")), (pattern,)) for name in names):
            near = nearest(pattern, names)
            raise UserError(f"{field} names no {what} with {pattern!r}{near}: there are {', '.join(names)}")


def split_params(params: PyTree, frozen: tuple[str, ...]) -> tuple[PyTree, PyTree]:
    """The parameters that are trained, and those of layers that `frozen` matches.

    >>> split_params({"a": {"w": 1}, "b": {"w": 2}}, ("a",))
    ({'b': {'w': 2}}, {'a': {'w': 1}})

    Raises:
      UserError: a pattern names no layer, or all are frozen.
    """
    if not frozen:
        return params, {}
    check_patterns("config.freeze", frozen, params)
    flat = flatten_dict(params)
    fixed = {path: leaf for path, leaf in flat.items() if matches(path[:-1], frozen)}
    if len(fixed) == len(flat):
        raise UserError(
            f"config.freeze matches every layer with {', '.join(frozen)}: leave one to train, the last, say"
        )
    return unflatten_dict({path: leaf for path, leaf in flat.items() if path not in fixed}), unflatten_dict(fixed)


def merge_params(trained: PyTree, fixed: PyTree) -> PyTree:
    """The inverse of `split_params`."""
    return unflatten_dict({**flatten_dict(trained), **flatten_dict(fixed)}) if fixed else trained


@contextmanager
def frozen_as_in_evaluation(frozen: tuple[str, ...]) -> Iterator[None]:
    """While the block runs, frozen modules are applied as in evaluation, whatever `train` says.

    So frozen batch normalisation keeps its statistics, and normalises with them.
    """

    def interceptor(call: Callable, args: tuple, kwargs: dict[str, Any], context: nn.module.InterceptorContext) -> Any:
        if "train" in kwargs and context.module.path and matches(context.module.path, frozen):
            kwargs = {**kwargs, "train": False}
        return call(*args, **kwargs)

    if not frozen:
        yield
        return
    with nn.intercept_methods(interceptor), forms.unrolled():
        yield


def scale_layers(factors: Mapping[str, float]) -> optax.GradientTransformation:
    """The last part of a chain: the updates of layers that a pattern matches, times its factor (their lower rate).

    The first pattern that matches a layer counts; others keep their rate. Weight decay is scaled along.

    >>> scale = scale_layers({"conv*": 0.1})
    >>> updates = {"conv1": {"kernel": 1.0}, "fc": {"kernel": 1.0}}
    >>> scale.update(updates, scale.init(updates))[0]
    {'conv1': {'kernel': 0.1}, 'fc': {'kernel': 1.0}}

    Raises:
      UserError: a pattern names no layer, or a factor is negative.
    """
    for pattern, factor in factors.items():
        if not 0 <= factor < math.inf:
            raise UserError(f"the rate of layers {pattern!r} is multiplied by {factor}; it must be 0 or more, finite")

    def factor_of(path: Path) -> float:
        return next((factor for pattern, factor in factors.items() if matches(path, (pattern,))), 1.0)

    def init(params: PyTree) -> optax.EmptyState:
        check_patterns("config.rates", tuple(factors), params, "layer that learns")
        return optax.EmptyState()

    def update(updates: PyTree, state: optax.EmptyState, params: PyTree = None) -> tuple[PyTree, optax.EmptyState]:
        flat = flatten_dict(updates)
        return unflatten_dict({path: leaf * factor_of(path[:-1]) for path, leaf in flat.items()}), state

    return optax.GradientTransformation(init, update)


def head_layers(model: nn.Module, image: jax.ShapeDtypeStruct) -> tuple[str, ...]:
    """The layers whose parameters depend on the number of classes, the classifiers, auxiliary ones too; of nets that
    know sentences, on the number of words.

    Args:
      model: a network with an attribute `num_classes` or `vocabulary`.
      image: the shape of its input.
    """

    field = "vocabulary" if hasattr(model, "vocabulary") else "num_classes"

    def shapes(count: int) -> Mapping[Path, tuple[int, ...]]:
        variables = jax.eval_shape(model.clone(**{field: count}).init, jax.random.key(0), image)
        return {path: leaf.shape for path, leaf in flatten_dict(variables["params"]).items()}

    two, three = shapes(2), shapes(3)
    return tuple(sorted({"/".join(path[:-1]) for path in two if two[path] != three[path]}))


def body_layers(model: nn.Module, image: jax.ShapeDtypeStruct) -> tuple[str, ...]:
    """All layers with parameters but `head_layers`: what is frozen where only a new classifier is to be learnt."""
    params = jax.eval_shape(model.init, jax.random.key(0), image)["params"]
    heads = head_layers(model, image)
    return tuple(name for name in layer_names(params) if name not in heads)
