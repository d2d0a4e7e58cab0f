"""What a network needs of a picture: a grey square hides each part in turn, and what the network says is mapped.

Zeiler, Fergus 2013, section 4.2 and figure 7. Squares are laid out so that every pixel is hidden equally often. One
picture of 224×224 under AlexNet, 1,089 squares, takes 24 s on two CPU cores (AMD EPYC), compilation included.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree, Real
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from ml_collections import ConfigDict

from cnnlab.errors import UserError
from cnnlab.inspect.layers import channel_numbers, check_channels, check_layers, class_number, maps_of, run, shapes
from cnnlab.inspect.masks import covered, paint, seen_window
from cnnlab.inspect.subject import Subject
from cnnlab.transfer import patterns

COLOURS = ("C0", "C1", "C2", "C3", "C4", "C6", "C8", "C9", "C5")  # matplotlib's own but for its grey
OTHERS = "0.6"  # grey: of classes beyond those


class OcclusionMaps(NamedTuple):
    """What a network says of pictures with a square hidden, by the square's place.

    Attributes:
      probability: of one class a picture, from 0 to 1.
      predicted: the likeliest class.
      activity: of one feature map a picture, the sum of its positive values over all its places.
    """

    probability: Float[np.ndarray, "n rows columns"]
    predicted: Int[np.ndarray, "n rows columns"]
    activity: Float[np.ndarray, "n rows columns"]


class Squares(NamedTuple):
    """Where squares lie: one at every pair of a first row and a first column.

    Attributes:
      tops, lefts: first rows and columns, evenly apart, in pixels; they may lie outside the picture.
      size: height and width.
      stride: pixels from one to the next.
    """

    tops: Int[np.ndarray, " rows"]
    lefts: Int[np.ndarray, " columns"]
    size: int
    stride: int

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, bottom and top of a map in which each square's value lies round the square's middle."""
        left, right, top, bottom = (
            ends[place] + (self.size + side * self.stride) / 2
            for ends in (self.lefts, self.tops)
            for place, side in ((0, -1), (-1, 1))
        )
        return left, right, bottom, top


def starts(length: int, size: int, stride: int) -> Int[np.ndarray, " places"]:
    """The first pixels of squares along one side of a picture, `stride` apart and the same at both ends.

    There are all squares that reach into the picture, those too that reach over its border. So each pixel lies in
    size / stride squares, and if the stride does not divide the size, in the whole number below or above.

    Args:
      length: of the picture's side.
      size: of the squares.
      stride: at most `size`.

    >>> starts(6, 2, 1).tolist()  # pixel 0 lies in the squares from -1 and 0, pixel 5 in those from 4 and 5
    [-1, 0, 1, 2, 3, 4, 5]
    """
    count = (length + size - 1) // stride
    first = (length - size + stride - count * stride) // 2
    return first + stride * np.arange(count)


def summed_activity(output: Real[Array, "n *places c"]) -> Float[Array, "n c"]:
    """How strong each feature map of a layer is: the sum over all places of what a ReLU lets through."""
    return jnp.maximum(output.astype(jnp.float32), 0).sum(range(1, output.ndim - 1))


