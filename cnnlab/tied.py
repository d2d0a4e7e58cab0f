"""Replicated features: copies of a weight that begin equal and get the same update stay equal.

To keep w₁ = w₂ it takes Δw₁ = Δw₂, so both are given ∂E/∂w₁ + ∂E/∂w₂ for a gradient. A locally connected layer that is
so trained is a convolution (LeCun et al., "Backpropagation applied to handwritten zip code recognition", 1989).
"""

import jax.numpy as jnp
import optax
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float, PyTree

from cnnlab.errors import UserError
from cnnlab.ops.locally_connected import everywhere
from cnnlab.transfer import check_patterns, matches

COMBINE = {"sum": jnp.sum, "mean": jnp.mean}


def tied(layers: tuple[str, ...], combine: str = "sum") -> optax.GradientTransformation:
    """The first part of a chain: each place's gradient becomes the sum or the mean of those of all places.

    The sum is the gradient of a convolution's weight, as that weight is used at every place: whatever follows in the
    chain, the update is the convolution's (but for a clipped norm, to which every copy adds). The mean is smaller by
    the number of places. Under descent, with momentum or without, it gives the convolution's update at the rate divided
    by that number, which differs from layer to layer. Adam divides the scale of a gradient out: under it both give
    the convolution's update, the mean up to ε.

    Args:
      layers: patterns of locally connected layers, see `transfer.matches`: the first two dimensions of their parameters
        are places. Convolutions must not be among them.
      combine: "sum" or "mean".

    >>> transform = tied(("conv",))
    >>> grads = {"conv": {"bias": jnp.array([[[1.0], [2.0]]])}, "fc": {"bias": jnp.array([1.0, 2.0])}}
    >>> updates, _ = transform.update(grads, transform.init(grads))
    >>> updates["conv"]["bias"].tolist(), updates["fc"]["bias"].tolist()
    ([[[3.0], [3.0]]], [1.0, 2.0])

    Raises:
      UserError: a pattern names no layer, or `combine` is unknown.
    """
    if combine not in COMBINE:
        raise UserError(f'gradients of copies are combined by "{combine}"; it must be "sum" or "mean"')

    def init(params: PyTree) -> optax.EmptyState:
        check_patterns("tied layers", layers, params)
        return optax.EmptyState()

    def together(gradient: Array) -> Array:
        return jnp.broadcast_to(COMBINE[combine](gradient, (0, 1), keepdims=True), gradient.shape)

    def update(updates: PyTree, state: optax.EmptyState, params: PyTree = None) -> tuple[PyTree, optax.EmptyState]:
        flat = flatten_dict(updates)
        new = {path: together(leaf) if matches(path[:-1], layers) else leaf for path, leaf in flat.items()}
        return unflatten_dict(new), state

    return optax.GradientTransformation(init, update)


def apart(params: PyTree, layers: tuple[str, ...]) -> Float[Array, ""]:
    """The greatest difference between two copies of a weight or a bias, over all of some locally connected layers.

    Args:
      params: of the network.
      layers: as of `tied`.

    >>> float(apart({"conv": {"bias": jnp.array([[[1.0, 5.0], [2.0, 5.0]]])}}, ("conv",)))
    1.0
    """
    copies = [leaf for path, leaf in flatten_dict(params).items() if matches(path[:-1], layers)]
    return jnp.max(jnp.stack([jnp.max(leaf.max((0, 1)) - leaf.min((0, 1))) for leaf in copies]))


def replicated(shared: PyTree, untied: PyTree) -> PyTree:
    """A convolutional network's parameters as those of the net that has copies of them at every place.

    Args:
      shared: of the convolutional net.
      untied: of the other, or their shapes: the same names, and places in front where a layer is locally connected.

    >>> both = replicated({"conv": {"bias": jnp.array([5.0])}}, {"conv": {"bias": jnp.zeros((1, 2, 1))}})
    >>> both["conv"]["bias"].tolist()
    [[[5.0], [5.0]]]
    """
    like = flatten_dict(untied)

    def copied(path: tuple[str, ...], leaf: Array) -> Array:
        shape = like[path].shape
        if leaf.shape == shape:
            return leaf
        return everywhere(leaf, shape[:2]) if leaf.ndim == 4 else jnp.broadcast_to(leaf, shape)

    return unflatten_dict({path: copied(path, leaf) for path, leaf in flatten_dict(shared).items()})
