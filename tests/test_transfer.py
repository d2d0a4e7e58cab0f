"""Layers by name; frozen ones stay bit for bit, with no gradient and no memory of the optimizer; rates of their own."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnlab import loop, parallel, transfer
from cnnlab.errors import UserError
from cnnlab.models.googlenet import GoogLeNet
from cnnlab.models.resnet_cifar import ResNetCifar
from cnnlab.rngs import stream_key
from tests.small import same, tiny_resnet


def batch_of(experiment):
    batch = {name: jnp.asarray(x) for name, x in experiment.train_data().batch(np.arange(16)).items()}
    return {**batch, "position": jnp.arange(16)}


def step(experiment, state=None):
    state = state or loop.initial_state(experiment)
    return state, *experiment.task.train_step(state, batch_of(experiment), stream_key(0, "train"), parallel.identity)


def test_frozen_layers_stay_bit_for_bit():
    before, after, _ = step(tiny_resnet(freeze="conv1,bn1,conv2_*"))
    for name in before.params:
        frozen = name in ("conv1", "bn1") or name.startswith("conv2_")
        assert same(before.params[name], after.params[name]) == frozen, name
    # Frozen batch normalisation keeps its statistics too, the others' move.
    for name in before.model_state["batch_stats"]:
        frozen = name == "bn1" or name.startswith("conv2_")
        assert same(before.model_state["batch_stats"][name], after.model_state["batch_stats"][name]) == frozen, name


def test_frozen_layers_take_no_memory_of_the_optimizer():
    experiment, all_trained = tiny_resnet(freeze="body"), tiny_resnet()
    head = sum(leaf.size for leaf in jax.tree.leaves(loop.state_template(experiment).params["fc"]))
    moments = [leaf for leaf in jax.tree.leaves(loop.state_template(experiment).opt_state) if leaf.size > 1]
    assert sum(leaf.size for leaf in moments) == 2 * head
    whole = loop.state_template(all_trained)
    assert sum(leaf.size for leaf in jax.tree.leaves(whole.opt_state) if leaf.size > 1) == 2 * whole.parameter_count()


def test_frozen_layers_cost_no_gradient():
    def operations(experiment):
        state = loop.state_template(experiment)
        run = lambda state, batch, key: experiment.task.train_step(state, batch, key, parallel.identity)
        cost = jax.jit(run).lower(state, batch_of(experiment), stream_key(0, "train")).compile().cost_analysis()
        return cost["flops"]

    # The forward pass is a third of a step; of a frozen body little more than that is left.
    assert operations(tiny_resnet(freeze="body")) < 0.5 * operations(tiny_resnet())


def test_frozen_normalisation_is_that_of_evaluation():
    experiment = tiny_resnet(freeze="body")
    state = loop.initial_state(experiment)
    batch = batch_of(experiment)
    logits = experiment.task.logits(state, batch["image"])
    quiet = dataclasses.replace(experiment.task, augment=None)
    loss, (metrics, _) = quiet.loss_fn(state.params, state.model_state, batch, stream_key(0, "train"))
    assert np.isclose(loss, np.mean(experiment.task.loss(logits, batch["label"])))
    assert np.isclose(metrics["error"], np.mean(np.argmax(logits, -1) != batch["label"]))


def test_lower_rates_for_lower_layers():
    plain, slow = (optax.chain(optax.sgd(1.0), *extra) for extra in ([], [transfer.scale_layers({"conv?": 0.25})]))
    params = {"conv1": {"kernel": jnp.ones(2)}, "fc": {"kernel": jnp.ones(2)}}
    a, b = (optimizer.update(params, optimizer.init(params))[0] for optimizer in (plain, slow))
    assert np.allclose(b["conv1"]["kernel"], 0.25 * a["conv1"]["kernel"])
    assert np.allclose(b["fc"]["kernel"], a["fc"]["kernel"])
    for factor in (-1.0, float("inf")):
        with pytest.raises(UserError, match="must be 0 or more, finite"):
            transfer.scale_layers({"conv?": factor})
    with pytest.raises(UserError, match=r"config\.rates names no layer that learns with 'conv1'.*: there are fc$"):
        transfer.scale_layers({"conv1": 0.1}).init({"fc": params["fc"]})  # conv1 is frozen


def test_unknown_layers_are_named_with_those_there_are():
    with pytest.raises(UserError, match=r"config\.freeze names no layer with 'conv9'.*: there are bn1, conv1, "):
        loop.state_template(tiny_resnet(freeze="conv1,conv9"))
    with pytest.raises(UserError, match=r"config\.rates names no layer that learns with 'head'"):
        loop.state_template(tiny_resnet(rates="head=2"))
    with pytest.raises(UserError, match=r"config\.freeze matches every layer"):
        loop.state_template(tiny_resnet(freeze="*"))
    with pytest.raises(UserError, match=r"config\.rates is 'conv1': write it as"):
        tiny_resnet(rates="conv1")


def test_the_head_is_what_depends_on_the_number_of_classes():
    image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    heads = transfer.head_layers(GoogLeNet(), image)
    assert heads == ("auxiliary4a/classifier", "auxiliary4d/classifier", "classifier")
    small = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    assert transfer.head_layers(ResNetCifar(), small) == ("fc",)
    assert "fc" not in transfer.body_layers(ResNetCifar(), small)


class Twice(nn.Module):
    """A module that says whether it trains."""

    @nn.compact
    def __call__(self, x, *, train):
        return x * self.param("w", nn.initializers.ones, ()) * (2 if train else 1)


class Both(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        return Twice(name="a")(x, train=train) + 10 * Twice(name="b")(x, train=train)


def test_only_frozen_modules_are_applied_as_in_evaluation():
    variables = Both().init(jax.random.key(0), 1.0, train=False)
    with transfer.frozen_as_in_evaluation(("a",)):
        assert Both().apply(variables, 1.0, train=True) == 21
    assert Both().apply(variables, 1.0, train=True) == 22
