"""The deconvnet on any network: by hand, through sums and branches, and as figures."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cnnlab import configs, inspection
from cnnlab.errors import UserError
from cnnlab.inspect.deconvnet import FeatureMap, default_layers, figure, project
from cnnlab.inspect.layers import run, shapes
from cnnlab.inspect.patches import field_boxes
from cnnlab.inspect.subject import Subject
from cnnlab.models.ciresan import DeepBigSimpleNet
from cnnlab.models.lenet import LeNet
from cnnlab.models.resnet_cifar import ResNetCifar
from cnnlab.models.rir import RiR
from cnnlab.ops.activations import relu
from cnnlab.ops.conv import Conv
from cnnlab.ops.pooling import MaxPool
from cnnlab.summary import reaches
from tests.inspect.test_patches import Branching
from tests.small import random_array, tiny_resnet


class Chain(nn.Module):
    """1×1 filters of three maps, pooling, 1×1 filters of one map."""

    @nn.compact
    def __call__(self, x, *, train=False):
        x = MaxPool(2, 2, name="pool")(relu(Conv(3, 1, use_bias=False, name="first")(x)))
        return jnp.mean(Conv(1, 1, use_bias=False, name="second")(x), (1, 2))


def chain(second):
    filters = {"first": [1.0, -1.0, 2.0], "second": second}
    shape = {"first": (1, 1, 1, 3), "second": (1, 1, 3, 1)}
    return {"params": {name: {"kernel": jnp.array(values).reshape(shape[name])} for name, values in filters.items()}}


def test_unpool_rectify_filter_by_hand():
    x = jnp.array([[1.0, 2.0], [0.0, 1.0]])[None, :, :, None]
    # Pooled, the maps are 2, 0 (four equals, of which the first counts) and 4: 30·2 + 5·0 − 7·4 = 32. Down come
    # 32·30 at the 2, 32·5 at the first pixel, and −32·7, which is rectified; times 1, −1 and 2.
    down = project(Chain(), chain([30.0, 5.0, -7.0]), x, "second", jnp.zeros((1, 3), int))
    assert down[0, :, :, 0].tolist() == [[-160, 960], [0, 0]]
    # A map of the pooling layer: only its own activation, 4, comes down.
    down = project(Chain(), chain([30.0, 5.0, -7.0]), x, "pool", jnp.array([[0, 0, 2]]))
    assert down[0, :, :, 0].tolist() == [[0, 8], [0, 0]]


def test_negative_activations_give_nothing():
    x = jnp.ones((1, 2, 2, 1))
    assert not project(Chain(), chain([-1.0, 0.0, 0.0]), x, "second", jnp.zeros((1, 3), int)).any()
    assert project(Chain(), chain([1.0, 0.0, 0.0]), x, "second", jnp.zeros((1, 3), int)).any()


def test_units_without_a_place():
    model, x = DeepBigSimpleNet(hidden=(4,)), random_array((2, 3, 3, 2))
    variables = jax.jit(model.init)(jax.random.key(0), x)
    down = project(model, variables, x, "h1", jnp.array([[0, 0, 1], [0, 0, 3]]))
    kernel = variables["params"]["h1"]["kernel"]
    activations = jnp.maximum(run(model, variables, x)[1]["h1"], 0)
    for picture, unit in ((0, 1), (1, 3)):
        wanted = activations[picture, unit] * kernel[:, unit].reshape(3, 3, 2)
        np.testing.assert_allclose(down[picture], wanted, atol=1e-6)


def test_a_layer_that_is_not_there():
    with pytest.raises(UserError, match=r"there is no layer 'third'.*: there are first"):
        project(Chain(), chain([1.0, 1.0, 1.0]), jnp.ones((1, 2, 2, 1)), "third", jnp.zeros((1, 3), int))


@pytest.mark.parametrize(("model", "layer"), [(ResNetCifar(depth=8), "conv3_1"), (Branching(), "inception")])
def test_sums_and_branches(model, layer):
    x = random_array((4, 25, 25, 3))
    variables = jax.jit(model.init)(jax.random.key(0), x)
    maps = jax.jit(lambda v, x: run(model, v, x)[1][layer])(variables, x)
    channels = maps.shape[-1]
    # Channels far apart: of an inception each is another branch's.
    unit = jnp.array([(5, 6, i * channels // 4 + 1) for i in range(4)])
    down = jax.jit(lambda v, x, u: project(model, v, x, layer, u))(variables, x, unit)
    assert down.shape == x.shape
    assert np.isfinite(down).all()
    active = maps[jnp.arange(4), 5, 6, unit[:, 2]] > 0
    assert active.sum() >= 2
    places = np.asarray(unit[:, :2])
    boxes = field_boxes(reaches(model, x.shape)[layer], places, (25, 25))
    for picture, (top, left, bottom, right) in zip(np.array(down), boxes, strict=True):
        assert bottom - top < 25
        picture[top:bottom, left:right] = 0
        assert not picture.any()
    np.testing.assert_array_equal(jnp.abs(down).max((1, 2, 3)) > 0, active)


def layers_of(model, x_shape):
    x = jax.ShapeDtypeStruct(x_shape, jnp.float32)
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x), x)
    return default_layers(shapes(model, variables, x), variables["params"])


def test_layers_that_are_drawn_when_none_are_named():
    assert layers_of(LeNet(variant="modern"), (1, 32, 32, 1)) == ["C1", "C3"]
    spread = ["conv1", "conv2_2", "conv3_1", "conv4_1", "conv4_3"]
    assert layers_of(ResNetCifar(), (1, 16, 16, 3)) == spread
    assert layers_of(RiR(), (1, 16, 16, 3))[1] == "conv2_2/layer2/conv"  # its blocks give two arrays, no maps
    assert layers_of(DeepBigSimpleNet(hidden=(4, 3)), (1, 8, 8, 1)) == ["h1", "h2"]
    with pytest.raises(UserError, match=r"no layer gives feature maps; config\.layers can name others: output"):
        layers_of(DeepBigSimpleNet(hidden=()), (1, 8, 8, 1))


def test_projections_are_grey_at_zero():
    projection, patch = np.zeros((2, 2, 1)), np.ones((2, 2, 1))
    projection[0, 0], projection[1, 1] = -4, 2
    drawn = figure([FeatureMap(7, np.array([3.25]), [projection], [patch], ["a cat"])], "heading")
    left, right = drawn.subfigs[0].axes
    assert left.images[0].get_array().tolist() == [[0, 0.5], [0.5, 0.75]]
    assert drawn.subfigs[0].get_suptitle() == "feature map 7"
    assert [axes.texts[0].get_text() for axes in (left, right)] == ["3.25", "a cat"]


def inspect(folder, files=(), **fields):
    """Draws what an untrained ResNet of 8 layers sees in digits of 8×8."""
    experiment = tiny_resnet()
    init = jax.jit(experiment.task.init)
    restore = lambda: init(jax.random.key(0), {"image": jnp.zeros((1, *experiment.picture_shape), jnp.uint8)})
    options = configs.options_of("inspect")
    options.update({"inspect": "deconvnet", "examples": 40, **fields})
    inspection.inspect_and_save(Subject(experiment, restore, files), folder, options)


def test_a_figure_a_layer(tmp_path, capsys):
    inspect(tmp_path, layers="conv2_1/conv1,fc", channels="0,5")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:4] for line in lines[:2]] == [["conv2_1/conv1", "feature", "map", n] for n in "05"]
    for name in ("deconvnet_conv2_1_conv1", "deconvnet_fc"):
        assert (tmp_path / "figures" / f"{name}.png").exists()


def test_the_strongest_maps_of_the_users_pictures(tmp_path, capsys):
    files = tuple(tmp_path / f"{i}.png" for i in range(2))
    for i, file in enumerate(files):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (8, 8, 3), np.uint8)).save(file)
    inspect(tmp_path, files, layers="conv1")
    assert len([line for line in capsys.readouterr().out.splitlines() if "feature map" in line]) == 4


def test_what_there_is_not(tmp_path):
    with pytest.raises(UserError, match="there is no layer 'conv9'; did you mean conv"):
        inspect(tmp_path, layers="conv9")
    with pytest.raises(UserError, match="layer conv1 has no channel 16: it has 0 to 15"):
        inspect(tmp_path, layers="conv1", channels="16")
    with pytest.raises(UserError, match=r"config\.channels is '3,x': 'x' is no number of a feature map"):
        inspect(tmp_path, layers="conv1", channels="3,x")
