"""What a layer keeps of a picture: another picture, found from noise, to which the layer answers alike.

Mahendran, Vedaldi 2014 ("Understanding deep image representations by inverting them"): x minimises

    ‖Φ(x) − Φ₀‖² / ‖Φ₀‖² + λ_α · R_α(x) + λ_V · R_V(x)

where Φ is the layer's output, Φ₀ that of the picture, and the regularisers prefer what looks like a picture.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from cnnlab.data.draws import Number
from cnnlab.errors import UserError
from cnnlab.inspect.layers import check_layers, run, shapes, spread
from cnnlab.inspect.maximise import input_ends, noise
from cnnlab.inspect.subject import Subject
from cnnlab.rngs import stream_key
from cnnlab.transfer import patterns


def alpha_norm(x: Float[Array, "n h w c"], alpha: Number = 6.0) -> Float[Array, " n"]:
    """R_α: Σ |x|^α of each picture, which keeps its numbers small. 6 is the paper's α.

    >>> alpha_norm(jnp.array([1.0, -2.0]).reshape(1, 1, 2, 1)).tolist()
    [65.0]
    """
    return (jnp.abs(x) ** alpha).sum((1, 2, 3))


def total_variation(x: Float[Array, "n h w c"], beta: Number = 2.0) -> Float[Array, " n"]:
    """R_V^β: Σ ((x right of it − x)² + (x below it − x)²)^(β/2) over the pixels and channels of each picture.

    At the right and lower edges the difference that there is none of counts as 0. The paper takes β = 2, where lines
    are blurred, and β = 1, where they are sharp but single pixels stick out.

    >>> total_variation(jnp.array([[0.0, 3.0], [4.0, 4.0]])[None, :, :, None]).tolist()
    [26.0]
    """
    across = jnp.pad(jnp.diff(x, axis=2), ((0, 0), (0, 0), (0, 1), (0, 0)))
    down = jnp.pad(jnp.diff(x, axis=1), ((0, 0), (0, 1), (0, 0), (0, 0)))
    squares = across**2 + down**2
    # Where there is no difference a power below 1 has no gradient: 0 is taken.
    flat = squares == 0
    return jnp.where(flat, 0.0, jnp.where(flat, 1.0, squares) ** (beta / 2)).sum((1, 2, 3))


def distance(code: Float[Array, "n ..."], target: Float[Array, "n ..."]) -> Float[Array, " n"]:
    """‖code − target‖² / ‖target‖² of each picture, the paper's loss: 0 where they are equal, 1 where the code is 0.

    >>> distance(jnp.array([[3.0, 3.0]]), jnp.array([[3.0, 4.0]])).tolist()
    [0.03999999910593033]
    """
    axes = tuple(range(1, target.ndim))
    return jnp.square(code - target).sum(axes) / jnp.maximum(jnp.square(target).sum(axes), 1e-30)


@dataclasses.dataclass(frozen=True)
class Weights:
    """What the regularisers count beside the loss, and their powers.

    The pictures that they see go from −1 (black) to 1 (white), and their sums are divided by the count of numbers, as
    the paper's weights are by the picture's size and range: so the same weights suit networks of all kinds. The weights
    are ours, chosen by eye; the paper changes λ_V from layer to layer.

    Attributes:
      norm: λ_α.
      variation: λ_V: more blurs, less leaves noise.
      alpha, beta: the powers; these are the paper's.
    """

    norm: Number = 0.01
    variation: Number = 0.1
    alpha: Number = 6.0
    beta: Number = 2.0


def invert(
    model: nn.Module,
    variables: PyTree,
    target: Float[Array, "n ..."],
    layer: str,
    start: Float[Array, "n h w c"],
    ends: Float[Array, "2 c"],
    weights: Weights = Weights(),
    steps: int = 300,
    rate: Number = 0.05,
) -> tuple[Float[Array, "n h w c"], Float[Array, " n"]]:
    """Pictures to which a layer answers as it should, and `distance` of its answers from that.

    All pictures are found at once, and each by itself. The steps are ours: Adam's, their length falling to 0 along a
    cosine; the paper descends with momentum.

    Args:
      model: the network.
      variables: its variables.
      target: Φ₀, what the layer should give, one a picture.
      layer: its path.
      start: network inputs to begin with.
      ends: the least and the greatest input of each channel, black and white.
      weights: of the regularisers.
      steps: of descent.
      rate: of the first step, in halves of the way from black to white.

    Raises:
      UserError: there is no such layer.
    """
    low, high = ends
    u = (2 * start - low - high) / (high - low)
    state = optax.scale_by_adam().init(u)
    for step in range(steps):
        now = jnp.float32(rate * 0.5 * (1 + math.cos(math.pi * step / steps)))
        u, state = _step(model, variables, target, layer, u, state, ends, weights, now)
    x = _input(u, ends)
    return x, distance(layer_output(model, variables, x, layer), target)


@functools.partial(jax.jit, static_argnums=(0, 3))
def layer_output(model: nn.Module, variables: PyTree, x: Float[Array, "n h w c"], layer: str) -> Float[Array, "n ..."]:
    """What one layer gives; arguments as of `invert`."""
    found = run(model, variables, x)[1]
    check_layers([layer], found)
    return found[layer].astype(jnp.float32)


def _input(u: Array, ends: Array) -> Array:
    """From −1 … 1 to the network's input."""
    low, high = ends
    return (low + high + (high - low) * u) / 2


