"""VGG applied densely: its fully connected layers as convolutions over pictures larger than it was trained on.

Paper: Simonyan, Zisserman 2014, section 3.2, after Sermanet et al. 2014 ("OverFeat").
"""

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnlab.errors import UserError
from cnnlab.models.vgg import VGG
from cnnlab.ops.activations import relu
from cnnlab.ops.conv import check_fit, conv2d


def dense_apply(
    model: VGG, variables: Mapping[str, Any], pictures: Float[Array, "n h w 3"]
) -> Float[Array, "n h2 w2 k"]:
    """The class score map: what the net says of every window of its own input size, one every 32 pixels.

    fc6 becomes a convolution with filters of the map that it was trained on (7×7 for pictures of 224×224), fc7 and fc8
    become 1×1. On pictures of the size that the net was trained on the map has one place, the net's logits; elsewhere
    the borders differ, for the neighbours of a window are pictures here and zeros there.

    Args:
      model: any configuration.
      variables: "params", and "batch_stats" where the model has them, of pictures of one size.
      pictures: preprocessed, of that size or larger.

    Raises:
      UserError: the pictures are smaller than those that the net was trained on, or those were not square.
    """
    maps = _pool5(model, variables, pictures)
    layers = [variables["params"][name] for name in ("fc6", "fc7", "fc8")]
    rows, channels = layers[0]["kernel"].shape[0], maps.shape[-1]
    window = math.isqrt(rows // channels)
    if window * window * channels != rows:
        raise UserError(f"fc6 has {rows} inputs, which are no square of {channels} maps: dense testing needs squares")
    check_fit("fc6", maps.shape[1:3], (window, window), (1, 1), (0, 0))
    for i, layer in enumerate(layers):
        x = maps if i == 0 else relu(x)
        side = window if i == 0 else 1
        x, kernel, bias = nn.dtypes.promote_dtype(x, layer["kernel"], layer["bias"], dtype=model.dtype)
        x = conv2d(x, kernel.reshape(side, side, x.shape[-1], -1)) + bias
    return x.astype(jnp.float32)


def dense_scores(model: VGG, variables: Mapping[str, Any], pictures: Float[Array, "n h w 3"]) -> Float[Array, "n k"]:
    """The logits of whole pictures: the mean of `dense_apply`'s class score map over its places (section 3.2)."""
    return dense_apply(model, variables, pictures).mean((1, 2))


class Dense(nn.Module):
    """`dense_scores` as a network with VGG's own variables, to put in VGG's place in a task when it is tested.

    Attributes:
      model: a VGG. Its variables are those of this module.
    """

    model: VGG

    def setup(self):
        nn.share_scope(self, self.model)

    def __call__(self, x: Float[Array, "n h w 3"], *, train: bool = False) -> Float[Array, "n k"]:
        """The logits; in initialisation the variables are made for pictures of x's size.

        Raises:
          UserError: in training.
        """
        if train:
            raise UserError("a densely applied VGG is for testing only: train the VGG itself")
        if self.is_initializing():
            return self.model(x)
        return dense_scores(self.model.clone(parent=None), self.variables, x)


def _pool5(model: VGG, variables: Mapping[str, Any], pictures: Float[Array, "n h w 3"]) -> Float[Array, "n h2 w2 c"]:
    """The last pooling layer's maps. The layers after it, which fit one size of picture only, are passed over."""
    kept = []

    def watch(call, arguments, options, context):
        layer, whole = context.module.name, context.method_name == "__call__"
        if layer == "fc6":
            return jnp.zeros((len(pictures), variables["params"]["fc7"]["kernel"].shape[0]))
        result = call(*arguments, **options)
        if layer == "pool5" and whole:
            kept.append(result)
        return result

    with nn.intercept_methods(watch):
        model.apply(variables, pictures, train=False)
    return kept[0]
