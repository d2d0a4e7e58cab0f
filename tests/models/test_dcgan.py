"""DCGAN: the paper's sizes, pictures of other sizes, normalisations, and the critic's second gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.errors import UserError
from cnnlab.models.dcgan import Discriminator, Generator
from cnnlab.ops.forms import plain_forms
from tests.small import count, random_array


def variable_shapes(model, *shape):
    label = jax.ShapeDtypeStruct(shape[:1], jnp.int32)
    init = lambda x, label: model.init(jax.random.key(0), x, label=label)
    return jax.eval_shape(init, jax.ShapeDtypeStruct(shape, jnp.float32), label)


def test_parameters():
    """By hand, from the paper's figure 1 and the authors' code: weights, and two numbers a normalised channel."""
    start, weights = 4 * 4 * 1024, 25 * (1024 * 512 + 512 * 256 + 256 * 128 + 128 * 3)
    expected = 100 * start + 2 * start + weights + 2 * (512 + 256 + 128)
    assert count(variable_shapes(Generator(), 1, 100)["params"]) == expected == 18_885_760
    expected = weights + 2 * (256 + 512 + 1024) + start
    assert count(variable_shapes(Discriminator(), 1, 64, 64, 3)["params"]) == expected == 17_232_768
    # Without batch normalisation biases: one a channel, and the logit's.
    for norm in ("spectral", "none"):
        model = Discriminator(norm=norm)
        expected = weights + start + 128 + 256 + 512 + 1024 + 1
        assert count(variable_shapes(model, 1, 64, 64, 3)["params"]) == expected
    # Ten classes are ten more numbers of noise, or planes.
    assert count(variable_shapes(Generator(num_classes=10), 1, 100)["params"]) == 18_885_760 + 10 * start
    planes = count(variable_shapes(Discriminator(num_classes=10), 1, 64, 64, 3)["params"])
    assert planes == 17_232_768 + 10 * 25 * 128
    # A fully connected layer lies between the noise and the first maps, and between the last maps and the logit.
    first, hidden = 7 * 7 * 128, 1024
    shared = first * hidden + 2 * hidden + 25 * (128 * 64 + 64)
    generator = Generator((28, 28, 1), (128, 64), hidden=hidden)
    assert count(variable_shapes(generator, 1, 100)["params"]) == shared + 100 * hidden + 2 * first + 2 * 64
    discriminator = Discriminator((64, 128), hidden)
    assert count(variable_shapes(discriminator, 1, 28, 28, 1)["params"]) == shared + 2 * 128 + hidden


def layer_shapes(model, *shape):
    """The output shape of each layer on an input of this shape."""
    apply = lambda variables, x: model.apply(variables, x, capture_intermediates=True, mutable=["intermediates"])
    outputs = jax.eval_shape(apply, variable_shapes(model, *shape), jax.ShapeDtypeStruct(shape, jnp.float32))[1]
    found = outputs["intermediates"]
    return {name: out["__call__"][0].shape for name, out in found.items() if name != "__call__"}


@pytest.mark.parametrize(
    ("shape", "widths", "sides"),
    [
        ((64, 64, 3), (1024, 512, 256, 128), (4, 8, 16, 32, 64)),
        ((28, 28, 1), (128, 64), (7, 14, 28)),
        ((28, 28, 1), (256, 128, 64), (4, 7, 14, 28)),
        ((32, 32, 3), (512, 256, 128), (4, 8, 16, 32)),
        ((2, 2, 1), (8,), (1, 2)),
    ],
)
def test_maps(shape, widths, sides):
    maps = layer_shapes(Generator(shape=shape, widths=widths), 2, 100)
    expected = {f"layer{i}": (2, sides[i - 1], sides[i - 1], width) for i, width in enumerate(widths, 1)}
    assert maps == {**expected, "output": (2, *shape)}
    hidden = layer_shapes(Generator(shape=shape, widths=widths, hidden=6), 2, 100)
    assert hidden == {**maps, "hidden": (2, 6)}
    maps = layer_shapes(Discriminator(widths=widths[::-1]), 2, *shape)
    expected = {f"layer{i}": (2, sides[-1 - i], sides[-1 - i], width) for i, width in enumerate(widths[::-1], 1)}
    assert maps == {**expected, "output": (2, 1)}


SMALL = Generator(shape=(8, 8, 3), widths=(8, 4), noise=5)


def init(model, x, **inputs):
    """Variables drawn by numpy: jax's own initialisers take longer to compile than all else here."""
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), x, **inputs))
    draw = np.random.default_rng(0)
    made = jax.tree.map(lambda leaf: jnp.array(draw.normal(size=leaf.shape, scale=0.2), leaf.dtype), shapes)
    return {**made, "batch_stats": jax.tree.map(lambda leaf: 1 + abs(leaf), made.get("batch_stats", {}))}


