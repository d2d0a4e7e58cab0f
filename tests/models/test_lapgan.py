"""LAPGAN: the pyramid goes up and comes down again; the nets' sizes, conditions and classes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.errors import UserError
from cnnlab.models.lapgan import (
    CoarsestDiscriminator,
    CoarsestGenerator,
    LevelDiscriminator,
    LevelGenerator,
    assemble,
    enlarge,
    pyramid,
    shrink,
)
from cnnlab.ops.forms import plain_forms
from tests.small import count, random_array


def parameters(model, *shape, condition=None):
    """How many parameters `model` has for inputs of this shape, without making them."""
    x, condition, label = (
        jax.ShapeDtypeStruct(shape, jnp.float32),
        condition and jax.ShapeDtypeStruct(condition, jnp.float32),
        jax.ShapeDtypeStruct(shape[:1], jnp.int32),
    )
    variables = jax.eval_shape(lambda *inputs: model.init(jax.random.key(0), *inputs), x, condition, label)
    return count(variables["params"])


def test_parameters_of_the_coarsest():
    assert parameters(CoarsestGenerator(), 1, 100) == 101 * 1200 + 1201 * 1200 + 1201 * 192 == 1_792_992
    assert parameters(CoarsestDiscriminator(), 1, 8, 8, 3) == 193 * 600 + 601 * 600 + 601 == 477_001
    assert parameters(CoarsestGenerator(num_classes=10), 1, 100) == 1_792_992 + 10 * 1200
    assert parameters(CoarsestDiscriminator(num_classes=10), 1, 8, 8, 3) == 477_001 + 10 * 600


@pytest.mark.parametrize(("size", "left"), [(16, 4), (32, 12)])  # the side of conv2's maps: two unpadded 5×5
def test_parameters_of_a_level(size, left):
    pictures = (1, size, size, 3)
    model = LevelGenerator(shape=(size, size, 3))
    assert model.noise_shape == (size, size, 1)
    expected = 49 * 4 * 128 + 128 + 49 * 128 * 128 + 128 + 25 * 128 * 3 + 3
    assert parameters(model, 1, size, size, 1, condition=pictures) == expected == 837_763
    # The class: a linear layer to a plane, and one channel more for conv1.
    expected += 11 * size * size + 49 * 128
    assert parameters(model.clone(num_classes=10), 1, size, size, 1, condition=pictures) == expected
    model = LevelDiscriminator()
    expected = 25 * 3 * 128 + 128 + 25 * 128 * 128 + 128 + left * left * 128 + 1
    assert parameters(model, *pictures, condition=pictures) == expected
    expected += 11 * size * size + 25 * 128
    assert parameters(model.clone(num_classes=10), *pictures, condition=pictures) == expected


def test_enlarging_by_hand():
    """Linear interpolation between the centres of pixels, written out; and a plane goes on as a plane within."""
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 2))
    for axis in (1, 2):
        padded = np.pad(x, [(int(a == axis),) * 2 for a in range(4)], mode="edge")
        before, here, after = (np.take(padded, np.arange(x.shape[axis]) + i, axis) for i in range(3))
        pairs = np.stack([0.75 * here + 0.25 * before, 0.75 * here + 0.25 * after], axis + 1)
        x = pairs.reshape(*x.shape[:axis], -1, *x.shape[axis + 1 :])
    original = np.random.default_rng(0).normal(size=(2, 3, 4, 2))
    assert np.allclose(enlarge(jnp.array(original, jnp.float32)), x, atol=1e-6)


def test_shrinking_by_hand():
    x = np.random.default_rng(0).normal(size=(2, 4, 6, 3)).astype(np.float32)
    assert np.allclose(shrink(jnp.array(x)), x.reshape(2, 2, 2, 3, 2, 3).mean((2, 4)), atol=1e-6)
    assert np.allclose(enlarge(shrink(jnp.full((1, 4, 4, 1), 0.3))), 0.3)


@pytest.mark.parametrize(("height", "width", "levels"), [(32, 32, 2), (28, 28, 2), (8, 24, 3), (2, 2, 1), (5, 3, 0)])
def test_a_pyramid_is_assembled_again(height, width, levels):
    x = jax.random.uniform(jax.random.key(0), (3, height, width, 3), minval=-1)
    coarsest, found = pyramid(x, levels)
    assert coarsest.shape == (3, height // 2**levels, width // 2**levels, 3)
    sides = [(height // 2**level, width // 2**level) for level in reversed(range(levels))]
    assert [residual.shape[1:3] for residual, _ in found] == sides
    assert np.allclose(assemble(coarsest, [residual for residual, _ in found]), x, rtol=0, atol=1e-6)
    if found:
        residual, enlarged = found[-1]
        assert np.allclose(residual + enlarged, x, rtol=0, atol=2e-7)
        assert np.allclose(found[0][1], enlarge(coarsest))
        assert np.allclose(enlarged, enlarge(shrink(x)))


def init(model, *inputs):
    """Variables drawn by numpy: jax's own initialisers take longer to compile than all else here."""
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), *inputs))
    draw = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.array(draw.normal(size=leaf.shape, scale=0.2), leaf.dtype), shapes)


