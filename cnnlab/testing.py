"""Testing as the papers test: the class probabilities are averaged over views of a picture, and over several nets."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, UInt8

from cnnlab.errors import UserError
from cnnlab.metrics.classification import ClassificationMetrics
from cnnlab.ops.forms import loops

Views = UInt8[Array, "n v h w c"] | Sequence[UInt8[Array, "n _ _ _ c"]]
AT_ONCE = 256 * 224 * 224  # pixels that a net is applied to together, more only where the batch itself has more


def average_views(
    logits_of: Callable[[UInt8[Array, "m h w c"]], Float[Array, "m k"]], views: Views, at_once: int = AT_ONCE
) -> Float[Array, "n k"]:
    """The logarithm of the mean over all views of the softmax of a net's outputs.

    The logarithms serve as logits: their softmax is the mean probability, and they stay finite where a probability is
    too small for a float. Views are averaged, softmax first, in AlexNet's paper, section 4.1, and GoogLeNet's, 7.

    Args:
      logits_of: the net, of pictures as they are stored.
      views: `data/crops.py` makes them; several arrays where the views differ in size. Every view counts the same.
      at_once: how many pixels the net sees at a time, at least one view of the batch, which bounds the memory of its
        maps. On GPUs and TPUs the views go through a loop; on CPUs, where convolutions in loops are slow, a copy of the
        net is compiled for each part: a smaller batch needs fewer.

    >>> views = jnp.array([10, 30], jnp.uint8).reshape(1, 2, 1, 1, 1)
    >>> mean = average_views(lambda pictures: jnp.log(jnp.hstack([p := pictures[:, 0, 0] / 100, 1 - p])), views)
    >>> [[round(p, 3) for p in row] for row in jnp.exp(mean).tolist()]
    [[0.2, 0.8]]
    """
    groups = list(views) if isinstance(views, Sequence) else [views]
    sums = [_log_sum(logits_of, group, at_once) for group in groups]
    return jax.nn.logsumexp(jnp.stack(sums), 0) - np.float32(np.log(sum(group.shape[1] for group in groups)))


def _log_sum(logits_of: Callable, views: UInt8[Array, "n v h w c"], at_once: int) -> Float[Array, "n k"]:
    """The logarithm of the sum of the views' probabilities."""
    n, v, height, width = views.shape[:4]
    room = max(1, at_once // (n * height * width))
    together = next(k for k in range(min(v, room), 0, -1) if v % k == 0)

    def part(first):
        some = lax.dynamic_slice_in_dim(views, first, together, 1).reshape(n * together, *views.shape[2:])
        log_probabilities = jax.nn.log_softmax(logits_of(some))
        return jax.nn.logsumexp(log_probabilities.reshape(n, together, -1), 1)

    starts = range(0, v, together)
    if loops() and len(starts) > 1:
        return jax.nn.logsumexp(lax.map(part, jnp.array(starts)), 0)
    parts = [part(0)]
    for first in starts[1:]:
        # Each part waits for the one before, which adds 0, for no sum of v probabilities is above v: XLA would else
        # begin them all and hold the maps of all. (A barrier it may remove.)
        parts.append(part(first + jnp.any(parts[-1] > v)))
    return jax.nn.logsumexp(jnp.stack(parts), 0)


def average_probabilities(probabilities: Sequence[Float[np.ndarray, "n k"]]) -> Float[np.ndarray, "n k"]:
    """The mean of several nets' class probabilities for the same pictures, each net counting the same.

    The ensembles of all three papers: AlexNet's of five and seven nets, VGG's (section 4.4), GoogLeNet's of seven.

    >>> average_probabilities([np.array([[0.25, 0.75]]), np.array([[0.75, 0.25]])]).tolist()
    [[0.5, 0.5]]

    Raises:
      UserError: none are given, or they are of different numbers of pictures or classes.
    """
    shapes = sorted({np.shape(array) for array in probabilities})
    if len(shapes) != 1:
        found = " and ".join(f"{pictures} pictures and {classes} classes" for pictures, classes in shapes) or "nothing"
        raise UserError(f"only probabilities of the same pictures and classes can be averaged; these are of {found}")
    return np.mean(np.stack(list(probabilities)), 0)


def score(
    probabilities: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"], index: Int[np.ndarray, " n"] | None = None
) -> ClassificationMetrics:
    """Loss, top-1 and top-5 error, confusions and mistakes of class probabilities, as an evaluation adds them up.

    Args:
      probabilities: of each class, for each picture.
      labels: the true classes.
      index: the pictures' places in the data set; by default 0, 1, 2 …

    >>> score(np.array([[0.75, 0.25], [0.75, 0.25]]), np.array([0, 1])).compute()["error"]
    0.5
    """
    own = np.take_along_axis(probabilities, labels[:, None], 1)
    predicted = np.argmax(probabilities, -1)
    metrics = ClassificationMetrics(probabilities.shape[1])
    metrics.add(
        {
            "mask": np.ones(len(labels), np.float32),
            "index": np.arange(len(labels)) if index is None else index,
            "label": labels,
            "predicted": predicted,
            "probability": np.take_along_axis(probabilities, predicted[:, None], 1)[:, 0],
            # A probability of 0 is one too small for float32.
            "loss": -np.log(np.maximum(own[:, 0], np.finfo(np.float32).tiny)),
            "rank": np.sum(probabilities > own, -1),
        }
    )
    return metrics
