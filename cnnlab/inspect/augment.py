"""What augmentation makes of pictures: each kind beside the original, boxes, points and segmentations along with it."""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from ml_collections import ConfigDict

from cnnlab.data import augment, colour, distort
from cnnlab.data.augment import Augment, keys_of
from cnnlab.data.draws import Batch
from cnnlab.data.named_augmentations import bend_fields
from cnnlab.inspect.subject import Subject
from cnnlab.rngs import stream_key


def grid(augmentation: Augment, batch: Batch, rng: Key[Array, ""], copies: int) -> dict[str, Array]:
    """Each example of a batch augmented several times, each time with a key of its own.

    Every array of the result has the shape (examples, copies, …). The keys are those of a step with key `rng` and a
    batch in which each example comes `copies` times.
    """
    n = len(batch["image"])
    many = {name: jnp.repeat(jnp.asarray(array), copies, 0) for name, array in batch.items()}
    results = augmentation(keys_of(rng, jnp.arange(n * copies)), many)
    return {name: array.reshape(n, copies, *array.shape[1:]) for name, array in results.items()}


def examples(batch: Batch) -> dict[str, Augment]:
    """Every augmentation that suits a batch, by name, with parameters that suit the size of its pictures.

    Those of colour only for RGB; 1 and 7 are distorted gently where there are labels. Random ones that change half of
    the pictures elsewhere change all here, and ranges are wide, so that it is seen what they do.

    >>> list(examples({"image": jnp.zeros((1, 28, 28, 1), jnp.uint8)}))[:3]
    ['horizontal flip', 'vertical flip', 'random crop']
    """
    height, width, channels = batch["image"].shape[1:]
    side = min(height, width)
    part = max(1, 7 * side // 8)
    fields = bend_fields(side)
    gentle = {"gentle": (1, 7) if "label" in batch else ()}
    shapes = {
        "horizontal flip": functools.partial(augment.horizontal_flip, probability=1),
        "vertical flip": functools.partial(augment.vertical_flip, probability=1),
        "random crop": functools.partial(augment.random_crop, size=part),
        "random crop, padded": functools.partial(augment.random_crop, size=side, padding=side // 8),
        "random resized crop": functools.partial(augment.random_resized_crop, size=part),
        "scale jitter": functools.partial(augment.scale_jitter, size=part, shorter=(side, 2 * side)),
        "translation": distort.translation,
        "rotation": distort.rotation,
        "scaling": distort.scaling,
        "affine distortion": functools.partial(distort.affine_distortion, **gentle),
        "elastic distortion": functools.partial(distort.elastic, **fields),
        "affine and elastic": functools.partial(distort.handwriting_distortion, **fields, **gentle),
        "cutout": functools.partial(augment.cutout, size=max(1, side // 4), fill=(128,)),
    }
    grey = {"brightness and contrast": functools.partial(colour.colour_jitter, saturation=(1, 1), hue=(0, 0))}
    colours = {
        "grayscale": functools.partial(colour.grayscale, probability=1),
        "colour jitter": colour.colour_jitter,
        "principal colour noise": colour.colour_noise,
    }
    return {**shapes, **grey, **(colours if channels == 3 else {})}


def _draw(axes: Axes, example: Mapping[str, np.ndarray]) -> None:
    picture = example["image"]
    height, width = picture.shape[:2]
    shown = picture.squeeze(-1) if picture.shape[-1] == 1 else picture
    # Edges, not centres, are whole numbers, as in boxes and points.
    axes.imshow(shown, cmap="gray", vmin=0, vmax=255, extent=(0, width, height, 0))
    if "segmentation" in example:
        labels = np.ma.masked_equal(example["segmentation"], 0) % 20  # 0 is the background
        axes.imshow(labels, cmap="tab20", vmin=0, vmax=19, alpha=0.5, extent=(0, width, height, 0))
    for x0, y0, x1, y1 in example.get("boxes", ()):
        if x1 > x0 and y1 > y0:
            axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, color="tab:orange"))
    if "points" in example:
        axes.scatter(*example["points"].T, s=12, color="tab:red")
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.axis("off")


def figure(
    batch: Batch, rng: Key[Array, ""], copies: int = 6, augmentations: Mapping[str, Augment] | None = None
) -> Figure:
    """A row an augmentation, under its name: an example as it is, then `copies` of what becomes of it.

    Args:
      batch: with "image"; "boxes", "points" and "segmentation" are drawn too. Rows take its examples in turn.
      rng: what the draws come from.
      copies: of each example.
      augmentations: by name; by default all of `examples`.
    """
    augmentations = examples(batch) if augmentations is None else augmentations
    rows, columns = len(augmentations), copies + 1
    drawn = Figure(figsize=(max(1.4 * columns, 5), 1.6 * max(rows, 1) + 0.5), layout="constrained")
    drawn.suptitle("Augmentation: on the left the original")
    for row, (name, augmentation) in enumerate(augmentations.items()):
        place = row % len(batch["image"])
        one = {key: jnp.asarray(array)[place : place + 1] for key, array in batch.items()}
        make = jax.jit(functools.partial(grid, augmentation, copies=copies))
        results = jax.device_get(make(one, jax.random.fold_in(rng, row)))
        for column in range(columns):
            axes = drawn.add_subplot(rows, columns, row * columns + column + 1)
            source = one if column == 0 else {key: array[0, column - 1 :] for key, array in results.items()}
            _draw(axes, {key: np.asarray(array[0]) for key, array in source.items()})
            if column == 0:
                axes.set_title(name, fontsize=8, loc="left")
    return drawn


def marked(found: Mapping[str, np.ndarray]) -> dict[str, Array]:
    """What of a training batch is drawn: the pictures, and what is marked on them or named.

    Patches, of which a batch has several a picture (n, k, h, w, c), follow each other.
    """
    fields = ("image", "boxes", "size") if "boxes" in found else ("image", "label", "segmentation", "size")
    batch = {name: jnp.asarray(found[name]) for name in fields if name in found}
    if batch["image"].ndim == 5:
        batch = {name: array.reshape(-1, *array.shape[2:]) for name, array in batch.items()}
    return batch


def draw(subject: Subject, options: ConfigDict) -> dict[str, Figure]:
    """Training pictures, and what each kind of augmentation makes of them; the experiment's own comes first."""
    experiment = subject.experiment
    batch = marked(next(subject.examples(16, train=True)))
    own = getattr(experiment.task, "augment", None)
    kinds = {**({f"{experiment.name}'s own": own} if own else {}), **examples(batch)}
    return {"augment": figure(batch, stream_key(experiment.seed, "augment"), augmentations=kinds)}
