"""Equivariance and invariance errors: layers of which they are known, and one computed by loops in float64."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.inspect.equivariance import (
    PIXELS,
    UNRELATED,
    Error,
    Movement,
    Places,
    compare,
    moved,
    places_of,
    sums,
    way_back,
)
from cnnlab.inspect.layers import run, shapes
from cnnlab.ops.conv import Conv
from cnnlab.ops.pooling import AvgPool, MaxPool
from cnnlab.reach import pixels
from cnnlab.summary import reaches
from tests.small import random_array


class Net(nn.Module):
    """A convolution without borders, one with zeros around, pooling, and a dense layer."""

    @nn.compact
    def __call__(self, x, *, train=False):
        x = Conv(3, 3, name="valid")(x)
        x = MaxPool(2, 2, name="max")(x)
        x = Conv(3, 3, padding=1, name="same")(x)
        x = AvgPool(2, 2, name="average")(x)
        return nn.Dense(2, name="fc")(x.reshape(len(x), -1))


@functools.cache
def answers_of(model, shape, border):
    """A network's fresh variables and a function of them, the input and a movement: the sums by layer and measure."""
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros(shape))
    reached = reaches(model, shape)
    found = shapes(model, variables, jax.ShapeDtypeStruct(shape, jnp.float32))
    places = {name: places_of(reached[name], each, shape[1:3]) for name, each in found.items()}

    @jax.jit
    def answers(variables, x, back):
        _, before = run(model, variables, x)
        _, after = run(model, variables, moved(x, back)[0])
        return compare(before, after, back, places, shape[1:3], border)

    return variables, answers


def errors(model, x, movement, border=4.0, variables=None):
    """By layer and measure."""
    fresh, answers = answers_of(model, x.shape, border)
    back = way_back(movement, jnp.arange(len(x)), x.shape[1:3])
    found = {}
    for layer, by_measure in jax.device_get(answers(variables or fresh, x, back)).items():
        for name, parts in by_measure.items():
            error = Error()
            error.add(parts)
            found[layer, name] = error.compute()
    return found


X = random_array((8, 18, 18, 2))
ROUND = jnp.array([[0.0, 1.0, 0.0], [1.0, 3.0, 1.0], [0.0, 1.0, 0.0]])[..., None, None]
FILTER = nn.Sequential((Conv(1, 3),))


@pytest.mark.parametrize(("shift", "exact"), [(1, ["valid"]), (2, ["valid", "max", "same"])])
def test_maps_move_along_by_multiples_of_their_stride(shift, exact):
    found = errors(Net(), X, Movement("shift", shift))
    assert found["valid", "invariance"] == pytest.approx(UNRELATED, abs=0.1)  # white noise: neighbours are unrelated
    for layer in ("valid", "max", "same"):
        error = found[layer, "equivariance"]
        assert error < 1e-5 if layer in exact else error > 0.2, (layer, error)


def test_four_pixels_for_two_poolings_and_none_for_no_movement():
    assert errors(Net(), X, Movement("shift", 4))["average", "equivariance"] < 1e-5
    for movement in (Movement("shift", 0), Movement("rotation", 0), Movement("scale", 1)):
        assert max(errors(Net(), X, movement).values()) < 1e-5


def test_zeros_around_count_only_near_the_edge():
    class Same(nn.Module):
        @nn.compact
        def __call__(self, x):
            return Conv(1, 5, padding=2, name="conv")(x)

    near, far = (errors(Same(), X, Movement("shift", 1), border)["conv", "equivariance"] for border in (0.0, 2.0))
    assert near > 0.1
    assert far < 1e-5


@pytest.mark.parametrize("degrees", [90, 180])
def test_quarter_turns_are_exact_for_filters_without_a_direction(degrees):
    x, variables = X[..., :1], {"params": {"layers_0": {"kernel": ROUND, "bias": jnp.zeros(1)}}}
    movement, layer = Movement("rotation", degrees), ("layers_0", "equivariance")
    assert errors(FILTER, x, movement, 0.0, variables)[layer] < 1e-4
    assert errors(FILTER, x, movement, 0.0)[layer] > 0.3


