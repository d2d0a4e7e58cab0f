"""Grids by hand, the sampler pixel by pixel in float64, gradients by differences, and transforms that show nothing."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.errors import UserError
from cnnlab.ops import grid_sample as gs
from cnnlab.ops.forms import plain_forms

NOISE = np.random.default_rng(0)


def sampled(x, grid, padding):
    """The definition, a place at a time: the hat functions of all pixels, each pixel's centre at (2j + 1) / w − 1."""
    _, height, width, c = x.shape
    out = np.zeros((*grid.shape[:3], c))
    for place in np.ndindex(*grid.shape[:3]):
        column = (grid[place][0] + 1) * width / 2 - 0.5
        row = (grid[place][1] + 1) * height / 2 - 0.5
        for i in range(-1, height + 1):
            for j in range(-1, width + 1):
                weight = max(0.0, 1 - abs(row - i)) * max(0.0, 1 - abs(column - j))
                if padding == "border":
                    out[place] += weight * x[place[0], np.clip(i, 0, height - 1), np.clip(j, 0, width - 1)]
                elif 0 <= i < height and 0 <= j < width:
                    out[place] += weight * x[place[0], i, j]
    return out


def example(n=2, size=(4, 5), out=(3, 6), c=3, reach=1.15):
    x = NOISE.normal(size=(n, *size, c))
    grid = NOISE.uniform(-reach, reach, (n, *out, 2))
    return x, grid


@pytest.mark.parametrize("padding", ["zero", "border"])
def test_the_sampler_is_its_definition(padding):
    x, grid = example()
    got = jax.jit(lambda x, g: gs.grid_sample(x, g, padding))(jnp.array(x, jnp.float32), jnp.array(grid, jnp.float32))
    np.testing.assert_allclose(got, sampled(x, grid, padding), atol=2e-6)


def test_torchs_convention_by_hand():
    # What torch's grid_sample(align_corners=False) gives: the corner of the picture is half a pixel from its centre.
    x = jnp.arange(1.0, 5.0).reshape(1, 2, 2, 1)
    grid = jnp.array([[-1.0, -1.0], [-0.5, -0.5], [0.0, 0.0], [0.5, -0.25], [1.5, 0.5]]).reshape(1, 1, 5, 2)
    assert gs.grid_sample(x, grid).ravel().tolist() == [0.25, 1.0, 2.5, 2.5, 0.0]
    assert gs.grid_sample(x, grid, "border").ravel().tolist() == [1.0, 1.0, 2.5, 2.5, 4.0]


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("padding", ["zero", "border"])
def test_gradients_by_differences(padding, plain):
    x, grid = example(n=1, size=(3, 4), out=(2, 3), c=2, reach=0.95)
    weights = NOISE.normal(size=(1, 2, 3, 2))
    loss = lambda x, grid: (gs.grid_sample(x, grid, padding) * jnp.array(weights, jnp.float32)).sum()

    def slopes(array, of):
        found, step = np.zeros(array.shape), 1e-7
        for at in np.ndindex(*array.shape):
            up, down = array.copy(), array.copy()
            up[at], down[at] = array[at] + step, array[at] - step
            found[at] = (of(up) - of(down)) / (2 * step)
        return found

    by_x = slopes(x, lambda a: (sampled(a, grid, padding) * weights).sum())
    by_grid = slopes(grid, lambda a: (sampled(x, a, padding) * weights).sum())
    given = jnp.array(x, jnp.float32), jnp.array(grid, jnp.float32)
    with plain_forms() if plain else contextlib.nullcontext():
        got = jax.jit(jax.grad(loss, (0, 1)))(*given)
    np.testing.assert_allclose(got[0], by_x, atol=1e-5)
    np.testing.assert_allclose(got[1], by_grid, atol=1e-4)


@pytest.mark.parametrize("kind", gs.KINDS)
def test_the_identity_copies(kind):
    x = jnp.array(NOISE.normal(size=(2, 5, 7, 3)), jnp.float32)
    theta = jnp.array([gs.IDENTITY[kind]] * 2)
    same = gs.transform_grid(kind, theta, (5, 7))
    for padding in ("zero", "border"):
        np.testing.assert_allclose(jax.jit(gs.grid_sample, static_argnums=2)(x, same, padding), x, atol=1e-5)
    # Of half the size: the means of 2×2 squares, as every new centre is where four old pixels meet.
    half = gs.grid_sample(x[:, :4, :6], gs.transform_grid(kind, theta, (2, 3)))
    np.testing.assert_allclose(half, x[:, :4, :6].reshape(2, 2, 2, 3, 2, 3).mean((2, 4)), atol=1e-5)


def test_a_quarter_turn_is_a_quarter_turn():
    x = jnp.array(NOISE.normal(size=(1, 4, 4, 1)), jnp.float32)
    theta = jnp.array([[[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]]])  # what is right in the output is up in the input
    np.testing.assert_allclose(gs.grid_sample(x, gs.affine_grid(theta, (4, 4)))[0], np.rot90(x[0], -1), atol=1e-6)


def test_projective_places_by_hand():
    theta = np.array([0.9, 0.1, 0.2, -0.2, 1.1, -0.1, 0.3, -0.4])
    matrix = np.append(theta, 1).reshape(3, 3)
    got = gs.projective_grid(jnp.array([theta], jnp.float32), (3, 4))[0]
    for i, j in np.ndindex(3, 4):
        u, v, w = matrix @ [(2 * j + 1) / 4 - 1, (2 * i + 1) / 3 - 1, 1]
        np.testing.assert_allclose(got[i, j], [u / w, v / w], atol=1e-6)


