"""How receptive fields pass through the equations of a jaxpr."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from jax.extend.core import JaxprEqn

from cnnlab.ops.receptive_field import Field, extend


@dataclass(frozen=True)
class Axis:
    """What an array's elements see along one spatial dimension of the network's input.

    Attributes:
      field: of one element.
      dim: the array's dimension that runs along this one; None where all elements see the same pixels.
      whole: whether something that all elements see alike, such as a mean, has been added to what each sees around its
        own place. The field's start and end then say nothing.
    """

    field: Field
    dim: int | None
    whole: bool = False

    def pixels(self, place: int, size: int) -> tuple[int, int]:
        """The first pixel that the element at `place` sees, and the one after the last; those outside are padding.

        It is the whole input, of `size` pixels, where all elements see the same ones.

        >>> Axis(Field(size=7, jump=2, start=-3), dim=1).pixels(0, size=20)
        (-3, 4)
        """
        if self.dim is None or self.whole:
            return 0, size
        start = self.field.start + place * self.field.jump
        return math.floor(start), math.ceil(start + self.field.size)

    def shifted(self, by: int) -> "Axis":
        """The same with `by` dimensions more in front; None where its own is gone."""
        return replace(self, dim=None if self.dim is None or self.dim + by < 0 else self.dim + by)


# One axis a spatial dimension of the input; empty where the array does not depend on the input.
Reach = tuple[Axis, ...]


@dataclass(frozen=True)
class Move:
    """Where a dimension of the input goes in the output, and the window that slides along it (`kernel`, `stride`).

    `padding` is the places added before the first, negative where places are cut off. `spread` is the number of places
    that each element has after zeros were put between them, padding not counted.
    """

    dim: int
    kernel: int = 1
    stride: int | Fraction = 1
    padding: int = 0
    spread: int = 1


# By dimension of the input. A dimension that is not in it is seen whole by every element of the output.
Moves = dict[int, Move]


def pixels(rank: int) -> Reach:
    """The reach of the network's input: batch first, channels last, every pixel sees itself."""
    return tuple(Axis(Field(), dim) for dim in range(1, rank - 1))


def merge(reaches: Sequence[Reach]) -> Reach:
    """The reach of what is computed from several arrays elementwise: the smallest field that holds theirs.

    >>> small, large = Axis(Field(3, jump=2, start=-1), dim=1), Axis(Field(7, jump=2, start=-3), dim=1)
    >>> merge([(small,), (), (large,)])
    (Axis(field=Field(size=7, jump=2, start=-3), dim=1, whole=False),)
    """
    return tuple(_merge_axis(axes) for axes in zip(*filter(None, reaches), strict=True))


def _merge_axis(axes: Sequence[Axis]) -> Axis:
    placed = [axis for axis in axes if axis.dim is not None] or axes
    first = placed[0].field
    start = min(axis.field.start for axis in placed)
    end = max(axis.field.start + axis.field.size for axis in placed)
    size = max(end - start, *(axis.field.size for axis in axes))
    whole = len(placed) < len(axes) or any(axis.whole for axis in axes)
    return Axis(Field(size, first.jump, start), placed[0].dim, whole)


def reach_through(eqn: JaxprEqn, ins: Sequence[Reach]) -> Reach:
    """The reach of an equation's outputs, given that of its inputs; the equation calls no other jaxpr."""
    moved = []
    for operand, reach in enumerate(ins):
        if reach:
            shape = eqn.invars[operand].aval.shape
            moves = _moves(eqn, operand, shape)
            moved.append(tuple(_move_axis(axis, moves, shape) for axis in reach))
    return merge(moved)