def last_features(shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """The last layer with feature maps larger than a pixel, and the last without maps before the output.

    Args:
      shapes: of the layers' outputs, in the order of the network. It may lack one of the two.

    >>> last_features({"conv1": (1, 8, 8, 4), "conv2": (1, 4, 4, 4), "fc3": (1, 9), "fc4": (1, 3)})
    ['conv2', 'fc3']
    """
    vectors = [name for name, shape in shapes.items() if "/" not in name and len(shape) == 2]
    hidden = [name for name in vectors if name != list(shapes)[-1]]
    return [*list(maps_of(shapes, ()))[-1:], *hidden[-1:]]


def occlusion_maps(
    model: nn.Module,
    variables: PyTree,
    pictures: Real[Array, "n h w c"],
    classes: Int[Array, " n"],
    channels: Int[Array, " n"],
    *,
    layer: str,
    preprocess: Callable[[Array], Array],
    squares: Squares,
    colour: Real[Array, " c"],
    batch_size: int,
) -> OcclusionMaps:
    """Hides a square at every place of every picture, and maps what the network says then.

    Args:
      model: the network.
      variables: its variables.
      pictures: stored ones, 0 to 255.
      classes: whose probability is mapped, one a picture.
      channels: the feature map of `layer` whose activity is, one a picture.
      layer: its path; of one without maps, its units are taken for maps of a pixel each.
      preprocess: stored pictures → the network's input.
      squares: where they lie in the stored pictures.
      colour: that they are painted in.
      batch_size: occluded pictures that are computed at a time; they are made on the device, by one program.
    """

    @jax.jit
    def step(variables, pictures, which, corners):
        x = preprocess(covered(pictures[which], jnp.concatenate([corners, corners + squares.size], 1), colour))
        logits, found = run(model, variables, x)
        own = jnp.take_along_axis(jax.nn.softmax(logits), classes[which][:, None], 1)[:, 0]
        activity = jnp.take_along_axis(summed_activity(found[layer]), channels[which][:, None], 1)[:, 0]
        return own, jnp.argmax(logits, -1), activity

    grid = (len(pictures), len(squares.tops), len(squares.lefts))
    which, row, column = (index.ravel() for index in np.indices(grid))
    corners = np.stack([squares.tops[row], squares.lefts[column]], 1)
    batch_size = min(batch_size, len(which))
    outputs = []
    for start in range(0, len(which), batch_size):
        # The last batch begins anew with the first squares, so that one compiled program serves all.
        now = np.arange(start, start + batch_size) % len(which)
        outputs.append(jax.device_get(step(variables, pictures, jnp.asarray(which[now]), jnp.asarray(corners[now]))))
    return OcclusionMaps(*(np.concatenate(x)[: len(which)].reshape(grid) for x in zip(*outputs, strict=True)))


def square(options: ConfigDict, side: int) -> tuple[int, int]:
    """The size and the stride of the squares in pixels, from `options.size` and `options.stride`, 0 where not given.

    The paper's are 50 and 8 of pictures of 224. Here the size is the multiple of the stride next to that share, 48
    of 224, so that all pixels are hidden exactly as often.

    Args:
      options: of occlusion.
      side: the shorter one of what the network sees, in pixels.

    >>> square(ConfigDict({"size": 0, "stride": 0}), 224), square(ConfigDict({"size": 0, "stride": 0}), 28)
    ((48, 8), (6, 1))

    Raises:
      UserError: they are out of range.
    """
    if not 0 <= options.size <= side:
        raise UserError(
            f"config.occlusion.size is {options.size}; the square must fit into what the network sees, 1 to {side} "
            "pixels, or 0 for a suitable size"
        )
    stride = options.stride or max(1, round(8 * side / 224))
    if options.size and not options.stride:
        stride = min(stride, options.size)
    times = max(1, round(50 * side / 224 / max(1, stride)))
    size = options.size or min(side, max(1, stride) * times)
    if not 1 <= stride <= size:
        raise UserError(
            f"config.occlusion.stride is {stride}; it must be 1 to {size}, the square's size, or pixels would be left "
            "out, or 0 for a suitable one"
        )
    return size, stride


def figure(
    pictures: Sequence[np.ndarray],
    titles: Sequence[str],
    maps: OcclusionMaps,
    subtitles: Sequence[tuple[str, str]],
    squares: Squares,
    class_names: Sequence[str],
    heading: str,
) -> Figure:
    """A row a picture: itself, the probability over it, the classes predicted, the feature map's activity.

    Args:
      pictures: (h, w, 1 or 3), stored ones; the squares' places are pixels of theirs.
      titles: of the pictures.
      maps: of `occlusion_maps`.
      subtitles: for each picture, of its probability and of its activity.
      squares: of the maps.
      class_names: in the order of the labels.
      heading: of the whole.
    """
    colours = class_colours(maps.predicted)
    drawn = Figure(figsize=(16, 3.5 * len(pictures) + 0.9), layout="compressed")
    drawn.suptitle(heading)
    for i, row in enumerate(drawn.subplots(len(pictures), 4, squeeze=False)):
        for axes in row:
            _picture(axes, pictures[i], squares, pale=axes is not row[0])
        row[0].set_title(titles[i], fontsize=10)
        row[0].add_patch(Rectangle((0, 0), squares.size, squares.size, fill=False, edgecolor="tab:orange", linewidth=2))
        for axes, values, subtitle in zip(
            row[1::2], (maps.probability[i], maps.activity[i]), subtitles[i], strict=True
        ):
            over = axes.imshow(values, cmap="turbo", alpha=0.65, extent=squares.extent)
            drawn.colorbar(over, ax=axes)
            axes.set_title(subtitle, fontsize=10)
        row[1].images[-1].set_clim(0, maps.probability[i].max() or 1)
        _classes(row[2], maps.predicted[i], colours, squares, class_names)
    return drawn


def _picture(axes: Axes, picture: np.ndarray, squares: Squares, pale: bool) -> None:
    height, width, channels = picture.shape
    shown = picture.mean(-1) if pale or channels == 1 else picture
    # Under the colours of a map, where light and dark would be taken for high and low, a picture is light all over.
    shown = 150 + shown * (105 / 255) if pale else shown
    axes.imshow(shown, cmap="gray", vmin=0, vmax=255, extent=(0, width, height, 0))
    left, right, bottom, top = squares.extent
    axes.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[], facecolor="0.85")
    axes.set_autoscale_on(False)
    axes.add_patch(Rectangle((0, 0), width, height, fill=False, edgecolor="black", linewidth=0.8, zorder=3))


