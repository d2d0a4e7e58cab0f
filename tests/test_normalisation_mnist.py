"""The two members of `normalisation_mnist` that normalise: a step, what is drawn, and boxes in a stored picture."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image

from cnnlab import loop, predict
from cnnlab.data.normalise import judicious
from cnnlab.data.source import Head
from cnnlab.writer import save_figures
from experiments import normalisation_mnist

SIZE, BOX, COUNT = 44, 14, 5
SCALES = (0.8, 1.25)


@pytest.fixture(scope="module", autouse=True)
def quickly_compiled():
    """Nearly all the time goes into XLA's optimisations, and each program runs but once or twice."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def built(member):
    """A member with a tiny net."""
    config = normalisation_mnist.get_config()
    config.update(member=member, data="digits", size=SIZE, pieces=2, box=BOX, widths=(2, 2, 2), hidden=4)
    config.update(smallest=SCALES[0], largest=SCALES[1], scales=len(SCALES))
    config.update(steps=1, batch_size=4, eval_batch_size=COUNT)
    return normalisation_mnist.build(config)


@functools.cache
def held_out():
    """A few test pictures, the same for all members."""
    return Head(built("brute_force").test_data(), COUNT)


@functools.cache
def small(member):
    """A member with a tiny net, on a few digits."""
    experiment = built(member)
    train = Head(experiment.train_data(), 8)
    return dataclasses.replace(experiment, train_data=lambda: train, test_data=held_out)


@pytest.fixture(scope="module", params=["judicious", "brute_force"])
def trained(request, tmp_path_factory):
    """A member after a step: its name, its folder, its scores, and the figures that the loop saved."""
    folder, found = tmp_path_factory.mktemp(request.param), {}

    def save(where, figures):
        found.update(figures)
        save_figures(where, figures)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "save_figures", save)
        scores = loop.train(small(request.param), folder)
    return request.param, folder, scores, found


def test_a_step_in_the_loop(trained):
    member, folder, scores, _ = trained
    assert scores["count"] == COUNT
    assert np.isfinite(list(scores.values())).all()
    assert ("mean_iou" in scores) == (member == "brute_force")
    state = loop.restored_state(small(member), folder)
    assert int(state.step) == 1
    means = jax.tree.leaves(optax.tree_utils.tree_get(state.opt_state, "mu"))  # of the gradients
    assert any(np.any(mean) for mean in means)


def test_what_is_drawn(trained):
    member, folder, _, found = trained
    own = {"judicious": {"normalised", "filters"}, "brute_force": {"boxes", "search"}}[member]
    assert {"curves", "confusion"} | own <= set(found)
    assert {f"{name}.png" for name in found} == {file.name for file in (folder / "figures").iterdir()}
    if member == "brute_force":
        assert len(found["boxes"].axes) == COUNT
        assert all("IoU" in axes.get_title() for axes in found["boxes"].axes)


@pytest.mark.parametrize("trained", ["judicious"], indirect=True)
def test_pictures_before_and_after_their_normalisation(trained):
    member, _, _, found = trained
    pictures = held_out().batch(np.arange(COUNT))["image"]
    after = jax.jit(judicious, static_argnames=("size", "box"))(jnp.asarray(pictures), size=28, box=BOX)
    after = np.pad(after[..., 0] / 255, ((0, 0), (2, 2), (2, 2)))
    axes = found["normalised"].axes
    assert [each.get_title() for each in axes] == ["picture", "normalised"] * COUNT
    shown = [each.images[0].get_array() for each in axes]
    np.testing.assert_allclose(np.stack(shown[::2]), pictures[..., 0] / 255, atol=1e-6)
    np.testing.assert_allclose(np.stack(shown[1::2]), after, atol=1e-6)
    # What the net sees has LeNet-5's black and white.
    seen = jax.jit(small(member).task.preprocess)(jnp.asarray(pictures))
    np.testing.assert_allclose(seen[..., 0], -0.1 + 1.275 * after, atol=1e-5)


@pytest.mark.parametrize("trained", ["brute_force"], indirect=True)
def test_boxes_are_in_the_stored_pictures_pixels(trained, tmp_path):
    """A picture that is not square, and the square one that the net sees of it."""
    member, folder, _, _ = trained
    square = Image.fromarray(held_out().batch(np.arange(1))["image"][0, ..., 0])
    wide = square.resize((3 * SIZE, 2 * SIZE))
    wide.save(tmp_path / "wide.png")
    wide.resize((SIZE, SIZE), Image.Resampling.BILINEAR).save(tmp_path / "square.png")
    files = [tmp_path / "square.png", tmp_path / "wide.png"]
    state = loop.restored_state(small(member), folder)
    predict.predict_and_save(small(member), state, tmp_path / "w", files)
    lines = (tmp_path / "w" / "predictions.jsonl").read_text().splitlines()
    of_square, of_wide = map(json.loads, lines)
    assert of_wide["classes"] == of_square["classes"]
    boxes, stretched = np.array(of_square["boxes"]), np.array(of_wide["boxes"])
    np.testing.assert_allclose(stretched, boxes * [3, 2, 3, 2], atol=0.03)  # they are rounded to 0.01
    for found, limits in ((boxes, [SIZE, SIZE]), (stretched, wide.size)):
        assert (found >= 0).all()
        assert (found[:, 2:] <= limits).all()
    # Each is 28 pixels of the net at one of the scales.
    sides = (boxes[:, 2:] - boxes[:, :2])[..., None]
    assert np.isclose(sides, 28 * np.array(SCALES), atol=0.03).any(-1).all()
    assert (tmp_path / "w" / "figures" / "predictions.png").exists()
