"""The deep big simple net: parameters, first weights, and its function by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.models.ciresan import DeepBigSimpleNet
from tests.small import count


def test_parameters():
    x = jax.ShapeDtypeStruct((1, 29, 29, 1), jnp.float32)
    variables = jax.eval_shape(lambda x: DeepBigSimpleNet().init(jax.random.key(0), x), x)
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
