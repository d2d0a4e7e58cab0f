"""Fast and Faster R-CNN: parameter counts, published names, shapes, where anchors lie, and the parts' agreement."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from cnnlab import weights
from cnnlab.errors import UserError
from cnnlab.models import detectors
from cnnlab.models.fast_rcnn import FastRCNN, TwoLayers, truncated
from cnnlab.models.faster_rcnn import RPN, FasterRCNN
from cnnlab.models.fpn import FPN, enlarge
from tests.small import count


def variables_of(model, size=64):
    x = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    return jax.eval_shape(model.init, jax.random.key(0), x)


def test_resnet50_with_a_pyramid_has_torchvisions_parameters():
    assert count(variables_of(detectors.resnet50_fpn(FasterRCNN, 90))["params"]) == 41_755_286


def test_vgg16_is_the_papers():
    # VGG-16 without fc8, the RPN's 3×3 convolution of 512 maps, 9 anchors with a score and an offset each, and 21
    # classes with a score and an offset each.
    body = 138_357_544 - (4096 * 1000 + 1000)
    rpn = 9 * 512 * 512 + 512 + 512 * 9 * 5 + 9 * 5
    assert count(variables_of(detectors.vgg16(FasterRCNN, 20))["params"]) == body + rpn + 4097 * 21 * 5
    assert count(variables_of(detectors.vgg16(FastRCNN, 20))["params"]) == body + 4097 * 21 * 5


def test_names_and_shapes_are_torchvisions():
    # Of the lines "name shape" of torchvision 0.28's state dict of fasterrcnn_resnet50_fpn, its BN frozen, sorted.
    model = detectors.resnet50_fpn(FasterRCNN, 90)
    variables = variables_of(model)
    leaves, names = flatten_dict(variables), weights.torch_names(model, variables)
    turned = {path: weights._torch_shape(leaf.shape) for path, leaf in leaves.items()}
    lines = sorted(f"{name} {turned[path]}" for path, name in names.items())
    assert len(lines) == 295
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16] == "3b48f955f86cbb36"


@pytest.mark.parametrize("name", ["zf", "resnet50", "small"])
@pytest.mark.parametrize("kind", [FastRCNN, FasterRCNN])
def test_shapes_of_the_outputs(name, kind):
    model = getattr(detectors, name)(kind, 3)
    x = jax.ShapeDtypeStruct((2, 128, 96, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), x)

    def run(variables, x, boxes):
        maps = model.apply(variables, x, method=model.maps)
        found = model.apply(variables, maps, boxes, method=model.classify)
        if kind is FastRCNN:
            return found, (), ()
        return found, model.apply(variables, maps, method=model.propose), model.anchors(maps)

    boxes = jax.ShapeDtypeStruct((2, 5, 4), jnp.float32)
    (scores, offsets), proposals, anchors = jax.eval_shape(run, variables, x, boxes)
    assert (scores.shape, offsets.shape) == ((2, 5, 4), (2, 5, 4, 4))
    if kind is FasterRCNN:
        total = sum(len(own) for own in anchors)
        assert [part.shape for part in proposals] == [(2, total), (2, total, 4)]


def test_scores_and_offsets_belong_to_the_same_anchor():
    # An RPN that copies one map: the place that is bright has the high score, and its anchor lies there.
    model = detectors.small(FasterRCNN, 2, width=8, channels=4, sizes=(8.0, 16.0, 32.0))
    maps = [jnp.zeros((1, size, size, 4)) for size in (8, 4, 2)]
    maps[1] = maps[1].at[0, 2, 3, 0].set(5.0)
    rpn = RPN(anchors=3, channels=4)
    params = jax.tree.map(jnp.zeros_like, rpn.init(jax.random.key(0), tuple(maps))["params"])
    params["conv"]["kernel"] = params["conv"]["kernel"].at[1, 1, 0, 0].set(1.0)
    params["scores"]["kernel"] = params["scores"]["kernel"].at[0, 0, 0, 1].set(1.0)  # the square anchor
    params["offsets"]["kernel"] = params["offsets"]["kernel"].at[0, 0, 0, 4:8].set(jnp.arange(1.0, 5.0))
    scores, offsets = rpn.apply({"params": params}, tuple(maps))
    at = int(scores[0].argmax())
    assert scores[0, at] == 5
    assert offsets[0, at].tolist() == [5, 10, 15, 20]
    anchor = np.concatenate(model.anchors(tuple(maps)))[at]
    # Row 2, column 3 of the map of stride 8, and a square of 16 pixels.
    assert np.allclose(anchor, [28 - 8, 20 - 8, 28 + 8, 20 + 8])


def test_torchvisions_anchors_are_around_corners():
    model = detectors.resnet50_fpn(FasterRCNN, 1)
    maps = tuple(jnp.zeros((1, size, size, 1)) for size in (16, 8, 4, 2, 1))
    first = model.anchors(maps)[0][:3]
    assert first.tolist() == [[-23, -11, 23, 11], [-16, -16, 16, 16], [-11, -23, 11, 23]]


def test_a_pyramid_by_hand():
    neck = FPN(1)
    maps = (jnp.arange(16.0).reshape(1, 4, 4, 1), jnp.array([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 2, 1))
    params = jax.tree.map(jnp.zeros_like, neck.init(jax.random.key(0), maps)["params"])
    for name in params:
        size = params[name]["kernel"].shape[0]
        params[name]["kernel"] = params[name]["kernel"].at[size // 2, size // 2].set(1.0)
    fine, coarse, coarser = neck.apply({"params": params}, maps)
    assert np.array_equal(coarse, maps[1])
    assert coarser.ravel().tolist() == [1.0]
    assert fine[0, :, :, 0].tolist() == [[1, 2, 4, 5], [5, 6, 8, 9], [11, 12, 14, 15], [15, 16, 18, 19]]


def test_maps_of_uneven_sizes_are_enlarged_from_the_nearest():
    x = jnp.arange(6.0).reshape(1, 2, 3, 1)
    assert enlarge(x, 3, 5)[0, :, :, 0].tolist() == [[0, 0, 1, 1, 2], [0, 0, 1, 1, 2], [3, 3, 4, 4, 5]]
    doubled = enlarge(x, 4, 6)
    assert np.array_equal(doubled, x[:, jnp.array([0, 0, 1, 1])][:, :, jnp.array([0, 0, 1, 1, 2, 2])])


def test_layers_cut_to_their_full_rank_give_the_same():
    head = TwoLayers(6)
    model = FastRCNN(2, detectors.small(FastRCNN, 2, width=8, channels=4).backbone, head, (4, 8, 16), pooling="align")
    pooled = jax.random.normal(jax.random.key(0), (5, 2, 2, 3))
    params = head.init(jax.random.key(1), pooled, train=False)["params"]
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)  # biases too
    whole = head.apply({"params": params}, pooled, train=False)
    cut, new = truncated(model, {"head": params, "scores": {}}, (6, 6))
    assert np.allclose(cut.head.apply({"params": new["head"]}, pooled, train=False), whole, atol=1e-5)
    fewer, less = truncated(model, {"head": params}, (2, 3))
    assert less["head"]["fc6_low"]["kernel"].shape == (12, 2)
    assert less["head"]["fc7"]["kernel"].shape == (3, 6)
    away = np.abs(fewer.head.apply({"params": less["head"]}, pooled, train=False) - whole).max()
    assert away > 1e-3
    with pytest.raises(UserError, match="rank"):
        truncated(model, {"head": params}, (7, 6))
