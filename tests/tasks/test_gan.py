"""Adversarial nets: losses by hand, both sides learning from their own, devices that agree, runs that go on exactly."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnlab import loop, parallel
from cnnlab.errors import UserError
from cnnlab.models.adversaries import Adversaries
from cnnlab.state import TrainState
from cnnlab.tasks import gan
from experiments import gan_mnist
from tests.small import same


def experiment(steps=4, **fields):
    """Small nets on digits, a few steps long."""
    config = gan_mnist.get_config()
    config.update(data="digits", r1=0.0)
    config.small.update(generator=(16,), discriminator=(8,), batch_size=16, steps=steps, film_every=2)
    config.update(fields)
    return dataclasses.replace(gan_mnist.build(config), checkpoint_every=2)


def batch_of(built, count=16):
    batch = {name: jnp.asarray(array) for name, array in built.train_data().batch(np.arange(count)).items()}
    return {**batch, "position": jnp.arange(count)}


def step_of(built, batch, state=None, key=0):
    state = loop.fresh_state(built) if state is None else state
    return jax.jit(lambda s, b: built.task.train_step(s, b, jax.random.key(key), parallel.identity))(state, batch)


class Linear(nn.Module):
    """A discriminator of slope (3, 4)."""

    def __call__(self, x, condition=None, label=None, *, train=False):
        return (x * jnp.array([3.0, 4.0]).reshape(1, 1, 2, 1)).sum((1, 2, 3))


def test_each_side_learns_from_its_own_loss():
    built = experiment()
    batch, before = batch_of(built), loop.fresh_state(built)
    after, metrics = step_of(built, batch)
    assert set(metrics) >= {"loss", "discriminator_loss", "generator_loss", "real_accuracy", "diversity"}
    assert not same(before.params, after.params)
    # With a rate of 0 the one side stays while the other moves.
    for field, stays, moves in (
        ("generator_optimizer", "generators_0", "discriminators_0"),
        ("discriminator_optimizer", "discriminators_0", "generators_0"),
    ):
        task = dataclasses.replace(built.task, **{field: optax.sgd(0.0)})
        still = dataclasses.replace(built, task=task)
        start = loop.fresh_state(still)
        moved, _ = step_of(still, batch, start)
        assert same(start.params[stays], moved.params[stays])
        assert not same(start.params[moves], moved.params[moves])


def test_the_discriminators_gradient_is_that_of_the_formula():
    built = experiment(average=0.0)
    task = dataclasses.replace(built.task, discriminator_optimizer=optax.sgd(1.0), generator_optimizer=optax.sgd(0.0))
    discriminator = task.model.discriminators[0].clone(dropout=(0.0, 0.0))
    task = dataclasses.replace(task, model=Adversaries(task.model.generators, (discriminator,)))
    built = dataclasses.replace(built, task=task)
    batch, start = batch_of(built), loop.fresh_state(built)
    after, _ = step_of(built, batch, start)
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 0), 0)  # of the first update, the first level
    z = gan.noise(gan.keys_of(key, batch["position"]), (100,))
    fake = task.model.generators[0].apply({"params": start.params["generators_0"]}, z)
    real = batch["image"] / 255.0

    def loss(params):
        of_real, of_fake = (discriminator.apply({"params": params}, x) for x in (real, fake))
        return -jnp.mean(jnp.log(jax.nn.sigmoid(of_real))) - jnp.mean(jnp.log(1 - jax.nn.sigmoid(of_fake)))

    grads = jax.grad(loss)(start.params["discriminators_0"])
    expected = jax.tree.map(lambda w, g: w - g, start.params["discriminators_0"], grads)
    for a, b in zip(jax.tree.leaves(after.params["discriminators_0"]), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize(
    "fields",
    [
        {"loss": "wasserstein", "gradient_penalty": 10.0, "discriminator_steps": 2},
        {"loss": "hinge", "r1": 1.0, "input_noise": 0.1},
        {"loss": "minimax", "conditional": True},
    ],
)
def test_later_losses_and_classes(fields):
    built = experiment(**fields)
    after, metrics = step_of(built, batch_of(built))
    assert all(np.isfinite(float(x)) for x in metrics.values())
    keys, label = built.task.fixed(4, 7 if built.task.class_names else None)
    samples = built.task.sample(after, keys, label)
    assert samples.shape == (4, 28, 28, 1)
    assert 0 <= float(samples.min()) <= float(samples.max()) <= 1


def test_the_gradient_penalty_by_hand():
    """Of a linear function of slope (3, 4) the slope's length is 5 everywhere."""
    task = experiment(loss="wasserstein", gradient_penalty=10.0, r1=2.0).task
    slope = jnp.array([3.0, 4.0]).reshape(1, 1, 2, 1)
    x = jax.random.normal(jax.random.key(0), (3, 1, 2, 1))
    linear = lambda x: ((x * slope).sum((1, 2, 3)), None)
    penalty = task._penalty(linear, x, -x, jnp.arange(3), jax.random.key(1))
    assert float(penalty) == pytest.approx(10 * (5 - 1) ** 2 + 2 / 2 * 25, rel=1e-5)


