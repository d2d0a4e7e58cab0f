"""Label patches: the middle of an aerial patch is labelled, pixel by pixel, and whole pictures tile by tile.

Mnih, Hinton 2010 ("Learning to detect roads in high-resolution aerial images") and 2012 ("Learning to label aerial
images from noisy data").
"""

import dataclasses
import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key, PyTree, UInt8
from matplotlib.figure import Figure
from PIL import Image

from cnnlab.data.augment import keys_of
from cnnlab.data.draws import split
from cnnlab.data.road_patches import CLASS_NAMES, Assembly, Maps, Tiling, WindowSource, turned
from cnnlab.figures import roads as road_figures
from cnnlab.metrics.roads import RoadMetrics, curve_of
from cnnlab.state import TrainState
from cnnlab.tasks import supervised
from cnnlab.tasks.label_noise import Loss, cross_entropy

TOGETHER = 4  # windows of a picture that are labelled at once in a prediction


@dataclasses.dataclass(frozen=True)
class LabelPatches:
    """The task of road finders. Its batches are those of `data/road_patches.py`.

    Attributes:
      model: tiles to the logits of their middle's labels, of a single kind.
      optimizer: an optax transformation.
      preprocess: stored pictures → the network's input.
      tiling: of whole pictures.
      loss: per patch, of logits and the map's labels; see `label_noise.py`.
      reach: pixels of the map around the labels that the loss is given too.
      threshold: probability from which on a pixel is said to be of a road.
      slack: pixels that the scores forgive.
      frozen: patterns of layers that stay as they are; see `transfer.py`.
      accumulate: parts that a device's share of a batch is computed in; see `make_train_step`.
    """

    model: nn.Module
    optimizer: optax.GradientTransformation
    preprocess: Callable[[UInt8[Array, "n h w c"]], Float[Array, "n h w c"]]
    tiling: Tiling = dataclasses.field(default_factory=Tiling)
    loss: Loss = cross_entropy
    reach: int = 0
    threshold: float = 0.5
    slack: float = 3.0
    frozen: tuple[str, ...] = ()
    accumulate: int = 1

    class_names = CLASS_NAMES
    init = supervised.init
    init_optimizer = supervised.init_optimizer
    train_step = supervised.train_step

    def loss_fn(
        self, params: PyTree, model_state: PyTree, batch: Mapping[str, Array], rng: Key[Array, ""]
    ) -> tuple[Float[Array, ""], tuple[dict[str, Array], PyTree]]:
        """The mean loss of a batch of patches, the share of the map's pixels missed; `rng` is the step's key."""
        count = batch["image"].shape[1]
        keys = split(keys_of(jax.random.fold_in(rng, 0), batch["position"]), count)
        each = {name: batch[name].reshape(-1, *batch[name].shape[2:]) for name in ("image", "segmentation")}
        each = turned(jnp.stack(keys, 1).reshape(-1), each, self.tiling.context)
        labels = self._middle(each["segmentation"], self.reach)
        logits, model_state = supervised.apply_in_training(
            self, params, model_state, batch, rng, self.preprocess(each["image"]), train=True
        )
        logits = logits[..., 0]
        wrong = ((logits > 0) != (self._middle(each["segmentation"], 0) > 0)).mean()
        return self.loss(logits, labels).mean(), ({"pixel_error": wrong}, model_state)

    def _middle(self, tiles: Array, rim: int) -> Array:
        """What lies in the middle of tiles where they are labelled, and a rim around it."""
        inner = slice(self.tiling.margin - rim, self.tiling.margin + self.tiling.labels + rim)
        return tiles[:, inner, inner]

    def predict_step(self, state: TrainState, batch: Mapping[str, Array]) -> Float[Array, "n s s"]:
        """The probability of a road for each pixel that windows label, added up over the tiles that do."""
        tiles = self.tiling.cut(batch["image"])
        logits = self.model.apply(state.variables, self.preprocess(tiles), train=False)
        return self.tiling.lay(jax.nn.sigmoid(logits[..., 0]))

    def eval_step(self, state: TrainState, batch: Mapping[str, Array]) -> dict[str, Array]:
        """What `RoadMetrics` puts together."""
        return {"mask": batch["mask"], "index": batch["index"], "sums": self.predict_step(state, batch)}

    def metrics(self) -> RoadMetrics:
        """An empty sum."""
        return RoadMetrics(self.slack, self.threshold)

    def predict_each(self, state: TrainState, pictures: Sequence[Maps]) -> list[dict[str, Any]]:
        """What is found in pictures of any size, each read window by window.

        Args:
          state: of the net.
          pictures: `Maps` of one picture each, as `road_folders.OnePicture`.

        Returns:
          Of each picture "probability" of a road, uint8 (h, w), 0 to 255, and "roads", the share of its pixels that are
          said to be of one; "truth", bool (h, w), and the scores of the picture where its map is known: "precision",
          and where the map has a road "recall" and "break_even".
        """
        step = jax.jit(self.predict_step)
        return [self._predict(step, state, picture) for picture in pictures]

    def _predict(self, step: Callable, state: TrainState, picture: Any) -> dict[str, Any]:
        source = WindowSource(picture, self.tiling)
        whole = Assembly(*picture.size(0), self.tiling)
        for start in range(0, len(source), TOGETHER):
            wanted = np.arange(start, start + TOGETHER) % len(source)  # one compiled program serves all
            sums = np.asarray(step(state, source.batch(wanted)))
            for (_, top, left), own in zip(source.places[start : start + TOGETHER], sums, strict=False):
                whole.add(top, left, own)
        probability = whole.probability()
        row = {"roads": float((probability >= self.threshold).mean())}
        if picture.mask is not None:
            row["truth"] = source.truth(0)
            curve = curve_of(probability, row["truth"], self.slack)
            scores = (*curve.at(self.threshold), curve.break_even()[0])
            named = zip(("precision", "recall", "break_even"), scores, strict=True)
            row |= {name: score for name, score in named if not math.isnan(score)}
        return {**row, "probability": np.round(255 * probability).astype(np.uint8)}

    def describe(self, outputs: Float[np.ndarray, "n s s"]) -> list[dict[str, Any]]:
        """Of each window the share of its pixels that are said to be of a road."""
        mean = outputs / self.tiling.counts
        return [{"roads": float((own >= self.threshold).mean())} for own in mean]

    def say(self, row: Mapping[str, Any]) -> str:
        """One of the rows of `predict_each` as a line."""
        names = ("precision", "recall", "break_even")
        scores = [f"  {name} {row[name]:.1%}" for name in names if name in row]
        return f"roads on {row['roads']:.1%} of the picture{''.join(scores)}"

    def draw(self, state: TrainState, metrics: RoadMetrics, source: WindowSource) -> dict[str, Figure]:
        """The figures of a finished evaluation: the curve, and the first pictures with what was found in them."""
        drawn = {"precision_recall": road_figures.curve_figure(metrics.curve, self.threshold, self.slack)}
        if metrics.first:
            drawn["findings"] = road_figures.findings_sheet(metrics.first, source, self.threshold, self.slack)
        return drawn

    def _found(self, row: Mapping[str, Any]) -> np.ndarray:
        return row["probability"] >= 255 * self.threshold

    def annotate(self, picture: Any, row: Mapping[str, Any]) -> Figure:
        """A picture with its road map over it: green and red, right and wrong, where its map is known."""
        shown = WindowSource(picture, self.tiling).picture(0)
        return road_figures.overlay_figure(shown, self._found(row), row.get("truth"), self.slack)

    def draw_predictions(self, pictures: list[Any], names: list[str], rows: list[dict[str, Any]]) -> Figure:
        """A contact sheet of the first pictures with their road maps over them."""
        few = road_figures.SHEET
        shown = [WindowSource(picture, self.tiling).picture(0) for picture in pictures[:few]]
        found, truths = [self._found(row) for row in rows[:few]], [row.get("truth") for row in rows[:few]]
        return road_figures.overlay_sheet(shown, found, truths, names[:few], self.slack)

    def written(self, name: str, row: Mapping[str, Any]) -> dict[str, bytes]:
        """The probability of a road as a grey PNG, black 0 and white 1."""
        content = io.BytesIO()
        Image.fromarray(row["probability"]).save(content, "PNG")
        return {f"probability/{name}.png": content.getvalue()}
