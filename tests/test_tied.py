"""Tied gradients against a convolution's own: SGD, momentum, Adam; sums and means."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnlab.errors import UserError
from cnnlab.ops.conv import Conv
from cnnlab.ops.locally_connected import LocallyConnected
from cnnlab.tied import apart, replicated, tied
from tests.small import random_array

PLACES = 5 * 4
X, TARGET = random_array((6, 6, 5, 2)), random_array((6, 5, 4, 3), seed=1)


class Net(nn.Module):
    shared: bool

    @nn.compact
    def __call__(self, x):
        return nn.tanh((Conv if self.shared else LocallyConnected)(3, 2, name="conv")(x))


def first_params():
    return jax.jit(Net(True).init)(jax.random.key(0), X)["params"]


def params_after(shared, optimizer, steps=8):
    """The parameters after some steps on the same examples; the net of copies begins with the convolution's."""
    params = first_params()
    if not shared:
        params = replicated(params, jax.eval_shape(Net(False).init, jax.random.key(0), X)["params"])
    state = optimizer.init(params)

    def loss(params):
        return jnp.mean(jnp.square(Net(shared).apply({"params": params}, X) - TARGET).sum((1, 2, 3)))

    @jax.jit
    def step(params, state):
        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    for _ in range(steps):
        params, state = step(params, state)
    return jax.device_get(params)


OPTIMIZERS = {"descent": optax.sgd(0.02, momentum=0.9), "adam": optax.adamw(0.01, weight_decay=0.1)}


@functools.cache
def convolution_after(name):
    """The convolution's parameters."""
    return params_after(True, OPTIMIZERS[name])["conv"]


def tied_after(optimizer, combine="sum"):
    """Likewise of the net of copies with tied gradients: the first place's, after a look at the others."""
    params = params_after(False, optax.chain(tied(("conv",), combine), optimizer))["conv"]
    for leaf in params.values():
        assert np.array_equal(leaf, np.broadcast_to(leaf[:1, :1], leaf.shape))  # bit for bit
    assert float(apart({"conv": params}, ("conv",))) == 0
    return {"kernel": params["kernel"][0, 0].reshape(2, 2, 2, 3), "bias": params["bias"][0, 0]}


def differ(one, other):
    return max(np.abs(one[name] - other[name]).max() for name in ("kernel", "bias"))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_with_sums_it_is_the_convolution(name):
    shared = convolution_after(name)
    assert differ(tied_after(OPTIMIZERS[name]), shared) < 1e-5
    assert differ(jax.device_get(first_params()["conv"]), shared) > 0.01  # it does learn


def test_without_ties_copies_drift_apart():
    assert float(apart(params_after(False, OPTIMIZERS["descent"]), ("conv",))) > 0.01


def test_with_means_the_rate_is_that_of_a_place():
    rate = lambda rate: optax.sgd(rate, momentum=0.9)
    assert differ(tied_after(rate(0.02 * PLACES), "mean"), convolution_after("descent")) < 1e-5
    assert differ(tied_after(rate(0.02), "mean"), convolution_after("descent")) > 0.01
    # Adam divides the factor out, but for its ε.
    assert differ(tied_after(OPTIMIZERS["adam"], "mean"), convolution_after("adam")) < 1e-5


def test_sum_and_mean_by_hand_and_other_layers_as_they_are():
    grads = {
        "conv1": {"kernel": jnp.arange(4.0).reshape(2, 2, 1, 1)},
        "fc": {"kernel": jnp.arange(4.0).reshape(2, 2)},
    }
    for combine, right in (("sum", 6.0), ("mean", 1.5)):
        transform = tied(("conv*",), combine)
        updates, _ = transform.update(grads, transform.init(grads))
        assert updates["conv1"]["kernel"].ravel().tolist() == [right] * 4
        assert updates["fc"]["kernel"].tolist() == grads["fc"]["kernel"].tolist()


def test_how_far_apart_by_hand():
    params = {"a": {"kernel": jnp.array([[1.0, 9.0], [4.0, 8.0]]).reshape(2, 1, 1, 2), "bias": jnp.zeros((2, 1, 2))}}
    params["fc"] = {"kernel": jnp.array([[0.0, 100.0]])}
    assert float(apart(params, ("a",))) == 3.0


def test_what_is_wrong_is_said():
    with pytest.raises(UserError, match=r'combined by "max"; it must be "sum" or "mean"'):
        tied(("conv",), "max")
    with pytest.raises(UserError, match=r"tied layers names no layer with 'cnov'; did you mean conv\?"):
        tied(("cnov",)).init({"conv": {"bias": jnp.zeros((1, 1, 1))}})
