"""What a layer's features are worth: a linear classifier on them, layer by layer.

Zeiler, Fergus 2013, section 5.3 (table 7), asks so how much each layer tells classes apart; Razavian et al. 2014 learn
new problems in this way, without training the network at all.
"""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree
from matplotlib.figure import Figure
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cnnlab.errors import UserError, nearest


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
    _, kept = model.apply(variables, x, train=False, capture_intermediates=True, mutable=["intermediates"])
    found = {}

    def visit(tree: Mapping, path: tuple[str, ...]) -> None:
        for name, value in tree.items():
            if name == "__call__":
                if path and isinstance(value[0], jax.Array):
                    found["/".join(path)] = value[0]
            elif isinstance(value, Mapping):
                visit(value, (*path, name))

    visit(kept["intermediates"], ())
    for layer in layers:
        if layer not in found:
            raise UserError(f"there is no layer {layer!r}{nearest(layer, found)}: there are {', '.join(found)}")
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
