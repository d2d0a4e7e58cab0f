"""FCN: places of maps and scores by hand, upsampling, exact classifiers, the paper's crops, any size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from cnnlab.begin import grafted
from cnnlab.errors import UserError
from cnnlab.models import segmenters
from cnnlab.models.fcn import FCN, ConvHead, bilinear_init, enlarge, meeting, surrounded
from cnnlab.models.vgg import VGG
from cnnlab.ops.conv_transpose import conv_transpose2d
from cnnlab.published import published
from cnnlab.weights import torch_names
from tests.small import count


def parameters(net, size=64):
    x = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    return count(jax.eval_shape(net.init, jax.random.key(0), x)["params"])


@pytest.mark.parametrize(
    ("name", "finest", "expected"),
    [
        ("dilated_resnet50", 8, 35_322_218),  # torchvision's, with 53,120 statistics left out on both sides
        # VGG-16 without fc8, 21 scores of fc7; for each skip 4·4·21² and 21 scores of 512 or 256 maps.
        ("vgg16", 32, 138_357_544 - 4_097_000 + 21 * 4097),
        ("vgg16", 16, 138_357_544 - 4_097_000 + 21 * 4097 + 16 * 441 + 21 * 513),
        ("vgg16", 8, 138_357_544 - 4_097_000 + 21 * 4097 + 2 * 16 * 441 + 21 * 513 + 21 * 257),
        ("alexnet", 32, 61_100_840 - 4_097_000 + 21 * 4097),
        ("googlenet", 32, 6_624_904 - 1_025_000 + 21 * 1025),
        ("resnet50", 32, 25_557_032 - 2_049_000 + 21 * 2049),
    ],
)
def test_parameters(name, finest, expected):
    assert parameters(segmenters.SEGMENTERS[name](21, finest), 224) == expected


@pytest.mark.parametrize("name", segmenters.SEGMENTERS)
def test_any_size_gives_the_logits_of_each_of_its_pixels(name):
    net = segmenters.SEGMENTERS[name](5, 32 if name == "alexnet" else 8)
    variables = jax.eval_shape(net.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 64, 64, 3), "float32"))
    for size in ((37, 70), (64, 96), (131, 45)):
        x = jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)
        assert jax.eval_shape(net.apply, variables, x).shape == (2, *size, 5)


@pytest.mark.parametrize(
    ("scores", "finer", "expected"),
    [
        ((32, 15.5), (16, 7.5), (4, 0)),  # VGG with padded fc6
        ((32, 12.5), (16, -91.5), (4, 6)),  # the paper's: crops 6 of pool4; with full upsampling, as in its code, 5
        ((16, 4.5), (8, -95.5), (4, 12)),
        ((32, 0), (16, 0), (3, 0)),  # ResNet
        ((32, 0), (16, 32), (3, -2)),
    ],
)
def test_scores_meet_a_finer_map(scores, finer, expected):
    assert meeting(*scores, *finer) == expected


def test_scores_that_do_not_meet():
    for finer in ((16, 3), (8, 0)):
        with pytest.raises(ValueError, match="do not meet"):
            meeting(32, 0, *finer)


def test_the_places_of_the_papers_maps():
    """Caffe's crops: FCN-32s's 64-wide filters every 32 pixels give pixel 32 i + 31.5 − 19, AlexNet's 63-wide − 18."""
    assert segmenters.vgg16(21, 32).centres == (31.5 - 19,)
    assert [segmenters.alexnet(21, variant=v).centres for v in ("paper", "one_column")] == [(31 - 18,)] * 2
    assert segmenters.vgg16(21, 8).centres == (3.5 - 99, 7.5 - 99, 12.5)
    assert segmenters.vgg16(21, 8, around=0).centres == (3.5, 7.5, 15.5)


@pytest.mark.parametrize("kernel", [3, 4])
def test_bilinear_filters_keep_straight_lines(kernel):
    """A ramp, made twice as fine: interior values lie on the same line, at places that `meeting` says."""
    x = jnp.arange(6.0).reshape(1, 1, 6, 1) * jnp.ones((1, 6, 1, 2))
    y = conv_transpose2d(x, bilinear_init(None, (kernel, kernel, 2, 2)), 2, 1)[0, 4, :, 0]
    first = 0.0 if kernel == 3 else -0.25
    np.testing.assert_allclose(y[1:-2], (first + 0.5 * np.arange(12))[1:-2], atol=1e-6)


@pytest.mark.parametrize(("stride", "centre", "size"), [(4, 1.5, 12), (8, 0, 31), (4, -6.5, 9), (2, 5, 12)])
def test_scores_are_interpolated_where_they_lie(stride, centre, size):
    places = centre + stride * np.arange(5)
    values = np.array([3.0, -1, 4, 1, -5], np.float32)
    scores = jnp.asarray(np.tile(values, (5, 1))[None, ..., None])
    found = np.asarray(enlarge(scores, stride, centre, (size, size)))[0, 0, :, 0]
    np.testing.assert_allclose(found, np.interp(np.arange(size), places, values), atol=1e-5)


def test_pictures_are_surrounded():
    x = surrounded(jnp.ones((1, 30, 64, 3)), 2, 32)
    assert x.shape == (1, 36, 68, 3)
    assert float(x.sum()) == 30 * 64 * 3
    assert float(x[0, 2, 2, 0]) == 1
    assert float(x[0, 1, 2, 0]) == float(x[0, 32, 2, 0]) == 0