# Of lax's own forms, which compile faster; those for CPUs have tests of their own.


def apply(model, variables, x, **inputs):
    with plain_forms():
        return jax.jit(lambda variables, x, inputs: model.apply(variables, x, **inputs))(variables, x, inputs)


def train(model, variables, x):
    """What the model gives in training, and its new batch statistics."""
    step = lambda variables, x: model.apply(variables, x, train=True, mutable=["batch_stats"])
    with plain_forms():
        y, changed = jax.jit(step)(variables, x)
    return y, changed.get("batch_stats", {})


def test_the_generator_trains_and_stays_in_range():
    z = random_array((6, 5))
    variables = init(SMALL, z)
    loud = {**variables, "params": jax.tree.map(lambda leaf: 30 * leaf, variables["params"])}
    pictures, changed = train(SMALL, loud, z)
    assert SMALL.low == -1 <= pictures.min() < -0.9
    assert SMALL.high == 1 >= pictures.max() > 0.9
    # Each unit of the projection is normalised by itself: 2·2·8 of them.
    assert changed["layer1"]["bn"]["mean"].shape == (32,)
    assert not np.allclose(changed["layer1"]["bn"]["mean"], 0)


def test_initial_weights():
    params = SMALL.init(jax.random.key(0), random_array((1, 5)))["params"]
    assert np.isclose(params["layer2"]["conv"]["kernel"].std(), 0.02, rtol=0.1)
    assert np.isclose(params["layer1"]["bn"]["scale"].mean(), 1, atol=0.02)
    assert 0.01 < params["layer1"]["bn"]["scale"].std() < 0.03


def test_the_generator_and_the_strided_convolutions_are_transposes():
    """ "output" is a fractionally strided convolution with the filters that it shows."""
    z = random_array((1, 5))
    variables = init(SMALL, z)
    run = jax.jit(lambda v, z: SMALL.apply(v, z, capture_intermediates=True, mutable=["intermediates"]))
    pictures, found = run(variables, z)
    maps = found["intermediates"]["layer2"]["__call__"][0]
    kernel = np.asarray(variables["params"]["output"]["kernel"])
    canvas = np.zeros((11, 11, 3))
    for i in range(4):
        for j in range(4):
            canvas[2 * i : 2 * i + 5, 2 * j : 2 * j + 5] += np.einsum("c,uvck->uvk", maps[0, i, j], kernel)
    assert np.allclose(pictures[0], np.tanh(canvas[2:10, 2:10]), atol=1e-6)


@pytest.mark.parametrize("norm", ["batch", "spectral", "none"])
def test_norms(norm):
    model = Discriminator(widths=(4, 6), hidden=3, norm=norm)
    x = random_array((5, 8, 8, 3))
    variables = init(model, x)
    spectral = {"layer1", "layer2", "hidden", "output_norm"}
    collections = {"batch": {"layer2", "hidden"}, "spectral": spectral, "none": set()}
    assert set(variables["batch_stats"]) == collections[norm]
    logits, changed = train(model, variables, x)
    assert logits.shape == (5,)
    assert jax.tree.structure(changed) == jax.tree.structure(variables["batch_stats"])
    # A picture's logit depends on its neighbours by batch normalisation only.
    alone, _ = train(model, variables, x[:1])
    assert np.allclose(alone, logits[:1], atol=1e-6) == (norm != "batch")


def test_the_spectral_norm_of_each_layer_becomes_one():
    model = Discriminator(widths=(4, 6), hidden=3, norm="spectral")
    x = random_array((2, 8, 8, 3))
    variables = init(model, x)
    step = jax.jit(lambda variables: model.apply(variables, x, train=True, mutable=["batch_stats"])[1])
    for _ in range(100):
        variables = {**variables, **step(variables)}
    largest = lambda kernel: np.linalg.svd(np.asarray(kernel).reshape(-1, kernel.shape[-1]))[1][0]
    params, found = variables["params"], variables["batch_stats"]["layer2"]["conv_norm"]
    assert np.isclose(found["conv/kernel/sigma"], largest(params["layer2"]["conv"]["kernel"]), rtol=1e-3)
    # The logits are those of a network without it that has the divided weights.
    divided = jax.tree.map(lambda leaf: leaf / largest(leaf) if leaf.ndim > 1 else leaf, params)
    plain = apply(model.clone(norm="none"), {"params": divided}, x)
    assert np.allclose(apply(model, variables, x), plain, rtol=1e-2)


