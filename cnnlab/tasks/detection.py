"""Detection: boxes round the objects of a picture, each with its class."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Key, PyTree, UInt8
from matplotlib.figure import Figure

from cnnlab.data.augment import Augment, keys_of
from cnnlab.data.canvas import cropped, placed
from cnnlab.data.source import Source
from cnnlab.figures import boxes as box_figures
from cnnlab.metrics.coco_scores import Judged
from cnnlab.metrics.detection import DetectionMetrics
from cnnlab.metrics.masks import MaskMetrics
from cnnlab.models.faster_rcnn import FasterRCNN
from cnnlab.ops import boxes as box_ops
from cnnlab.ops.proposals import detect, propose
from cnnlab.state import TrainState
from cnnlab.tasks import detection_losses as losses
from cnnlab.tasks import supervised
from cnnlab.tasks.detection_losses import Sampled
from cnnlab.tasks.detection_rules import Rules

SURE = 0.5  # score from which findings are drawn, and said
SAID = 10  # findings in a line
SHOWN = 12  # test pictures that are drawn
SHEET = 24  # pictures on the contact sheet of a prediction


@dataclasses.dataclass(frozen=True)
class Detection:
    """The task of Fast and Faster R-CNN.

    Its batches have "image", the "size" of each picture within it, and "boxes", "label", "ignored"; see
    `data/detection.py`. Where the model is no `FasterRCNN`, "proposals" (boxes, padded with 0 0 0 0) come with the
    batch; where they do with a `FasterRCNN`, they take the place of its own.

    Attributes:
      model: a `FastRCNN` or a `FasterRCNN`.
      optimizer: an optax transformation.
      preprocess: stored pictures → the network's input.
      class_names: in the order of the labels, without the background.
      rules: the papers' numbers.
      augment: `(keys, batch) → batch`, a key an example, in training only; see `data/augment.py`.
      learn_proposals, learn_classes: the parts that are trained; both is the paper's approximate joint training, one at
        a time the stages of its alternating training (section 3.2). Where no classes are learnt, the proposals are what
        is found, all of one class, and the first of them the surest.
      frozen: patterns of layers that stay as they are; see `transfer.py`.
      accumulate: parts that a device's share of a batch is computed in; see `make_train_step`.
    """

    model: nn.Module
    optimizer: optax.GradientTransformation
    preprocess: Callable[[UInt8[Array, "n h w c"]], Float[Array, "n h w c"]]
    class_names: tuple[str, ...]
    rules: Rules = dataclasses.field(default_factory=Rules)
    augment: Augment | None = None
    learn_proposals: bool = True
    learn_classes: bool = True
    frozen: tuple[str, ...] = ()
    accumulate: int = 1

    @property
    def found_names(self) -> tuple[str, ...]:
        """The classes of what is found."""
        return self.class_names if self.learn_classes else ("object",)

    @property
    def proposes(self) -> bool:
        """Whether the network proposes its regions itself."""
        return isinstance(self.model, FasterRCNN)

    init = supervised.init
    init_optimizer = supervised.init_optimizer
    inputs = supervised.inputs
    train_step = supervised.train_step

    def loss_fn(
        self, params: PyTree, model_state: PyTree, batch: Mapping[str, Array], rng: Key[Array, ""]
    ) -> tuple[Float[Array, ""], tuple[dict[str, Array], PyTree]]:
        """The mean loss of a training batch, its parts, and the model's new state; `rng` is the step's key."""
        batch = supervised.augmented(self, batch, rng)
        keys = keys_of(jax.random.fold_in(rng, 2), batch["position"])
        parts, model_state = supervised.apply_in_training(
            self, params, model_state, batch, rng, batch, keys, method=self.losses
        )
        metrics = {name: part.mean() for name, part in parts.items()}
        weighted = [self.rules.box_weight * x if name.endswith("_boxes") else x for name, x in metrics.items()]
        loss = sum(x for name, x in zip(metrics, weighted, strict=True) if name != "accuracy")
        return loss, (metrics, model_state)

    def losses(
        self, model: nn.Module, batch: Mapping[str, Array], keys: Key[Array, " n"]
    ) -> dict[str, Float[Array, " n"]]:
        """The parts of each picture's loss, and the head's accuracy on objects; called with a bound model."""
        rules, size = self.rules, batch["size"]
        truth = (batch["boxes"], batch["label"], batch["ignored"])
        of_anchors, of_regions = (jax.vmap(jax.random.fold_in, (0, None))(keys, i) for i in (0, 1))
        maps, found = model.maps(self.inputs(batch), train=True), {}
        if self.proposes and self.learn_proposals:
            scores, offsets = model.propose(maps)
            every = jnp.concatenate(model.anchors(maps))
            there = jnp.ones((len(size), len(every)), bool)
            if not rules.cross_boundary:
                there = jax.vmap(box_ops.inside, (None, 0))(every, size)

            def draw_anchors(key, there, truth):
                how = (rules.anchors, 0.5, rules.anchor_high, rules.anchor_low, 0.0, True)
                return losses.draw(key, every, there, truth, *how)

            drawn = jax.vmap(draw_anchors)(of_anchors, there, truth)
            found["rpn"], found["rpn_boxes"] = jax.vmap(lambda *one: losses.rpn_loss(*one, rules.beta))(
                scores, offsets, drawn
            )
        if not self.learn_classes:
            return found
        if "proposals" in batch:
            regions, there = batch["proposals"], box_ops.area(batch["proposals"]) > 0
        else:
            limits = (rules.train_before, rules.train_proposals, rules.proposal_overlap)
            regions, there = losses.stopped(propose(*model.propose(maps), model.anchors(maps), size, *limits))

        def draw_regions(key, regions, there, truth):
            regions, there = losses.with_truth(regions, there, truth)
            how = (rules.regions, rules.positives, rules.region_high, rules.region_high, rules.region_low, False)
            drawn = losses.draw(key, regions, there, truth, *how, rules.code)
            return regions[drawn.index], drawn

        chosen, drawn = jax.vmap(draw_regions)(of_regions, regions, there, truth)
        logits, offsets = model.classify(maps, chosen, train=True)
        found["classes"], found["classes_boxes"] = jax.vmap(losses.head_loss)(logits, offsets, drawn)
        found["accuracy"] = jax.vmap(losses.accuracy_on_objects)(logits, drawn)
        return found | self.losses_on_objects(model, maps, chosen, drawn, batch)

    def losses_on_objects(
        self,
        model: nn.Module,
        maps: tuple[Array, ...],
        regions: Float[Array, "n r 4"],
        drawn: Sampled,
        batch: Mapping[str, Array],
    ) -> dict[str, Float[Array, " n"]]:
        """Further parts of each picture's loss, of regions that were drawn; called with a bound model."""
        return {}

    def regions(
        self, model: nn.Module, maps: tuple[Array, ...], batch: Mapping[str, Array]
    ) -> tuple[Float[Array, "n r 4"], Bool[Array, "n r"]]:
        """Where the head looks in testing, and which of the regions there are; called with a bound model."""
        if not self.proposes or "proposals" in batch:
            return batch["proposals"], box_ops.area(batch["proposals"]) > 0
        limits = (self.rules.test_before, self.rules.test_proposals, self.rules.proposal_overlap)
        return propose(*model.propose(maps), model.anchors(maps), batch["size"], *limits)

    def predict_step(self, state: TrainState, batch: Mapping[str, Array]) -> dict[str, Array]:
        """Findings of each picture by falling probability: "boxes", in pixels of the stored picture, "score", "label".

        Rows without a finding have label −1.
        """
        found = self.model.apply(state.variables, batch, method=self.find)
        return {**found, "boxes": to_original(found["boxes"], batch)}

    def find(self, model: nn.Module, batch: Mapping[str, Array]) -> dict[str, Array]:
        """What is found: "boxes", in pixels of resized pictures, "score" and "label"; called with a bound model."""
        return self.find_on(model, model.maps(self.inputs(batch), train=False), batch)

    def find_on(self, model: nn.Module, maps: tuple[Array, ...], batch: Mapping[str, Array]) -> dict[str, Array]:
        """`find` on the maps of the pictures."""
        regions, there = self.regions(model, maps, batch)
        if not self.learn_classes:
            rank = 1 - jnp.arange(regions.shape[1]) / regions.shape[1]
            return {"boxes": regions, "score": jnp.where(there, rank, 0.0), "label": jnp.where(there, 0, -1)}
        logits, offsets = model.classify(maps, regions, train=False)
        probabilities = jax.nn.softmax(logits)[..., 1:]
        return self.select(probabilities, offsets[:, :, 1:], regions, there, batch)

    def select(
        self,
        scores: Float[Array, "n r k"],
        offsets: Float[Array, "n r k 4"],
        regions: Float[Array, "n r 4"],
        there: Bool[Array, "n r"],
        batch: Mapping[str, Array],
    ) -> dict[str, Array]:
        """The findings among judged regions, as `find` gives them; see `ops.proposals.detect`."""
        rules = self.rules
        limits = (rules.least, rules.overlap, rules.limit)
        found = detect(scores, offsets, regions, there, batch["size"], rules.code, *limits)
        return dict(zip(("boxes", "score", "label"), found, strict=True))

    def eval_step(self, state: TrainState, batch: Mapping[str, Array]) -> dict[str, Array]:
        """Findings and truths of each picture, in pixels of the stored picture, for `DetectionMetrics`."""
        found = self.predict_step(state, batch)
        return {
            **found,
            "mask": batch["mask"],
            "index": batch["index"],
            "predicted": found["label"],
            "true_boxes": to_original(batch["boxes"], batch),
            "label": batch["label"] if self.learn_classes else jnp.minimum(batch["label"], 0),
            "ignored": batch["ignored"],
            "area": batch["area"],
        }

    def layers_step(self, state: TrainState, batch: Mapping[str, Array]) -> dict[str, PyTree]:
        """The layers of `eval_step` alone, for `--mode=benchmark`: boxes are neither made, thinned out nor pooled."""

        def layers(model: nn.Module) -> dict[str, PyTree]:
            maps = model.maps(self.inputs(batch), train=False)
            regions = batch["proposals"].shape[1] if "proposals" in batch else self.rules.test_proposals
            found = model.judge(as_if_pooled(maps, regions, model.pooled))
            proposed = {"proposed": model.propose(maps)} if self.proposes else {}
            return {"found": found, **proposed, **self.more_layers(model, maps)}

        return self.model.apply(state.variables, method=layers)

    def more_layers(self, model: nn.Module, maps: tuple[Array, ...]) -> dict[str, Array]:
        """What `layers_step` is to compute besides; called with a bound model."""
        return {}

    def metrics(self) -> DetectionMetrics | MaskMetrics:
        """An empty sum."""
        return DetectionMetrics(self.found_names)

    def describe(self, outputs: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
        """The findings of each picture for people and JSON: boxes x0 y0 x1 y1, classes and scores."""
        found = []
        for boxes, score, label in zip(outputs["boxes"], outputs["score"], outputs["label"], strict=True):
            there = label >= 0
            found.append(
                {
                    "boxes": [[round(float(x), 2) for x in box] for box in boxes[there]],
                    "classes": [self.found_names[k] for k in label[there]],
                    "scores": [float(x) for x in score[there]],
                }
            )
        return found

    def say(self, row: Mapping[str, Any]) -> str:
        """One of `describe`'s rows as a line."""
        found = [f"{c} {p:.0%}" for c, p in zip(row["classes"], row["scores"], strict=True)]
        sure = sum(score >= SURE for score in row["scores"])
        shown = found[: min(max(sure, 1), SAID)]
        left = len(found) - len(shown)
        return "  ".join(shown or ["nothing found"]) + (f"  and {left} more" if left else "")

    def draw(self, state: TrainState, metrics: DetectionMetrics | MaskMetrics, source: Source) -> dict[str, Figure]:
        """The figures of a finished evaluation: precision over recall, the worst mistakes, and some pictures."""
        shown = sorted(metrics.pictures)[:SHOWN]
        rows = [self.finding(metrics.pictures[index]) for index in shown]
        pictures = [source.picture(index) for index in shown]
        titles = [f"picture {index}" for index in shown]
        sheet = self.sheet(pictures, titles, rows, "Findings of 50 % or more")
        return {
            "precision_recall": box_figures.precision_recall_figure(metrics.classes()),
            "worst_mistakes": self.mistakes_figure(metrics, source),
            **({"findings": sheet} if shown else {}),
        }

    def mistakes_figure(self, metrics: DetectionMetrics | MaskMetrics, source: Source) -> Figure:
        """The worst mistakes of a test."""
        return box_figures.mistakes_figure(metrics, source.picture)

    def finding(self, one: Judged) -> dict[str, Any]:
        """The findings of 50 % or more of a tested picture, as `sheet` takes them."""
        sure = one.score >= SURE
        names = [self.found_names[k] for k in one.predicted[sure]]
        return {"boxes": one.boxes[sure], "classes": names, "scores": one.score[sure].tolist()}

    def annotate(self, picture: Mapping[str, np.ndarray], row: Mapping[str, Any]) -> Figure:
        """A picture that was read for prediction with its findings of 50 % or more, at the size that it was read at."""
        return self.picture_figure(cropped(picture), self.sure(picture, row))

    def draw_predictions(
        self, pictures: list[Mapping[str, np.ndarray]], names: list[str], rows: list[dict[str, Any]]
    ) -> Figure:
        """A contact sheet of pictures with their findings of 50 % or more."""
        shown = [self.sure(picture, row) for picture, row in zip(pictures[:SHEET], rows, strict=False)]
        return self.sheet([cropped(picture) for picture in pictures[:SHEET]], names[:SHEET], shown, "Findings")

    def sure(self, picture: Mapping[str, np.ndarray], row: Mapping[str, Any]) -> dict[str, Any]:
        """The findings of 50 % or more of `describe`'s row, their boxes in pixels of the picture as it was read."""
        sure = [i for i, score in enumerate(row["scores"]) if score >= SURE]
        boxes = np.array([row["boxes"][i] for i in sure], np.float32).reshape(-1, 4)
        return {
            "boxes": placed(boxes, picture["size"] / picture["original"], len(sure)),
            "classes": [row["classes"][i] for i in sure],
            "scores": [row["scores"][i] for i in sure],
        }

    def picture_figure(self, picture: UInt8[np.ndarray, "h w 3"], row: Mapping[str, Any]) -> Figure:
        """One picture with its findings; boxes in its pixels."""
        return box_figures.picture_figure(picture, row["boxes"], row["classes"], row["scores"], self.found_names)

    def sheet(
        self,
        pictures: list[UInt8[np.ndarray, "_ _ 3"]],
        titles: list[str],
        rows: list[dict[str, Any]],
        heading: str,
    ) -> Figure:
        """Pictures with their findings in a grid."""
        return box_figures.boxes_sheet(pictures, titles, rows, self.found_names, heading)


def as_if_pooled(maps: tuple[Array, ...], regions: int, size: int) -> Float[Array, "n r p p c"]:
    """Something in the shape of so many regions of each picture, pooled to size×size."""
    # Not a constant, which would be computed while compiling.
    return jnp.tile(maps[0].mean((1, 2))[:, None, None, None], (1, regions, size, size, 1))


def to_original(boxes: Float[Array, "n d 4"], batch: Mapping[str, Array]) -> Float[Array, "n d 4"]:
    """Boxes in pixels of the resized pictures as boxes in pixels of the stored ones."""
    return box_ops.scale(boxes, batch["size"], batch["original"])