class Tiny(nn.Module):
    """Maps by averages of 8, 16 and 32 pixels: places as VGG's."""

    maps: tuple[str, ...] = ("a", "b", "c")

    @nn.compact
    def __call__(self, x, *, train):
        found = {name: nn.avg_pool(x, (s, s), (s, s)) for name, s in zip("abc", (8, 16, 32), strict=True)}
        return {name: found[name] for name in self.maps}


def test_skips_begin_as_nothing_and_are_added_in_their_places():
    """Of one picture with a gradient, averages lie on the line; so do their sums, wherever the picture is cut."""
    coarse = FCN(1, Tiny(("c",)), (32,), (15.5,))
    fine = FCN(1, Tiny(), (8, 16, 32), (3.5, 7.5, 15.5))
    x = jnp.tile(jnp.arange(128.0)[:, None], (1, 96))[None, ..., None]
    variables = fine.init(jax.random.key(0), x)
    score = {"score": {"kernel": jnp.ones((1, 1, 1, 1)), "bias": jnp.zeros(1)}}
    first = coarse.apply({"params": score}, x)
    before = fine.apply({"params": {**variables["params"], **score}}, x)
    np.testing.assert_allclose(first[0, 40:80, 40, 0], np.arange(40, 80), atol=1e-3)
    np.testing.assert_allclose(before[0, 40:80, 40, 0], np.arange(40, 80), atol=1e-3)
    ones = {f"score_{name}": score["score"] for name in "ab"}
    added = fine.apply({"params": {**variables["params"], **score, **ones}}, x)
    np.testing.assert_allclose(added[0, 40:80, 40, 0], 3 * np.arange(40, 80), atol=1e-2)


def test_a_vgg_turned_into_convolutions_gives_its_logits():
    """At the middle of the 7×7 places of a 224 picture, where the padded fc6 sees all of the map and nothing else."""
    net = segmenters.vgg16(1000, 32, around=0)
    net = net.clone(backbone=net.backbone.clone(configuration="A", parent=None))
    classifier = VGG("A")
    x = jax.random.normal(jax.random.key(0), (1, 224, 224, 3))
    random = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda leaf: random.standard_normal(leaf.shape, np.float32) * np.sqrt(2 / max(1, np.prod(leaf.shape[:-1]))),
        jax.eval_shape(classifier.init, jax.random.key(1), x),
    )
    taken = grafted("the classifier", variables, jax.eval_shape(net.init, jax.random.key(0), x))
    score = jax.jit(lambda v, x: net.apply(v, x, capture_intermediates=True, mutable=["intermediates"])[1])
    found = score(taken, x)["intermediates"]["score"]["__call__"][0]
    expected = jax.jit(classifier.apply)(variables, x)[0]
    assert found.shape == (1, 7, 7, 1000)
    assert float(jnp.abs(expected).max()) > 0.1
    np.testing.assert_allclose(found[0, 3, 3], expected, rtol=1e-4, atol=1e-4 * float(jnp.abs(expected).max()))


def test_a_convolutional_head_by_hand():
    x = jax.random.normal(jax.random.key(0), (1, 4, 5, 3))
    head = ConvHead(2, dropout=0.0)
    variables = head.init(jax.random.key(1), x, train=False)
    kernel, padded = np.asarray(variables["params"]["conv"]["kernel"]), np.pad(x[0], ((1, 1), (1, 1), (0, 0)))
    expected = [[(padded[i : i + 3, j : j + 3, :, None] * kernel).sum((0, 1, 2)) for j in range(5)] for i in range(4)]
    expected = np.maximum(np.array(expected) / np.sqrt(1 + 1e-5), 0)
    np.testing.assert_allclose(head.apply(variables, x, train=False)[0], expected, atol=1e-5)


def test_the_auxiliary_head_speaks_in_training_only():
    net = FCN(2, Tiny(("b", "c")), (16, 32), (7.5, 15.5), ConvHead(4), ConvHead(3))
    x = jnp.ones((2, 64, 64, 3))
    variables = jax.jit(net.init)(jax.random.key(0), x)
    assert {"head", "auxiliary", "score", "auxiliary_score"} == set(variables["params"])
    assert jax.eval_shape(net.apply, variables, x).shape == (2, 64, 64, 2)
    rngs = {"dropout": jax.random.key(1)}
    trained = jax.eval_shape(lambda: net.apply(variables, x, train=True, mutable=["batch_stats"], rngs=rngs)[0])
    assert [logits.shape for logits in trained] == [(2, 64, 64, 2)] * 2


@pytest.mark.parametrize(("name", "finest"), [("vgg16", 4), ("alexnet", 8), ("dilated_resnet50", 32)])
def test_maps_that_a_net_does_not_judge(name, finest):
    with pytest.raises(UserError, match=f"{finest}"):
        segmenters.SEGMENTERS[name](3, finest)


def test_every_variable_has_its_name_in_torchvisions_file():
    net = segmenters.dilated_resnet50(21)
    variables = jax.eval_shape(net.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32))
    names = set(torch_names(net, variables).values())
    assert len(names) == len(jax.tree.leaves(variables))
    heads = {name for name in names if not name.startswith("backbone.")}
    parts = ["0.weight", "1.weight", "1.bias", "1.running_mean", "1.running_var", "4.weight", "4.bias"]
    assert heads == {f"{head}.{part}" for head in ("classifier", "aux_classifier") for part in parts}
    assert published(net).heads == ("score", "auxiliary_score")
