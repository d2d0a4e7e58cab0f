"""Localisation: the class of a picture's one object, and the box around it.

Simonyan, Zisserman 2014, appendix A. There one net is trained for the boxes, and another names the classes; here one
net does both, and what it learns is the sum of their losses. Batches are those of `data/one_object.py`.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key, PyTree, Real
from matplotlib.figure import Figure

from cnnlab import figures
from cnnlab.data import canvas
from cnnlab.data.augment import Augment
from cnnlab.data.source import Source
from cnnlab.figures import boxes as box_figures
from cnnlab.figures import localisation as localisation_figures
from cnnlab.metrics.localisation import LocalisationMetrics
from cnnlab.ops import boxes as box_ops
from cnnlab.state import TrainState
from cnnlab.tasks import supervised
from cnnlab.tasks.classification import cross_entropy
from cnnlab.tasks.detection import to_original

GUESSES = 5  # classes of a picture that are looked at: right among five is ILSVRC's rule
SHOWN = 12  # test pictures that are drawn
SHEET = 24  # pictures on the contact sheet of a prediction


def to_shares(boxes: Float[Array, "*b 4"], shape: tuple[int, int]) -> Float[Array, "*b 4"]:
    """Boxes x0 y0 x1 y1 as centre x, y, width and height, in shares of the width and height of `shape`.

    >>> to_shares(jnp.array([10.0, 0.0, 30.0, 20.0]), (20, 40)).tolist()
    [0.5, 0.5, 0.5, 1.0]
    """
    low, high = boxes[..., :2], boxes[..., 2:]
    return jnp.concatenate([(low + high) / 2, high - low], -1) / _sides(shape)


def from_shares(shares: Float[Array, "*b 4"], shape: tuple[int, int]) -> Float[Array, "*b 4"]:
    """The inverse of `to_shares`. A box whose width or height is negative comes out of no area.

    >>> from_shares(jnp.array([0.5, 0.5, 0.5, 1.0]), (20, 40)).tolist()
    [10.0, 0.0, 30.0, 20.0]
    """
    pixels = shares * _sides(shape)
    centre, half = pixels[..., :2], jnp.maximum(pixels[..., 2:], 0) / 2
    return jnp.concatenate([centre - half, centre + half], -1)


def euclidean(boxes: Float[Array, "n 4"], truth: Float[Array, "n 4"]) -> Float[Array, " n"]:
    """½ |box − truth|², the Euclidean loss, of each picture; both as `to_shares` has them.

    >>> euclidean(jnp.array([[0.5, 0.5, 0.5, 1.0]]), jnp.array([[0.5, 0.5, 1.0, 0.0]])).tolist()
    [0.625]
    """
    return 0.5 * jnp.square(boxes - truth).sum(-1)


def of_classes(boxes: Float[Array, "n c 4"], classes: Int[Array, "n g"]) -> Float[Array, "n g 4"]:
    """The boxes of some classes of each picture: where there is only one for all, that one."""
    if boxes.shape[1] == 1:
        classes = jnp.zeros_like(classes)
    return jnp.take_along_axis(boxes, classes[..., None], 1)


@dataclasses.dataclass(frozen=True)
class Localisation:
    """The task.

    Attributes:
      model: `(x, *, train) → (scores, boxes)`; see `models/localiser.py`.
      optimizer: an optax transformation.
      preprocess: stored pictures → the network's input.
      class_names: in the order of the labels.
      box_weight: what the Euclidean loss of the box counts beside the cross-entropy of the class. The squares of
        errors in shares of the picture are small numbers.
      augment: `(keys, batch) → batch`, a key an example, in training only; see `data/augment.py`.
      frozen: patterns of layers that stay as they are; see `transfer.py`.
      accumulate: parts that a device's share of a batch is computed in; see `make_train_step`.
    """

    model: nn.Module
    optimizer: optax.GradientTransformation
    preprocess: Callable[[Real[Array, "n h w c"]], Float[Array, "n h w c"]]
    class_names: tuple[str, ...]
    box_weight: float = 50.0
    augment: Augment | None = None
    frozen: tuple[str, ...] = ()
    accumulate: int = 1

    init = supervised.init
    init_optimizer = supervised.init_optimizer
    inputs = supervised.inputs
    train_step = supervised.train_step

    def losses(
        self, scores: Float[Array, "n k"], boxes: Float[Array, "n c 4"], batch: Mapping[str, Array]
    ) -> Float[Array, " n"]:
        """Of each picture the cross-entropy of its class and the weighted Euclidean loss of the true class's box."""
        truth = to_shares(batch["boxes"][:, 0], batch["image"].shape[1:3])
        own = of_classes(boxes, batch["label"][:, None])[:, 0]
        return cross_entropy(scores, batch["label"]) + self.box_weight * euclidean(own, truth)

    def loss_fn(
        self, params: PyTree, model_state: PyTree, batch: Mapping[str, Array], rng: Key[Array, ""]
    ) -> tuple[Float[Array, ""], tuple[dict[str, Array], PyTree]]:
        """The mean loss of a training batch, with its class error, the mean IoU of the true classes' boxes, and the
        model's new state; `rng` is the step's key.
        """
        batch = supervised.augmented(self, batch, rng)
        (scores, boxes), model_state = supervised.apply_in_training(
            self, params, model_state, batch, rng, self.inputs(batch), train=True
        )
        error = jnp.mean(jnp.argmax(scores, -1) != batch["label"])
        overlap = self._overlap(of_classes(boxes, batch["label"][:, None]), batch).mean()
        return self.losses(scores, boxes, batch).mean(), ({"error": error, "mean_iou": overlap}, model_state)

    def _overlap(self, shares: Float[Array, "n g 4"], batch: Mapping[str, Array]) -> Float[Array, "n g"]:
        """The IoU of boxes with the true one."""
        return box_ops.iou(batch["boxes"], placed(shares, batch))[:, 0]

    def _found(self, state: TrainState, batch: Mapping[str, Array]) -> tuple[Array, Array, Array, Array]:
        """The network's scores and boxes in evaluation, the likeliest classes, and their probabilities."""
        scores, boxes = self.model.apply(state.variables, self.inputs(batch), train=False)
        guesses = min(GUESSES, len(self.class_names))
        probability, classes = jax.lax.top_k(jax.nn.softmax(scores), guesses)
        return scores, boxes, classes, probability

    def eval_step(self, state: TrainState, batch: Mapping[str, Array]) -> dict[str, Array]:
        """What `LocalisationMetrics` adds up, per picture; boxes are in pixels of the stored picture."""
        scores, boxes, classes, probability = self._found(state, batch)
        guesses = of_classes(boxes, classes)
        return {
            "mask": batch["mask"],
            "index": batch["index"],
            "label": batch["label"],
            "loss": self.losses(scores, boxes, batch),
            "classes": classes,
            "probability": probability,
            "overlap": self._overlap(guesses, batch),
            "own_overlap": self._overlap(of_classes(boxes, batch["label"][:, None]), batch)[:, 0],
            "box": to_original(placed(guesses[:, :1], batch), batch)[:, 0],
            "true_box": to_original(batch["boxes"], batch)[:, 0],
        }

    def metrics(self) -> LocalisationMetrics:
        """An empty sum."""
        return LocalisationMetrics(len(self.class_names))

    def predict_step(self, state: TrainState, batch: Mapping[str, Array]) -> dict[str, Array]:
        """The five likeliest classes of each picture, best first: "classes", "probability", and their "boxes", x0 y0
        x1 y1 in pixels of the stored picture.
        """
        _, boxes, classes, probability = self._found(state, batch)
        guesses = placed(of_classes(boxes, classes), batch)
        return {"classes": classes, "probability": probability, "boxes": to_original(guesses, batch)}

    def describe(self, outputs: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
        """The likeliest classes of each picture, best first, their boxes and probabilities, for people and JSON."""
        return [
            {
                "boxes": [[round(float(x), 2) for x in box] for box in boxes],
                "classes": [self.class_names[k] for k in classes],
                "scores": [float(p) for p in probability],
            }
            for boxes, classes, probability in zip(
                outputs["boxes"], outputs["classes"], outputs["probability"], strict=True
            )
        ]

    def say(self, row: Mapping[str, Any]) -> str:
        """One of `describe`'s rows as a line: the likeliest class with its box, then the others."""
        named = [f"{c} {p:.1%}" for c, p in zip(row["classes"], row["scores"], strict=True)]
        corners = " ".join(f"{x:.0f}" for x in row["boxes"][0])
        return "  ".join([f"{named[0]} at {corners}", *named[1:]])

    def draw(self, state: TrainState, metrics: LocalisationMetrics, source: Source) -> dict[str, Figure]:
        """The figures of a finished evaluation: confusions, how well boxes lie, some pictures, the surest mistakes."""
        found = metrics.pictures()
        if not found or not len(found["label"]):
            return {}
        first = [{name: values[i] for name, values in found.items()} for i in range(min(SHOWN, len(found["label"])))]
        drawn = {
            "confusion": figures.confusion(metrics.confusion(), self.class_names),
            "overlaps": localisation_figures.overlaps_figure(found["own_overlap"], found["label"], self.class_names),
            "boxes": localisation_figures.places_sheet(first, source.picture, self.class_names, "Test pictures"),
        }
        if worst := metrics.worst(SHOWN):
            heading = "The surest mistakes, of the class or of the place"
            drawn["worst_mistakes"] = localisation_figures.places_sheet(
                worst, source.picture, self.class_names, heading
            )
        return drawn

    def annotate(self, picture: Mapping[str, np.ndarray], row: Mapping[str, Any]) -> Figure:
        """A picture that was read for prediction with its likeliest class's box, at the size that it was read at."""
        shown = _first(picture, row)
        return box_figures.picture_figure(
            canvas.cropped(picture), shown["boxes"], shown["classes"], shown["scores"], self.class_names
        )

    def draw_predictions(
        self, pictures: list[Mapping[str, np.ndarray]], names: list[str], rows: list[dict[str, Any]]
    ) -> Figure:
        """A contact sheet of pictures with their likeliest classes' boxes."""
        shown = [_first(picture, row) for picture, row in zip(pictures[:SHEET], rows, strict=False)]
        return box_figures.boxes_sheet(
            [canvas.cropped(picture) for picture in pictures[:SHEET]],
            names[:SHEET],
            shown,
            self.class_names,
            "Predictions",
        )


def placed(shares: Float[Array, "n g 4"], batch: Mapping[str, Array]) -> Float[Array, "n g 4"]:
    """Boxes in pixels of the resized pictures, cut off at their edges."""
    return box_ops.clip(from_shares(shares, batch["image"].shape[1:3]), batch["size"])


def _sides(shape: tuple[int, int]) -> Float[Array, "4"]:
    height, width = shape
    return jnp.array([width, height, width, height], jnp.float32)


def _first(picture: Mapping[str, np.ndarray], row: Mapping[str, Any]) -> dict[str, Any]:
    """The likeliest finding of a row, its box in pixels of the picture as it was read."""
    boxes = canvas.placed(np.array(row["boxes"], np.float32), picture["size"] / picture["original"], 1)
    return {"boxes": boxes, "classes": row["classes"][:1], "scores": row["scores"][:1]}