def _classes(
    axes: Axes,
    predicted: Int[np.ndarray, "rows columns"],
    colours: Mapping[int, str],
    squares: Squares,
    class_names: Sequence[str],
) -> None:
    image = np.full((*predicted.shape, 3), to_rgb(OTHERS))
    handles = []
    for label, colour in colours.items():
        share = float(np.mean(predicted == label))
        image[predicted == label] = to_rgb(colour)
        if share:
            handles.append((share, Patch(color=colour, label=f"{class_names[label]} {share:.0%}")))
    handles.sort(key=lambda pair: -pair[0])
    others = float(np.mean(~np.isin(predicted, list(colours))))
    if others:
        handles.append((others, Patch(color=OTHERS, label=f"other classes {others:.0%}")))
    axes.imshow(image, alpha=0.65, extent=squares.extent, interpolation="nearest")
    axes.legend(handles=[patch for _, patch in handles], loc="upper left", bbox_to_anchor=(1, 1), fontsize=8)
    axes.set_title("predicted class", fontsize=10)


def class_colours(predicted: Int[np.ndarray, "n rows columns"]) -> dict[int, str]:
    """Colours for the classes that are predicted most often, as many as there are, the most frequent class first."""
    found, counts = np.unique(predicted, return_counts=True)
    most = found[np.argsort(-counts, kind="stable")].tolist()
    return dict(zip(most, COLOURS, strict=False))


def draw(subject: Subject, options: ConfigDict) -> dict[str, Figure]:
    """Occlusion of the subject's pictures, in what the network sees of them.

    The class is the picture's own, or the one of config.labels. The feature map is the strongest one, without a
    square, of the last layer whose maps are larger than a pixel, or what config.layers and config.channels name; in a
    network without maps it is a unit of the last layer before the output.

    Raises:
      UserError: a layer, feature map or class that there is not, or several; squares out of range.
    """
    pictures, task = subject.pictures, subject.experiment.task
    y0, x0, y1, x1 = seen_window(task.preprocess, subject.experiment.picture_shape)
    size, stride = square(options.occlusion, min(y1 - y0, x1 - x0))
    squares = Squares(starts(y1 - y0, size, stride), starts(x1 - x0, size, stride), size, stride)
    colour = paint(options.occlusion.fill, pictures[:, y0:y1, x0:x1], "config.occlusion.fill")
    layer, channel = _feature_map(subject, options)
    classes = subject.labels
    if options.labels:
        classes = np.full(len(pictures), class_number(options.labels, subject.class_names))

    @jax.jit
    def without(variables, x):
        logits, found = run(subject.model, variables, x)
        return jax.nn.softmax(logits), summed_activity(found[layer])

    probabilities, activity = jax.device_get(without(subject.variables, subject.x))
    channels = activity.argmax(-1) if channel is None else np.full(len(pictures), channel)
    count = len(pictures) * len(squares.tops) * len(squares.lefts)
    heading = f"{size}×{size} squares ({options.occlusion.fill}), stride {stride}, drawn at their middles"
    print(f"{heading}: {count:,} occluded pictures", flush=True)
    maps = occlusion_maps(
        subject.model,
        subject.variables,
        jnp.asarray(pictures),
        jnp.asarray(classes),
        jnp.asarray(channels),
        layer=layer,
        preprocess=task.preprocess,
        squares=squares._replace(tops=squares.tops + y0, lefts=squares.lefts + x0),
        colour=jnp.asarray(colour),
        batch_size=subject.experiment.eval_batch_size,
    )
    titles, subtitles = [], []
    for i, (title, own, map_number) in enumerate(zip(subject.titles, classes, channels, strict=True)):
        predicted = probabilities[i].argmax()
        titles.append(f"{title}\npredicted {subject.class_names[predicted]} ({probabilities[i, predicted]:.0%})")
        subtitles.append(
            (
                f"probability of {subject.class_names[own]}\n{probabilities[i, own]:.3g} in full view",
                f"activity of {layer}, map {map_number}\n{activity[i, map_number]:.3g} in full view",
            )
        )
        low, high = maps.probability[i].min(), maps.probability[i].max()
        print(f"{title}: probability of {subject.class_names[own]} {low:.1%} to {high:.1%} behind squares", flush=True)
    shown = list(pictures[:, y0:y1, x0:x1])
    return {"occlusion": figure(shown, titles, maps, subtitles, squares, subject.class_names, heading)}


def _feature_map(subject: Subject, options: ConfigDict) -> tuple[str, int | None]:
    """The layer and the channel that the options name; no channel: the strongest of each picture."""
    layers, channels = patterns(options.layers), channel_numbers(options.channels)
    for field, given in (("layers", layers), ("channels", channels)):
        if len(given) > 1:
            raise UserError(f"config.{field} names {len(given)}: {', '.join(map(str, given))}; occlusion maps one")
    found = shapes(subject.model, subject.variables, subject.x)
    check_layers(layers, found)
    layer = (layers or last_features(found))[0]
    check_channels(layer, channels, found[layer])
    return layer, channels[0] if channels else None