def test_fully_connected_layers():
    """A leaky rectifier of x · W + b for the discriminator, a rectifier of normalised x · W for the generator."""
    see = lambda model, variables, x: jax.jit(
        lambda variables, x: model.apply(variables, x, capture_intermediates=True, mutable=["intermediates"])
    )(variables, x)[1]["intermediates"]
    model, x = Discriminator(widths=(4,), hidden=3, norm="none"), random_array((2, 6, 6, 1))
    variables = init(model, x)
    found, linear = see(model, variables, x), variables["params"]["hidden"]["linear"]
    before = found["layer1"]["__call__"][0].reshape(2, -1) @ linear["kernel"] + linear["bias"]
    assert np.allclose(found["hidden"]["__call__"][0], np.where(before > 0, before, 0.2 * before), atol=1e-5)
    model, z = SMALL.clone(hidden=7), random_array((4, 5))
    variables = init(model, z)
    found = see(model, variables, z)
    weights, stats = variables["params"]["hidden"], variables["batch_stats"]["hidden"]["bn"]
    normal = (z @ weights["linear"]["kernel"] - stats["mean"]) / np.sqrt(stats["var"] + 1e-5)
    expected = np.maximum(normal * weights["bn"]["scale"] + weights["bn"]["bias"], 0)
    assert expected.any()
    assert np.allclose(found["hidden"]["__call__"][0], expected, atol=1e-5)


def test_the_critics_second_gradients():
    """The gradient of a gradient penalty by the weights, against lax's own forms."""
    model = Discriminator(widths=(4, 6), norm="none")
    x = random_array((2, 16, 16, 3))
    params = init(model, x)["params"]

    def penalty(params):
        slopes = jax.grad(lambda x: model.apply({"params": params}, x, train=True).sum())(x)
        return jnp.mean((jnp.sqrt((slopes**2).sum((1, 2, 3))) - 1) ** 2)

    with plain_forms():
        expected = jax.jit(jax.grad(penalty))(params)
    found = jax.jit(jax.grad(lambda params: penalty(params)))(params)
    assert expected["layer1"]["conv"]["kernel"].any()
    same = lambda a, b: np.allclose(a, b, rtol=1e-3, atol=1e-3 * float(jnp.abs(b).max()))
    assert jax.tree.all(jax.tree.map(same, found, expected))


def test_classes():
    x, labels = random_array((2, 8, 8, 3)), jnp.array([0, 2])
    model = Discriminator(widths=(4,), num_classes=3)
    variables = init(model, x, label=labels)
    logits = apply(model, variables, jnp.concatenate([x, x]), label=jnp.array([0, 2, 0, 1]))
    assert np.isclose(logits[0], logits[2])
    assert not np.isclose(logits[1], logits[3])
    model = SMALL.clone(num_classes=3)
    z = random_array((2, 5))
    variables = init(model, z, label=labels)
    pictures = apply(model, variables, jnp.concatenate([z, z]), label=jnp.array([0, 2, 0, 1]))
    assert np.allclose(pictures[0], pictures[2])
    assert not np.allclose(pictures[1], pictures[3], atol=1e-6)
    with pytest.raises(UserError, match="it needs the label"):
        apply(model, variables, z)


def test_half_precision_gives_float32():
    for model, shape in ((SMALL, (2, 5)), (Discriminator(widths=(4,), norm="spectral"), (2, 8, 8, 3))):
        call = lambda x, model=model: model.clone(dtype=jnp.bfloat16).init_with_output(jax.random.key(0), x, train=True)
        made = jax.eval_shape(call, jax.ShapeDtypeStruct(shape, jnp.float32))
        assert {leaf.dtype for leaf in jax.tree.leaves(made)} == {jnp.dtype(jnp.float32)}


def test_errors():
    with pytest.raises(UserError, match="generator has no widths"):
        variable_shapes(Generator(widths=()), 1, 100)
    with pytest.raises(UserError, match='the norm of DCGAN\'s discriminator is "layer"'):
        variable_shapes(Discriminator(norm="layer"), 1, 8, 8, 3)
