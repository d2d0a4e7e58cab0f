"""Fully connected layers made faster after training, by truncated singular values (Girshick 2015, section 3.1)."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnlab.errors import UserError


def low_rank(
    kernel: Float[Array, "u v"], rank: int
) -> tuple[Float[Array, "u rank"], Float[Array, "rank v"], Float[Array, ""]]:
    """The kernels of two layers, one after the other, that together come as near as possible to one layer's.

    With W ≈ U Σ Vᵀ, of the largest singular values alone, the first layer is Σ Vᵀ and has no bias, the second is U and
    has that of the layer replaced. u · v weights become rank · (u + v).

    Args:
      kernel: as in `flax.linen.Dense`: inputs by outputs, which is the paper's W transposed.
      rank: the number of singular values that are kept, t in the paper: 1024 for VGG16's fc6 and 256 for fc7.

    Returns:
      Both kernels, inputs by outputs, and the share of the squares of all weights that is kept, 0 to 1.

    Raises:
      UserError: the rank is not among 1 … min(u, v).

    >>> first, second, kept = low_rank(jnp.array([[3.0, 0.0], [0.0, 1.0], [0.0, 0.0]]), 1)
    >>> (first @ second).round(5).tolist(), round(float(kept), 5)
    ([[3.0, 0.0], [0.0, 0.0], [0.0, 0.0]], 0.9)
    """
    if not 1 <= rank <= min(kernel.shape):
        u, v = kernel.shape
        raise UserError(f"a layer of {u}×{v} weights can be cut to a rank of 1 to {min(u, v)}, not {rank}")
    v, sigma, u = jnp.linalg.svd(kernel, full_matrices=False)
    squares = jnp.square(sigma)
    total = squares.sum()
    kept = jnp.where(total > 0, squares[:rank].sum() / jnp.where(total > 0, total, 1), 1.0)
    return v[:, :rank] * sigma[:rank], u[:rank], kept
