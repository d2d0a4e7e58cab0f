"""Classification: one label a picture."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial
from jaxtyping import Array, Float, Int, Key, PyTree, Real, UInt8
from matplotlib.figure import Figure

from cnnlab import figures
from cnnlab.data.augment import Augment, keys_of
from cnnlab.data.source import Source
from cnnlab.inspect.attacks import Attack, Pictures
from cnnlab.inspect.filters import first_layer_kernel
from cnnlab.metrics.classification import ClassificationMetrics
from cnnlab.state import TrainState
from cnnlab.tasks import supervised
from cnnlab.testing import Views, average_views

Loss = Callable[[Float[Array, "n k"], Int[Array, " n"]], Float[Array, " n"]]


def cross_entropy(logits: Float[Array, "n k"], labels: Int[Array, " n"]) -> Float[Array, " n"]:
    """−log softmax(logits) at the label, per example, in nats."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def smoothed_cross_entropy(
    logits: Float[Array, "n k"], labels: Int[Array, " n"], smoothing: float = 0.1
) -> Float[Array, " n"]:
    """Cross-entropy with (1 − smoothing) · (the label) + smoothing · (all k classes alike), per example, in nats.

    Szegedy et al. 2015 ("Rethinking the Inception architecture"), section 7.

    >>> round(float(smoothed_cross_entropy(jnp.array([[0.0, 0.0]]), jnp.array([1]))[0]), 4)
    0.6931
    """
    log_probabilities = jax.nn.log_softmax(logits)
    own = jnp.take_along_axis(log_probabilities, labels[:, None], 1)[:, 0]
    return -(1 - smoothing) * own - smoothing * log_probabilities.mean(-1)


def half_squared_error(logits: Float[Array, "n k"], labels: Int[Array, " n"]) -> Float[Array, " n"]:
    """½ Σ (target − output)² per example, the target 1 for the label and 0 for the other classes.

    The guide's loss (part 1), and that of the nets before softmax.

    >>> half_squared_error(jnp.array([[0.5, 1.0]]), jnp.array([0])).tolist()
    [0.625]
    """
    target = jax.nn.one_hot(labels, logits.shape[-1])
    return 0.5 * jnp.square(target - logits).sum(-1)