def test_a_spline_passes_its_control_points_and_bends_least():
    # In a picture of 4×4 blocks the control points are no pixels' centres; far larger pictures come near them.
    theta = gs.control_points() + NOISE.normal(size=(16, 2)) * 0.2
    grid = np.asarray(gs.thin_plate_grid(jnp.array([theta], jnp.float32), (301, 301)))[0]
    corners = grid[np.ix_([0, 100, 200, 300], [0, 100, 200, 300])].reshape(-1, 2)
    np.testing.assert_allclose(corners, theta, atol=0.02)
    # Control points moved by an affine map: the spline is that map everywhere.
    matrix = np.array([[0.8, 0.3, 0.1], [-0.2, 0.7, -0.3]])
    moved = gs.control_points() @ matrix[:, :2].T + matrix[:, 2]
    spline = gs.thin_plate_grid(jnp.array([moved], jnp.float32), (6, 5))
    np.testing.assert_allclose(spline, gs.affine_grid(jnp.array([matrix], jnp.float32), (6, 5)), atol=1e-5)


def test_a_spline_is_the_solution_of_its_equations():
    theta = gs.control_points(3).astype(np.float64) + NOISE.normal(size=(9, 2)) * 0.3
    points = gs.control_points(3).astype(np.float64)
    bend = lambda r: 0.0 if r == 0 else 2 * r**2 * np.log(r)
    system = np.zeros((12, 12))
    for i in range(9):
        for j in range(9):
            system[i, j] = bend(np.hypot(*(points[i] - points[j])))
        system[i, 9:] = system[9:, i] = 1, *points[i]
    solved = np.linalg.solve(system, np.concatenate([theta, np.zeros((3, 2))]))
    got = gs.thin_plate_grid(jnp.array([theta], jnp.float32), (3, 4))[0]
    for i, j in np.ndindex(3, 4):
        place = np.array([(2 * j + 1) / 4 - 1, (2 * i + 1) / 3 - 1])
        row = [bend(np.hypot(*(place - point))) for point in points] + [1, *place]
        np.testing.assert_allclose(got[i, j], np.array(row) @ solved, atol=1e-5)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("padding", ["zero", "border"])
def test_degenerate_transforms_stay_finite(padding, plain):
    thetas = {
        "affine": [np.zeros(6), [0, 0, 5, 0, 0, -7], [1e9] * 6, [1, 1, 0, 1, 1, 0]],
        "projective": [[1, 0, 0, 0, 1, 0, 1, 1], [1, 0, 0, 0, 1, 0, -3, 0], [0] * 8, [1e6] * 8],
        "tps": [np.zeros(32), np.full(32, 1e6), np.tile([0.3, 0.3], 16)],
    }
    x = jnp.array(NOISE.normal(size=(1, 5, 5, 2)), jnp.float32)
    for kind, rows in thetas.items():
        loss = lambda x, t, kind=kind: (gs.grid_sample(x, gs.transform_grid(kind, t, (4, 4)), padding) ** 2).sum()
        with plain_forms() if plain else contextlib.nullcontext():
            slopes = jax.jit(jax.value_and_grad(loss, (0, 1))).lower(x, jnp.zeros((1, len(rows[0])))).compile()
        for row in rows:
            value, grads = slopes(x, jnp.array([row], jnp.float32))
            assert np.isfinite(value), (kind, row)
            assert all(np.isfinite(g).all() for g in grads), (kind, row)
    nowhere = jnp.full((1, 2, 2, 2), jnp.nan).at[0, 0].set(jnp.inf)
    assert np.isfinite(gs.grid_sample(x, nowhere, padding)).all()
    behind = gs.projective_grid(jnp.array([[1.0, 0, 0, 0, 1, 0, 3, 0]]), (1, 4))  # w is −1.25, 0.25 …
    assert behind[0, 0, 0].tolist() == [gs.OUTSIDE, gs.OUTSIDE]


def test_transforms_that_show_nothing_are_told():
    for kind, identity in gs.IDENTITY.items():
        gs.check_transform(kind, identity)
    cases = [
        ("affine", (1, 0, 0, 1), "θ has 4 numbers; an affine transform takes 6: the identity is 1, 0, 0, 0, 1, 0"),
        ("affine", (1, 1, 0, 1, 1, 0), "singular"),
        ("affine", (0, 0, 0.5, 0, 0, 0), "singular"),
        ("affine", (1, 0, 4, 0, 1, 0), "shows nothing of the picture"),
        ("affine", (1, 0, float("nan"), 0, 1, 0), "not finite"),
        ("projective", (1, 0, 0, 0, 1, 0, 2, 0), "behind the eye"),
        ("tps", (0.0, 0.0) * 16, "singular"),
        ("afine", (1,) * 6, 'no transform "afine"; did you mean affine?'),
    ]
    for kind, theta, words in cases:
        with pytest.raises(UserError, match=words.replace("?", r"\?")) as error:
            gs.check_transform(kind, theta)
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match='must be "zero" or "border"'):
        gs.grid_sample(jnp.zeros((1, 2, 2, 1)), jnp.zeros((1, 2, 2, 2)), "zeros")
    with pytest.raises(UserError, match="not 15"):
        gs.thin_plate_grid(jnp.zeros((1, 15, 2)), (4, 4))


def test_half_precision_pictures_keep_their_type_and_their_places():
    x, grid = example(size=(40, 40))
    x, grid = jnp.array(x, jnp.bfloat16), jnp.array(grid, jnp.float32)
    got = jax.jit(gs.grid_sample)(x, grid)
    assert got.dtype == jnp.bfloat16
    exact = sampled(np.asarray(x, np.float64), np.asarray(grid, np.float64), "zero")
    np.testing.assert_allclose(np.asarray(got, np.float64), exact, atol=0.03)
