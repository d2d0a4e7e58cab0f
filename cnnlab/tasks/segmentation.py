"""Semantic segmentation: a class for each pixel of a picture (Long, Shelhamer, Darrell 2015)."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Integer, Key, PyTree, UInt8
from matplotlib.figure import Figure

from cnnlab import figures
from cnnlab.data import coco
from cnnlab.data.augment import Augment
from cnnlab.data.canvas import cropped
from cnnlab.data.label_maps import VOID, png_of
from cnnlab.data.outlines import polygons_of
from cnnlab.data.segmentation import BACKGROUND, resized_labels
from cnnlab.data.source import Source
from cnnlab.figures import labels as label_figures
from cnnlab.metrics.segmentation import Found, SegmentationMetrics
from cnnlab.state import TrainState
from cnnlab.tasks import supervised

SHEET = 8  # pictures on the contact sheet of a prediction


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """The task of fully convolutional networks.

    Its batches have "image", the "size" of each picture within it, and "segmentation"; see `data/segmentation.py`.

    Attributes:
      model: pictures to the logits of each pixel; in training a tuple with those of an auxiliary head, if it has one.
      optimizer: an optax transformation.
      preprocess: stored pictures → the network's input.
      class_names: in the order of the labels; the background, where there is one, among them.
      augment: `(keys, batch) → batch`, a key an example, in training only; see `data/augment.py`.
      auxiliary_weight: what the auxiliary head's loss counts beside the other (0.5 in torchvision).
      frozen: patterns of layers that stay as they are; see `transfer.py`.
      accumulate: parts that a device's share of a batch is computed in; see `make_train_step`.
    """

    model: nn.Module
    optimizer: optax.GradientTransformation
    preprocess: Callable[[UInt8[Array, "n h w c"]], Float[Array, "n h w c"]]
    class_names: tuple[str, ...]
    augment: Augment | None = None
    auxiliary_weight: float = 0.5
    frozen: tuple[str, ...] = ()
    accumulate: int = 1

    init = supervised.init
    init_optimizer = supervised.init_optimizer
    inputs = supervised.inputs
    train_step = supervised.train_step

    def loss_fn(
        self, params: PyTree, model_state: PyTree, batch: Mapping[str, Array], rng: Key[Array, ""]
    ) -> tuple[Float[Array, ""], tuple[dict[str, Array], PyTree]]:
        """The mean loss of a training batch, its share of wrong pixels, the model's new state; `rng` is the step's."""
        batch = supervised.augmented(self, batch, rng)
        outputs, model_state = supervised.apply_in_training(
            self, params, model_state, batch, rng, self.inputs(batch), train=True
        )
        logits, *auxiliary = outputs if isinstance(outputs, tuple) else (outputs,)
        labels = batch["segmentation"]
        loss = pixel_loss(logits, labels).mean()
        for beside in auxiliary:
            loss += self.auxiliary_weight * pixel_loss(beside, labels).mean()
        wrong = of_pixels(jnp.argmax(logits, -1) != labels, labels).mean()
        return loss, ({"pixel_error": wrong}, model_state)

    def predict_step(self, state: TrainState, batch: Mapping[str, Array]) -> dict[str, Array]:
        """The likeliest class of each pixel of the canvas, "labels", with the "size" of each picture on it and its
        "original" size.
        """
        logits = self.model.apply(state.variables, self.inputs(batch), train=False)
        labels = jnp.argmax(logits, -1).astype(jnp.uint8)
        return {"labels": labels, "size": batch["size"], "original": batch["original"]}

    def eval_step(self, state: TrainState, batch: Mapping[str, Array]) -> dict[str, Array]:
        """What `SegmentationMetrics` adds up, per picture."""
        predicted = self.predict_step(state, batch)["labels"]
        return {
            "mask": batch["mask"],
            "index": batch["index"],
            "size": batch["size"],
            "predicted": predicted,
            "confusion": confusion(batch["segmentation"], predicted, len(self.class_names)),
        }

    def metrics(self) -> SegmentationMetrics:
        """An empty sum."""
        return SegmentationMetrics(self.class_names)

    def describe(self, outputs: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
        """Of each picture "labels", an array of its stored size, and the "classes" found with their "shares" of it, the
        largest first.
        """
        rows = []
        for labels, (height, width), original in zip(
            outputs["labels"], outputs["size"], outputs["original"], strict=True
        ):
            whole = resized_labels(np.ascontiguousarray(labels[:height, :width]), tuple(original.tolist()))
            counts = np.bincount(whole.ravel(), minlength=len(self.class_names))
            order = [k for k in np.argsort(-counts, kind="stable") if counts[k]]
            names, shares = [self.class_names[k] for k in order], [float(counts[k] / whole.size) for k in order]
            rows.append({"classes": names, "shares": shares, "labels": whole})
        return rows

    def say(self, row: Mapping[str, Any]) -> str:
        """One of `describe`'s rows as a line."""
        return "  ".join(f"{name} {share:.1%}" for name, share in zip(row["classes"], row["shares"], strict=True))

    def draw(self, state: TrainState, metrics: SegmentationMetrics, source: Source) -> dict[str, Figure]:
        """The figures of a finished evaluation: confusions, the first pictures and the worst, beside the truth."""
        drawn = {"confusion": figures.confusion(metrics.confusion, self.class_names)}
        for name, found, heading in (
            ("findings", metrics.first, "The first pictures: as they are, true classes, found classes"),
            ("worst_mistakes", metrics.worst, "The worst pictures: as they are, true classes, found classes"),
        ):
            if found:
                drawn[name] = self._comparison(found, source, heading)
        return drawn

    def _comparison(self, found: Sequence[Found], source: Source, heading: str) -> Figure:
        pictures, truths = ([make(one.index) for one in found] for make in (source.picture, source.labels))
        guesses = [resized_labels(one.labels, truth.shape) for one, truth in zip(found, truths, strict=True)]
        titles = [f"picture {one.index}, {one.accuracy:.1%} right" for one in found]
        return label_figures.comparison_sheet(pictures, truths, guesses, titles, self.class_names, heading)

    def annotate(self, picture: Mapping[str, np.ndarray], row: Mapping[str, Any]) -> Figure:
        """A picture that was read for prediction with its classes and their outlines over it, and a legend."""
        shown = cropped(picture)
        return label_figures.overlay_figure(shown, resized_labels(row["labels"], shown.shape[:2]), self.class_names)

    def draw_predictions(
        self, pictures: list[Mapping[str, np.ndarray]], names: list[str], rows: list[dict[str, Any]]
    ) -> Figure:
        """A contact sheet of pictures with their classes over them."""
        shown = [cropped(picture) for picture in pictures[:SHEET]]
        labels = [resized_labels(row["labels"], one.shape[:2]) for one, row in zip(shown, rows, strict=False)]
        return label_figures.overlay_sheet(shown, labels, names[:SHEET], self.class_names, "Predictions")

    def written(self, name: str, row: Mapping[str, Any]) -> dict[str, bytes]:
        """The label map of a picture as a PNG whose palette's indices are the labels."""
        return {f"labels/{name}.png": png_of(row["labels"], label_figures.colours_of(self.class_names))}

    def collected(self, files: Sequence[Path], rows: Sequence[Mapping[str, Any]]) -> dict[str, bytes]:
        """The outlines of all connected regions but the background as COCO's instances: polygons.json."""
        names = [name for name in self.class_names if name != BACKGROUND]
        things = [
            [
                {"class": name, "polygons": [polygon]}
                for k, name in enumerate(self.class_names)
                if name != BACKGROUND
                for polygon in polygons_of(row["labels"] == k)
            ]
            for row in rows
        ]
        return {"polygons.json": coco.instances(files, [row["labels"].shape for row in rows], things, names)}


