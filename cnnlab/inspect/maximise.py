"""What a unit looks for: pictures made from noise so that one class's score, or one feature map, is as high as can be.

Activation maximisation with the regularisers of Yosinski, Clune, Nguyen, Fuchs, Lipson 2015 ("Understanding neural
networks through deep visualization"), section 3: x ← r(x + η · ∂a/∂x), over and over, where r makes x more likely to
be a picture. All units are maximised at once, in one batch: in evaluation mode its pictures know nothing of each other.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from cnnlab import figures
from cnnlab.data.draws import Number
from cnnlab.errors import UserError
from cnnlab.inspect.features import strongest
from cnnlab.inspect.layers import channel_numbers, check_channels, check_layers, class_number, run, shapes
from cnnlab.inspect.patches import cut, field_boxes
from cnnlab.inspect.subject import Subject
from cnnlab.rngs import stream_key
from cnnlab.summary import reaches
from cnnlab.transfer import patterns

MOST = 10  # classes, or feature maps of a layer, that are maximised where none are named


@dataclasses.dataclass(frozen=True)
class Regularisers:
    """The paper's r, in this order; 0 leaves one out. The default is the third row of its table 1.

    Attributes:
      decay: θ_decay; x becomes (1 − decay) · x: towards 0, which is the mean colour where the network subtracts it.
      blur_width: θ_b_width, the standard deviation in pixels of the Gaussian that x is blurred with.
      blur_every: θ_b_every: a blur each so many steps.
      norm_percentile: θ_n_pct; the pixels whose norm over the channels is below this percentile of x's become 0.
      contribution_percentile: θ_c_pct; the same by |Σ x · ∂a/∂x| over the channels, what a would about change by if
        the pixel were 0.
    """

    decay: Number = 1e-4
    blur_width: Number = 1.0
    blur_every: int = 4
    norm_percentile: Number = 0.0
    contribution_percentile: Number = 0.0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("decay", 0, 1),
            ("blur_width", 0, 100),
            ("blur_every", 0, 10**9),
            ("norm_percentile", 0, 100),
            ("contribution_percentile", 0, 100),
        ):
            if not low <= getattr(self, name) <= high:
                raise UserError(f"maximise.{name} is {getattr(self, name)}; it must be from {low} to {high}")


# The rows of the paper's table 1, four styles of picture. Most of its figures are of the third.
TABLE_1 = (
    Regularisers(0.0, 0.5, 4, 50, 0),
    Regularisers(0.3, 0.0, 0, 20, 0),
    Regularisers(0.0001, 1.0, 4, 0, 0),
    Regularisers(0.0, 0.5, 4, 0, 90),
)


def activations(
    model: nn.Module, variables: PyTree, x: Float[Array, "n h w c"], layer: str, units: Int[Array, " n"]
) -> Float[Array, " n"]:
    """The activation of unit i in picture i.

    Args:
      model: the network.
      variables: its variables.
      x: its input.
      layer: its path, "" for the class scores, the logits. Its output as the layer gives it: of a convolution before
        its rectifier.
      units: classes, units of a dense layer, or feature maps; of a map the unit in the middle counts, as in the paper.
        It sees no more of the picture than its receptive field.

    Raises:
      UserError: there is no such layer.
    """
    logits, found = run(model, variables, x)
    if layer:
        check_layers([layer], found)
    output = found[layer] if layer else logits
    for _ in output.shape[1:-1]:
        output = output[:, output.shape[1] // 2]
    return jnp.take_along_axis(output, units[:, None], 1)[:, 0]


def blur(x: Float[Array, "n h w c"], width: Number) -> Float[Array, "n h w c"]:
    """x blurred with a Gaussian of standard deviation `width` pixels; beyond the edge nothing counts.

    >>> blur(jnp.ones((1, 2, 2, 1)), 1.0).ravel().tolist()
    [1.0, 1.0, 1.0, 1.0]
    """

    def along(size: int) -> Array:
        distance = jnp.arange(size)[:, None] - jnp.arange(size)
        bell = jnp.exp(-0.5 * (distance / width) ** 2)
        return bell / bell.sum(1, keepdims=True)

    return jnp.einsum("ij,njkc,lk->nilc", along(x.shape[1]), x, along(x.shape[2]), precision="highest")


def without_least(
    x: Float[Array, "n h w c"], importance: Float[Array, "n h w"], percentile: Number
) -> Float[Array, "n h w c"]:
    """x with 0 at the pixels whose importance is below the percentile of its picture's.

    >>> x = jnp.array([1.0, 2.0, 3.0, 4.0]).reshape(1, 2, 2, 1)
    >>> without_least(x, x[..., 0], 50).ravel().tolist()
    [0.0, 0.0, 3.0, 4.0]
    """
    limit = jnp.percentile(importance, percentile, (1, 2), keepdims=True)
    return jnp.where((importance >= limit)[..., None], x, 0)


@functools.partial(jax.jit, static_argnums=(0, 3, 5))
def _step(
    model: nn.Module,
    variables: PyTree,
    x: Array,
    layer: str,
    units: Array,
    regularisers: Regularisers,
    ends: Array,
    rate: Array,
    blurred: Array,
) -> Array:
    """One ascent."""
    slope = jax.grad(lambda x: activations(model, variables, x, layer, units).sum())(x)
    size = jnp.sqrt(jnp.square(slope).mean((1, 2, 3), keepdims=True))
    low, high = ends
    new = x + rate * (high - low) * slope / jnp.maximum(size, 1e-30)
    new *= 1 - regularisers.decay
    if regularisers.blur_width:
        new = jnp.where(blurred, blur(new, regularisers.blur_width), new)
    if regularisers.norm_percentile:
        new = without_least(new, jnp.sqrt(jnp.square(new).sum(-1)), regularisers.norm_percentile)
    if regularisers.contribution_percentile:
        new = without_least(new, jnp.abs((new * slope).sum(-1)), regularisers.contribution_percentile)
    return jnp.clip(new, low, high)


def maximise(
    model: nn.Module,
    variables: PyTree,
    start: Float[Array, "n h w c"],
    layer: str,
    units: Int[Array, " n"],
    ends: Float[Array, "2 c"],
    regularisers: Regularisers = TABLE_1[2],
    steps: int = 200,
    rate: Number = 0.02,
) -> tuple[Float[Array, "n h w c"], Float[Array, " n"]]:
    """Pictures that excite units, one each, and the activations that they reach.

    The regularisers are the paper's. Ours are the length of a step, the number of steps and the bounds: each gradient
    is divided by its root mean square, so that pixels move by about `rate` of the way from black to white whatever the
    network's scale, and no pixel is darker than black or brighter than white. A unit behind a rectifier that lets
    nothing through has no gradient: its picture stays noise.

    Args:
      model, variables, layer, units: as of `activations`.
      start: network inputs, one a unit.
      ends: the least and the greatest input of each channel, black and white.
      regularisers: what keeps the pictures natural.
      steps: of ascent.
      rate: see above.
    """
    x = start
    every = regularisers.blur_every
    for step in range(steps):
        blurred = jnp.bool_(every > 0 and step % every == 0)
        x = _step(model, variables, x, layer, units, regularisers, ends, jnp.float32(rate), blurred)
    return x, jax.jit(activations, static_argnums=(0, 3))(model, variables, x, layer, units)


def noise(key: Key[Array, ""], count: int, shape: Sequence[int], ends: Float[Array, "2 c"]) -> Float[Array, "n h w c"]:
    """`count` starts of a `shape` (h, w, c): half way between the ends, with normal noise of a tenth of the way."""
    low, high = ends
    return jnp.clip((low + high) / 2 + 0.1 * (high - low) * jax.random.normal(key, (count, *shape)), low, high)


def input_ends(subject: Subject) -> Float[Array, "2 c"]:
    """The least and the greatest network input of each channel: those of a black and a white picture.

    Where preprocessing gives both the same, as contrast normalisation does, those of the subject's pictures.
    """
    flat = jnp.stack([jnp.full(subject.experiment.picture_shape, value, jnp.uint8) for value in (0, 255)])
    found = subject.experiment.task.preprocess(flat)
    if jnp.any(found.max((0, 1, 2)) - found.min((0, 1, 2)) < 1e-6):
        found = subject.x
    return jnp.stack([found.min((0, 1, 2)), found.max((0, 1, 2))])


def draw(subject: Subject, options: ConfigDict) -> dict[str, Figure]:
    """Pictures of classes, or of feature maps where config.layers names layers, a figure each.

    Classes: config.labels; without, all where there are up to `MOST`, else those of the pictures. Feature maps:
    config.channels; without, those that respond most to the pictures. Of a map only what its middle unit sees is drawn.

    Raises:
      UserError: there is no such class, layer or feature map; a field of config.maximise is out of its range.
    """
    settings = options.maximise
    for name in ("steps", "rate"):
        if settings[name] <= 0:
            raise UserError(f"config.maximise.{name} is {settings[name]}; it must be positive")
    fields = [field.name for field in dataclasses.fields(Regularisers)]
    how = Regularisers(**{name: settings[name] for name in fields})
    ends = input_ends(subject)

    def found(layer: str, units: Sequence[int]) -> tuple[Array, Array]:
        key = stream_key(subject.experiment.seed, "maximise")
        start = noise(key, len(units), subject.x.shape[1:], ends)
        unit = jnp.asarray(units)
        return maximise(subject.model, subject.variables, start, layer, unit, ends, how, settings.steps, settings.rate)

    if not options.layers:
        return {"maximise": _of_classes(subject, patterns(options.labels), found)}
    known, layers = shapes(subject.model, subject.variables, subject.x), patterns(options.layers)
    check_layers(layers, known)
    channels = channel_numbers(options.channels)
    for layer in layers:
        check_channels(layer, channels, known[layer])
    return {f"maximise_{layer.replace('/', '_')}": _of_maps(subject, layer, channels, found) for layer in layers}


def _of_classes(subject: Subject, named: Sequence[str], found: Callable) -> Figure:
    names = subject.class_names
    default = range(len(names)) if len(names) <= MOST else sorted(set(subject.labels.tolist()))
    classes = [class_number(name, names) for name in named] or list(default)
    x, scores = found("", classes)
    logits = jax.jit(run, static_argnums=0)(subject.model, subject.variables, x)[0]
    probabilities = np.asarray(jax.nn.softmax(logits))[range(len(classes)), classes]
    titles = []
    for label, score, probability in zip(classes, scores.tolist(), probabilities, strict=True):
        titles.append(f"{names[label]}\nscore {score:.1f} ({probability:.1%})")
        print(f"{names[label]:24} score {score:8.2f}, probability {probability:.1%}", flush=True)
    return _tiles(list(subject.shown(x)), titles, "What gives each class a high score, made from noise")


def _of_maps(subject: Subject, layer: str, channels: Sequence[int], found: Callable) -> Figure:
    output = np.asarray(jax.jit(run, static_argnums=0)(subject.model, subject.variables, subject.x)[1][layer])
    maps = output.reshape(len(output), -1, 1, output.shape[-1])
    chosen = channels or strongest(maps, MOST)
    x, reached = found(layer, chosen)
    places = np.array([[size // 2 for size in output.shape[1:-1]] or [0, 0]] * len(chosen))
    boxes = field_boxes(reaches(subject.model, subject.x.shape)[layer], places, subject.x.shape[1:3])
    titles = []
    for channel, value, natural in zip(chosen, reached.tolist(), maps.max((0, 1, 2))[chosen], strict=True):
        titles.append(f"{channel}: {value:.3g}\non the pictures {natural:.3g}")
        print(f"{layer:24} number {channel:4}: {value:.3g}, on the pictures up to {natural:.3g}", flush=True)
    what = "its feature maps, in the middle" if output.ndim == 4 else "its units"
    heading = f"{layer}: what excites {what}, and how much"
    return _tiles(list(cut(subject.shown(x), boxes, 0.5)), titles, heading)


def _tiles(pictures: Sequence[np.ndarray], titles: Sequence[str], heading: str) -> Figure:
    drawn = figures.contact_sheet(pictures, titles, heading, 5)
    for axes in drawn.axes:  # frames, since what is white ends nowhere
        axes.axis("on")
        axes.set(xticks=[], yticks=[])
    return drawn
