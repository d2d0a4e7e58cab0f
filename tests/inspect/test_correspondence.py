"""Correspondence: sign patterns by hand, a network whose features are the pixels, and parts as people write them."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cnnlab import configs, inspection, loop
from cnnlab.errors import UserError
from cnnlab.inspect import correspondence as tool
from cnnlab.inspect.correspondence import correspondence, sign_distances
from cnnlab.inspect.parts import thirds
from cnnlab.inspect.subject import Subject
from tests.small import small_experiment

EXPERIMENT = small_experiment()
STATE = loop.initial_state(EXPERIMENT)


class Pixels(nn.Module):
    """Its features are the pixels, and the pixels less 100 with the other sign."""

    @nn.compact
    def __call__(self, x):
        flat = x.reshape(len(x), -1)
        here = nn.Dense(flat.shape[1], kernel_init=lambda *_: jnp.eye(flat.shape[1]), name="same")(flat)
        return nn.Dense(
            flat.shape[1],
            kernel_init=lambda *_: -jnp.eye(flat.shape[1]),
            bias_init=nn.initializers.constant(100.0),
            name="negative",
        )(here)


def options(**fields):
    found = configs.options_of("inspect")
    found.update_from_flattened_dict({"pictures": 3, "correspondence.draws": 4, **fields})
    return found


def drawn(files=(), **fields):
    return tool.draw(Subject(EXPERIMENT, lambda: STATE, tuple(files)), options(**fields))["correspondence"]


@pytest.fixture
def files(tmp_path):
    """Two pictures of 60 × 30."""
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for i, path in enumerate(paths):
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (30, 60), dtype=np.uint8)).save(path)
    return paths


def test_distances_of_sign_patterns():
    changes = jnp.array([[1.0, -2.0, 0.0, 0.0], [0.5, 3.0, 0.0, -1.0], [-1.0, 2.0, 1.0, 1.0]])
    assert sign_distances(changes).tolist() == [[0, 0.5, 1], [0.5, 0, 0.75], [1, 0.75, 0]]


def test_a_network_of_pixels():
    # 4 × 5 pixels; the first two pictures are brighter than the grey of the masks, the third is darker.
    pictures = jnp.stack([jnp.full((4, 5, 1), value) for value in (200.0, 250.0, 10.0)])
    variables = Pixels().init(jax.random.key(0), pictures)
    same = [[0, 0, 2, 3]] * 3
    apart = [[0, 0, 2, 3], [2, 3, 4, 5], [0, 0, 2, 3]]
    overlapping = [[0, 0, 2, 3], [1, 0, 3, 3], [0, 0, 0, 0]]
    found = correspondence(
        Pixels(),
        variables,
        pictures,
        jnp.array([same, apart, overlapping]),
        layers=["same", "negative"],
        preprocess=lambda x: x,
        colour=jnp.array([50.0]),
    )
    # Pairs (0, 1), (0, 2), (1, 2): how many of 20 pixels change otherwise in one than in the other.
    expected = np.array([[0, 6, 6], [10, 6, 10], [6, 6, 6]]) / 20
    np.testing.assert_allclose(found["same"], expected, atol=1e-6)
    # 100 − x: of 200 and 250 the ReLU lets nothing through, of the masks' 50 it does; of 10 less comes through masked.
    np.testing.assert_allclose(found["negative"], expected, atol=1e-6)
    brighter = correspondence(
        Pixels(),
        variables,
        pictures,
        jnp.array([apart]),
        layers=["negative"],
        preprocess=lambda x: x,
        colour=jnp.array([150.0]),
    )
    # The masks' 150 is cut off like 200 and 250: only the third picture's six pixels change.
    np.testing.assert_allclose(brighter["negative"], [[0, 0.3, 0.3]], atol=1e-6)


def test_by_default_nine_parts_of_one_class(capsys):
    figure = drawn()
    label = EXPERIMENT.test_data().batch(np.array([0]))["label"][0]
    assert f"3 pictures of class {label}?" in figure.get_suptitle()
    out = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in out[:-1:10]] == ["S4", "F6"]
    names = [tick.get_text() for tick in figure.axes[3].get_yticklabels()]
    assert names == [*thirds(28, 28), "random places"]
    assert len(figure.axes[0].patches) == 9
    bars = [bar.get_width() for bar in figure.axes[3].patches if hasattr(bar, "get_width")]
    assert any(np.isclose(bar, float(out[0].split()[-3]), atol=1e-4) for bar in bars)


def test_pictures_are_all_of_the_class_that_is_named():
    subject = Subject(EXPERIMENT, lambda: STATE)
    pictures, what = tool._pictures(subject, options(labels="8", pictures=5))
    test = EXPERIMENT.test_data().arrays
    np.testing.assert_array_equal(pictures, test["image"][test["label"] == 8][:5])
    assert what == "of class 8"


def test_parts_and_layers_that_are_named(files, tmp_path, capsys):
    drawn(layers="C1", **{"correspondence.parts": "left eye=2:3:9:9; nose = 10:10:20:20"})
    assert [line[:29].rstrip() for line in capsys.readouterr().out.splitlines()] == [
        "C1           left eye",
        "C1           nose",
        "C1           random places",
    ]
    path = tmp_path / "parts.json"
    path.write_text(json.dumps({"eye": {"a.png": [0, 0, 15, 30], "b.png": [15, 30, 30, 60]}}))
    figure = drawn(files, **{"correspondence.parts": str(path)})
    box = figure.axes[0].patches[0]  # the file is stretched to 28 × 28; the outline is drawn a little inwards
    assert (box.get_x(), box.get_width()) == pytest.approx((0, 14), abs=0.5)
    assert figure.axes[1].patches[0].get_x() == pytest.approx(14, abs=0.5)


def test_a_part_that_is_cut_off(files, tmp_path, monkeypatch):
    path = tmp_path / "parts.json"
    path.write_text(json.dumps({"eye": {"a.png": [0, 0, 9, 9], "b.png": [0, 20, 9, 30]}}))
    monkeypatch.setattr(tool, "seen_window", lambda *_: (0, 6, 28, 28))
    with pytest.raises(UserError, match=r'part "eye" of a\.png lies in what is cut off'):
        drawn(files, **{"correspondence.parts": str(path)})


def test_too_little_to_compare():
    for wrong, message in (
        ({"pictures": 1}, "it needs two or more, and there is 1 of class"),
        ({"correspondence.draws": 1}, r"config\.correspondence\.draws is 1; it must be 2 or more"),
        ({"layers": "F9"}, "there is no layer 'F9'"),
        ({"labels": "x"}, "there is no class 'x'"),
        ({"correspondence.parts": "eye"}, 'has "eye"; a part is NAME=Y0:X0:Y1:X1'),
        ({"correspondence.parts": "a.json"}, "has boxes for files of pictures: name those with --input"),
        ({"correspondence.fill": "red"}, r'config\.correspondence\.fill is "red"'),
    ):
        with pytest.raises(UserError, match=message):
            drawn(**wrong)


def test_both_are_among_the_figures():
    assert {"occlusion", "correspondence"} <= set(inspection.FIGURES)