def of_pixels(values: Array, labels: Integer[Array, "n h w"]) -> Float[Array, " n"]:
    """Each picture's mean over its pixels that are not void; 0 where all are."""
    counted = labels != VOID
    return jnp.where(counted, values, 0.0).sum((1, 2)) / jnp.maximum(counted.sum((1, 2)), 1)


def pixel_loss(logits: Float[Array, "n h w k"], labels: Integer[Array, "n h w"]) -> Float[Array, " n"]:
    """The mean cross-entropy of each picture's pixels, void ones left out.

    >>> float(pixel_loss(jnp.zeros((1, 1, 2, 2)), jnp.array([[[1, 255]]]))[0])
    0.6931471824645996
    """
    known = jnp.where(labels == VOID, 0, labels).astype(jnp.int32)
    return of_pixels(optax.softmax_cross_entropy_with_integer_labels(logits, known), labels)


def confusion(labels: Integer[Array, "n h w"], predicted: Integer[Array, "n h w"], classes: int) -> Int[Array, "n k k"]:
    """Each picture's pixels by true and found class; void ones are not counted.

    >>> confusion(jnp.array([[[0, 1, 255]]]), jnp.array([[[0, 0, 1]]]), 2).tolist()
    [[[1, 0], [1, 0]]]
    """
    code = labels.astype(jnp.int32) * classes + predicted.astype(jnp.int32)
    code = jnp.where(labels == VOID, classes**2, code).reshape(len(labels), -1)
    counts = jax.vmap(lambda row: jnp.bincount(row, length=classes**2 + 1))(code)
    return counts[:, :-1].reshape(-1, classes, classes).astype(jnp.int32)
