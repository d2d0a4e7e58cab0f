"""L-BFGS in a box, beside scipy's, which takes one function at a time."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from scipy.optimize import Bounds
from scipy.optimize import minimize as scipy_minimise

from cnnlab.errors import UserError
from cnnlab.inspect.lbfgs import minimise


def quadratic(matrices, centres, x):
    away = x.reshape(len(x), -1) - centres
    return 0.5 * jnp.einsum("ni,nij,nj->n", away, matrices, away)


def rosenbrock(x):
    """Its valley is bent; the least value, 0, is at (1, 1)."""
    x = 3 * x.reshape(len(x), -1)
    return 10 * jnp.square(x[:, 1] - jnp.square(x[:, 0])) + jnp.square(1 - x[:, 0])


def problems(count=6):
    random = np.random.default_rng(0)
    roots = random.normal(size=(count, 12, 12))
    matrices = (roots @ roots.transpose(0, 2, 1) + 0.1 * np.eye(12)).astype(np.float32)
    return matrices, random.uniform(-0.5, 1.5, (count, 12)).astype(np.float32)


def test_quadratic_functions_in_a_box_as_scipy_has_them():
    matrices, centres = problems()
    start = jnp.full((6, 3, 4, 1), 0.5)
    found = np.asarray(minimise(Partial(quadratic, matrices, centres), start, 80)).reshape(6, 12)
    for x, matrix, centre in zip(found, matrices, centres, strict=True):
        known = scipy_minimise(
            lambda x, a, b: (0.5 * (x - b) @ a @ (x - b), a @ (x - b)),
            np.full(12, 0.5),
            args=(matrix, centre),
            jac=True,
            bounds=Bounds(0, 1),
            options={"ftol": 1e-14, "gtol": 1e-10},
        )
        assert ((known.x <= 1e-6) | (known.x >= 1 - 1e-6)).sum() >= 2  # the box matters
        np.testing.assert_allclose(x, known.x, atol=2e-3)


def test_it_never_goes_uphill():
    start = jnp.asarray(np.random.default_rng(2).uniform(0, 1, (50, 1, 2, 1)), jnp.float32)
    values = [np.asarray(rosenbrock(minimise(rosenbrock, start, steps))) for steps in range(1, 9)]
    assert (np.diff([np.asarray(rosenbrock(start)), *values], axis=0) <= 0).all()


def test_a_bent_valley():
    found = minimise(rosenbrock, jnp.array([[0.1, 0.9], [0.9, 0.1], [1, 1]]).reshape(3, 1, 2, 1), 60)
    np.testing.assert_allclose(found.reshape(3, 2), 1 / 3, atol=2e-3)


def test_each_picture_by_itself():
    matrices, centres = problems()
    start = jnp.asarray(np.random.default_rng(1).uniform(0, 1, (6, 3, 4, 1)), jnp.float32)
    found = minimise(Partial(quadratic, matrices, centres), start, 6)
    alone = minimise(Partial(quadratic, matrices[2:3], centres[2:3]), start[2:3], 6)
    np.testing.assert_allclose(found[2], alone[0], atol=1e-4)
    assert found.min() >= 0
    assert found.max() <= 1


def test_where_it_is_least_it_stays():
    start = jnp.full((1, 1, 2, 1), 1 / 3)
    np.testing.assert_allclose(minimise(rosenbrock, start, 5), start, atol=1e-5)
    with pytest.raises(UserError, match="steps is 0"):
        minimise(rosenbrock, start, 0)
