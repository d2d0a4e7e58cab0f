"""Occlusion: where squares lie, what is hidden, and maps that a loop over numpy arrays gives too."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from cnnlab import configs, loop
from cnnlab.errors import UserError
from cnnlab.inspect import occlusion
from cnnlab.inspect.occlusion import OcclusionMaps, Squares, occlusion_maps, square, starts
from cnnlab.inspect.subject import Subject
from tests.small import small_experiment

EXPERIMENT = small_experiment()
STATE = loop.initial_state(EXPERIMENT)


class Linear(nn.Module):
    """Two feature maps, the picture and its negative, and three logits of all pixels."""

    @nn.compact
    def __call__(self, x):
        nn.Conv(2, (1, 1), use_bias=False, kernel_init=lambda *_: jnp.array([[[[1.0, -1.0]]]]), name="maps")(x)
        return nn.Dense(3, kernel_init=nn.initializers.normal(0.1), name="logits")(x.reshape(len(x), -1))


def options(**fields):
    found = configs.options_of("inspect")
    found.update_from_flattened_dict({"pictures": 2, "occlusion.size": 7, "occlusion.stride": 7, **fields})
    return found


def drawn(**fields):
    subject = Subject(EXPERIMENT, lambda: STATE, count=2)
    return occlusion.draw(subject, options(**fields))["occlusion"]


def coverage(length, size, stride):
    return [
        int(np.sum([start <= pixel < start + size for start in starts(length, size, stride)]))
        for pixel in range(length)
    ]


def test_where_squares_begin():
    assert starts(4, 2, 2).tolist() == [0, 2]
    assert starts(8, 4, 2).tolist() == [-2, 0, 2, 4, 6]
    assert starts(5, 3, 2).tolist() == [-1, 1, 3]
    assert starts(3, 3, 3).tolist() == [0]
    assert starts(224, 48, 8).tolist() == list(range(-40, 224, 8))


@pytest.mark.parametrize(("length", "size", "stride"), [(8, 4, 2), (28, 6, 1), (28, 6, 3), (67, 14, 2), (9, 9, 3)])
def test_every_pixel_is_hidden_equally_often(length, size, stride):
    assert coverage(length, size, stride) == [size // stride] * length


@pytest.mark.parametrize(("length", "size", "stride"), [(5, 3, 2), (28, 7, 2), (227, 50, 8), (10, 10, 7)])
def test_or_as_nearly_so_as_the_stride_allows(length, size, stride):
    assert set(coverage(length, size, stride)) <= {size // stride, size // stride + 1}
    found = starts(length, size, stride)
    assert found[0] - stride + size <= 0  # no square is missing that would reach into the picture
    assert found[-1] + stride >= length
    assert abs((found[0] + size) - (length - found[-1])) <= 1  # the same at both ends


def test_maps_of_a_linear_network():
    draw = np.random.default_rng(0)
    pictures = draw.uniform(0, 255, (2, 5, 4, 1)).astype(np.float32)
    model, traced = Linear(), []
    variables = model.init(jax.random.key(1), jnp.zeros((1, 5, 4, 1)))
    squares = Squares(starts(5, 3, 2), starts(4, 3, 2), 3, 2)

    def preprocess(pictures):
        traced.append(pictures.shape)
        return pictures / 50 - 2

    found = occlusion_maps(
        model,
        variables,
        jnp.asarray(pictures),
        jnp.array([2, 0]),
        jnp.array([0, 1]),
        layer="maps",
        preprocess=preprocess,
        squares=squares,
        colour=jnp.array([30.0]),
        batch_size=5,
    )
    assert traced == [(5, 5, 4, 1)]  # one program for 18 occluded pictures, in batches of 5
    kernel, bias = (np.asarray(variables["params"]["logits"][name]) for name in ("kernel", "bias"))
    assert found.probability.shape == (2, len(squares.tops), len(squares.lefts)) == (2, 3, 3)
    for i, row, column in np.ndindex(2, 3, 3):
        picture, (top, left) = pictures[i].copy(), (squares.tops[row], squares.lefts[column])
        picture[max(top, 0) : top + 3, max(left, 0) : left + 3] = 30
        x = picture / 50 - 2
        logits = np.exp(x.ravel() @ kernel + bias)
        place = i, row, column
        assert found.probability[place] == pytest.approx(logits[[2, 0][i]] / logits.sum(), rel=1e-4)
        assert found.predicted[place] == logits.argmax()
        assert found.activity[place] == pytest.approx(np.maximum([x, -x][i], 0).sum(), rel=1e-4)


def test_sizes_and_strides():
    assert square(options(**{"occlusion.size": 0, "occlusion.stride": 5}).occlusion, 28) == (5, 5)
    assert square(options(**{"occlusion.size": 2, "occlusion.stride": 0}).occlusion, 224) == (2, 2)
    for wrong, message in (
        ({"occlusion.size": 29}, r"config\.occlusion\.size is 29; .* what the network sees, 1 to 28 pixels"),
        ({"occlusion.size": -1}, r"config\.occlusion\.size is -1"),
        ({"occlusion.stride": -1}, r"config\.occlusion\.stride is -1; it must be 1 to 7"),
        ({"occlusion.stride": 8}, r"config\.occlusion\.stride is 8; it must be 1 to 7"),
        ({"occlusion.size": 0, "occlusion.stride": 30}, r"config\.occlusion\.stride is 30; it must be 1 to 28"),
        ({"occlusion.fill": "gray"}, r'config\.occlusion\.fill is "gray"; it must be "grey", "mean" or a number from'),
    ):
        with pytest.raises(UserError, match=message):
            drawn(**wrong)


def test_the_figure_says_what_it_shows():
    predicted = np.array([[[0, 0, 1], [0, 0, 2]]])
    maps = OcclusionMaps(np.linspace(0, 0.5, 6).reshape(1, 2, 3), predicted, np.ones((1, 2, 3)))
    squares = Squares(np.array([0, 4]), np.array([-4, 0, 4]), 4, 4)
    figure = occlusion.figure(
        [np.zeros((8, 8, 1), np.uint8)], ["a cat"], maps, [("of cat", "map 3")], squares, ("cat", "dog", "cow"), "grey"
    )
    picture, probability, classes, activity, *_ = figure.axes
    titles = [axes.get_title() for axes in (picture, probability, classes, activity)]
    assert titles == ["a cat", "of cat", "predicted class", "map 3"]
    outline = picture.patches[-1]
    assert (outline.get_width(), outline.get_height()) == (4, 4)
    # The square from 0 to 4 has its cell there; the first column's lies left of the picture.
    assert probability.images[-1].get_extent() == [-4, 8, 8, 0]
    assert probability.images[-1].get_clim() == (0, 0.5)
    assert [text.get_text() for text in classes.get_legend().get_texts()] == ["cat 67%", "dog 17%", "cow 17%"]
    image = classes.images[-1].get_array()
    assert tuple(image[0, 0]) == to_rgb("C0") == tuple(image[1, 1])
    assert tuple(image[1, 2]) == to_rgb("C2")


def test_rare_classes_share_a_colour():
    predicted = np.array([[[*range(12), 3, 3]]])
    colours = occlusion.class_colours(predicted)
    assert next(iter(colours)) == 3
    assert len(set(colours.values())) == len(colours) == 9
    maps = OcclusionMaps(np.ones((1, 1, 14)), predicted, np.ones((1, 1, 14)))
    squares = Squares(np.array([0]), np.arange(14), 1, 1)
    names = [f"class {i}" for i in range(12)]
    figure = occlusion.figure([np.zeros((1, 14, 3), np.uint8)], [""], maps, [("", "")], squares, names, "")
    legend = [text.get_text() for text in figure.axes[2].get_legend().get_texts()]
    assert (len(legend), legend[0], legend[-1]) == (10, "class 3 21%", "other classes 21%")


def test_the_strongest_map_of_the_last_layer_with_maps(capsys):
    figure = drawn()
    subject = Subject(EXPERIMENT, lambda: STATE, count=2)
    _, found = EXPERIMENT.task.model.apply(STATE.variables, subject.x, capture_intermediates=True)
    sums = np.maximum(found["intermediates"]["S4"]["__call__"][0], 0).sum((1, 2))
    for row in range(2):
        strongest = int(sums[row].argmax())
        title = f"activity of S4, map {strongest}\n{sums[row, strongest]:.3g} in full view"
        assert figure.axes[4 * row + 3].get_title() == title
    assert "32 occluded pictures" in capsys.readouterr().out
    figure = drawn(layers="C1", channels="4", labels="7")
    assert [axes.get_title().split("\n")[0] for axes in figure.axes[1:4:2]] == [
        "probability of 7",
        "activity of C1, map 4",
    ]
    assert "map 4" in figure.axes[7].get_title()


def test_units_of_a_layer_without_maps():
    figure = drawn(layers="F6", channels="5")
    subject = Subject(EXPERIMENT, lambda: STATE, count=2)
    _, found = EXPERIMENT.task.model.apply(STATE.variables, subject.x, capture_intermediates=True)
    unit = np.maximum(found["intermediates"]["F6"]["__call__"][0], 0)[:, 5]
    assert figure.axes[3].get_title() == f"activity of F6, map 5\n{unit[0]:.3g} in full view"
    assert occlusion.last_features({"h1": (1, 9), "h2": (1, 8), "output": (1, 3)}) == ["h2"]
    assert occlusion.last_features({"conv1": (1, 9, 9, 2), "conv2": (1, 1, 1, 3), "fc": (1, 3)}) == ["conv1"]


def test_layers_maps_and_classes_that_are_not_there():
    for wrong, message in (
        ({"layers": "C9"}, "there is no layer 'C9'"),
        ({"layers": "C1,C3"}, r"config\.layers names 2: C1, C3; occlusion maps one"),
        ({"channels": "16"}, "layer S4 has no channel 16"),
        ({"channels": "one"}, r"config\.channels is 'one': 'one' is no number of a feature map"),
        ({"channels": "1,2"}, r"config\.channels names 2"),
        ({"labels": "12"}, "there is no class '12'"),
    ):
        with pytest.raises(UserError, match=message) as raised:
            drawn(**wrong)
        assert "\n" not in str(raised.value)
