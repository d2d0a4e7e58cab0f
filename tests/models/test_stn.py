"""Spatial transformers: they begin as the identity and learn; the paper's budgets, depths, parallel ones."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnlab.errors import UserError
from cnnlab.models.stn import STCNN, STFCN, ConvLocaliser, DenseLocaliser, SpatialTransformer, transforms, widest
from cnnlab.ops.grid_sample import IDENTITY, KINDS, grid_sample, transform_grid
from tests.small import count, random_array

SMALL = functools.partial(DenseLocaliser, hidden=(8,))  # quick to compile


def begun(net, x):
    """Its first variables; jitted, as op by op compiles longer."""
    return jax.jit(net.init)(jax.random.key(1), x)


def parameters(net, size):
    x = jax.ShapeDtypeStruct((1, size, size, 1), jnp.float32)
    return jax.eval_shape(net.init, jax.random.key(0), x)["params"]


@pytest.mark.parametrize(("kind", "localiser"), [("affine", ConvLocaliser), *((kind, SMALL) for kind in KINDS)])
def test_it_begins_as_the_identity(kind, localiser):
    layer, x = SpatialTransformer(kind, localiser), random_array((2, 28, 28, 1))
    variables = begun(layer, x)
    np.testing.assert_allclose(jax.jit(layer.apply)(variables, x), x, atol=1e-4)
    last = variables["params"]["theta1"]
    assert not last["kernel"].any()
    assert last["bias"].tolist() == pytest.approx(IDENTITY[kind])


def test_it_begins_where_it_is_told():
    layer = SpatialTransformer("affine", SMALL, size=(14, 14), initial=(0.5, 0.0, 0.0, 0.0, 0.5, 0.0))
    x = random_array((1, 28, 28, 1))
    got = jax.jit(layer.apply)(begun(layer, x), x)
    np.testing.assert_allclose(got, x[:, 7:21, 7:21], atol=1e-5)


def test_what_it_sows_is_what_it_does():
    net = STFCN(4, transformer=SpatialTransformer("projective", SMALL, parallel=2))
    x = random_array((3, 28, 28, 1))
    variables = begun(net, x)
    assert set(variables) == {"params"}
    params = jax.tree.map(lambda p: p + 0.02 * np.random.default_rng(5).normal(size=p.shape), variables["params"])
    found = transforms(net, {"params": params}, x)
    assert list(found) == ["transformer"]
    assert len(found["transformer"]) == 2
    for each in found["transformer"]:
        assert each["theta"].shape == (3, 8)
        grid = transform_grid("projective", each["theta"], (28, 28))
        np.testing.assert_allclose(each["grid"], grid, atol=1e-6)
        np.testing.assert_allclose(each["transformed"], grid_sample(x, grid), atol=1e-4)
    one, two = (each["theta"] for each in found["transformer"])
    assert not np.allclose(one, two)  # of localisation nets of their own
    assert jax.eval_shape(net.apply, {"params": params}, x).shape == (3, 10)


def test_at_any_depth_of_any_network():
    class Deep(nn.Module):
        @nn.compact
        def __call__(self, x, *, train):
            x = SpatialTransformer("affine", SMALL, name="first")(x)
            x = nn.Conv(6, (3, 3), strides=2)(x)
            x = SpatialTransformer("tps", SMALL, padding="border", size=(5, 6), name="deep")(x)
            return nn.Dense(3)(x.reshape(len(x), -1))

    net, x = Deep(), random_array((2, 12, 12, 3))
    variables = jax.jit(lambda key: net.init(key, x, train=False))(jax.random.key(0))
    found = jax.eval_shape(lambda: transforms(net, variables, x))
    assert {name: seen[0]["transformed"].shape for name, seen in found.items()} == {
        "first": (2, 12, 12, 3),
        "deep": (2, 5, 6, 6),
    }
    loss = lambda params: (net.apply({"params": params}, x, train=True) ** 2).sum()
    grads = jax.jit(jax.grad(loss))(variables["params"])
    for name in ("first", "deep"):
        assert np.abs(grads[name]["theta1"]["bias"]).max() > 0
    assert transforms(STFCN(8), begun(STFCN(8), x), x) == {}


def test_the_papers_budget():
    def widened(size, body, **fields):
        net = lambda width: body(width, **fields)
        width = widest(net, (size, size, 1), 400_000)
        total = count(parameters(net(width), size))
        assert total <= 400_000 < count(parameters(net(width + 1), size))
        return width, total

    # 9×9 filters, 7×7 filters, the outputs; of the localisation net 5×5 filters twice, a layer of 20 units and θ.
    assert widened(28, STCNN) == (89, 81 * 89 + 89 + 49 * 89**2 + 89 + 2 * 2 * 89 * 10 + 10)
    localiser = 25 * 20 + 20 + 25 * 20**2 + 20 + 20**2 + 20 + 20 * 6 + 6
    affine = SpatialTransformer()
    expected = 81 * 87 + 87 + 49 * 87**2 + 87 + 4 * 87 * 10 + 10 + localiser
    assert widened(28, STCNN, transformer=affine) == (87, expected)
    # Of 42×42 pixels made 21×21 a single one is left at the end.
    localiser += (4 * 4 - 1) * 20 * 20
    expected = 81 * 87 + 87 + 49 * 87**2 + 87 + 87 * 10 + 10 + localiser
    assert widened(42, STCNN, transformer=affine, downsample=2) == (87, expected)
    assert widened(28, STFCN) == (349, 784 * 349 + 349 + 349**2 + 349 + 3490 + 10)
    localiser = 3600 * 32 + 32 + 2 * (32**2 + 32) + 32 * 8 + 8
    transformer = SpatialTransformer("projective", DenseLocaliser)
    expected = 900 * 244 + 244 + 244**2 + 244 + 2440 + 10 + localiser
    assert widened(60, STFCN, transformer=transformer, downsample=2) == (244, expected)
    with pytest.raises(UserError, match="100 parameters are too few: the narrowest net has 182"):
        widest(STCNN, (28, 28, 1), 100)


def test_it_learns_where_to_look():
    """A bright square lies somewhere; the loss wants it in the middle, and the transformer learns to put it there."""

    def batch(seed, n=32):
        draw = np.random.default_rng(seed)
        x = np.zeros((n, 16, 16, 1), np.float32)
        for i, (row, column) in enumerate(draw.integers(2, 9, (n, 2))):
            x[i, row : row + 5, column : column + 5] = 1
        return jnp.array(x)

    layer = SpatialTransformer(localiser=SMALL)
    middle = jnp.zeros((16, 16, 1)).at[5:11, 5:11].set(1)
    params = begun(layer, batch(0))["params"]
    optimizer = optax.adam(2e-3)
    loss = lambda p, x: jnp.mean((layer.apply({"params": p}, x) - middle) ** 2)

    @jax.jit
    def step(params, state, x):
        updates, state = optimizer.update(jax.grad(loss)(params, x), state)
        return optax.apply_updates(params, updates), state

    state, test = optimizer.init(params), batch(1000)
    before = loss(params, test)
    for seed in range(100):
        params, state = step(params, state, batch(seed))
    assert loss(params, test) < 0.5 * before


def test_coordinates_keep_their_digits_in_half_precision():
    x = random_array((1, 28, 28, 1)).astype(jnp.bfloat16)
    layer = SpatialTransformer("affine", SMALL, dtype=jnp.bfloat16)
    got, state = jax.jit(lambda v: layer.apply(v, x, mutable=["intermediates"]))(begun(layer, x))
    assert got.dtype == jnp.bfloat16
    assert state["intermediates"]["theta"][0].dtype == state["intermediates"]["grid"][0].dtype == jnp.float32
    np.testing.assert_array_equal(got, x)


def test_what_does_not_fit_is_told():
    with pytest.raises(UserError, match='no transform "rigid"'):
        parameters(SpatialTransformer("rigid"), 28)
    with pytest.raises(UserError, match="0 spatial transformers in parallel"):
        parameters(SpatialTransformer(parallel=0), 28)
    with pytest.raises(UserError, match="the initial transform is singular"):
        parameters(SpatialTransformer(initial=(0.0,) * 6), 28)
    with pytest.raises(UserError, match="too small for layer localiser1/conv2"):
        parameters(SpatialTransformer(), 20)