def test_the_discriminators_see_noise_in_training():
    """A linear one's logits then vary by the noise's deviation times the length of its slope; real and false alike."""
    built, count = experiment(input_noise=0.5), 4000
    task = dataclasses.replace(built.task, model=Adversaries(built.task.model.generators, (Linear(),)))
    batch, x = {"position": jnp.arange(count)}, jnp.ones((count, 1, 2, 1))
    both = [
        task._discriminate({"discriminators_0": {}}, 0, None, batch, jax.random.key(0), number, {}, x)[0]
        for number in (1, 2)
    ]
    for logits in both:
        assert float(logits.mean()) == pytest.approx(7, abs=0.15)
        assert float(logits.std()) == pytest.approx(0.5 * 5, rel=0.05)
    assert abs(float(jnp.corrcoef(*both)[0, 1])) < 0.06
    with pytest.raises(UserError, match=r"config\.input_noise is -1\.0; it must be 0 or more"):
        dataclasses.replace(task, input_noise=-1.0)


@pytest.mark.parametrize("discriminator_steps", [1, 2])
def test_parts_of_a_batch_are_one_batch(discriminator_steps):
    """What devices do, by hand: two halves of a batch whose means are taken at every `reduce`."""
    built = experiment(discriminator_steps=discriminator_steps, average=0.5, input_noise=0.1)
    batch, start = batch_of(built), loop.fresh_state(built)
    whole, metrics = step_of(built, batch, start)
    halves = jax.tree.map(lambda x: x.reshape(2, -1, *x.shape[1:]), batch)
    mean = lambda tree: jax.lax.pmean(tree, "halves")
    step = jax.vmap(
        lambda b: built.task.train_step(start, b, jax.random.key(0), mean), axis_name="halves", out_axes=None
    )
    parts, of_parts = step(halves)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(parts), strict=True):
        np.testing.assert_allclose(np.asarray(a, np.float64), np.asarray(b, np.float64), atol=2e-6)
    for name in metrics:
        assert float(metrics[name]) == pytest.approx(float(of_parts[name]), rel=1e-4, abs=1e-5)


def test_an_interrupted_run_goes_on_exactly(tmp_path):
    whole = loop.train(experiment(), tmp_path / "whole")
    half = dataclasses.replace(experiment(), steps=2)
    loop.train(dataclasses.replace(half, config=experiment().config), tmp_path / "parts")
    assert loop.train(experiment(), tmp_path / "parts") == whole
    states = [loop.restored_state(experiment(), tmp_path / name) for name in ("whole", "parts")]
    assert same(*states)
    assert int(states[0].step) == 4
    for name in ("figures/samples.png", "figures/interpolations.png", "figures/film.gif", "figures/neighbours.png"):
        assert (tmp_path / "whole" / name).stat().st_size > 1000
    assert [file.name for file in sorted((tmp_path / "whole" / "film").iterdir())] == ["000000002.png", "000000004.png"]


