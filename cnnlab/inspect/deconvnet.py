"""The deconvnet: which pixels made a feature map respond. Zeiler, Fergus 2013, section 2.1 and figure 2.

One activation goes back to the pixels through the network reversed: max pooling puts it where the maximum stood,
rectifiers pass what is positive, convolutions filter with their transposed filters. What arrives is a picture of what
the unit saw, shown beside the patch of the input that it saw it in.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict
from jaxtyping import Array, Float, Int, PyTree
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from ml_collections import ConfigDict

from cnnlab.errors import UserError
from cnnlab.inspect.layers import channel_numbers, check_channels, check_layers, run, shapes, spread
from cnnlab.inspect.patches import Strongest, cut, field_boxes, top_activations
from cnnlab.inspect.subject import Subject
from cnnlab.ops.activations import backward_rule
from cnnlab.reach import Reach
from cnnlab.summary import reaches
from cnnlab.transfer import patterns

MOST = 9  # activations of each feature map, 3×3, as in the paper
MAPS = 4  # of a layer that are drawn where none are named
LONGEST = 20  # letters of a picture's title
GREY = 0.5  # a projection's 0, and what lies outside the picture

# Pictures as they are stored, by number, and a title for each.
Reader = Callable[[np.ndarray], tuple[np.ndarray, list[str]]]


def project(
    model: nn.Module, variables: PyTree, x: Float[Array, "n h w c"], layer: str, unit: Int[Array, "n 3"]
) -> Float[Array, "n h w c"]:
    """One activation of each picture, projected down to the network's input.

    It is kept and all others of its layer are set to zero; then the layers follow in reverse under
    `backward_rule("deconvnet")`, which see. Any network will do: where the paper has no rule, for means, sums and
    batch normalisation, signals go the way of the gradient. The paper's feature maps are rectified: a negative
    activation, of a layer before its rectifier, counts as 0 and gives nothing but zeros.

    Args:
      model: the network.
      variables: its variables.
      x: its input.
      layer: whose outputs are feature maps (n, h, w, c), or units (n, c), which count as maps of one pixel.
      unit: row, column and channel in the layer's output, for each picture.

    Returns:
      Positive where the unit wants the input to be larger; 0 where it does not see it.

    Raises:
      UserError: there is no such layer.
    """

    def output(x: Array) -> Array:
        found = run(model, variables, x)[1]
        check_layers([layer], found)
        return found[layer].reshape(len(x), *found[layer].shape[1:-1] or (1, 1), -1)

    with backward_rule("deconvnet"):
        y, down = jax.vjp(output, x)
        place = (jnp.arange(len(x)), *unit.T)
        return down(jnp.zeros_like(y).at[place].set(jnp.maximum(y[place], 0)))[0]


@dataclass(frozen=True)
class FeatureMap:
    """What is drawn of one feature map, the strongest activation first.

    Attributes:
      channel: its number.
      values: the activations.
      projections: of each, its field of the projection, as it comes from `project`.
      patches: of each, its field of the picture, 0 to 1.
      titles: of the pictures.
    """

    channel: int
    values: Float[np.ndarray, " k"]
    projections: Sequence[Float[np.ndarray, "_ _ _"]]
    patches: Sequence[Float[np.ndarray, "_ _ _"]]
    titles: Sequence[str]


def figure(maps: Sequence[FeatureMap], heading: str) -> Figure:
    """As the paper's figure 2: of each feature map the projections, and to their right the patches that caused them.

    Projections are grey at 0, and each is scaled by its own largest value: brighter is what the unit wants more of.
    """
    columns = min(2, len(maps))
    rows = -(-len(maps) // columns)
    drawn = Figure(figsize=(6.4 * columns + 0.2, 3.7 * rows + 0.8), layout="constrained")
    drawn.suptitle(heading, fontsize=11)
    for i, panel in enumerate(drawn.subfigures(rows, columns, squeeze=False).flat[: len(maps)]):
        found = maps[i]
        panel.suptitle(f"feature map {found.channel}", fontsize=10)
        left, right = panel.subplots(1, 2)
        _block(left, [_grey(projection) for projection in found.projections], [f"{v:.3g}" for v in found.values])
        _block(right, found.patches, found.titles)
        left.set_title("projected activations", fontsize=8)
        right.set_title("patches of the input", fontsize=8)
    return drawn


def _grey(projection: np.ndarray) -> np.ndarray:
    """From 0 to 1 with 0 at `GREY`."""
    return GREY + GREY * projection / max(float(np.abs(projection).max()), 1e-30)


def _block(axes: Axes, pictures: Sequence[np.ndarray], titles: Sequence[str]) -> None:
    """Pictures of one size, three in a row, each over its title."""
    height, width = max(picture.shape[0] for picture in pictures), max(picture.shape[1] for picture in pictures)
    gap, line = 0.08 * width, 0.16 * width
    for i, (picture, title) in enumerate(zip(pictures, titles, strict=True)):
        top, left = i // 3 * (height + line + gap), i % 3 * (width + gap)
        shown = picture.squeeze(-1) if picture.shape[-1] == 1 else picture
        axes.imshow(shown, cmap="gray", vmin=0, vmax=1, extent=(left, left + width, top + height, top))
        axes.add_patch(Rectangle((left, top), width, height, fill=False, edgecolor="0.6", linewidth=0.5, clip_on=False))
        short = title if len(title) <= LONGEST else title[: LONGEST - 1] + "…"
        axes.text(left + width / 2, top + height + 0.6 * line, short, ha="center", va="center", fontsize=6)
    axes.set_xlim(0, 3 * width + 2 * gap)
    axes.set_ylim(3 * (height + line) + 2 * gap, 0)
    axes.axis("off")


def draw(subject: Subject, options: ConfigDict) -> dict[str, Figure]:
    """The strongest feature maps of layers spread over the network, or of config.layers and config.channels.

    A figure a layer. The activations are searched among config.examples of the test set, or among the user's pictures.
    """
    preprocess = subject.experiment.task.preprocess
    stored = jax.ShapeDtypeStruct((1, *subject.experiment.picture_shape), jnp.uint8)
    x = jax.eval_shape(preprocess, stored)
    found = shapes(subject.model, subject.variables, x)
    layers = patterns(options.layers) or default_layers(found, subject.variables["params"])
    check_layers(layers, found)
    channels = channel_numbers(options.channels)
    for layer in layers:
        check_channels(layer, channels, found[layer])
    own = {"index": np.arange(len(subject.pictures)), "image": subject.pictures} if subject.files else None
    batches = [own] if own else subject.examples(options.examples)
    inputs = ((batch["index"], preprocess(jnp.asarray(batch["image"]))) for batch in batches)
    strongest = top_activations(subject.model, subject.variables, inputs, layers, MOST)
    fields, read = reaches(subject.model, x.shape), _reader(subject)
    drawn = {}
    for layer in layers:
        top = strongest[layer]
        chosen = channels or np.argsort(-top.values.mean(1), kind="stable")[:MAPS].tolist()
        maps = _feature_maps(subject, read, layer, fields[layer], top, chosen)
        for each in maps:
            print(f"{layer:24} feature map {each.channel:4}  {each.values[0]:.3g} to {each.values[-1]:.3g}", flush=True)
        drawn[f"deconvnet_{layer.replace('/', '_')}"] = figure(
            maps, _heading(layer, found[layer][-1], fields[layer], x.shape[1:3])
        )
    return drawn


def default_layers(found: Mapping[str, tuple[int, ...]], params: PyTree) -> list[str]:
    """A few layers with filters, spread over those that give maps larger than a pixel: the outermost modules,
    so of a residual block the whole. Of a network without any, its hidden fully connected layers.
    """
    weighted = {
        "/".join(path[:i]) for path, leaf in flatten_dict(params).items() if leaf.ndim > 1 for i in range(1, len(path))
    }
    maps = [name for name, shape in found.items() if name in weighted and len(shape) == 4]
    outer = [name for name in maps if not any(name.startswith(f"{other}/") for other in maps)]
    outer = [name for name in outer if found[name][1] * found[name][2] > 1]
    outer = outer or [name for name, shape in found.items() if name in weighted and len(shape) == 2][:-1]
    if not outer:
        raise UserError(f"no layer gives feature maps; config.layers can name others: {', '.join(found)}")
    return spread(outer)


def _feature_maps(
    subject: Subject, read: Reader, layer: str, field: Reach, strongest: Strongest, channels: Sequence[int]
) -> list[FeatureMap]:
    """Reads the pictures again in which the channels' activations were found, and projects these."""
    down = jax.jit(functools.partial(project, subject.model, layer=layer))
    maps = []
    for channel in channels:
        pictures, titles = read(strongest.index[channel])
        x = subject.experiment.task.preprocess(jnp.asarray(pictures))
        places = strongest.places[channel]
        unit = jnp.asarray(np.insert(places, 2, channel, 1))
        boxes = field_boxes(field, places, x.shape[1:3])
        projections = np.asarray(down(variables=subject.variables, x=x, unit=unit))
        patches = cut(subject.shown(x), boxes, GREY)
        maps.append(FeatureMap(channel, strongest.values[channel], cut(projections, boxes, 0.0), patches, titles))
    return maps


def _reader(subject: Subject) -> Reader:
    """Of the user's pictures, or of the test set."""
    if subject.files:
        return lambda index: (subject.pictures[index], [subject.titles[i] for i in index])
    source = subject.experiment.test_data()

    def read(index: np.ndarray) -> tuple[np.ndarray, list[str]]:
        batch = source.batch(index)
        return batch["image"], [subject.class_names[label] for label in batch["label"]]

    return read


def _heading(layer: str, maps: int, field: Reach, size: tuple[int, int]) -> str:
    sizes = [None if axis.dim is None or axis.whole else axis.field.size for axis in field]
    seen = "the whole picture"
    if sizes and None not in sizes:
        larger = any(own >= whole for own, whole in zip(sizes, size, strict=True))
        seen = f"{'×'.join(map(str, sizes))} pixels{f' (the picture has {size[0]}×{size[1]})' if larger else ''}"
    return (
        f"{layer}, {maps} feature maps: each unit sees {seen}\nStrongest activations, one a picture, and their origin"
    )
