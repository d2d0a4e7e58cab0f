"""Log-likelihood by Gaussian Parzen windows: what pictures' density is where a model has put its samples.

Goodfellow et al. 2014, section 5, after Breuleux, Bengio, Vincent 2011: around each of some 10,000 samples a Gaussian
of one width σ, chosen on validation pictures; the score is the mean log-density of test pictures. It varies much and is
poor in high dimensions, as Goodfellow et al. say, but it can be had of a model that only draws. Theis, van den Oord,
Bethge 2015 show how it misleads: models that draw better pictures may score worse.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cnnlab.errors import UserError
from cnnlab.metrics.distances import as_rows, blocks, check_alike, squared_distances

# The grid of the authors' published code. Pixels are from 0 to 1, so that 1 is as wide as what there is.
SIGMAS = tuple(float(sigma) for sigma in np.logspace(-1, 0, 10))


class ParzenScore(NamedTuple):
    """A model's score.

    Attributes:
      mean: of the test examples' log-densities, in nats.
      standard_error: of that mean, over the test examples; NaN of a single one. It does not say how the score would
        vary with other samples or another training.
      sigma: the windows' width.
    """

    mean: float
    standard_error: float
    sigma: float


def log_likelihoods(
    samples: Float[Array | np.ndarray, "n *shape"], x: Float[Array | np.ndarray, "m *shape"], sigmas: Sequence[float]
) -> Float[np.ndarray, "s m"]:
    """The log-density of each x, in nats, for each σ: log 1/n Σ N(x; sample, σ² I).

    Args:
      samples: what the model has drawn; pixels from 0 to 1.
      x: what is to be scored, alike.
      sigmas: widths of the windows. They share the distances, which are most of the work.

    Raises:
      UserError: examples of different shapes, none at all, or a σ that is not above 0.

    >>> one = np.zeros((1, 1), np.float32)
    >>> log_likelihoods(one, one, [1.0]).round(4).tolist()  # −½ log 2π
    [[-0.9189]]
    """
    check_alike(samples, x)
    if not len(sigmas) or min(sigmas) <= 0:
        raise UserError(f"the widths of Parzen windows are {list(sigmas)}: there must be some, all above 0")
    widths, drawn = np.asarray(sigmas, np.float64)[:, None], as_rows(samples)
    scales = jnp.asarray(1 / (2 * widths[:, 0] ** 2), jnp.float32)
    sums = np.concatenate([_log_sums(drawn, as_rows(x[rows]), scales) for rows in blocks(len(x), len(drawn))], 1)
    return sums.astype(np.float64) - math.log(len(drawn)) - drawn.shape[1] * np.log(widths * math.sqrt(2 * math.pi))


@jax.jit
def _log_sums(samples: Float[Array, "n d"], x: Float[Array, "m d"], scales: Float[Array, " s"]) -> Float[Array, "s m"]:
    """log Σ exp(−scale · |x − sample|²) over the samples."""
    squares = squared_distances(x, samples)
    # One after the other: all at once would need their memory at once.
    return jax.lax.map(lambda scale: jax.nn.logsumexp(-scale * squares, axis=1), scales)


def choose_sigma(
    samples: Float[Array | np.ndarray, "n *shape"],
    validation: Float[Array | np.ndarray, "m *shape"],
    sigmas: Sequence[float] = SIGMAS,
) -> float:
    """Of some σ the one that gives validation examples, which must not be the test's, the greatest mean log-density.

    The first where several do. If it is at an end of the grid, a wider grid would be better.
    """
    return float(sigmas[int(log_likelihoods(samples, validation, sigmas).mean(1).argmax())])


def parzen(
    samples: Float[Array | np.ndarray, "n *shape"],
    validation: Float[Array | np.ndarray, "v *shape"],
    test: Float[Array | np.ndarray, "m *shape"],
    sigmas: Sequence[float] = SIGMAS,
) -> ParzenScore:
    """The score of the paper's table 1: σ by the validation examples, then the test examples' mean log-density.

    The authors' code takes 10,000 samples, 1,000 validation pictures and all 10,000 test pictures. With 10,000 training
    digits of MNIST in the samples' place, the score is 243.6 ± 2.1 at σ = 0.17.

    Args:
      samples: what the model has drawn; pixels from 0 to 1. More of them give a higher score.
      validation: neither trained on nor tested on.
      test: what the score is of.
      sigmas: the grid; one σ leaves nothing to choose.

    Raises:
      UserError: as `log_likelihoods`.
    """
    sigma = choose_sigma(samples, validation, sigmas)
    found = log_likelihoods(samples, test, [sigma])[0]
    error = float(found.std(ddof=1)) / math.sqrt(len(found)) if len(found) > 1 else math.nan
    return ParzenScore(float(found.mean()), error, sigma)
