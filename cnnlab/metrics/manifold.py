"""Samples among real pictures: who is nearest to whom, and how far the two sets overlap.

A model that has only learnt its training pictures by heart is found out by their distance to its samples. Kynkäänniemi
et al. 2019 take balls around each set's examples for its manifold: what of the samples lies in the real one is
precision, what of real pictures lies in the samples' is recall.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from cnnlab.errors import UserError
from cnnlab.metrics.distances import as_rows, blocks, check_alike, squared_distances


def nearest(
    samples: Float[Array | np.ndarray, "n *shape"], train: Float[Array | np.ndarray, "m *shape"], k: int = 1
) -> tuple[Int[np.ndarray, "n k"], Float[np.ndarray, "n k"]]:
    """The k training examples nearest to each sample, the nearest first: their numbers, and their distances in L2.

    Args:
      samples: pictures or features.
      train: alike. It is gone through part by part.
      k: how many of each.

    Raises:
      UserError: examples of different shapes, or fewer than k of them.

    >>> train = np.array([[0.0], [10.0], [4.0]], np.float32)
    >>> index, distances = nearest(np.array([[3.0]], np.float32), train, k=2)
    >>> index.tolist(), distances.tolist()
    ([[2, 0]], [[1.0, 3.0]])
    """
    check_alike(samples, train)
    if not 1 <= k <= len(train):
        raise UserError(f"k is {k}: of {len(train)} examples, 1 to {len(train)} can be the nearest")
    x = as_rows(samples)
    best = jnp.full((len(x), k), jnp.inf), jnp.zeros((len(x), k), jnp.int32)
    for rows in blocks(len(train), len(x) + x.shape[1]):
        best = _nearer(*best, x, as_rows(train[rows]), rows.start)
    return _measured(np.asarray(samples), np.asarray(train), np.asarray(best[1]))


@jax.jit
def _nearer(
    squares: Float[Array, "n k"], index: Int[Array, "n k"], x: Float[Array, "n d"], part: Float[Array, "m d"], start
) -> tuple[Float[Array, "n k"], Int[Array, "n k"]]:
    """The nearest so far, and those of a part of the training set that begins at `start`: the nearest of both."""
    both = jnp.concatenate([squares, squared_distances(x, part)], 1)
    least, place = jax.lax.top_k(-both, squares.shape[1])
    old = jnp.take_along_axis(index, jnp.minimum(place, index.shape[1] - 1), 1)
    return -least, jnp.where(place < index.shape[1], old, start + place - index.shape[1])


def _measured(samples: np.ndarray, train: np.ndarray, index: Int[np.ndarray, "n k"]):
    """The neighbours and their distances again, by differences and in float64: equal pictures are then 0 apart."""
    distances = np.empty(index.shape)
    for i, row in enumerate(index):
        apart = train[row].astype(np.float64) - samples[i]
        distances[i] = np.sqrt(np.square(apart).reshape(len(row), -1).sum(1))
    order = np.argsort(distances, 1, kind="stable")
    return np.take_along_axis(index, order, 1), np.take_along_axis(distances, order, 1)


def manifold_scores(
    real: Float[Array | np.ndarray, "n *shape"], fake: Float[Array | np.ndarray, "m *shape"], k: int = 3
) -> dict[str, float]:
    """Precision, recall, density and coverage, from 0 to 1 (density may be greater).

    Each example has a ball around it that reaches to its k-th nearest neighbour in its own set. "precision" is the
    share of samples in any real picture's ball, "recall" of real pictures in any sample's (Kynkäänniemi et al. 2019,
    equations 1 and 2). An outlier's large ball makes these too great, so Naeem et al. 2020 count: "density" is in how
    many real balls a sample lies on average, over k; "coverage" the share of real balls with a sample in them.

    Args:
      real: features of real pictures.
      fake: features of as many samples.
      k: 3 in the first paper, 5 in the second.

    Raises:
      UserError: features of different shapes, or a set of no more than k examples.

    >>> real, fake = np.array([[0.0], [1.0], [3.0]]), np.array([[0.6], [0.7], [9.0]])
    >>> scores = manifold_scores(real, fake, k=1)
    >>> {name: round(score, 4) for name, score in scores.items()}
    {'precision': 0.6667, 'recall': 0.6667, 'density': 1.3333, 'coverage': 0.6667}
    """
    check_alike(real, fake)
    radii, own_radii = (jnp.asarray(_radii(x, k), jnp.float32) for x in (real, fake))
    x, inside = as_rows(real), 0
    precise, recalled, covered = [], np.zeros(len(real), bool), np.zeros(len(real), bool)
    for rows in blocks(len(fake), len(real)):
        balls, in_fake, hit = _overlap(x, radii, as_rows(fake[rows]), own_radii[rows])
        precise.append(np.asarray(balls) > 0)
        inside += int(np.asarray(balls, np.int64).sum())
        recalled |= np.asarray(in_fake)
        covered |= np.asarray(hit)
    return {
        "precision": float(np.concatenate(precise).mean()),
        "recall": float(recalled.mean()),
        "density": inside / (k * len(fake)),
        "coverage": float(covered.mean()),
    }


def _radii(x: Float[Array | np.ndarray, "n *shape"], k: int) -> Float[np.ndarray, " n"]:
    """How far each example's k-th nearest neighbour in its own set is, itself left out."""
    if not 1 <= k < len(x):
        raise UserError(f"k is {k}: in a set of {len(x)} examples each has 1 to {len(x) - 1} neighbours")
    return nearest(x, x, k + 1)[1][:, -1]  # the nearest of all is the example itself


@jax.jit
def _overlap(
    real: Float[Array, "n d"], radii: Float[Array, " n"], fake: Float[Array, "m d"], own_radii: Float[Array, " m"]
) -> tuple[Int[Array, " m"], Bool[Array, " n"], Bool[Array, " n"]]:
    """In how many real balls each sample lies; which real pictures lie in a sample's ball, which have one in theirs."""
    squares = squared_distances(fake, real)
    inside = squares <= jnp.square(radii)
    return inside.sum(1), (squares <= jnp.square(own_radii)[:, None]).any(0), inside.any(0)