def _move_axis(axis: Axis, moves: Moves, shape: Sequence[int]) -> Axis:
    if axis.dim is None:
        return axis
    if axis.dim not in moves:
        return Axis(extend(axis.field, shape[axis.dim]), None)
    move = moves[axis.dim]
    # Of `kernel` neighbouring places, every `spread`-th has an element; the others are zeros and see nothing.
    kernel = (move.kernel - 1) // move.spread + 1
    stride = _whole(Fraction(move.stride) / move.spread)
    return replace(axis, field=extend(axis.field, kernel, stride, move.padding // move.spread), dim=move.dim)


def _whole(number: Fraction) -> int | Fraction:
    return int(number) if number.denominator == 1 else number


def _moves(eqn: JaxprEqn, operand: int, shape: Sequence[int]) -> Moves:
    """The moves of one operand's dimensions. An operation without a rule is elementwise if the rank stays the same."""
    name, params = eqn.primitive.name, eqn.params
    if name == "dot_general":
        return _product(params["dimension_numbers"], operand, len(shape), eqn.invars[0].aval.ndim)
    if name in RULES:
        return RULES[name](eqn) if operand == 0 else {}
    if "window_dimensions" in params:
        return _window(params)
    if name.startswith(("reduce_", "arg")) and "axes" in params:
        return _without(params["axes"], len(shape))
    return _without((), len(shape)) if len(shape) == eqn.outvars[0].aval.ndim else {}


def _convolution(eqn: JaxprEqn) -> Moves:
    params, kernel = eqn.params, eqn.invars[1].aval.shape
    numbers = params["dimension_numbers"]
    moves = {numbers.lhs_spec[0]: Move(numbers.out_spec[0])}
    for i, stride in enumerate(params["window_strides"]):
        size = (kernel[numbers.rhs_spec[2 + i]] - 1) * params["rhs_dilation"][i] + 1
        before, spread = int(params["padding"][i][0]), params["lhs_dilation"][i]
        moves[numbers.lhs_spec[2 + i]] = Move(numbers.out_spec[2 + i], size, stride, before, spread)
    return moves


def _window(params: dict[str, Any]) -> Moves:
    """Pooling: `reduce_window` and its kin. A window over channels has the size 1 along the spatial dimensions."""
    sizes, strides, sides = params["window_dimensions"], params["window_strides"], params["padding"]
    dilations, spreads = (params.get(key, (1,) * len(sizes)) for key in ("window_dilation", "base_dilation"))
    windows = enumerate(zip(sizes, strides, sides, dilations, spreads, strict=True))
    return {
        dim: Move(dim, (size - 1) * dilation + 1, stride, int(before), spread)
        for dim, (size, stride, (before, _), dilation, spread) in windows
    }


def _without(gone: Sequence[int], rank: int) -> Moves:
    """Dimensions that an operation takes away; the others close up."""
    kept = [dim for dim in range(rank) if dim not in gone]
    return {dim: Move(to) for to, dim in enumerate(kept)}


def _product(numbers, operand: int, rank: int, left_rank: int) -> Moves:
    """A matrix product's output has the batch dimensions, then the left operand's free ones, then the right's."""
    contracted, batch = numbers[0][operand], numbers[1][operand]
    free = [dim for dim in range(rank) if dim not in (*contracted, *batch)]
    first = len(batch) if operand == 0 else left_rank - len(contracted)
    return {dim: Move(to) for to, dim in enumerate(batch)} | {dim: Move(first + i) for i, dim in enumerate(free)}


def _broadcast(eqn: JaxprEqn) -> Moves:
    shape, out = eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape
    places = enumerate(eqn.params["broadcast_dimensions"])
    return {dim: Move(to) for dim, to in places if shape[dim] == out[to]}


def _reshape(shape: Sequence[int], out: Sequence[int]) -> Moves:
    """A dimension that is split goes to the first of its parts, whose elements see the whole block.

    Dimensions that are merged with others are seen whole: of a flattened picture, every element counts as seeing all.

    >>> _reshape((1, 8, 6, 3), (1, 4, 2, 18))
    {1: Move(dim=1, kernel=2, stride=2, padding=0, spread=1)}
    """
    moves, i, j = {}, 0, 0
    while i < len(shape) and j < len(out) and math.prod(shape):
        # The shortest runs of dimensions from i and from j that hold the same number of elements.
        a, b = i + 1, j + 1
        while (left := math.prod(shape[i:a])) != (right := math.prod(out[j:b])):
            a, b = (a + 1, b) if left < right else (a, b + 1)
        old = [dim for dim in range(i, a) if shape[dim] != 1]
        new = [dim for dim in range(j, b) if out[dim] != 1]
        if len(old) == 1:
            block = shape[old[0]] // out[new[0]]
            moves[old[0]] = Move(new[0], block, block)
        i, j = a, b
    return moves


def _slice(eqn: JaxprEqn) -> Moves:
    starts, strides = eqn.params["start_indices"], eqn.params["strides"] or (1,) * eqn.invars[0].aval.ndim
    return {dim: Move(dim, 1, stride, -start) for dim, (start, stride) in enumerate(zip(starts, strides, strict=True))}


def _pad(eqn: JaxprEqn) -> Moves:
    sides = enumerate(eqn.params["padding_config"])
    return {dim: Move(dim, padding=int(before), spread=int(between) + 1) for dim, (before, _, between) in sides}


# For the first operand; of further ones (a kernel, an initial value) every output sees the whole.
RULES = {
    "conv_general_dilated": _convolution,
    "broadcast_in_dim": _broadcast,
    "reshape": lambda eqn: _reshape(eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape),
    "transpose": lambda eqn: {dim: Move(to) for to, dim in enumerate(eqn.params["permutation"])},
    "squeeze": lambda eqn: _without(eqn.params["dimensions"], eqn.invars[0].aval.ndim),
    "reduce": lambda eqn: _without(eqn.params["dimensions"], eqn.invars[0].aval.ndim),
    "slice": _slice,
    "pad": _pad,
}
