"""Brute-force normalisation: a net that knows objects in their box tries all boxes of a picture; the best one wins.

It learns windows on and off the object. On it, boxed as in the search, it is to name the class; off it, a further
class, the background, so that it is sure of a class only where the box is right. At test time the scores of all boxes
over positions and scales are compared, and the surest says both what the object is and where.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key, PyTree, Real, UInt8
from matplotlib.figure import Figure

from cnnlab import figures
from cnnlab.data.augment import Augment, keys_of
from cnnlab.data.source import Source
from cnnlab.figures import search as search_figures
from cnnlab.metrics.boxed import BoxedMetrics
from cnnlab.ops import boxes as box_ops
from cnnlab.state import TrainState
from cnnlab.tasks import supervised
from cnnlab.tasks.box_search import all_boxes, drawn, field, judged, step_of, window
from cnnlab.tasks.classification import cross_entropy
from cnnlab.tasks.localisation import GUESSES, Localisation

SHOWN = 24  # pictures on a sheet
SEARCHED = 4  # pictures whose scores at all places are drawn


def log_odds(logits: Float[Array, "*n k"]) -> Float[Array, "*n k"]:
    """log(p / (1 − p)) of each class's softmax probability, the logarithm of the odds for it and against it.

    The order is the probability's, and it tells apart boxes whose probabilities are so near to 1 that they round to it.

    >>> round(float(log_odds(jnp.array([2.0, 1.0, 1.0]))[0]), 4)  # 2 − log(2e)
    0.3069
    """
    own = jnp.eye(logits.shape[-1], dtype=bool)
    others = jax.nn.logsumexp(jnp.where(own, -jnp.inf, logits[..., None, :]), -1)
    return logits - others


@dataclasses.dataclass(frozen=True)
class BruteForce:
    """The task; a batch has grey square pictures "image", a "label" and in "boxes" the object's box.

    Attributes:
      model: `SlidingNet` with an output more than there are classes, the background's, which is the last.
      optimizer: an optax transformation.
      preprocess: pixels from 0 to 255 → the network's input, pixel by pixel.
      class_names: in the order of the labels, without the background.
      scales: that are searched, ascending; see `box_search.py`.
      augment: `(keys, batch) → batch`, a key an example, in training only.
      frozen: patterns of layers that stay as they are; see `transfer.py`.
      accumulate: parts that a device's share of a batch is computed in; see `make_train_step`.
    """

    model: nn.Module
    optimizer: optax.GradientTransformation
    preprocess: Callable[[Real[Array, "n h w 1"]], Float[Array, "n h w 1"]]
    class_names: tuple[str, ...]
    scales: tuple[float, ...]
    augment: Augment | None = None
    frozen: tuple[str, ...] = ()
    accumulate: int = 1

    init = supervised.init
    init_optimizer = supervised.init_optimizer
    train_step = supervised.train_step
    describe = Localisation.describe
    say = Localisation.say

    def loss_fn(
        self, params: PyTree, model_state: PyTree, batch: Mapping[str, Array], rng: Key[Array, ""]
    ) -> tuple[Float[Array, ""], tuple[dict[str, Array], PyTree]]:
        """The mean cross-entropy of four boxes of each picture, and the share of them that are put in a wrong class.

        A box between the object and the background is neither: it counts 0.
        """
        batch = supervised.augmented(self, batch, rng)
        keys, truth = keys_of(jax.random.fold_in(rng, 2), batch["position"]), batch["boxes"][:, 0]
        windows, labels, counts = [], [], []
        for boxes in drawn(keys, truth, batch["image"].shape[1], self.scales):
            good, background = judged(boxes, truth, step_of(self.scales))
            windows.append(window(batch["image"], boxes))
            labels.append(jnp.where(good, batch["label"], len(self.class_names)))
            counts.append(good | background)
        logits, model_state = supervised.apply_in_training(
            self, params, model_state, batch, rng, self.preprocess(jnp.concatenate(windows)), train=True
        )
        logits, labels, counts = logits[:, 0, 0], jnp.concatenate(labels), jnp.concatenate(counts)
        loss = jnp.mean(counts * cross_entropy(logits, labels))
        error = jnp.mean(counts & (jnp.argmax(logits, -1) != labels))
        return loss, ({"error": error}, model_state)

    def scores(
        self, state: TrainState, pictures: Real[Array, "n s s 1"], scale: float
    ) -> Float[Array, "n places places k"]:
        """The log-odds of each class for all boxes of a scale; those of the background are left out."""
        x = self.preprocess(field(pictures, scale))
        return log_odds(self.model.apply(state.variables, x, train=False))[..., :-1]

    def search(
        self, state: TrainState, pictures: Real[Array, "n s s 1"]
    ) -> tuple[Float[Array, "n k"], Float[Array, "n k 4"]]:
        """For each class the log-odds of its best box of all places and scales, and that box in pixels."""
        best = None
        for scale in self.scales:
            boxes = jnp.asarray(all_boxes(pictures.shape[1], scale)).reshape(-1, 4)
            found = self.scores(state, pictures, scale)
            found = found.reshape(found.shape[0], -1, found.shape[-1])
            score, box = found.max(1), boxes[found.argmax(1)]
            if best is not None:
                better = score > best[0]
                score, box = jnp.where(better, score, best[0]), jnp.where(better[..., None], box, best[1])
            best = score, box
        return best

    def eval_step(self, state: TrainState, batch: Mapping[str, Array]) -> dict[str, Array]:
        """What `BoxedMetrics` adds up, per picture; "loss" is −log p of the true class for the best box that it has."""
        score, boxes = self.search(state, batch["image"])
        label, predicted = batch["label"], jnp.argmax(score, -1)
        own = jnp.take_along_axis(score, label[:, None], 1)
        box = jnp.take_along_axis(boxes, predicted[:, None, None], 1)
        return {
            "mask": batch["mask"],
            "index": batch["index"],
            "label": label,
            "predicted": predicted,
            "probability": jax.nn.sigmoid(score.max(-1)),
            "loss": jax.nn.softplus(-own[:, 0]),
            "rank": jnp.sum(score > own, -1),
            "box": box[:, 0],
            "true_box": batch["boxes"][:, 0],
            "overlap": box_ops.iou(box, batch["boxes"])[:, 0, 0],
        }

    def metrics(self) -> BoxedMetrics:
        """An empty sum."""
        return BoxedMetrics(len(self.class_names))

    def predict_step(self, state: TrainState, batch: Mapping[str, Array]) -> dict[str, Array]:
        """The likeliest classes of each picture, best first: "classes", "probability", and their "boxes", x0 y0 x1 y1
        in pixels of the stored picture.
        """
        found, boxes = self.search(state, batch["image"])
        score, classes = jax.lax.top_k(found, min(GUESSES, len(self.class_names)))
        boxes = jnp.take_along_axis(boxes, classes[..., None], 1)
        size = jnp.broadcast_to(jnp.array(batch["image"].shape[1:3]), (len(boxes), 2))
        return {
            "classes": classes,
            "probability": jax.nn.sigmoid(score),
            "boxes": box_ops.scale(boxes, size, batch["original"]),
        }

    def draw(self, state: TrainState, metrics: BoxedMetrics, source: Source) -> dict[str, Figure]:
        """The figures of a finished evaluation: confusions, chosen boxes, the surest mistakes, scores at all places."""
        found = metrics.pictures()
        if not found or not len(found["label"]):
            return {}
        worst = [row["index"] for row in metrics.classes.worst()]
        place = {int(index): i for i, index in enumerate(found["index"])}
        chosen = {
            "boxes": (list(range(min(SHOWN, len(place)))), "Test pictures, each with the best of all boxes"),
            "worst_mistakes": ([place[index] for index in worst], "The surest mistakes"),
        }
        drawn = {"confusion": figures.confusion(metrics.classes.confusion, self.class_names)}
        for name, (rows, heading) in chosen.items():
            if rows:
                each = {field: values[rows] for field, values in found.items()}
                pictures = source.batch(each["index"])["image"]
                drawn[name] = search_figures.boxes_sheet(pictures, each, self.class_names, heading)
        pictures = source.batch(found["index"][:SEARCHED])["image"]
        drawn["search"] = search_figures.search_figure(pictures, self._maps(state, pictures), self.class_names)
        return drawn

    def _maps(self, state: TrainState, pictures: UInt8[np.ndarray, "n s s 1"]) -> Sequence[search_figures.Map]:
        """The scores of each scale, fetched, with their boxes."""
        score = jax.jit(self.scores, static_argnums=2)
        size = pictures.shape[1]
        return [
            search_figures.Map(scale, all_boxes(size, scale), np.asarray(score(state, jnp.asarray(pictures), scale)))
            for scale in self.scales
        ]

    def draw_predictions(
        self, pictures: list[Mapping[str, np.ndarray]], names: list[str], rows: list[dict[str, Any]]
    ) -> Figure:
        """A contact sheet of pictures with the best box of each."""
        return search_figures.predictions_sheet(pictures[:SHOWN], names[:SHOWN], rows[:SHOWN])
