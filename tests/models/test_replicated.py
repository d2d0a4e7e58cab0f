"""The nets of the lessons on replicated features: their shapes, and copies that are a convolution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.errors import UserError
from cnnlab.inspect.layers import run
from cnnlab.models.replicated import ReplicatedNet
from cnnlab.tied import replicated
from tests.small import count, random_array, shapes


@pytest.mark.parametrize("pooling", ["none", "average", "max"])
def test_all_poolings_have_the_same_layers(pooling):
    variables, maps = shapes(ReplicatedNet(pooling=pooling), 28)
    assert maps["pool1"] == (1, 14, 14, 8)
    assert maps["pool2"] == (1, 7, 7, 16)
    assert maps["conv1"] == ((1, 14, 14, 8) if pooling == "none" else (1, 28, 28, 8))
    assert count(variables) == (27 + 1) * 8 + (72 + 1) * 16 + (7 * 7 * 16 + 1) * 10


def test_strides_skip_and_pools_summarise():
    """All three on one picture, with the same weights: a stride takes of the unpooled maps every second pixel."""
    x = random_array((2, 8, 8, 1))
    params = jax.jit(ReplicatedNet(maps=(3, 2)).init)(jax.random.key(0), x)["params"]

    def pooled(pooling):
        model = ReplicatedNet(maps=(3, 2), pooling=pooling)
        return jax.device_get(jax.jit(lambda params, x: run(model, {"params": params}, x)[1])(params, x))

    whole = np.maximum(pooled("max")["conv1"], 0)
    quarters = whole.reshape(2, 4, 2, 4, 2, 3)
    assert np.allclose(pooled("max")["pool1"], quarters.max((2, 4)), atol=1e-6)
    assert np.allclose(pooled("average")["pool1"], quarters.mean((2, 4)), atol=1e-6)
    assert np.allclose(pooled("none")["pool1"], whole[:, ::2, ::2], atol=1e-6)


@pytest.mark.parametrize("pooling", ["none", "max"])
def test_copies_at_every_place_are_a_convolution(pooling):
    shared, untied = (ReplicatedNet(maps=(3, 2), shared=shared, pooling=pooling) for shared in (True, False))
    x = random_array((2, 8, 8, 1))
    params = jax.jit(shared.init)(jax.random.key(0), x)["params"]
    copies = replicated(params, jax.eval_shape(untied.init, jax.random.key(0), x)["params"])
    side = 4 if pooling == "none" else 8
    assert copies["conv1"]["kernel"].shape == (side, side, 9, 3)
    assert copies["conv1"]["bias"].shape == (side, side, 3)
    outputs = [jax.jit(net.apply)({"params": own}, x) for net, own in ((shared, params), (untied, copies))]
    assert np.allclose(*outputs, atol=1e-5)


def test_an_unknown_pooling():
    with pytest.raises(UserError, match=r'the pooling is "maximum"; did you mean max\?'):
        ReplicatedNet(pooling="maximum").init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
