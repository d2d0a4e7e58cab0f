"""What becomes of a layer's output when the network's input moves: does it move along, or does it stay?

T moves the input x about its centre; f is a layer. T' is the same movement of the layer's maps, each place standing
where the middle of its receptive field is in the input. On examples and the places that count,

    equivariance error = √(Σ |f(T x) − T' f(x)|² / Σ |f(x) − mean|²)
    invariance error   = √(Σ |f(T x) − f(x)|² / Σ |f(x) − mean|²)

where the mean is each channel's over examples and places: what is constant in a layer hides nothing. 0 is exact;
outputs that have nothing to do with each other give √2. Where the input is turned, enlarged, or moved by no multiple of
the layer's stride, T' f(x) lies between places, bilinearly: no sampled layer is exact there.

Invariance is measured on all places. Equivariance is measured on those where T' f(x) is known: the place and where it
comes from lie among the layer's places, and both keep a distance from the input's edge. Padding at the edge and what
comes in from outside then count only as far as the receptive fields are wider than that distance.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from cnnlab.data.distort import about_centre
from cnnlab.data.warp import Matrices, bilinear, move_points
from cnnlab.reach import Reach

UNRELATED = math.sqrt(2)  # the error of outputs that have nothing to do with each other
ROUNDING = 1e-3  # pixels by which coordinates may miss an edge


class Movement(NamedTuple):
    """A movement of the input.

    Attributes:
      kind: "shift", "rotation" or "scale".
      size: pixels, degrees, or the factor by which what the picture shows is enlarged.
    """

    kind: str
    size: float


class Places(NamedTuple):
    """Where the places of a layer's maps lie in the network's input, in pixels; the first pixel's centre is at ½.

    Attributes:
      first: row and column of the middle of the first place's receptive field.
      jump: from one place to the next, down and across.
    """

    first: tuple[float, float]
    jump: tuple[float, float]


PIXELS = Places((0.5, 0.5), (1.0, 1.0))  # of the input itself


class Sums(NamedTuple):
    """What errors are made of, by example.

    Attributes:
      count: the places that count.
      mean: of f(x) over them, by channel.
      spread: Σ |f(x) − that mean|² over places and channels.
      error: Σ |f(T x) − T' f(x)|², or Σ |f(T x) − f(x)|².
    """

    count: Float[Array, " n"]
    mean: Float[Array, "n c"]
    spread: Float[Array, " n"]
    error: Float[Array, " n"]


def places_of(reach: Reach, shape: Sequence[int], size: tuple[int, int]) -> Places | None:
    """The places of a layer; None where it has none: a dense layer, or maps of a single pixel.

    Where receptive fields say nothing of a place, as each sees the whole input, the places divide it evenly.

    Args:
      reach: of the layer, by `summary.reaches`.
      shape: of its output.
      size: height and width of the network's input.

    >>> from cnnlab.ops.receptive_field import Field
    >>> from cnnlab.reach import Axis
    >>> rows, columns = Axis(Field(6, 2, 0), dim=1), Axis(Field(6, 2, 0), dim=2)  # a 5×5 convolution, 2×2 pooling
    >>> places_of((rows, columns), (1, 14, 14, 6), (32, 32))
    Places(first=(3.0, 3.0), jump=(2.0, 2.0))
    """
    if len(shape) != 4 or shape[1] * shape[2] == 1:
        return None
    first, jump = [], []
    for i, (length, count) in enumerate(zip(size, shape[1:3], strict=True)):
        axis = reach[i] if len(reach) == 2 else None
        if axis is not None and axis.dim == i + 1 and not axis.whole:
            jump.append(float(axis.field.jump))
            first.append(float(axis.field.start + axis.field.size / 2))
        else:
            jump.append(length / count)
            first.append(length / count / 2)
    return Places((first[0], first[1]), (jump[0], jump[1]))


def way_back(movement: Movement, numbers: Int[Array, " n"], size: tuple[int, int]) -> Matrices:
    """Where each point of the moved input comes from, (x, y) → matrix · (x, y, 1), for each example.

    The direction goes by the example's number, so that no direction is preferred: one is shifted to the right, the next
    down, to the left, up; one is turned anticlockwise, the next clockwise. All are enlarged by the same factor.

    Args:
      movement: of the input.
      numbers: of the examples.
      size: height and width of the input.

    >>> way_back(Movement("shift", 3), jnp.arange(2), (8, 8)).tolist()
    [[[1.0, 0.0, -3.0], [0.0, 1.0, 0.0]], [[1.0, 0.0, 0.0], [0.0, 1.0, -3.0]]]
    """
    n, shift = len(numbers), jnp.zeros((len(numbers), 2))
    linear = jnp.broadcast_to(jnp.eye(2), (n, 2, 2))
    if movement.kind == "shift":
        shift = -movement.size * jnp.array([(1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0)])[numbers % 4]
    elif movement.kind == "rotation":
        # y points down: anticlockwise to the eye is (cos, sin; −sin, cos), and this undoes it.
        angle = math.radians(movement.size)
        turn = jnp.array([[[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]] for a in (angle, -angle)])
        linear = turn[numbers % 2]
    else:
        linear = linear / movement.size
    return about_centre({"image": jnp.zeros((n, *size, 1), jnp.uint8)}, linear, shift)


def sources(back: Matrices, places: Places, shape: tuple[int, int]) -> Float[Array, "n h w 2"]:
    """The point of the input, x and y, that comes to each place of maps of this height and width."""
    down, across = (first + jump * jnp.arange(n) for first, jump, n in zip(*places, shape, strict=True))
    grid = jnp.stack(jnp.meshgrid(across, down), -1).reshape(1, -1, 2)
    return move_points(jnp.broadcast_to(grid, (len(back), *grid.shape[1:])), back).reshape(-1, *shape, 2)


def moved(
    maps: Float[Array, "n h w c"], back: Matrices, places: Places = PIXELS
) -> tuple[Float[Array, "n h w c"], Bool[Array, "n h w"]]:
    """Maps moved as the input is, bilinearly, and which places come from among the maps' own places.

    What comes from outside is what stands at the edge there: a picture is continued by its outermost pixels.

    >>> row = jnp.arange(3.0).reshape(1, 1, 3, 1)
    >>> values, known = moved(row, way_back(Movement("shift", 1), jnp.arange(1), (1, 3)))
    >>> values.ravel().tolist(), known.ravel().tolist()
    ([0.0, 0.0, 1.0], [False, True, True])
    """
    height, width, channels = maps.shape[1:]
    source = sources(back, places, (height, width))
    x, y = ((source[..., i] - places.first[1 - i]) / places.jump[1 - i] + 0.5 for i in (0, 1))
    values = bilinear(maps, jnp.clip(x, 0, width), jnp.clip(y, 0, height), jnp.zeros(channels))
    known = [(place > 0.5 - ROUNDING) & (place < n - 0.5 + ROUNDING) for place, n in ((x, width), (y, height))]
    return values, known[0] & known[1]


def far_from_edge(points: Float[Array, "*places 2"], size: tuple[int, int], border: float) -> Bool[Array, "*places"]:
    """Whether points x y are at least `border` pixels inside an input of this height and width."""
    limit = jnp.array([size[1], size[0]]) - border
    return jnp.all((points >= border - ROUNDING) & (points <= limit + ROUNDING), -1)


def sums(values: Array, others: Array, counted: Bool[Array, "n h w"] | None = None) -> Sums:
    """The sums over f(x), `values`, and its difference to `others`, on the places that count; None: on all."""
    n, channels = len(values), values.shape[-1]
    values, others = (x.astype(jnp.float32).reshape(n, -1, channels) for x in (values, others))
    weight = jnp.ones(values.shape[:2]) if counted is None else counted.reshape(n, -1).astype(jnp.float32)
    count = weight.sum(1)
    mean = jnp.einsum("np,npc->nc", weight, values) / jnp.maximum(count, 1)[:, None]
    squares = (jnp.square(difference).sum(-1) for difference in (values - mean[:, None], values - others))
    return Sums(count, mean, *(jnp.sum(weight * square, 1) for square in squares))


def compare(
    before: Mapping[str, Array],
    after: Mapping[str, Array],
    back: Matrices,
    places: Mapping[str, Places | None],
    size: tuple[int, int],
    border: float,
) -> dict[str, dict[str, Sums]]:
    """By layer the sums of its "invariance" error and, if it has places, of its "equivariance" error.

    Args:
      before, after: layers' outputs for the input and for the moved input.
      back: of the movement, see `way_back`.
      places: by layer.
      size: height and width of the input.
      border: in pixels of the input; see this module's first lines.
    """
    found: dict[str, dict[str, Sums]] = {}
    for layer, own in places.items():
        found[layer] = {"invariance": sums(before[layer], after[layer])}
        if own is not None:
            values, known = moved(before[layer].astype(jnp.float32), back, own)
            stays = jnp.broadcast_to(jnp.eye(2, 3), back.shape)
            for matrix in (stays, back):
                known &= far_from_edge(sources(matrix, own, known.shape[1:]), size, border)
            spread = sums(before[layer], before[layer], known)
            found[layer]["equivariance"] = spread._replace(error=sums(values, after[layer], known).error)
    return found


@dataclasses.dataclass
class Error:
    """An error over many examples, in float64 on the host.

    >>> one = Sums(np.array([1.0, 1.0]), np.array([[0.0], [2.0]]), np.zeros(2), np.array([0.5, 1.5]))
    >>> error = Error()
    >>> error.add(one)
    >>> error.compute()  # the spread is (0 − 1)² + (2 − 1)² = 2, the difference 2
    1.0
    """

    count: float = 0.0
    total: Float[np.ndarray, " c"] | float = 0.0
    squares: float = 0.0
    error: float = 0.0

    def add(self, sums: Sums, mask: np.ndarray | None = None) -> None:
        """Adds examples; those whose mask is 0 count for nothing."""
        known = slice(None) if mask is None else mask > 0
        count, mean, spread, error = (np.asarray(part, np.float64)[known] for part in sums)
        self.count += count.sum()
        self.total = self.total + count @ mean
        self.squares += spread.sum() + count @ np.square(mean).sum(-1)
        self.error += error.sum()

    def compute(self) -> float:
        """The error; NaN if no place counted, 0 of a layer that never changes, infinite of one that only movement
        changes.
        """
        if not self.count:
            return math.nan
        spread = self.squares - np.square(self.total).sum() / self.count
        # What rounding leaves of a constant layer's spread is none.
        spread = spread if spread > 1e-12 * self.squares else 0.0
        if not spread:
            return math.inf if self.error else 0.0
        return math.sqrt(self.error / spread)
