"""Activation maximisation: on a linear unit, where the optimum is known; each regulariser by hand; on a trained net."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab import configs, parallel
from cnnlab.data.preprocess import contrast_normalise
from cnnlab.errors import UserError
from cnnlab.inspect.layers import run
from cnnlab.inspect.maximise import TABLE_1, Regularisers, activations, blur, draw, input_ends, maximise, noise
from cnnlab.inspect.subject import Subject
from cnnlab.models.lenet import LeNet
from tests.small import random_array, small_experiment

ENDS = jnp.array([[-1.0], [3.0]])
NONE = Regularisers(0, 0, 0, 0, 0)
UNITS = jnp.array([1, 0])


class Linear(nn.Module):
    @nn.compact
    def __call__(self, x, *, train=False):
        return nn.Dense(2, use_bias=False, name="fc")(x.reshape(len(x), -1))


KERNEL = random_array((36, 2), seed=3)
VARIABLES = {"params": {"fc": {"kernel": KERNEL}}}
WEIGHTS = KERNEL.T.reshape(2, 6, 6, 1)[UNITS]
START = 0.1 * random_array((2, 6, 6, 1))


def after(how, steps, rate=0.01, start=START):
    return maximise(Linear(), VARIABLES, start, "", UNITS, ENDS, how, steps, rate)


def steepest(rate):
    """The step of a linear unit: of length `rate` times the way from black to white, in root mean square."""
    return rate * 4 * WEIGHTS / jnp.sqrt(jnp.square(WEIGHTS).mean((1, 2, 3), keepdims=True))


@pytest.fixture(scope="module")
def trained():
    small = small_experiment(steps=60)
    source, task = small.train_data(), small.task
    state = task.init(jax.random.key(0), {"image": jnp.zeros((1, *small.picture_shape), jnp.uint8)})
    step = jax.jit(lambda state, batch, key: task.train_step(state, batch, key, parallel.identity)[0])
    for number in range(60):
        batch = source.batch((np.arange(32) + 32 * number) % len(source))
        batch = {name: jnp.asarray(array) for name, array in batch.items()}
        state = step(state, {**batch, "position": jnp.arange(32)}, jax.random.key(number))
    return Subject(small, lambda: state, count=3)


def options(**fields):
    found = configs.options_of("inspect")
    found.update(fields)
    return found


def test_of_a_linear_unit_white_where_its_weight_is_positive():
    x, reached = after(NONE, 2000, rate=0.1)
    np.testing.assert_array_equal(x, jnp.where(WEIGHTS > 0, 3.0, -1.0))
    np.testing.assert_allclose(reached, (WEIGHTS * x).sum((1, 2, 3)), rtol=1e-5)


def test_decay_stops_where_it_equals_the_step():
    x, _ = after(dataclasses.replace(NONE, decay=0.5), 60)
    # x = (1 − ½)(x + step) at x = step.
    np.testing.assert_allclose(x, jnp.clip(steepest(0.01), -1, 3), atol=1e-5)


def test_blurred_each_so_many_steps():
    how = dataclasses.replace(NONE, blur_width=0.7, blur_every=2)
    step = steepest(0.01)
    expected = blur(START + step, 0.7) + step
    np.testing.assert_allclose(after(how, 2)[0], expected, atol=1e-5)
    np.testing.assert_allclose(after(how, 3)[0], blur(expected + step, 0.7), atol=1e-5)
    never = dataclasses.replace(how, blur_every=0)
    np.testing.assert_allclose(after(never, 2)[0], START + 2 * step, atol=1e-5)


def test_the_blur_is_a_gaussian():
    impulse = jnp.zeros((1, 15, 13, 1)).at[0, 7, 6, 0].set(1.0)
    rows, columns = np.mgrid[-7:8, -6:7]
    bell = np.exp(-(rows**2 + columns**2) / (2 * 1.5**2))
    np.testing.assert_allclose(blur(impulse, 1.5)[0, :, :, 0], bell / bell.sum(), atol=2e-4)
    np.testing.assert_allclose(blur(jnp.full((1, 5, 4, 2), 3.0), 2.0), 3.0, rtol=1e-5)


@pytest.mark.parametrize("which", ["norm_percentile", "contribution_percentile"])
def test_the_least_pixels_become_0(which):
    new = START + steepest(0.01)
    importance = np.asarray(jnp.abs(new if which == "norm_percentile" else new * WEIGHTS))
    x = np.asarray(after(dataclasses.replace(NONE, **{which: 75}), 1)[0])
    for picture, expected, size in zip(x, np.asarray(new), importance, strict=True):
        kept = size >= np.sort(size.ravel())[27]  # 9 of 36
        np.testing.assert_allclose(picture, np.where(kept, expected, 0), atol=1e-5)
        assert (picture != 0).sum() == 9


def test_the_norm_is_over_the_channels():
    x = jnp.array([[3.0, 3.0], [0.0, 4.0], [1.0, 1.0], [2.0, 2.0]]).reshape(1, 2, 2, 2)
    variables = {"params": {"fc": {"kernel": jnp.zeros((8, 2))}}}
    ends = jnp.array([[-9.0, -9.0], [9.0, 9.0]])
    how = dataclasses.replace(NONE, norm_percentile=50)
    found, _ = maximise(Linear(), variables, x, "", jnp.array([0]), ends, how, 1)
    assert found.reshape(4, 2).tolist() == [[3, 3], [0, 4], [0, 0], [0, 0]]


def test_the_paper_s_hyperparameters_and_their_ranges():
    assert TABLE_1[2] == Regularisers()
    with pytest.raises(UserError, match=r"maximise\.decay is 2; it must be from 0 to 1"):
        Regularisers(decay=2)
    with pytest.raises(UserError, match=r"maximise\.norm_percentile is 101; it must be from 0 to 100"):
        Regularisers(norm_percentile=101)


def test_the_unit_in_the_middle_of_a_map():
    model, x = LeNet(variant="modern"), random_array((2, 32, 32, 1))
    variables = model.init(jax.random.key(0), x)
    units = jnp.array([5, 2])
    logits, found = run(model, variables, x)
    np.testing.assert_array_equal(activations(model, variables, x, "", units), logits[jnp.arange(2), units])
    np.testing.assert_array_equal(
        activations(model, variables, x, "C3", units), found["C3"][jnp.arange(2), 5, 5, units]
    )
    np.testing.assert_array_equal(activations(model, variables, x, "F6", units), found["F6"][jnp.arange(2), units])
    start = noise(jax.random.key(0), 2, (32, 32, 1), ENDS)
    new, reached = maximise(model, variables, start, "C1", units, ENDS, NONE, 5)
    changed = np.argwhere(np.asarray(new != start))
    assert changed[:, 1:3].min() == 14
    assert changed[:, 1:3].max() == 18  # 5×5 pixels about the middle of 28×28 units
    assert (reached > activations(model, variables, start, "C1", units)).all()
    with pytest.raises(UserError, match="there is no layer 'C9'"):
        activations(model, variables, x, "C9", units)


def test_a_trained_net_takes_each_for_its_class(trained):
    ends = input_ends(trained)
    start = noise(jax.random.key(0), 10, (32, 32, 1), ends)
    x, reached = maximise(trained.model, trained.variables, start, "", jnp.arange(10), ends, Regularisers(), steps=100)
    logits = trained.model.apply(trained.variables, x)
    assert logits.argmax(-1).tolist() == list(range(10))
    np.testing.assert_allclose(reached, jnp.diagonal(logits), rtol=1e-4)
    assert (reached > 2 * jnp.diagonal(trained.model.apply(trained.variables, start))).all()
    assert x.min() >= ends[0, 0]
    assert x.max() <= ends[1, 0]


def test_black_and_white_as_the_network_sees_them(trained):
    np.testing.assert_allclose(input_ends(trained), [[-0.1], [1.175]], atol=1e-6)  # of LeNet-5's paper
    task = dataclasses.replace(trained.experiment.task, preprocess=contrast_normalise)
    other = dataclasses.replace(trained, experiment=dataclasses.replace(trained.experiment, task=task))
    np.testing.assert_allclose(input_ends(other), [[other.x.min()], [other.x.max()]])


def test_the_figures(trained, capsys):
    short = {"steps": 3}
    drawn = draw(trained, options(maximise=short, labels="7,2"))
    assert [axes.get_title()[0] for axes in drawn["maximise"].axes] == ["7", "2"]
    assert len(draw(trained, options(maximise=short))["maximise"].axes) == 10
    drawn = draw(trained, options(maximise=short, layers="C3,F6", channels="4,1,7"))
    assert list(drawn) == ["maximise_C3", "maximise_F6"]
    titles = [axes.get_title().partition(":")[0] for axes in drawn["maximise_C3"].axes]
    assert titles == ["4", "1", "7"]
    # A unit of C3 sees 14×14 pixels.
    assert drawn["maximise_C3"].axes[0].images[0].get_array().shape == (14, 14)
    assert "number    7" in capsys.readouterr().out
    strongest = draw(trained, options(maximise=short, layers="C1"))["maximise_C1"]
    maxima = np.asarray(run(trained.model, trained.variables, trained.x)[1]["C1"]).max((0, 1, 2))
    assert [int(axes.get_title().partition(":")[0]) for axes in strongest.axes] == np.argsort(-maxima).tolist()


def test_what_is_not_there(trained):
    with pytest.raises(UserError, match=r"config\.maximise\.rate is 0\.0; it must be positive"):
        draw(trained, options(maximise={"rate": 0.0}))
    with pytest.raises(UserError, match="there is no class 'ten'"):
        draw(trained, options(labels="ten"))
    with pytest.raises(UserError, match="layer C1 has no channel 6"):
        draw(trained, options(layers="C3,C1", channels="6"))
    with pytest.raises(UserError, match=r"config\.channels is '1,x': 'x' is no number"):
        draw(trained, options(layers="C1", channels="1,x"))
