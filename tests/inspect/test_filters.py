"""Which kernel is the first layer's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.inspect.filters import first_layer_kernel
from cnnlab.models.lenet import LeNet


@pytest.mark.parametrize("variant", ["paper", "modern"])
def test_lenets_first_layer(variant):
    params = jax.jit(LeNet(variant=variant).init)(jax.random.key(0), jnp.zeros((1, 32, 32, 1)))["params"]
    name, kernel = first_layer_kernel(jax.device_get(params))
    assert name == "C1"
    np.testing.assert_array_equal(kernel, params["C1"]["kernel"])


def test_a_nested_colour_layer_is_found_and_others_are_passed_over():
    first = np.arange(7 * 7 * 3 * 2.0).reshape(7, 7, 3, 2)
    params = {
        "bias": np.zeros(3),
        "dense": {"kernel": np.zeros((9, 3))},
        "pointwise": {"kernel": np.zeros((1, 1, 3, 8))},
        "deep": {"kernel": np.zeros((3, 3, 64, 8))},
        "stem": {"conv": {"bias": np.zeros(2), "kernel": first}},
        "later": {"kernel": np.zeros((3, 3, 3, 8))},
    }
    name, kernel = first_layer_kernel(params)
    assert name == "stem/conv"
    np.testing.assert_array_equal(kernel, first)


def test_none_where_there_is_none():
    assert first_layer_kernel({}) is None
    assert first_layer_kernel({"F6": {"kernel": np.zeros((120, 84)), "bias": np.zeros(84)}}) is None
