"""The deep big simple net: parameters, first weights, and its function by hand."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.errors import UserError
from cnnlab.models.ciresan import DeepBigSimpleNet
from tests.small import count


@pytest.mark.parametrize("fields", [{}, {"activation": "relu", "dropout": 0.5, "input_dropout": 0.2}], ids=str)
def test_parameters(fields):
    x = jax.ShapeDtypeStruct((1, 29, 29, 1), jnp.float32)
    variables = jax.eval_shape(lambda x: DeepBigSimpleNet(**fields).init(jax.random.key(0), x), x)
    assert count(variables["params"]) == 12_115_010


def test_values_and_first_weights():
    model = DeepBigSimpleNet(hidden=(5, 4), num_classes=3)
    x = jax.random.normal(jax.random.key(0), (2, 6, 6, 1))
    variables = model.init(jax.random.key(1), x)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    y = np.asarray(x, np.float64).reshape(2, 36)
    for name in ("h1", "h2"):
        y = 1.7159 * np.tanh(2 / 3 * (y @ params[name]["kernel"] + params[name]["bias"]))
    expected = y @ params["output"]["kernel"] + params["output"]["bias"]
    assert np.allclose(model.apply(variables, x), expected, atol=1e-5)
    weights = params["h1"]["kernel"]
    assert 0.045 < np.abs(weights).max() <= 0.05
    assert abs(weights.mean()) < 0.01


@pytest.mark.parametrize(
    ("activation", "function"), [("sigmoid", lambda x: 1 / (1 + np.exp(-x))), ("relu", lambda x: np.maximum(x, 0))]
)
def test_other_activations_and_weights(activation, function):
    model = DeepBigSimpleNet((3,), 2, activation, kernel_init=nn.initializers.constant(0.25))
    x = jnp.array([[[[1.0], [-3.0]]], [[[2.0], [0.5]]]])
    variables = model.init(jax.random.key(0), x)
    params = jax.tree.map(np.asarray, variables["params"])
    assert (params["h1"]["kernel"] == 0.25).all()
    hidden = function(0.25 * np.array([[-2.0], [2.5]]) + params["h1"]["bias"])
    assert np.allclose(model.apply(variables, x), 0.25 * hidden.sum(1, keepdims=True) + params["output"]["bias"])


def test_an_unknown_activation():
    with pytest.raises(UserError, match=r'the activation is "sigmoids"; did you mean sigmoid\?'):
        DeepBigSimpleNet((3,), activation="sigmoids").init(jax.random.key(0), jnp.ones((1, 2, 2, 1)))


@pytest.mark.parametrize("field", ["input_dropout", "dropout"])
def test_dropout_is_for_training(field):
    """Of 4,000 units of which each adds one to the output, a quarter is left out, the rest made up for it."""
    sizes = {"input_dropout": ((), 4000), "dropout": ((4000,), 1)}
    hidden, pixels = sizes[field]
    model = DeepBigSimpleNet(hidden, 1, "relu", nn.initializers.ones, **{field: 0.25})
    x = jnp.ones((1, 1, pixels, 1))
    variables = model.init(jax.random.key(0), x)
    variables = jax.tree.map(lambda leaf: leaf if leaf.ndim == 2 else 0 * leaf, variables)
    assert float(model.apply(variables, x)[0, 0]) == 4000
    trained = float(model.apply(variables, x, train=True, rngs={"dropout": jax.random.key(1)})[0, 0])
    kept = trained * 0.75
    assert abs(kept - round(kept)) < 1e-2
    assert abs(kept - 3000) < 110  # four standard deviations