def apply(model, variables, *inputs):
    """Jitted, of lax's own forms, which compile faster; those for CPUs have tests of their own."""
    with plain_forms():
        return jax.jit(model.apply)(variables, *inputs)


def small_level(num_classes=0):
    """The nets of a level of 4×4, and their inputs."""
    g = LevelGenerator(shape=(4, 4, 3), width=4, num_classes=num_classes)
    d = LevelDiscriminator(width=4, padding=2, num_classes=num_classes)
    return g, d, random_array((2, 4, 4, 1)), random_array((2, 4, 4, 3), 1), random_array((2, 4, 4, 3), 2)


def test_the_condition_is_seen():
    g, d, z, residual, condition = small_level()
    noise, others = jnp.concatenate([z, z, z + 1]), jnp.concatenate([condition, condition + 1, condition])
    made = apply(g, init(g, z, condition), noise, others).reshape(3, 2, 4, 4, 3)
    assert not np.allclose(made[0], made[1])
    assert not np.allclose(made[0], made[2])
    residuals = jnp.concatenate([residual, residual + 1, residual])
    others = jnp.concatenate([condition, condition - 1, condition + 1])
    logits = apply(d, init(d, residual, condition), residuals, others).reshape(3, 2)
    assert np.allclose(logits[0], logits[1], atol=1e-5)  # it sees the sum
    assert not np.allclose(logits[0], logits[2])


def test_the_level_networks_by_hand():
    """The generator's filters see three pixels to each side, twice, and two: a pixel reaches eight."""
    g = LevelGenerator(shape=(20, 20, 1), width=2)
    z, condition = random_array((1, 20, 20, 1)), random_array((1, 20, 20, 1), 1)
    variables = jax.tree.map(jnp.abs, init(g, z, condition))  # nothing is rectified away
    z, condition = jnp.abs(jnp.concatenate([z, z.at[0, 10, 10].add(5.0)])), jnp.abs(jnp.tile(condition, (2, 1, 1, 1)))
    one, other = apply(g, variables, z, condition)[..., 0]
    rows, columns = np.nonzero(np.abs(other - one) > 1e-6)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2, 18, 2, 18)


@pytest.mark.parametrize("coarsest", [True, False])
def test_classes(coarsest):
    g, d, z, x, condition = small_level(num_classes=3)
    if coarsest:
        g, d = (cls(hidden=(8, 8), num_classes=3) for cls in (CoarsestGenerator, CoarsestDiscriminator))
        z, x, condition = random_array((2, 100)), random_array((2, 8, 8, 3)), None
    twice = lambda x: None if x is None else jnp.concatenate([x, x])
    for model, given in ((g, z), (d, x)):
        variables = init(model, given, condition, jnp.array([0, 2]))
        made = apply(model, variables, twice(given), twice(condition), jnp.array([0, 2, 0, 1]))
        assert np.allclose(made[0], made[2], rtol=1e-6, atol=0)
        assert not np.allclose(made[1], made[3], rtol=1e-6, atol=0)
        with pytest.raises(UserError, match="it needs the label"):
            apply(model, variables, given, condition)


@pytest.mark.parametrize("coarsest", [True, False])
def test_dropout_only_in_training(coarsest):
    _, d, _, x, condition = small_level()
    model, condition = (CoarsestDiscriminator(hidden=(8, 8)), None) if coarsest else (d, condition)
    variables = init(model, x, condition)

    @jax.jit
    def logits(keys):
        draw = lambda key: model.apply(variables, x, condition, train=True, rngs={"dropout": key})
        calm = model.clone(dropout=0.0).apply(variables, x, condition, train=True)
        return *map(draw, keys), calm, model.apply(variables, x, condition)

    with plain_forms():
        first, second, calm, tested = logits(jax.random.split(jax.random.key(0)))
    assert not np.array_equal(first, second)
    assert np.allclose(calm, tested)


def test_a_picture_of_one_pixel():
    x = random_array((1, 1, 1, 1))
    for model in (LevelDiscriminator(width=2, padding=2), LevelGenerator(shape=(1, 1, 1), width=2)):
        assert apply(model, init(model, x, x), x, x).size == 1


def test_half_precision_gives_float32():
    g, d, z, x, condition = small_level(num_classes=3)
    for model, given in ((g, z), (d, x)):
        call = lambda *inputs, model=model: model.clone(dtype=jnp.bfloat16).init_with_output(jax.random.key(0), *inputs)
        made, variables = jax.eval_shape(call, given, condition, jnp.array([0, 1]))
        assert {leaf.dtype for leaf in jax.tree.leaves((made, variables))} == {jnp.dtype(jnp.float32)}


def test_errors():
    g, d, z, x, condition = small_level()
    with pytest.raises(UserError, match="needs the enlarged coarser pictures, 4×4, as condition; it has none"):
        init(g, z)
    with pytest.raises(UserError, match="4×4, as condition; it has 2×2"):
        init(d, x, condition[:, :2, :2])
    with pytest.raises(UserError, match="too small for layer conv2"):
        init(d.clone(padding=0), *[random_array((1, 8, 8, 3))] * 2)
    with pytest.raises(UserError, match="pictures of 28×28 cannot be halved 3 times"):
        pyramid(jnp.ones((1, 28, 28, 1)), 3)
