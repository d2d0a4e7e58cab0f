"""R-CNN's warped regions and its judges, by hand."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.models.rcnn import RCNN, Judges, warp_regions


def test_a_region_fills_the_square_but_for_its_context():
    x = jnp.zeros((1, 40, 40, 1)).at[0, 10:20, 4:24].set(1.0)
    (square,) = warp_regions(x, jnp.array([[[4.0, 10.0, 24.0, 20.0]]]), 30, context=5)[0, ..., 0]
    assert np.allclose(square[6:24, 6:24], 1)
    assert np.allclose(square[:4], 0)
    assert np.allclose(square[:, -4:], 0)


def test_context_is_what_lies_around():
    x = jnp.broadcast_to(jnp.arange(40.0)[None, None, :, None], (1, 40, 40, 1))
    (square,) = warp_regions(x, jnp.array([[[10.0, 10.0, 20.0, 20.0]]]), 30, context=10)[0, ..., 0]
    # Ten pixels of the square for ten of the picture: pixel j shows what is at j, less half a pixel for its centre.
    assert np.allclose(square[15, 1:-1], np.arange(1.0, 29.0), atol=1e-4)


def test_beyond_the_picture_is_the_mean():
    (square,) = warp_regions(jnp.ones((1, 10, 10, 1)), jnp.array([[[0.0, 0.0, 10.0, 10.0]]]), 20, context=5)[0, ..., 0]
    assert np.allclose(square[:4], 0)
    assert np.allclose(square[6:14, 6:14], 1)


class Mean(nn.Module):
    """The mean colour of a region, as a map."""

    maps: tuple[str, ...] = ("mean",)

    @nn.compact
    def __call__(self, x, *, train=False):
        return {"mean": x.mean((1, 2), keepdims=True)}


def test_features_and_judges():
    model = RCNN(2, Mean(), size=8, context=0)
    x = jnp.stack([jnp.full((16, 16, 3), 2.0), jnp.full((16, 16, 3), 3.0)])
    boxes = jnp.array([[[2.0, 2.0, 10.0, 9.0]], [[1.0, 1.0, 5.0, 5.0]]])
    variables = model.init(jax.random.key(0), x)
    features = model.apply(variables, x, boxes, method=model.features)
    assert np.allclose(features, [[[2, 2, 2]], [[3, 3, 3]]])
    judges = {
        "scale": jnp.array(2.0),
        "svm_kernel": jnp.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]),
        "svm_bias": jnp.array([0.0, -5.0]),
        "box_kernel": jnp.zeros((3, 2, 4)).at[0, 1, 2].set(4.0),
        "box_bias": jnp.zeros((2, 4)).at[0, 0].set(0.5),
    }
    margins, offsets = Judges(2).apply({"judges": judges}, features)
    assert margins.tolist() == [[[1, -4]], [[1.5, -3.5]]]
    assert offsets[1, 0].tolist() == [[0.5, 0, 0, 0], [0, 0, 6, 0]]
    assert model.apply(variables, features, method=model.classify).shape == (2, 1, 3)
    assert jax.tree.leaves(variables["judges"])
