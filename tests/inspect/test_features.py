"""Feature maps: which layers and channels are shown, and that what is drawn is what the layer gives."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab import configs, loop
from cnnlab.errors import UserError
from cnnlab.inspect import features
from cnnlab.inspect.layers import run, shapes
from cnnlab.inspect.subject import Subject
from cnnlab.models.alexnet import AlexNet
from cnnlab.models.ciresan import DeepBigSimpleNet
from cnnlab.models.googlenet import GoogLeNet
from cnnlab.models.lenet import LeNet
from cnnlab.models.resnet_cifar import ResNetCifar
from cnnlab.models.rir import RiR
from experiments import lenet_digits
from tests.small import random_array

# What stands on the page: names over the columns, then row by row the picture's title and the maxima.
TILES = np.stack([np.full((2, 2, 3), fill) for fill in (1.0, -4.0)]) * np.array([1.0, 2.0, 0.25])


def subject():
    values = lenet_digits.get_config()
    values.variant = "modern"
    experiment = lenet_digits.build(values)
    state = loop.initial_state(experiment)
    return Subject(experiment, lambda: state, count=2)


def options(**fields):
    found = configs.options_of("inspect")
    found.update(fields)
    return found


def images(figure):
    """The tiles of a figure, and where each stands."""
    return [(np.ma.getdata(image.get_array()), image.get_extent()) for image in figure.axes[0].images]


def test_maps_are_the_layers_outputs():
    model, x = LeNet(variant="modern"), random_array((2, 32, 32, 1))
    variables = model.init(jax.random.key(0), x)
    maps = features.feature_maps(model, variables, x, ("C3", "F6"))
    assert {name: output.shape for name, output in maps.items()} == {"C3": (2, 10, 10, 16), "F6": (2, 84)}
    kernel, bias = variables["params"]["C1"]["kernel"], variables["params"]["C1"]["bias"]
    first = jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")) + bias
    np.testing.assert_allclose(features.feature_maps(model, variables, x, ("C1",))["C1"], first, atol=1e-5)
    assert first.min() < 0  # before the rectifier
    with pytest.raises(UserError, match="there is no layer 'conv1'"):
        features.feature_maps(model, variables, x, ("conv1",))


@pytest.mark.parametrize(
    ("model", "size", "expected"),
    [
        (LeNet(), (32, 1), ["C1", "C3"]),  # C5 gives maps of a pixel
        (AlexNet(), (67, 3), ["conv1", "conv2", "conv3", "conv4", "conv5"]),
        (ResNetCifar(depth=14), (8, 3), ["conv1", "conv2_2", "conv3_1", "conv3_2", "conv4_2"]),
        (GoogLeNet(auxiliary=False), (64, 3), ["conv1", "inception3a", "inception4b", "inception4d", "inception5b"]),
        (
            RiR(),  # whose blocks give two arrays
            (8, 3),
            ["conv1", "conv2_2/layer2/conv", "conv3_2/layer2/conv", "conv4_2/layer1/conv", "classifier"],
        ),
        (DeepBigSimpleNet(hidden=(4, 4)), (4, 1), ["h1", "h2", "output"]),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "apply") else None,
)
def test_default_layers_are_spread_over_the_depth(model, size, expected):
    x = jax.ShapeDtypeStruct((1, size[0], size[0], size[1]), jnp.float32)
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x), x)
    assert features.default_layers(shapes(model, variables, x), variables["params"]) == expected


def test_the_strongest_over_all_pictures():
    maps = np.zeros((2, 2, 2, 4), np.float32)
    maps[0, 1, 0, 2], maps[1, 0, 0, 1], maps[1, 1, 1, 3], maps[0, 0, 0, 0] = 5, 7, -9, 1
    assert features.strongest(maps) == [1, 2, 0, 3]
    assert features.strongest(maps, 2) == [1, 2]


def test_tiles_names_and_maxima():
    picture = np.linspace(0, 1, 32).reshape(2, 4, 4, 1)
    drawn = features.figure("conv1", picture, ["cat", "a-very-long-file-name.png"], TILES, ["a", "b", "c"], "output")
    texts = [text.get_text() for text in drawn.axes[0].texts]
    assert texts[:4] == ["cat", "a: max 1", "b: max 2", "c: max 0.25"]
    assert texts[4:] == ["a-very-long-fil…", "a: max -4", "b: max -8", "c: max -1"]
    found = images(drawn)
    np.testing.assert_array_equal(found[0][0], picture[0, ..., 0])
    np.testing.assert_array_equal(found[6][0], TILES[1, ..., 1])
    assert found[6][1][0] == found[2][1][0]  # under the same channel of the first picture
    assert found[6][1][3] > found[2][1][2]
    maps = [image for image in drawn.axes[0].images if image.get_cmap().name == "RdBu_r"]
    assert {image.get_clim() for image in maps} == {(-8, 8)}  # one scale, 0 in its middle
    assert drawn.axes[1].get_ylabel() == "output"
    drawn.savefig(io.BytesIO(), format="png")


def test_maps_that_are_all_0():
    drawn = features.figure("dead", np.zeros((1, 4, 4, 3)), ["cat"], np.zeros((1, 2, 2, 1)), ["0"], "output")
    drawn.savefig(io.BytesIO(), format="png")


def test_a_figure_a_layer(capsys):
    opened = subject()
    drawn = features.draw(opened, options())
    assert list(drawn) == ["features_C1", "features_C3"]
    assert "C3: 16 of 16 feature maps" in drawn["features_C3"].get_suptitle()
    assert "ReLU after it" in drawn["features_C3"].axes[1].get_ylabel()
    output = np.asarray(run(opened.model, opened.variables, opened.x)[1]["C3"])
    chosen = features.strongest(output)
    found = images(drawn["features_C3"])
    assert len(found) == 2 * 17
    np.testing.assert_allclose(found[0][0], opened.shown(opened.x)[0, ..., 0])
    np.testing.assert_allclose(found[17 + 3][0], output[1, ..., chosen[2]], atol=1e-6)
    # Two lines of eight: the ninth map stands under the first.
    assert found[1 + 8][1][0] == found[1][1][0]
    assert found[1 + 8][1][3] > found[1][1][2]
    texts = [text.get_text() for text in drawn["features_C3"].axes[0].texts]
    assert texts[17 + 3] == f"{chosen[2]}: max {output[1, ..., chosen[2]].max():.3g}"
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["C1", "C3"]


def test_layers_and_channels_by_name():
    opened = subject()
    drawn = features.draw(opened, options(layers="C3,C1", channels="4, 1"))
    assert list(drawn) == ["features_C3", "features_C1"]
    names = [text.get_text().partition(":")[0] for text in drawn["features_C1"].axes[0].texts[-2:]]
    assert names == ["4", "1"]
    dense = features.draw(opened, options(layers="F6"))["features_F6"]
    assert "all 84 units" in dense.get_suptitle()
    tile = images(dense)[1][0]
    assert tile.shape == (7, 13)
    np.testing.assert_allclose(
        tile.ravel()[:84], features.feature_maps(opened.model, opened.variables, opened.x, ("F6",))["F6"][0], atol=1e-5
    )
    for fields, message in (
        ({"layers": "C9"}, "there is no layer 'C9'"),
        ({"layers": "C1", "channels": "6"}, "layer C1 has no channel 6: it has 0 to 5"),
        ({"layers": "F6", "channels": "6"}, r"layer F6 gives \(2, 84\), no feature maps"),
        ({"channels": "six"}, r"config\.channels is 'six': 'six' is no number"),
    ):
        with pytest.raises(UserError, match=message):
            features.draw(opened, options(**fields))