def test_the_dense_layers_error_by_hand():
    """Two pictures of two pixels, the first moved right and the second down: the edge pixel comes in."""
    x = jnp.array([[[[1.0], [2.0]]], [[[3.0], [5.0]]]])
    kernel = jnp.array([[1.0, 0.0], [10.0, 1.0]])

    class Dense(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(2, use_bias=False, name="fc")(x.reshape(len(x), -1))

    found = errors(Dense(), x, Movement("shift", 1), 0.0, {"params": {"fc": {"kernel": kernel}}})
    # Before: (21, 2) and (53, 5). The first becomes (1, 1) → (11, 1), the second stays. The means are 37 and 3.5.
    spread = 2 * 16**2 + 2 * 1.5**2
    assert found["fc", "invariance"] == pytest.approx(math.sqrt((10**2 + 1**2) / spread))
    assert ("fc", "equivariance") not in found


def test_where_points_come_from():
    """The eye's anticlockwise, by hand: x right, y down, in a picture 4 high and 6 wide; the middle is (3, 2)."""

    def from_where(movement, number, point):
        matrix = np.asarray(way_back(movement, jnp.array([number]), (4, 6))[0], np.float64)
        return (matrix @ [*point, 1]).round(5).tolist()

    assert [from_where(Movement("shift", 2), i, (3, 2)) for i in range(4)] == [[1, 2], [3, 0], [5, 2], [3, 4]]
    # Anticlockwise by 90°, what was on the right (4, 2) comes to the top (3, 1); clockwise, to the bottom.
    assert from_where(Movement("rotation", 90), 0, (3, 1)) == [4, 2]
    assert from_where(Movement("rotation", 90), 1, (3, 3)) == [4, 2]
    assert from_where(Movement("scale", 2), 0, (5, 2)) == [4, 2]


def moved_by_loops(maps, matrix, places):
    """One picture's maps in float64, place by place; NaN where the source is not among the places."""
    height, width, _ = maps.shape
    values = np.full(maps.shape, np.nan)
    for i in range(height):
        for j in range(width):
            x, y = matrix @ [places.first[1] + places.jump[1] * j, places.first[0] + places.jump[0] * i, 1]
            row, column = (y - places.first[0]) / places.jump[0], (x - places.first[1]) / places.jump[1]
            if 0 <= row <= height - 1 and 0 <= column <= width - 1:
                top, left = min(int(row), height - 2), min(int(column), width - 2)
                a, b = row - top, column - left
                values[i, j] = (1 - a) * ((1 - b) * maps[top, left] + b * maps[top, left + 1])
                values[i, j] += a * ((1 - b) * maps[top + 1, left] + b * maps[top + 1, left + 1])
    return values


@pytest.mark.parametrize("movement", [Movement("shift", 1.5), Movement("rotation", 25), Movement("scale", 0.7)])
def test_maps_are_moved_where_their_fields_look(movement):
    maps, places = random_array((4, 5, 6, 2)), Places((3.0, 2.0), (4.0, 3.0))
    back = way_back(movement, jnp.arange(4), (25, 21))
    values, known = jax.device_get(jax.jit(moved, static_argnums=2)(maps, back, places))
    right = [moved_by_loops(*pair, places) for pair in zip(np.asarray(maps, np.float64), np.asarray(back), strict=True)]
    assert np.array_equal(known, ~np.isnan(np.stack(right)[..., 0]))
    assert 0 < known.sum() < known.size
    assert np.allclose(values[known], np.stack(right)[known], atol=1e-5)


def test_sums_against_float64():
    """In two parts of different size, with an example that is masked, against all at once."""
    values, others = (np.asarray(random_array((5, 3, 4, 2), seed), np.float64) + 3 for seed in (0, 1))
    counted = np.random.default_rng(0).random((5, 3, 4)) < 0.6
    error = Error()
    for part in (slice(0, 2), slice(2, 5)):
        parts = [jnp.asarray(x[part], jnp.float32) for x in (values, others)]
        mask = np.arange(5)[part] < 4
        error.add(jax.device_get(jax.jit(sums)(*parts, jnp.asarray(counted[part]))), mask)
    chosen = counted[:4]
    spread = np.sum((values[:4][chosen] - values[:4][chosen].mean(0)) ** 2)
    right = math.sqrt(np.sum((values[:4][chosen] - others[:4][chosen]) ** 2) / spread)
    assert error.compute() == pytest.approx(right, rel=1e-5)


def test_errors_without_a_number():
    nothing = Error()
    assert math.isnan(nothing.compute())
    for difference, right in ((0.0, 0.0), (1.0, math.inf)):
        error = Error()
        error.add(jax.device_get(jax.jit(sums)(jnp.full((3, 2), 0.1), jnp.full((3, 2), 0.1 + difference))))
        assert error.compute() == right
    turned = errors(nn.Sequential((AvgPool(9, 9),)), X, Movement("rotation", 45), 0.0)
    assert math.isnan(turned["layers_0", "equivariance"])  # 2×2 places, each comes from between two and outside
    assert turned["layers_0", "invariance"] > 0


def test_places():
    found = shapes(Net(), jax.eval_shape(Net().init, jax.random.key(0), X), X)
    places = {name: places_of(reaches(Net(), X.shape)[name], shape, (18, 18)) for name, shape in found.items()}
    assert places["valid"] == Places((1.5, 1.5), (1.0, 1.0))
    assert places["max"] == places["same"] == Places((2.0, 2.0), (2.0, 2.0))
    assert places["average"] == Places((3.0, 3.0), (4.0, 4.0))
    assert places["fc"] is None
    assert places_of((), (1, 1, 1, 7), (18, 18)) is None
    assert places_of((), (1, 3, 9, 7), (18, 18)) == Places((3.0, 1.0), (6.0, 2.0))  # nothing is known but their number
    assert places_of(pixels(4), (1, 18, 18, 2), (18, 18)) == PIXELS
