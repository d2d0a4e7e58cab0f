"""What a network's spatial transformers do to pictures: the grids they sample, and what comes out of them."""

import jax
import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from cnnlab.errors import UserError
from cnnlab.figures.grids import transforms_figure
from cnnlab.inspect.subject import Subject
from cnnlab.models.stn import transforms


def draw(subject: Subject, options: ConfigDict) -> dict[str, Figure]:
    """A figure for each spatial transformer of the network, whatever its depth.

    Raises:
      UserError: the network has none.
    """
    found = transforms(subject.model, subject.variables, subject.x)
    if not found:
        raise UserError(f"{subject.experiment.name} has no spatial transformer to show")
    return {
        layer.replace("/", "_"): transforms_figure(subject.shown(subject.x), seen, subject.titles, layer)
        for layer, seen in jax.tree.map(np.asarray, found).items()
    }
