"""What a layer's features are worth: a linear classifier on them, layer by layer.

Zeiler, Fergus 2013, section 5.3 (table 7), asks so how much each layer tells classes apart; Razavian et al. 2014 learn
new problems in this way, without training the network at all.
"""

from collections.abc import Iterable, Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree
from matplotlib.figure import Figure
from ml_collections import ConfigDict
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cnnlab.errors import UserError
from cnnlab.inspect.layers import check_layers, run
from cnnlab.inspect.subject import Subject
from cnnlab.transfer import patterns

MOST = 10_000  # examples at most that are learnt from, and tested on: more would take long, and tell little more


def layer_features(
    model: nn.Module, variables: PyTree, x: Float[Array, "n h w c"], layers: Sequence[str] = ()
) -> dict[str, Float[Array, "n d"]]:
    """The outputs of layers in evaluation mode, in the order of the network; of maps the mean over all places.

    Args:
      model: the network.
      variables: its variables.
      x: its input.
      layers: their paths, "conv5" or "conv2_1/conv1"; none: all at the top.

    Raises:
      UserError: there is no such layer.
    """
    found = run(model, variables, x)[1]
    check_layers(layers, found)
    wanted = layers or [name for name in found if "/" not in name]
    return {name: _pooled(found[name]) for name in wanted}


def _pooled(output: Array) -> Float[Array, "n d"]:
    return jnp.mean(output, tuple(range(1, output.ndim - 1))) if output.ndim > 2 else output


def linear_error(
    train: Float[np.ndarray, "n d"],
    train_labels: Int[np.ndarray, " n"],
    test: Float[np.ndarray, "m d"],
    test_labels: Int[np.ndarray, " m"],
) -> float:
    """The test error, as a fraction, of a logistic regression on standardised features.

    >>> x = np.array([[0.0], [0.1], [1.0], [1.1]], np.float32)
    >>> linear_error(x, np.array([0, 0, 1, 1]), x, np.array([0, 0, 1, 0]))
    0.25
    """
    if len(np.unique(train_labels)) < 2:
        raise UserError(
            f"a linear classifier was to learn from {len(train_labels)} training pictures of one class only: add to "
            "config.examples"
        )
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    return float(np.mean(classifier.fit(train, train_labels).predict(test) != test_labels))


def figure(errors: Mapping[str, float], examples: int) -> Figure:
    """Bars: the error of a linear classifier on each layer's features."""
    drawn = Figure(figsize=(6, 0.35 * len(errors) + 1.2), layout="constrained")
    axes = drawn.add_subplot(xlabel="test error (%)", title=f"A linear classifier on each layer, {examples:,} examples")
    axes.barh(list(errors), [100 * error for error in errors.values()])
    for place, error in enumerate(errors.values()):
        axes.text(100 * error, place, f" {error:.1%}", va="center", fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    return drawn


def draw(subject: Subject, options: ConfigDict) -> dict[str, Figure]:
    """The test error of a linear classifier on the features of each layer, or of config.layers.

    It learns from config.examples training pictures, and is tested on as many of the test set, at most `MOST`.
    """
    layers, most = patterns(options.layers), min(options.examples, MOST)
    train, train_labels = _features(subject, subject.examples(most, train=True), layers)
    test, test_labels = _features(subject, subject.examples(most), layers)
    errors = {}
    for name in train:
        errors[name] = linear_error(train[name], train_labels, test[name], test_labels)
        print(f"{name:24} {train[name].shape[1]:6,} features  error {errors[name]:.2%}", flush=True)
    return {"linear": figure(errors, len(train_labels))}


def _features(
    subject: Subject, batches: Iterable[Mapping[str, np.ndarray]], layers: Sequence[str]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    names: list[str] = []  # jit would sort a dict's

    @jax.jit
    def step(variables: PyTree, image: Array) -> list[Array]:
        x = subject.experiment.task.preprocess(image)
        found = layer_features(subject.model, variables, x, layers)
        names[:] = found
        return list(found.values())

    rows, labels = [], []
    for batch in batches:
        rows.append(jax.device_get(step(subject.variables, jnp.asarray(batch["image"]))))
        labels.append(batch["label"])
    whole = (np.concatenate(parts) for parts in zip(*rows, strict=True))
    return dict(zip(names, whole, strict=True)), np.concatenate(labels)
