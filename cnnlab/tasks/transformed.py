"""Classification by a network with spatial transformers: as any, and what they look at is drawn too."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Shaped
from matplotlib.figure import Figure

from cnnlab.data.source import Source
from cnnlab.figures.grids import PICTURES, transforms_figure
from cnnlab.metrics.classification import ClassificationMetrics
from cnnlab.models.stn import transforms
from cnnlab.state import TrainState
from cnnlab.tasks.classification import Classification


class TransformedClassification(Classification):
    """The classification task of a network that holds one spatial transformer or more."""

    def draw(self, state: TrainState, metrics: ClassificationMetrics, source: Source) -> dict[str, Figure]:
        """The figures of every classification, and each transformer's at work on test pictures."""
        chosen = source.batch(np.linspace(0, len(source) - 1, min(PICTURES, len(source))).astype(np.int64))
        titles = [self.class_names[label] for label in chosen["label"]]
        return {**super().draw(state, metrics, source), **self.draw_inputs(state, chosen["image"], titles)}

    def draw_inputs(
        self, state: TrainState, pictures: Shaped[np.ndarray, "n h w c"], titles: Sequence[str]
    ) -> dict[str, Figure]:
        """Each transformer at work on pictures as they are stored, under their titles."""
        see = jax.jit(lambda variables, stored: transforms(self.model, variables, self.preprocess(stored)))
        pictures = pictures[:PICTURES]
        found = jax.device_get(see(state.variables, jnp.asarray(pictures)))
        return {
            layer.replace("/", "_"): transforms_figure(pictures, seen, titles, layer) for layer, seen in found.items()
        }