@dataclasses.dataclass(frozen=True)
class Classification:
    """The task of every classification network.

    Attributes:
      model: `(x, *, train) → logits`; in training `(logits, *auxiliary logits)` if it has auxiliary classifiers.
      optimizer: an optax transformation.
      preprocess: stored pictures, 0 to 255, whole numbers or not → the network's input, on the device.
      class_names: in the order of the labels.
      loss: per example, of logits and labels.
      augment: `(keys, batch) → batch`, a key an example, in training only; see `data/augment.py`.
      attack: `(logits, pictures from 0 to 1, labels, keys) → pictures from 0 to 1`, a key an example, in training only,
        after `augment`: what it makes of a batch, against the network as it is at that step, is learnt from too.
      clean_weight: with `attack`, what the loss of the pictures as they are counts; that of the attacked ones counts
        1 − clean_weight. Goodfellow, Shlens, Szegedy 2014, section 6: 0.5; Madry et al. 2017: 0.
      auxiliary_weight: what each auxiliary classifier's loss counts beside the main one (0.3 in GoogLeNet).
      frozen: patterns of layers that stay as they are, their batch statistics too; see `transfer.py`.
      accumulate: parts that a device's share of a batch is computed in; see `make_train_step`.
      views: stored pictures → the views of each to average over in testing; see `data/crops.py`. None: as it is.
      resize: what larger stored pictures are scaled to before their parts are cut out in testing; 0: nothing.
      uncropped: as `preprocess` but without its crop, for testing on whole pictures; None where it has none.
    """

    model: nn.Module
    optimizer: optax.GradientTransformation
    preprocess: Callable[[Real[Array, "n h w c"]], Float[Array, "n h2 w2 c"]]
    class_names: tuple[str, ...]
    loss: Loss = cross_entropy
    augment: Augment | None = None
    attack: Attack | None = None
    clean_weight: float = 0.5
    auxiliary_weight: float = 0.3
    frozen: tuple[str, ...] = ()
    accumulate: int = 1
    views: Callable[[UInt8[Array, "n *squares h w c"]], Views] | None = None
    resize: int = 0
    uncropped: Callable[[UInt8[Array, "n h w c"]], Float[Array, "n h w c"]] | None = None

    init = supervised.init
    init_optimizer = supervised.init_optimizer
    train_step = supervised.train_step

    def loss_fn(
        self, params: PyTree, model_state: PyTree, batch: Mapping[str, Array], rng: Key[Array, ""]
    ) -> tuple[Float[Array, ""], tuple[dict[str, Array], PyTree]]:
        """The mean loss of a training batch, with its error rate and the model's new state; `rng` is the step's key."""
        batch = supervised.augmented(self, batch, rng)
        weights = None  # all alike
        if self.attack is not None:
            batch, weights = self._attacked(params, model_state, batch, rng)
        outputs, model_state = supervised.apply_in_training(
            self, params, model_state, batch, rng, self.preprocess(batch["image"]), train=True
        )
        logits, *auxiliary = outputs if isinstance(outputs, tuple) else (outputs,)
        loss = jnp.average(self.loss(logits, batch["label"]), weights=weights)
        for beside in auxiliary:
            loss += self.auxiliary_weight * jnp.average(self.loss(beside, batch["label"]), weights=weights)
        error = jnp.average(jnp.argmax(logits, -1) != batch["label"], weights=weights)
        return loss, ({"error": error}, model_state)

    def _attacked(
        self, params: PyTree, model_state: PyTree, batch: Mapping[str, Array], rng: Key[Array, ""]
    ) -> tuple[dict[str, Array], Float[Array, " n"] | None]:
        """A batch and the attacked one after it, with the weight of each example; the attacked one alone with a clean
        weight of 0.

        The network is attacked in evaluation mode, so that what becomes of a picture depends neither on those beside it
        nor on how many devices share the batch; batch normalisation's averages then must be of some use, as they are
        after some steps. It is trained on both halves as one batch. No gradient flows through the attack.
        """

        def logits(variables: PyTree, pictures: Pictures) -> Float[Array, "n k"]:
            return self.model.apply(variables, self.preprocess(255 * pictures), train=False)

        keys = keys_of(jax.random.fold_in(rng, 2), batch["position"])
        pictures = batch["image"].astype(jnp.float32)
        network = Partial(logits, jax.lax.stop_gradient({"params": params, **model_state}))
        attacked = {**batch, "image": 255 * self.attack(network, pictures / 255, batch["label"], keys)}
        if self.clean_weight == 0:
            return attacked, None
        clean = {**batch, "image": pictures}
        share = jnp.full(len(pictures), self.clean_weight, jnp.float32)
        both = {name: jnp.concatenate([clean[name], attacked[name]]) for name in batch}
        return both, jnp.concatenate([share, 1 - share])

    def logits(self, state: TrainState, images: UInt8[Array, "n *squares h w c"]) -> Float[Array, "n k"]:
        """The network's outputs in evaluation mode; with `views`, the logarithm of their mean probabilities."""

        def outputs(pictures):
            return self.model.apply(state.variables, self.preprocess(pictures), train=False)

        return outputs(images) if self.views is None else average_views(outputs, self.views(images))

    def eval_step(self, state: TrainState, batch: Mapping[str, Array]) -> dict[str, Array]:
        """What `ClassificationMetrics` adds up, per example."""
        logits = self.logits(state, batch["image"])
        label = batch["label"]
        probabilities = jax.nn.softmax(logits)
        predicted = jnp.argmax(logits, -1)
        own = jnp.take_along_axis(logits, label[:, None], 1)
        return {
            "mask": batch["mask"],
            "index": batch["index"],
            "label": label,
            "predicted": predicted,
            "probability": jnp.take_along_axis(probabilities, predicted[:, None], 1)[:, 0],
            # With views these are logarithms of mean probabilities, of which other losses make no sense.
            "loss": (self.loss if self.views is None else cross_entropy)(logits, label),
            # How many classes score above the true one: 0 is right, under 5 is right among five.
            "rank": jnp.sum(logits > own, -1),
        }

    def metrics(self) -> ClassificationMetrics:
        """An empty sum."""
        return ClassificationMetrics(len(self.class_names))

    def predict_step(self, state: TrainState, batch: Mapping[str, Array]) -> Float[Array, "n k"]:
        """The probability of each class."""
        return jax.nn.softmax(self.logits(state, batch["image"]))

    def describe(self, outputs: Float[np.ndarray, "n k"]) -> list[dict[str, Any]]:
        """The five likeliest classes of each picture and their probabilities, best first, for people and JSON."""
        rows = []
        for probabilities in outputs:
            best = np.argsort(-probabilities, kind="stable")[:5]
            rows.append(
                {
                    "classes": [self.class_names[i] for i in best],
                    "probabilities": [float(probabilities[i]) for i in best],
                }
            )
        return rows

    def draw(self, state: TrainState, metrics: ClassificationMetrics, source: Source) -> dict[str, Figure]:
        """The figures of a finished evaluation: confusions, the worst mistakes, the first layer's filters."""
        drawn = {"confusion": figures.confusion(metrics.confusion, self.class_names)}
        kernel = first_layer_kernel(jax.device_get(state.params))
        if kernel is not None:
            name, weights = kernel
            drawn["filters"] = figures.filter_tiles(weights, f"{name}: {weights.shape[-1]} filters")
        worst = metrics.worst()
        if worst:
            pictures = source.batch(np.array([row["index"] for row in worst]))["image"]
            if pictures.ndim == 5:  # three squares of each
                pictures = pictures[:, 1]
            titles = [
                f"{self.class_names[row['label']]} taken for\n"
                f"{self.class_names[row['predicted']]} ({row['probability']:.0%})"
                for row in worst
            ]
            drawn["worst_mistakes"] = figures.contact_sheet(list(pictures), titles, "The surest mistakes")
        return drawn

    def say(self, row: Mapping[str, Any]) -> str:
        """One of `describe`'s rows as a line."""
        return "  ".join(f"{c} {p:.1%}" for c, p in zip(row["classes"], row["probabilities"], strict=True))

    def draw_predictions(self, pictures: list[np.ndarray], names: list[str], rows: list[dict[str, Any]]) -> Figure:
        """A contact sheet of pictures with their likeliest class."""
        titles = [
            f"{name}\n{row['classes'][0]} ({row['probabilities'][0]:.0%})"
            for name, row in zip(names, rows, strict=True)
        ]
        return figures.contact_sheet(pictures, titles, "Predictions")
