"""The figures of `--mode=inspect`, by the names that --config.inspect takes."""

from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from cnnlab.data.source import Source
from cnnlab.errors import UserError, nearest
from cnnlab.experiment import Experiment
from cnnlab.inspect import augment, linear
from cnnlab.rngs import stream_key
from cnnlab.state import TrainState
from cnnlab.transfer import patterns
from cnnlab.writer import save_figures

MOST = 10_000  # examples that linear classifiers learn from: more would take long, and tell little more


def augmentations(experiment: Experiment, state: Callable[[], TrainState], options: ConfigDict) -> Figure:
    """Training pictures, and what each kind of augmentation makes of them; the experiment's own comes first."""
    source = experiment.train_data()
    places = np.linspace(0, len(source) - 1, 16).astype(np.int64)
    batch = {name: jnp.asarray(array) for name, array in source.batch(places).items() if name in ("image", "label")}
    own = getattr(experiment.task, "augment", None)
    kinds = {**({f"{experiment.name}'s own": own} if own else {}), **augment.examples(batch)}
    return augment.figure(batch, stream_key(experiment.seed, "augment"), augmentations=kinds)


def linear_classifiers(experiment: Experiment, state: Callable[[], TrainState], options: ConfigDict) -> Figure:
    """The test error of a linear classifier on the features of each layer, or of config.layers."""
    variables, layers = state().variables, patterns(options.layers)

    def features(source: Source) -> tuple[dict[str, np.ndarray], np.ndarray]:
        return _features(experiment, variables, source, layers)

    train, train_labels = features(experiment.train_data())
    test, test_labels = features(experiment.test_data())
    errors = {}
    for name in train:
        errors[name] = linear.linear_error(train[name], train_labels, test[name], test_labels)
        print(f"{name:24} {train[name].shape[1]:6,} features  error {errors[name]:.2%}", flush=True)
    return linear.figure(errors, len(train_labels))


def _features(
    experiment: Experiment, variables: dict, source: Source, layers: Sequence[str]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    task = experiment.task
    names: list[str] = []  # jit would sort a dict's

    @jax.jit
    def step(variables: dict, image: Array) -> list[Array]:
        found = linear.layer_features(task.model, variables, task.preprocess(image), layers)
        names[:] = found
        return list(found.values())

    places = np.linspace(0, len(source) - 1, min(len(source), MOST)).astype(np.int64)
    rows, labels = [], []
    for start in range(0, len(places), experiment.eval_batch_size):
        batch = source.batch(places[start : start + experiment.eval_batch_size])
        rows.append(jax.device_get(step(variables, jnp.asarray(batch["image"]))))
        labels.append(batch["label"])
    whole = (np.concatenate(parts) for parts in zip(*rows, strict=True))
    return dict(zip(names, whole, strict=True)), np.concatenate(labels)


FIGURES = {"augment": augmentations, "linear": linear_classifiers}


def inspect_and_save(
    experiment: Experiment, state: Callable[[], TrainState], workdir: Path, options: ConfigDict
) -> None:
    """Draws one of `FIGURES` into the workdir's figures/.

    Args:
      experiment: the workdir's.
      state: restores the trained state, for those figures that need one.
      workdir: the run's folder.
      options: the fields of `configs.options_of`.

    Raises:
      UserError: there is no figure of that name, or no layer.
    """
    name = options.inspect
    if name not in FIGURES:
        near = nearest(name, FIGURES)
        raise UserError(f"there is no --config.inspect={name}{near or ': it is one of ' + ', '.join(FIGURES)}")
    save_figures(workdir / "figures", {name: FIGURES[name](experiment, state, options)})
    print(f"written: {workdir / 'figures' / name}.png")
