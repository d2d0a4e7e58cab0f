"""Whether a network relates the parts of different pictures to one another: does hiding a part do the same in each?

Zeiler, Fergus 2013, section 4.3, figure 8 and table 1. A part, the left eye say, is hidden in every picture. What that
changes in a layer's features is compared between the pictures, by its signs, and with what random masks change.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree, Real, UInt8
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from ml_collections import ConfigDict

from cnnlab.errors import UserError
from cnnlab.inspect.layers import check_layers, class_number, run, shapes
from cnnlab.inspect.masks import covered, paint, seen_window
from cnnlab.inspect.occlusion import COLOURS, last_features
from cnnlab.inspect.parts import boxes_of_files, random_boxes, thirds, written_parts
from cnnlab.inspect.subject import Subject
from cnnlab.transfer import patterns


def sign_distances(changes: Float[Array, "n d"]) -> Float[Array, "n n"]:
    """The normalised Hamming distance between the signs of any two rows: the share of places where they differ.

    Signs are −1, 0 and 1; 0 is the sign of a feature that the mask leaves as it is.

    >>> sign_distances(jnp.array([[1.0, -2.0, 0.0, 4.0], [3.0, 2.0, 0.0, 0.0]]))[0, 1].item()
    0.5
    """
    # A one for each row's own sign: the product of two rows counts where they agree, without an array of n × n × d.
    signs = jnp.sign(changes)[..., None] == jnp.array([-1.0, 0.0, 1.0])
    flat = signs.reshape(len(changes), -1).astype(jnp.float32)
    return 1 - flat @ flat.T / changes.shape[1]


def correspondence(
    model: nn.Module,
    variables: PyTree,
    pictures: Real[Array, "n h w c"],
    boxes: Int[Array, "m n 4"],
    *,
    layers: Sequence[str],
    preprocess: Callable[[Array], Array],
    colour: Real[Array, " c"],
) -> dict[str, Float[np.ndarray, "m pairs"]]:
    """How differently a mask changes each two of the pictures, by layer.

    ε_i = f(x_i) − f(x_i masked), where f is the layer's output after a ReLU; given for each mask and each two pictures
    i < j is the normalised Hamming distance of sign ε_i and sign ε_j. Their mean is the paper's Δ, which sums over
    the pairs. It is low where the network relates what is hidden in one picture to what is hidden in the others.

    Args:
      model: the network.
      variables: its variables.
      pictures: stored ones, 0 to 255, at least two.
      boxes: what each of m masks hides of each picture: y0, x0, y1, x1 in stored pixels, without the last.
      layers: their paths, "pool5" or "conv2_1/conv1".
      preprocess: stored pictures → the network's input.
      colour: of the masks.
    """

    @jax.jit
    def features(variables, pictures, boxes):
        found = run(model, variables, preprocess(covered(pictures, boxes, colour)))[1]
        flat = {layer: found[layer].reshape(len(pictures), -1).astype(jnp.float32) for layer in layers}
        return jax.tree.map(jax.nn.relu, flat)

    @jax.jit
    def distances(whole, masked):
        pairs = np.triu_indices(len(pictures), 1)
        return {layer: sign_distances(whole[layer] - masked[layer])[pairs] for layer in layers}

    # Whole pictures go through the same program, with empty boxes: what a mask leaves alone is the same bit for bit.
    whole = features(variables, pictures, jnp.zeros_like(boxes[0]))
    found = [jax.device_get(distances(whole, features(variables, pictures, box))) for box in boxes]
    return {layer: np.stack([one[layer] for one in found]) for layer in layers}


def figure(
    pictures: Sequence[np.ndarray],
    boxes: Mapping[str, Int[np.ndarray, "n 4"]],
    distances: Mapping[str, Float[np.ndarray, "parts pairs"]],
    random: Mapping[str, Float[np.ndarray, "draws pairs"]],
    heading: str,
) -> Figure:
    """Pictures with their parts above, and below for each layer a bar a part, beside the random masks' band.

    Args:
      pictures: (h, w, 1 or 3), stored ones; the first six are drawn.
      boxes: of each part, a row for each picture.
      distances: by layer, of each part and each two pictures.
      random: likewise, of each draw of random masks.
      heading: of the whole.
    """
    shown = list(pictures[:6])
    bars = 0.28 * (len(boxes) + 1) + 0.9
    drawn = Figure(figsize=(max(12, 4 * len(distances)), 3 + bars), layout="constrained")
    drawn.suptitle(heading)
    above, below = drawn.subfigures(2, 1, height_ratios=(2.2, bars))
    colours = [COLOURS[i % len(COLOURS)] for i in range(len(boxes))]
    for i, axes in enumerate(above.subplots(1, len(shown), squeeze=False)[0]):
        height, width, channels = shown[i].shape
        picture = shown[i].mean(-1) if channels == 1 else shown[i]
        axes.imshow(picture, cmap="gray", vmin=0, vmax=255, extent=(0, width, height, 0))
        axes.tick_params(labelsize=7)
        for colour, part in zip(colours, boxes.values(), strict=True):
            y0, x0, y1, x1 = part[i]
            # A line drawn inwards, so that boxes side by side are both seen.
            line = 0.008 * max(height, width)
            axes.add_patch(
                Rectangle(
                    (x0 + line, y0 + line),
                    x1 - x0 - 2 * line,
                    y1 - y0 - 2 * line,
                    fill=False,
                    edgecolor=colour,
                    linewidth=1.5,
                )
            )
    for axes, (layer, of_parts) in zip(
        below.subplots(1, len(distances), sharey=True, squeeze=False)[0], distances.items(), strict=True
    ):
        draws, names = random[layer].mean(1), [*boxes, "random places"]
        rows = [*of_parts, random[layer].ravel()]
        means, spreads = [row.mean() for row in rows], [row.std() for row in rows]
        axes.axvspan(draws.mean() - draws.std(), draws.mean() + draws.std(), color="0.85", zorder=0)
        axes.axvline(draws.mean(), color="0.5", linewidth=1, zorder=1)
        axes.barh(names, means, xerr=spreads, color=[*colours, "0.5"], error_kw={"elinewidth": 1, "capsize": 2})
        axes.set_ylim(len(names) - 0.5, -0.5)  # the first part on top
        axes.set(title=layer, xlabel="Δ, share of features whose change has another sign")
    return drawn


def draw(subject: Subject, options: ConfigDict) -> dict[str, Figure]:
    """Correspondence of the parts that config.correspondence.parts names, in what the network sees of the pictures.

    The pictures are the user's own, or config.pictures of the test set of one class: that of config.labels, or of the
    set's first picture. Layers are those of config.layers, or the last with maps and the last without before the
    output, as the paper's layers 5 and 7 are.

    Raises:
      UserError: there are fewer than two pictures; a part, layer or class is not there; an option is out of range.
    """
    own, task = options.correspondence, subject.experiment.task
    if own.draws < 2:
        raise UserError(f"config.correspondence.draws is {own.draws}; it must be 2 or more, to have a spread")
    found = shapes(subject.model, subject.variables, subject.x)
    layers = patterns(options.layers) or last_features(found)
    check_layers(layers, found)
    pictures, what = _pictures(subject, options)
    if len(pictures) < 2:
        raise UserError(f"correspondence is between pictures: it needs two or more, and there is 1 {what}")
    y0, x0, y1, x1 = seen_window(task.preprocess, subject.experiment.picture_shape)
    corner, height, width = np.array([y0, x0, y0, x0]), y1 - y0, x1 - x0
    if own.parts.strip().endswith(".json"):
        if not subject.files:
            raise UserError(
                f"config.correspondence.parts={own.parts} has boxes for files of pictures: name those with --input"
            )
        path = Path(own.parts.strip()).expanduser()
        parts = boxes_of_files(path, subject.files, subject.experiment.read_picture)
        parts = {name: np.clip(boxes - corner, 0, [height, width] * 2) for name, boxes in parts.items()}
        for name, boxes in parts.items():
            for file, box in zip(subject.files, boxes, strict=True):
                if not (box[:2] < box[2:]).all():
                    raise UserError(f'{path}: part "{name}" of {file.name} lies in what is cut off for this network')
    else:
        named = written_parts(own.parts, height, width) or thirds(height, width)
        parts = {name: np.tile(box, (len(pictures), 1)) for name, box in named.items()}
    masks = np.stack(list(parts.values()))
    places = random_boxes(np.random.default_rng(own.seed), masks, height, width, own.draws)
    shown = pictures[:, y0:y1, x0:x1]
    distances = correspondence(
        subject.model,
        subject.variables,
        jnp.asarray(pictures),
        jnp.asarray(np.concatenate([masks, places]) + corner),
        layers=layers,
        preprocess=task.preprocess,
        colour=jnp.asarray(paint(own.fill, shown, "config.correspondence.fill")),
    )
    of_parts = {layer: rows[: len(masks)] for layer, rows in distances.items()}
    of_places = {layer: rows[len(masks) :] for layer, rows in distances.items()}
    for layer in layers:
        for name, row in [*zip(parts, of_parts[layer], strict=True), ("random places", of_places[layer])]:
            print(f"{layer:12} {name:16} {row.mean():.4f} ± {row.std():.4f}", flush=True)
    heading = (
        f"Does hiding a part change the same features in each of {len(pictures)} pictures {what}? "
        f"Lower: more alike.\nBars: mean and standard deviation over pairs of pictures. "
        f"Band: mean and standard deviation of {own.draws} draws of random places."
    )
    return {"correspondence": figure(list(shown), parts, of_parts, of_places, heading)}


def _pictures(subject: Subject, options: ConfigDict) -> tuple[UInt8[np.ndarray, "n h w c"], str]:
    """The pictures, and which they are."""
    if subject.files:
        return subject.pictures, "of --input"
    label = int(subject.labels[0])
    if options.labels:
        label = class_number(options.labels, subject.class_names)
    chosen: list[np.ndarray] = []
    for batch in subject.examples(sys.maxsize):
        good = (batch["label"] == label) & (batch.get("mask", 1) != 0)
        chosen.extend(batch["image"][good])
        if len(chosen) >= options.pictures:
            break
    name = f"of class {subject.class_names[label]}"
    if not chosen:
        raise UserError(f"the test set has no picture {name}")
    return np.stack(chosen[: options.pictures]), name
