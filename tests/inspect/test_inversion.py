"""Inversion: the regularisers by hand, what a first layer keeps, and the figure."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab import configs
from cnnlab.errors import UserError
from cnnlab.inspect.inversion import Weights, alpha_norm, distance, draw, invert, layer_output, total_variation
from cnnlab.inspect.maximise import noise
from cnnlab.inspect.subject import Subject
from cnnlab.models.lenet import LeNet
from tests.small import random_array, small_experiment

ENDS = jnp.array([[-1.0], [3.0]])
MODEL = LeNet(variant="modern")
NONE = Weights(norm=0, variation=0)


class Tiny(nn.Module):
    @nn.compact
    def __call__(self, x, *, train=False):
        x = nn.relu(nn.Conv(2, (5, 5), padding="VALID", name="conv")(x))
        return nn.Dense(10, name="fc")(x.reshape(len(x), -1))


@pytest.fixture(scope="module")
def variables():
    return MODEL.init(jax.random.key(0), jnp.zeros((1, 32, 32, 1)))


def smooth():
    """Two pictures within `ENDS` whose edges are soft."""
    rows, columns = np.mgrid[0:32, 0:32] / 5
    waves = np.stack([np.sin(rows) * np.cos(columns), np.cos(rows + columns)])
    return jnp.asarray(1 + 1.8 * waves[..., None], jnp.float32)


def options(**fields):
    found = configs.options_of("inspect")
    found.update(fields)
    return found


def test_regularisers_by_hand():
    x = jnp.array([[[[1.0, 0.0], [3.0, 0.0]], [[1.0, 2.0], [-1.0, 0.0]]]])
    assert alpha_norm(x, 2).tolist() == [1 + 9 + 1 + 4 + 1]
    # First channel: 2² + 0², 4² (below 3 comes −1), 2² along the lower row, none; second: 2² down, 0, 2² across, none.
    assert total_variation(x, 2).tolist() == [4 + 16 + 4 + 4 + 4]
    assert total_variation(x, 1).tolist() == [2 + 4 + 2 + 2 + 2]
    twice = total_variation(jnp.concatenate([x, 2 * x]), 1)
    assert twice.tolist() == [12, 24]
    corner = jnp.array([[0.0, 3.0], [4.0, 4.0]])[None, :, :, None]
    assert total_variation(corner, 1).tolist() == [5 + 1]
    assert jnp.isfinite(jax.grad(lambda x: total_variation(x, 1).sum())(jnp.ones((1, 3, 3, 1)))).all()


def test_the_distance_is_a_share():
    target = jnp.array([[[3.0, 4.0]], [[0.0, 2.0]]])
    np.testing.assert_allclose(distance(target, target), 0)
    np.testing.assert_allclose(distance(jnp.zeros_like(target), target), 1)
    np.testing.assert_allclose(distance(target + jnp.array([5.0, 0.0]), target), [1, 25 / 4], rtol=1e-6)


def test_a_first_layer_keeps_the_picture(variables):
    x = smooth()
    target = layer_output(MODEL, variables, x, "C1")
    start = noise(jax.random.key(1), 2, (32, 32, 1), ENDS)
    found, away = invert(MODEL, variables, target, "C1", start, ENDS, NONE, steps=300)
    assert away.max() < 1e-4
    np.testing.assert_allclose(away, distance(layer_output(MODEL, variables, found, "C1"), target), rtol=1e-3)
    inner = (slice(None), slice(4, -4), slice(4, -4))  # pixels that few units see are less certain
    assert jnp.abs(found - x)[inner].max() < 0.2
    assert jnp.abs(start - x)[inner].max() > 1.5


def test_each_picture_is_found_by_itself(variables):
    target = layer_output(MODEL, variables, smooth(), "S2")
    start = noise(jax.random.key(1), 2, (32, 32, 1), ENDS)
    whole, _ = invert(MODEL, variables, target, "S2", start, ENDS, steps=5)
    alone, _ = invert(MODEL, variables, target[1:], "S2", start[1:], ENDS, steps=5)
    np.testing.assert_allclose(whole[1:], alone, atol=1e-3)


def test_what_the_regularisers_do(variables):
    target = layer_output(MODEL, variables, smooth(), "C1")
    start = noise(jax.random.key(1), 2, (32, 32, 1), ENDS)
    plain, _ = invert(MODEL, variables, target, "C1", start, ENDS, NONE, steps=60)
    flat, _ = invert(MODEL, variables, target, "C1", start, ENDS, Weights(norm=0, variation=1), steps=60)
    assert (total_variation(flat) < 0.8 * total_variation(plain)).all()
    # About the middle of the range, here 1: white and black are equally far.
    grey, _ = invert(MODEL, variables, target, "C1", start, ENDS, Weights(norm=10, variation=0), steps=60)
    assert (alpha_norm(grey - 1) < 0.1 * alpha_norm(plain - 1)).all()


def test_a_heavy_regulariser_by_hand(variables):
    # Where only the norm counts, Adam's first step is by `rate` towards the middle, in halves of the range.
    target = layer_output(MODEL, variables, smooth(), "C1")
    start = 1 + 2 * jnp.sign(random_array((2, 32, 32, 1))) * 0.5
    weights = dataclasses.replace(NONE, norm=1e6, alpha=2.0)
    found, _ = invert(MODEL, variables, target, "C1", start, ENDS, weights, steps=1, rate=0.1)
    np.testing.assert_allclose(found, 1 + 2 * jnp.sign(start - 1) * 0.4, atol=1e-4)


def test_the_figure(capsys):
    small = small_experiment()
    small = dataclasses.replace(small, task=dataclasses.replace(small.task, model=Tiny()))
    state = small.task.init(jax.random.key(0), {"image": jnp.zeros((1, *small.picture_shape), jnp.uint8)})
    opened = Subject(small, lambda: state, count=2)
    drawn = draw(opened, options(inversion={"steps": 2}))["inversion"]
    titles = [axes.get_title() for axes in drawn.axes]
    assert [title.partition("\n")[0] for title in titles[:3]] == [opened.titles[0], "conv", "fc"]
    assert titles[3] == opened.titles[1]
    assert all(title.startswith("off by ") for title in titles[4:])
    assert "conv                         1,568 numbers, off by" in capsys.readouterr().out
    assert len(draw(opened, options(inversion={"steps": 2}, layers="fc"))["inversion"].axes) == 4
    with pytest.raises(UserError, match="there is no layer 'fc9'; did you mean fc"):
        draw(opened, options(layers="fc9"))
    with pytest.raises(UserError, match=r"config\.inversion\.norm is -1\.0; it must be 0 or more"):
        draw(opened, options(inversion={"norm": -1.0}))
