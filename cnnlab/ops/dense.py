"""Fully connected layers, and the product that suits those with very many weights."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from cnnlab.ops.bias import add_bias
from cnnlab.ops.forms import tuned

MANY_WEIGHTS = 2**22  # from which on, with
FEW_ROWS = 96  # at most, the product spends its time on reading the weights


def product(x: Float[Array, "*n i"], kernel: Float[Array, "i j"]) -> Float[Array, "*n j"]:
    """x times the weights, on CPUs in the form that XLA does not rearrange very many of them for.

    32 rows and 9216×4096 weights, on two cores of an Intel Xeon: 21 ms against 39, both gradients 24 against 32.
    """
    # Rows are asked for last: those of an exported program, which is never tuned, are not known.
    if tuned() and x.dtype == jnp.float32 and x.ndim == 2 and kernel.size >= MANY_WEIGHTS and x.shape[0] <= FEW_ROWS:
        return lax.dot_general(lax.optimization_barrier(x.T), kernel, (((0,), (0,)), ((), ())))
    return x @ kernel


@jax.custom_vjp
def half_product(x: Float[Array, "n i"], kernel: Float[Array, "i j"]) -> Float[Array, "n j"]:
    """x, of bfloat16, times the float32 weights rounded to bfloat16: float32 sums, and so is the weights' gradient.

    On CPUs only products with such sums use the processor's bfloat16 instructions, where it has them.
    """
    return _forward(x, kernel)[0]


def _sums(a: Array, b: Array, axes: tuple[int, int]) -> Array:
    return lax.dot_general(a, b, ((axes[:1], axes[1:]), ((), ())), preferred_element_type=jnp.float32)


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    kernel = kernel.astype(x.dtype)
    return _sums(x, kernel, (1, 0)), (x, kernel)


def _backward(saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = saved
    g = g.astype(x.dtype)
    return _sums(g, kernel, (1, 1)).astype(x.dtype), _sums(x, g, (0, 0))


half_product.defvjp(_forward, _backward)


class Dense(nn.Module):
    """A fully connected layer of the last axis: parameters "kernel", (input, output), and "bias".

    Attributes:
      features: numbers of output.
      use_bias: whether a bias is added.
      kernel_init, bias_init: of the parameters.
      dtype: of the computation; parameters are float32.
    """

    features: int
    use_bias: bool = True
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    bias_init: nn.initializers.Initializer = nn.initializers.zeros
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "*n i"]) -> Float[Array, "*n j"]:
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        bias = self.param("bias", self.bias_init, (self.features,)) if self.use_bias else None
        if tuned() and self.dtype == jnp.bfloat16:
            x, dtype = x.astype(self.dtype), self.dtype
            y = half_product(x.reshape(-1, x.shape[-1]), kernel).reshape(*x.shape[:-1], self.features)
        else:
            x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
            y, dtype = product(x, kernel), x.dtype
        return (y if bias is None else add_bias(y, bias)).astype(dtype)
