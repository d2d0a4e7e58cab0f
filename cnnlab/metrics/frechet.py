"""The Fréchet distance of two sets of features, each taken for a Gaussian: Heusel et al. 2017, equation 6.

The paper's FID takes features of one published Inception network. With features of another network, as
`inspect/linear.py` gives them, figures are of use beside one another and not beside published ones.
"""

import dataclasses

import numpy as np
from jaxtyping import Array, Float

from cnnlab.errors import UserError


@dataclasses.dataclass(frozen=True)
class Moments:
    """Where examples lie and how they scatter, in float64.

    Attributes:
      count: how many examples.
      mean: of their features.
      scatter: Σ (x − mean)(x − mean)ᵀ.
    """

    count: int
    mean: Float[np.ndarray, " d"]
    scatter: Float[np.ndarray, "d d"]

    @property
    def covariance(self) -> Float[np.ndarray, "d d"]:
        """Unbiased: the scatter over count − 1.

        Raises:
          UserError: there are fewer than two examples.
        """
        if self.count < 2:
            raise UserError(f"{self.count} example has no covariance: there must be two at least, and better thousands")
        return self.scatter / (self.count - 1)


def moments(features: Float[Array | np.ndarray, "n d"]) -> Moments:
    """Of some examples.

    >>> found = moments(np.array([[0.0], [2.0], [4.0], [6.0]]))
    >>> found.count, found.mean.tolist(), found.covariance.round(4).tolist()
    (4, [3.0], [[6.6667]])
    """
    x = np.asarray(features, np.float64)
    mean = x.mean(0)
    return Moments(len(x), mean, (x - mean).T @ (x - mean))


def frechet_distance(first: Moments, second: Moments) -> float:
    """|m₁ − m₂|² + tr(C₁ + C₂ − 2 (C₁ C₂)^½), the square of the distance, as it is always given; NaN of what is not
    finite.

    Few examples make it greater: take as many for each set that is to be compared, and more than there are features.

    Raises:
      UserError: a set has fewer than two examples, or the two have different features.

    >>> one, other = moments(np.array([[0.0], [2.0]])), moments(np.array([[5.0], [5.0]]))
    >>> round(frechet_distance(one, other), 9)  # (1 − 5)² + 2: the other does not vary
    18.0
    """
    if first.mean.shape != second.mean.shape:
        raise UserError(f"{len(first.mean)} features cannot be compared with {len(second.mean)}")
    apart = float(np.square(first.mean - second.mean).sum())
    covariances = first.covariance, second.covariance
    if not np.isfinite(apart + sum(covariance.sum() for covariance in covariances)):
        return float("nan")
    # With C = F Fᵀ, tr (C₁ C₂)^½ is the sum of the singular values of F₁ᵀ F₂. Unlike the root of C₁ C₂, which is not
    # symmetric, this needs no root of what rounding has made negative, and covariances may be singular.
    common = float(np.linalg.svd(_factor(covariances[0]).T @ _factor(covariances[1]), compute_uv=False).sum())
    return max(0.0, apart + sum(float(np.trace(covariance)) for covariance in covariances) - 2 * common)


def _factor(covariance: Float[np.ndarray, "d d"]) -> Float[np.ndarray, "d d"]:
    """An F with F Fᵀ = covariance; eigenvalues that rounding has made negative count as 0."""
    values, vectors = np.linalg.eigh(covariance)
    return vectors * np.sqrt(np.maximum(values, 0))
