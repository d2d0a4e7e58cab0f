"""ZCA whitening of a network's inputs: neighbouring pixels, which know most of each other, are made independent.

Krizhevsky 2009, "Learning multiple layers of features from tiny images", appendix A.
"""

from collections.abc import Iterable

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from cnnlab.ops.receptive_field import INPUT


class Whitening(nn.Module):
    """(x − mean) · matrix, all pixels and channels of a picture being one row of numbers.

    Both lie in the collection "whitening", in float32, and training leaves them alone: `begin.whitened` sets them
    before the first step. Until then nothing is changed.

    A whitened pixel depends on all others, though on few of them much. Receptive fields are counted from here on.
    """

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        rows = x.reshape(len(x), -1)
        mean = self.variable("whitening", "mean", jnp.zeros, rows.shape[1:])
        matrix = self.variable("whitening", "matrix", jnp.eye, rows.shape[1])
        white = jnp.matmul(rows - mean.value, matrix.value, precision="highest")
        return checkpoint_name(white.reshape(x.shape), INPUT)


def zca(inputs: Iterable[Float[np.ndarray, "_ h w c"]], bias: float = 0.1) -> dict[str, np.ndarray]:
    """The "mean" and the "matrix" of `Whitening`: inputs then have mean 0 and a covariance that is nearly the identity.

    The matrix is V diag(1 / √(λ + bias)) Vᵀ with the covariance's eigenvectors V and eigenvalues λ: of all matrices
    that whiten, the one that changes pictures least.

    Args:
      inputs: all pictures, in parts of any size.
      bias: added to the eigenvalues, so that directions in which pictures hardly differ are not blown up; the default
        is that of Goodfellow et al. 2013 ("Maxout networks") in their published code.
    """
    count, total, products = 0, 0.0, 0.0
    for part in inputs:
        rows = part.reshape(len(part), -1)
        count, total = count + len(rows), total + rows.sum(0, dtype=np.float64)
        products = products + (rows.T @ rows).astype(np.float64)
    mean = total / count
    values, vectors = np.linalg.eigh(products / count - np.outer(mean, mean))
    matrix = (vectors / np.sqrt(np.maximum(values, 0) + bias)) @ vectors.T
    return {"mean": mean.astype(np.float32), "matrix": matrix.astype(np.float32)}