@functools.partial(jax.jit, static_argnums=(0, 3, 7))
def _step(
    model: nn.Module,
    variables: PyTree,
    target: Array,
    layer: str,
    u: Array,
    state: optax.OptState,
    ends: Array,
    weights: Weights,
    rate: Array,
) -> tuple[Array, optax.OptState]:
    numbers = math.prod(u.shape[1:])

    def objective(u: Array) -> Array:
        away = distance(layer_output(model, variables, _input(u, ends), layer), target)
        norm = weights.norm * alpha_norm(u, weights.alpha) / numbers
        return (away + norm + weights.variation * total_variation(u, weights.beta) / numbers).sum()

    updates, state = optax.scale_by_adam().update(jax.grad(objective)(u), state)
    return u - rate * updates, state


def figure(
    pictures: Float[np.ndarray, "n h w c"],
    titles: Sequence[str],
    found: Mapping[str, tuple[Float[np.ndarray, "n h w c"], Float[np.ndarray, " n"]]],
) -> Figure:
    """A row a picture: itself, then what was found from each layer's answer to it.

    Args:
      pictures: for the eye, 0 to 1.
      titles: of each.
      found: by layer, the pictures found, 0 to 1, and their `distance`.
    """
    rows, columns = len(pictures), 1 + len(found)
    drawn = Figure(figsize=(max(1.7 * columns, 5), 2.0 * rows + 0.8), layout="constrained")
    drawn.suptitle(
        "What each layer keeps of a picture: another to which it answers alike,\nand how far its answer is off"
    )
    for row in range(rows):
        tiles = [(pictures[row], titles[row])]
        for layer, (others, distances) in found.items():
            error = f"off by {math.sqrt(distances[row]):.1%}"
            tiles.append((others[row], f"{layer}\n{error}" if row == 0 else error))
        for column, (picture, title) in enumerate(tiles):
            axes = drawn.add_subplot(rows, columns, row * columns + column + 1)
            axes.imshow(picture.squeeze(-1) if picture.shape[-1] == 1 else picture, cmap="gray", vmin=0, vmax=1)
            axes.set_title(title, fontsize=8)
            axes.set(xticks=[], yticks=[])
    return drawn


def draw(subject: Subject, options: ConfigDict) -> dict[str, Figure]:
    """The pictures found again from the answers of config.layers, or of some spread over the network.

    Raises:
      UserError: there is no such layer; a field of config.inversion is out of its range.
    """
    settings = options.inversion
    for name, least in (("steps", 1), ("norm", 0), ("variation", 0)):
        if settings[name] < least:
            raise UserError(f"config.inversion.{name} is {settings[name]}; it must be {least} or more")
    model, variables, x, ends = subject.model, subject.variables, subject.x, input_ends(subject)
    known = shapes(model, variables, x)
    check_layers(patterns(options.layers), known)
    start = noise(stream_key(subject.experiment.seed, "inversion"), len(x), x.shape[1:], ends)
    found = {}
    for layer in patterns(options.layers) or spread([name for name in known if "/" not in name]):
        target = layer_output(model, variables, x, layer)
        weights = Weights(settings.norm, settings.variation)
        other, away = invert(model, variables, target, layer, start, ends, weights, settings.steps)
        found[layer] = (subject.shown(other), np.asarray(away))
        mean = float(jnp.sqrt(away).mean())
        print(f"{layer:24} {math.prod(target.shape[1:]):9,} numbers, off by {mean:.1%} on average", flush=True)
    return {"inversion": figure(subject.shown(x), subject.titles, found)}
