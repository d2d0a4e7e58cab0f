"""The figures of `--mode=inspect`, by the names that --config.inspect takes."""

from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from cnnlab.errors import UserError, nearest
from cnnlab.experiment import Experiment
from cnnlab.inspect import augment
from cnnlab.rngs import stream_key
from cnnlab.writer import save_figures


def augmentations(experiment: Experiment) -> Figure:
    """Training pictures, and what each kind of augmentation makes of them; the experiment's own comes first."""
    source = experiment.train_data()
    places = np.linspace(0, len(source) - 1, 16).astype(np.int64)
    batch = {name: jnp.asarray(array) for name, array in source.batch(places).items() if name in ("image", "label")}
    own = getattr(experiment.task, "augment", None)
    kinds = {**({f"{experiment.name}'s own": own} if own else {}), **augment.examples(batch)}
    return augment.figure(batch, stream_key(experiment.seed, "augment"), augmentations=kinds)


FIGURES: dict[str, Callable[[Experiment], Figure]] = {"augment": augmentations}


def inspect_and_save(experiment: Experiment, workdir: Path, name: str) -> None:
    """Draws one of `FIGURES` into the workdir's figures/.

    Raises:
      UserError: there is none of that name.
    """
    if name not in FIGURES:
        near = nearest(name, FIGURES)
        raise UserError(f"there is no --config.inspect={name}{near or ': it is one of ' + ', '.join(FIGURES)}")
    save_figures(workdir / "figures", {name: FIGURES[name](experiment)})
    print(f"written: {workdir / 'figures' / name}.png")
