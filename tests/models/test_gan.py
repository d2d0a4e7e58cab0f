"""Generative adversarial nets: their sizes, their ranges, their classes, their dropout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.errors import UserError
from cnnlab.models.gan import Discriminator, Generator, join_label
from tests.small import count, random_array


def parameters(model, *shape):
    """How many parameters `model` has for inputs of this shape, without making them."""
    label = jax.ShapeDtypeStruct(shape[:1], jnp.int32)
    init = lambda x, label: model.init(jax.random.key(0), x, label=label)
    return count(jax.eval_shape(init, jax.ShapeDtypeStruct(shape, jnp.float32), label)["params"])


def test_parameters():
    assert Generator().noise_shape == (100,)
    assert parameters(Generator(), 1, 100) == 101 * 1200 + 1201 * 1200 + 1201 * 784 == 2_503_984
    assert parameters(Discriminator(), 1, 28, 28, 1) == 785 * 1200 + 241 * 1200 + 241 == 1_231_441
    # Ten classes are ten more inputs.
    assert parameters(Generator(num_classes=10), 1, 100) == 2_503_984 + 10 * 1200
    assert parameters(Discriminator(num_classes=10), 1, 28, 28, 1) == 1_231_441 + 10 * 1200


def test_weights_start_in_the_recipes_range():
    params = Discriminator(init_range=0.01).init(jax.random.key(0), jnp.ones((1, 8, 8, 1)))["params"]
    kernel = params["h1"]["linear"]["kernel"]
    assert kernel.max() < 0.01 < 1.05 * kernel.max()
    assert kernel.min() > -0.01 > 1.05 * kernel.min()
    assert not params["h1"]["linear"]["bias"].any()


def test_the_generator_by_hand():
    model = Generator(shape=(3, 2, 1), hidden=(5, 4), noise=7, init_range=1.0)
    z = random_array((2, 7))
    y, variables = model.init_with_output(jax.random.key(0), z)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    x = np.asarray(z)
    for name in ("h1", "h2", "output"):
        x = x @ params[name]["kernel"]
        x = np.maximum(x, 0) if name != "output" else 1 / (1 + np.exp(-x))
    assert np.allclose(y, x.reshape(2, 3, 2, 1), atol=1e-5)
    assert (model.low, model.high) == (0, 1)


def test_the_discriminator_by_hand():
    model = Discriminator(hidden=(3, 2), pieces=2, init_range=1.0)
    pictures = random_array((2, 3, 2, 1))
    logits, variables = model.init_with_output(jax.random.key(0), pictures)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    x = np.asarray(pictures).reshape(2, 6)
    for name in ("h1", "h2"):
        pieces = x @ params[name]["linear"]["kernel"]
        half = pieces.shape[1] // 2
        x = np.maximum(pieces[:, :half], pieces[:, half:])
    assert np.allclose(logits, (x @ params["output"]["kernel"])[:, 0], atol=1e-5)
    _, found = model.apply(variables, pictures, capture_intermediates=True, mutable=["intermediates"])
    assert np.allclose(found["intermediates"]["h2"]["__call__"][0], x, atol=1e-5)


def test_classes_are_joined_as_ones_and_zeros():
    x = jnp.full((2, 1, 2, 1), 0.5)
    assert join_label(x, None, 0) is x
    assert join_label(x, jnp.array([2, 0]), 3).tolist() == [
        [[[0.5, 0, 0, 1], [0.5, 0, 0, 1]]],
        [[[0.5, 1, 0, 0], [0.5, 1, 0, 0]]],
    ]


@pytest.mark.parametrize("model", [Generator((4, 4, 1), (8,), 16, num_classes=3), Discriminator((8,), num_classes=3)])
def test_classes_matter_where_there_are_some(model):
    x, labels = random_array((2, 16)), jnp.array([0, 2])
    x = x if isinstance(model, Generator) else x.reshape(2, 4, 4, 1)
    variables = model.init(jax.random.key(0), x, label=labels)
    first, second = (model.apply(variables, x, label=label) for label in (labels, jnp.array([0, 1])))
    assert np.array_equal(first[0], second[0])
    assert not np.array_equal(first[1], second[1])
    with pytest.raises(UserError, match="conditional on 3 classes: it needs the label"):
        model.apply(variables, x)
    without = model.clone(num_classes=0)
    variables = without.init(jax.random.key(0), x)
    assert np.array_equal(without.apply(variables, x, label=labels), without.apply(variables, x))


def test_dropout_spares_the_classes():
    """With all pixels 0 and no units dropped, training sees what evaluation sees."""
    model = Discriminator((8,), dropout=(0.5, 0.0), num_classes=3, init_range=1.0)
    x, labels = jnp.zeros((4, 2, 2, 1)), jnp.arange(4) % 3
    variables = model.init(jax.random.key(0), x, label=labels)

    def train(x):
        return model.apply(variables, x, label=labels, train=True, rngs={"dropout": jax.random.key(1)})

    assert np.array_equal(train(x), model.apply(variables, x, label=labels))
    assert not np.array_equal(train(x + 1), model.apply(variables, x + 1, label=labels))


def test_half_precision_gives_float32():
    g, d = (cls(hidden=(8,), dtype=jnp.bfloat16) for cls in (Generator, Discriminator))
    pictures, variables = g.init_with_output(jax.random.key(0), random_array((2, 100)))
    logits, _ = d.init_with_output(jax.random.key(0), pictures)
    assert pictures.dtype == logits.dtype == variables["params"]["h1"]["kernel"].dtype == jnp.float32
