"""Feature pyramid network: Lin, Dollár, Girshick, He, Hariharan, Belongie, 2016, section 3, figure 3."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from cnnlab.ops.conv import Conv


def enlarge(x: Float[Array, "n h w c"], height: int, width: int) -> Float[Array, "n height width c"]:
    """A map at a larger size, each value from its nearest neighbour: row i from row ⌊i · h / height⌋.

    >>> enlarge(jnp.array([[[[1.0], [2.0]]]]), 2, 4)[0, :, :, 0].tolist()
    [[1.0, 1.0, 2.0, 2.0], [1.0, 1.0, 2.0, 2.0]]
    """
    n, h, w, c = x.shape
    if (height, width) == (2 * h, 2 * w):  # without a gather, whose gradient is slow on CPUs
        doubled = jnp.broadcast_to(x[:, :, None, :, None], (n, h, 2, w, 2, c))
        return doubled.reshape(n, height, width, c)
    return x[:, jnp.arange(height) * h // height][:, :, jnp.arange(width) * w // width]


class FPN(nn.Module):
    """Maps of one width at every scale, each informed by all coarser ones.

    Attributes:
      channels: of the maps made; d in the paper.
      coarser: add one map more: every second row and column of the coarsest, for the largest anchors.
      dtype: of the computation; parameters are float32.

    A map is the sum of a 1×1 convolution of the backbone's ("lateral") and of the enlarged coarser one, smoothed by a
    3×3 convolution ("output"); layers are numbered from the finest.
    """

    channels: int = 256
    coarser: bool = True
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, maps: Sequence[Float[Array, "n _ _ _"]]) -> tuple[Float[Array, "n _ _ d"], ...]:
        """From the backbone's maps, the finest first, those of the pyramid, likewise."""

        def conv(kernel: int, name: str) -> Conv:
            init = nn.initializers.lecun_uniform()
            return Conv(self.channels, kernel, padding=kernel // 2, kernel_init=init, dtype=self.dtype, name=name)

        above, made = None, []
        for level in range(len(maps), 0, -1):
            x = conv(1, f"lateral{level}")(maps[level - 1])
            above = x if above is None else x + enlarge(above, *x.shape[1:3])
            made.insert(0, conv(3, f"output{level}")(above))
        return (*made, made[-1][:, ::2, ::2]) if self.coarser else tuple(made)