class OfClass7(nn.Module):
    """A discriminator to which all is real that is said to be of class 7, the more the brighter; all else is false."""

    def __call__(self, x, condition=None, label=None, *, train=False):
        return jnp.where(label == 7, x.mean((1, 2, 3)), -3.0)


def test_a_picture_is_judged_as_the_class_of_which_it_is_likeliest():
    built = experiment(conditional=True)
    task = dataclasses.replace(built.task, model=Adversaries(built.task.model.generators, (OfClass7(),)))
    state = TrainState(jnp.zeros((), jnp.int32), {"discriminators_0": {}}, {}, ())
    image = jnp.stack([jnp.full((28, 28, 1), value, jnp.uint8) for value in (0, 255)])
    real = jax.nn.sigmoid(task.preprocess(image).mean((1, 2, 3)))
    np.testing.assert_allclose(task.predict_step(state, {"image": image}), jnp.stack([real, 1 - real], -1), atol=1e-6)


def test_collapse_is_noticed():
    task = experiment().task
    well = {"real_accuracy": 0.7, "fake_accuracy": 0.8, "diversity": 0.9}
    assert task.warnings(well) == []
    assert "wins outright" in task.warnings({**well, "real_accuracy": 0.99, "fake_accuracy": 1.0})[0]
    assert "alike" in task.warnings({**well, "diversity": 0.1})[0]


def test_the_rates_fall_at_the_end_of_the_run():
    """Under a gradient that stays the same, each of Adam's updates is as large as the rate."""
    for falling, shares in ((0.0, [1, 1, 1, 1]), (0.5, [1, 1, 1, 0.5]), (1.0, [1, 0.75, 0.5, 0.25])):
        built = experiment(falling=falling, generator_rate=0.1, discriminator_rate=0.2)
        optimizers = (built.task.generator_optimizer, 0.1), (built.task.discriminator_optimizer, 0.2)
        for optimizer, rate in optimizers:
            params = {"w": jnp.zeros(1)}
            state, sizes = optimizer.init(params), []
            for _ in range(4):
                updates, state = optimizer.update({"w": jnp.ones(1)}, state, params)
                sizes.append(-float(updates["w"][0]) / rate)
            assert sizes == pytest.approx(shares, rel=1e-4)


def test_what_is_out_of_range():
    with pytest.raises(UserError, match=r'config\.loss is "gan"; it must be one of minimax'):
        experiment(loss="gan")
    with pytest.raises(UserError, match=r"config\.discriminator_steps is 0"):
        experiment(discriminator_steps=0)
    with pytest.raises(UserError, match=r"config\.discriminator_steps is 3: it must divide the 16 examples"):
        step_of(experiment(discriminator_steps=3), batch_of(experiment()))
    with pytest.raises(UserError, match=r"config\.truncation is 0\.0; it must be more than 0"):
        experiment(truncation=0.0)
    with pytest.raises(UserError, match=r"config\.falling is 2\.0; it must be from 0"):
        experiment(falling=2.0)
    with pytest.raises(UserError, match=r"config\.judge is nowhere, which holds no classifier"):
        experiment(judge="nowhere")


def test_samples_of_less_noise():
    built = experiment(truncation=0.5)
    state, keys = loop.fresh_state(built), jax.random.split(jax.random.key(0), 3)
    z = gan.noise(jax.vmap(lambda key: jax.random.fold_in(key, 0))(keys), (100,))
    expected = built.task.pictures(state, [0.5 * z])
    np.testing.assert_allclose(built.task.sample(state, keys), expected, atol=1e-6)
    assert float(jnp.abs(expected - built.task.pictures(state, [z])).max()) > 1e-4
