"""Mask R-CNN's task: of each object its class, a box, and which pixels within the box are its own."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8
from matplotlib.figure import Figure

from cnnlab.data import coco
from cnnlab.data.outlines import polygons_of
from cnnlab.data.source import Source
from cnnlab.figures import boxes as box_figures
from cnnlab.figures import masks as mask_figures
from cnnlab.metrics.coco_scores import Judged
from cnnlab.metrics.masks import MaskMetrics
from cnnlab.ops.masks import COVERED, mask_loss, mask_targets, masks_of
from cnnlab.ops.proposals import rows
from cnnlab.state import TrainState
from cnnlab.tasks.detection import SURE, Detection, as_if_pooled
from cnnlab.tasks.detection_losses import Sampled


@dataclasses.dataclass(frozen=True)
class MaskDetection(Detection):
    """The task of Mask R-CNN (He et al. 2017, section 3): the model is a `MaskRCNN`, and training batches have "masks".

    The masks' loss is of the regions on objects, each of its own class's map. In testing, masks are made of what is
    found, after boxes have been thinned out, and not of all regions.
    """

    def losses_on_objects(
        self,
        model: nn.Module,
        maps: tuple[Array, ...],
        regions: Float[Array, "n r 4"],
        drawn: Sampled,
        batch: Mapping[str, Array],
    ) -> dict[str, Float[Array, " n"]]:
        """The masks' part of each picture's loss."""
        # Regions on objects are drawn first, and there are no more of them.
        most = max(1, round(self.rules.regions * self.rules.positives))
        regions, label, positive, own = (x[:, :most] for x in (regions, drawn.label, drawn.positive, drawn.matched))
        logits = model.outline(maps, regions)
        targets = mask_targets(rows(batch["masks"], own), rows(batch["boxes"], own), regions, logits.shape[2])
        return {"masks": jax.vmap(mask_loss)(of_class(logits, label), targets, positive)}

    def find_on(self, model: nn.Module, maps: tuple[Array, ...], batch: Mapping[str, Array]) -> dict[str, Array]:
        """With "masks" uint8 (n, d, s, s) of the findings within their boxes, 255 a probability of 1."""
        found = super().find_on(model, maps, batch)
        logits = of_class(model.outline(maps, found["boxes"]), found["label"] + 1)
        return {**found, "masks": jnp.round(COVERED * jax.nn.sigmoid(logits)).astype(jnp.uint8)}

    def predict_step(self, state: TrainState, batch: Mapping[str, Array]) -> dict[str, Array]:
        """See `Detection`; with "masks" of `find_on` and "original", the stored pictures' heights and widths."""
        return {**super().predict_step(state, batch), "original": batch["original"]}

    def more_layers(self, model: nn.Module, maps: tuple[Array, ...]) -> dict[str, Array]:
        """The masks of as many findings as there may be."""
        return {"masks": model.masks(as_if_pooled(maps, self.rules.limit, model.mask_pooled))}

    def metrics(self) -> MaskMetrics:
        """An empty sum."""
        return MaskMetrics(self.found_names)

    def describe(self, outputs: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
        """See `Detection`; with "polygons", of each finding COCO's lists, in pixels of the stored picture.

        Besides, as arrays for figures: "maps" of `find_on`, and the "original" height and width.
        """
        found = super().describe(outputs)
        for i, row in enumerate(found):
            there = outputs["label"][i] >= 0
            maps, original = outputs["masks"][i][there], outputs["original"][i]
            masks = masks_of(maps, outputs["boxes"][i][there], tuple(map(int, original)))
            row |= {"polygons": [polygons_of(mask) for mask in masks], "maps": maps, "original": original}
        return found

    def collected(self, files: list[Path], rows: list[dict[str, Any]]) -> dict[str, bytes]:
        """What is written of all predictions together: polygons.json, as COCO's instances with a "score" each."""
        things = []
        for row in rows:
            columns = zip(row["classes"], row["scores"], row["polygons"], strict=True)
            # A finding less than a pixel wide may hold none.
            things.append([{"class": c, "score": s, "polygons": lists} for c, s, lists in columns if lists])
        sizes = [tuple(row["original"].tolist()) for row in rows]
        return {"polygons.json": coco.instances(files, sizes, things, self.found_names)}

    def draw(self, state: TrainState, metrics: MaskMetrics, source: Source) -> dict[str, Figure]:
        """See `Detection`, precision and mistakes by the masks' IoU; and precision by the boxes'."""
        return {
            **super().draw(state, metrics, source),
            "mask_precision_recall": box_figures.precision_recall_figure(metrics.masks.classes()),
        }

    def mistakes_figure(self, metrics: MaskMetrics, source: Source) -> Figure:
        """The worst mistakes of a test, by the masks' IoU."""
        return mask_figures.mistakes_figure(metrics, source.picture, source.masks)

    def finding(self, one: Judged) -> dict[str, Any]:
        """See `Detection`; with "maps"."""
        return {**super().finding(one), "maps": one.maps[one.score >= SURE]}

    def sure(self, picture: Mapping[str, np.ndarray], row: Mapping[str, Any]) -> dict[str, Any]:
        """See `Detection`; with "maps"."""
        return {**super().sure(picture, row), "maps": row["maps"][np.array(row["scores"]) >= SURE]}

    def picture_figure(self, picture: UInt8[np.ndarray, "h w 3"], row: Mapping[str, Any]) -> Figure:
        """One picture with its findings and their masks."""
        return mask_figures.masks_figure(picture, row, self.found_names)

    def sheet(
        self,
        pictures: list[UInt8[np.ndarray, "_ _ 3"]],
        titles: list[str],
        rows: list[dict[str, Any]],
        heading: str,
    ) -> Figure:
        """Pictures with their findings and masks in a grid."""
        return mask_figures.masks_sheet(pictures, titles, rows, self.found_names, heading)


def of_class(maps: Float[Array, "n r s s k"], label: Array) -> Float[Array, "n r s s"]:
    """Of each region's maps that of its class.

    >>> of_class(jnp.array([[[[[5.0, 7.0]]], [[[1.0, 2.0]]]]]), jnp.array([[1, 0]])).ravel().tolist()
    [7.0, 1.0]
    """
    # A sum, and not a lookup, whose gradient is slow on CPUs.
    return (maps * jax.nn.one_hot(label, maps.shape[-1])[:, :, None, None]).sum(-1)
