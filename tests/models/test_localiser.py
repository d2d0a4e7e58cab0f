"""Localisers: what both layers see by hand, boxes shared and of each class, the networks' sizes."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.errors import UserError
from cnnlab.models.localiser import LOCALISERS, Localiser
from tests.small import count

KEY = jax.random.key(0)


class Given(nn.Module):
    """A backbone whose maps are the picture and its double, flattened or not."""

    maps: tuple[str, ...] = ("half", "whole")
    flat: bool = False

    def __call__(self, x, *, train=False):
        shape = (len(x), -1) if self.flat else x.shape
        return {"half": 0.5 * x, "whole": x.reshape(shape)}


PICTURES = jnp.array([[[[1.0, 2.0], [3.0, 6.0]]], [[[0.0, 1.0], [0.0, 1.0]]]])  # 2 of 1×2 with 2 channels


def applied(model, params):
    return model.apply({"params": params}, PICTURES, train=False)


def test_scores_see_the_mean_and_boxes_all_places():
    model = Localiser(2, Given())
    params = {
        "scores": {"kernel": jnp.array([[1.0, 0.0], [0.0, 10.0]]), "bias": jnp.array([0.0, 1.0])},
        "boxes": {"kernel": jnp.eye(4), "bias": jnp.array([0.0, 0.0, 0.0, 100.0])},
    }
    scores, boxes = applied(model, params)
    assert scores.tolist() == [[2.0, 41.0], [0.0, 11.0]]  # means 2, 4 and 0, 1
    assert boxes.tolist() == [[[1.0, 2.0, 3.0, 106.0]], [[0.0, 1.0, 0.0, 101.0]]]


def test_a_vector_is_seen_by_both_as_it_is():
    model = Localiser(1, Given(flat=True))
    params = {
        "scores": {"kernel": jnp.array([[1.0], [0.0], [0.0], [1.0]]), "bias": jnp.zeros(1)},
        "boxes": {"kernel": jnp.eye(4), "bias": jnp.zeros(4)},
    }
    scores, boxes = applied(model, params)
    assert scores.tolist() == [[7.0], [1.0]]
    assert boxes[:, 0].tolist() == [[1.0, 2.0, 3.0, 6.0], [0.0, 1.0, 0.0, 1.0]]


def test_a_box_for_each_class():
    model = Localiser(3, Given(), per_class=True)
    kernel = jnp.concatenate([k * jnp.eye(4) for k in (1, 2, 3)], 1)
    params = {
        "scores": {"kernel": jnp.zeros((2, 3)), "bias": jnp.zeros(3)},
        "boxes": {"kernel": kernel, "bias": jnp.zeros(12)},
    }
    _, boxes = applied(model, params)
    assert boxes.shape == (2, 3, 4)
    assert boxes[0].tolist() == [[1, 2, 3, 6], [2, 4, 6, 12], [3, 6, 9, 18]]


def test_the_hidden_layer_is_rectified_and_the_boxes_alone_see_it():
    model = Localiser(1, Given(), hidden=2)
    params = {
        "fc": {"kernel": jnp.array([[1.0, -1.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]), "bias": jnp.array([0.5, 0.5])},
        "scores": {"kernel": jnp.ones((2, 1)), "bias": jnp.zeros(1)},
        "boxes": {"kernel": jnp.array([[1.0, 0, 0, 0], [0, 1.0, 0, 0]]), "bias": jnp.zeros(4)},
    }
    scores, boxes = applied(model, params)
    assert scores.tolist() == [[6.0], [1.0]]
    assert boxes[:, 0].tolist() == [[1.5, 0, 0, 0], [0.5, 0.5, 0, 0]]


@pytest.mark.parametrize("per_class", [False, True])
def test_boxes_begin_in_the_middle(per_class):
    model = Localiser(3, Given(), per_class)
    variables = model.init(KEY, PICTURES)
    assert variables["params"]["boxes"]["bias"].tolist() == [0.5] * (12 if per_class else 4)
    _, boxes = model.apply(variables, PICTURES)
    assert np.abs(np.asarray(boxes) - 0.5).max() < 0.3


def test_dropout_is_before_both_layers_in_training_only():
    model = Localiser(1, Given(), dropout=0.5)
    x = jnp.ones((400, 1, 2, 2))
    params = {
        "scores": {"kernel": jnp.full((2, 1), 0.5), "bias": jnp.zeros(1)},
        "boxes": {"kernel": jnp.eye(4), "bias": jnp.zeros(4)},
    }
    scores, boxes = model.apply({"params": params}, x, train=True, rngs={"dropout": KEY})
    assert set(np.unique(boxes)) == {0.0, 2.0}
    assert float(boxes.mean()) == pytest.approx(1.0, abs=0.1)
    np.testing.assert_allclose(scores[:, 0], boxes[:, 0].mean(-1), rtol=1e-6)
    scores, boxes = model.apply({"params": params}, x, train=False)
    assert (scores == 1).all()
    assert (boxes == 1).all()


def shapes_of(name, size, num_classes, **fields):
    model = LOCALISERS[name](num_classes=num_classes, **fields)
    x = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    variables = jax.eval_shape(model.init, KEY, x)
    scores, boxes = jax.eval_shape(model.apply, variables, x)
    return variables["params"], scores.shape, boxes.shape


# Of the classifiers with 1000 classes, whose sizes the papers and torchvision agree on; the boxes' layer comes on top.
VGG16, ALEXNET, RESNET18 = 138_357_544, 60_965_224, 11_689_512


def test_vgg_as_in_the_paper():
    params, scores, boxes = shapes_of("vgg16", 224, 1000)
    assert count(params) == VGG16 + 4097 * 4
    assert (scores, boxes) == ((2, 1000), (2, 1, 4))
    params, _, boxes = shapes_of("vgg16", 224, 1000, per_class=True)
    assert count(params) == VGG16 + 4097 * 4000
    assert boxes == (2, 1000, 4)
    assert set(params) == {"backbone", "scores", "boxes"}
    assert "fc8" not in params["backbone"]


def test_other_backbones():
    params, *_ = shapes_of("alexnet", 227, 1000)
    assert count(params) == ALEXNET + 4097 * 4
    params, *_ = shapes_of("resnet18", 224, 1000)
    assert count(params) == RESNET18 + (7 * 7 * 512 + 1) * 1024 + 1025 * 4


@pytest.mark.parametrize(
    ("name", "size"), [(n, 227 if n == "alexnet" else 64 if n == "small" else 224) for n in LOCALISERS]
)
@pytest.mark.parametrize("per_class", [False, True])
def test_every_one_gives_scores_and_boxes(name, size, per_class):
    _, scores, boxes = shapes_of(name, size, 5, per_class=per_class)
    assert scores == (2, 5)
    assert boxes == (2, 5 if per_class else 1, 4)


def test_too_small_pictures_are_a_mistake_of_the_user():
    with pytest.raises(UserError):
        shapes_of("alexnet", 32, 5)
