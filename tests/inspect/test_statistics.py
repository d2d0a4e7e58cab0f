"""Statistics of activations and gradients, against networks small enough to be computed by hand."""

import io
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab import configs, loop
from cnnlab.errors import UserError
from cnnlab.inspect import statistics
from cnnlab.inspect.layers import run
from cnnlab.inspect.subject import Subject
from cnnlab.ops.activations import relu, scaled_tanh
from cnnlab.ops.batch_norm import BatchNorm
from cnnlab.ops.conv import Conv
from cnnlab.tasks.classification import cross_entropy
from experiments import lenet_digits
from tests.small import random_array

X = jnp.array([[1.0, 2.0], [-1.0, 0.0], [0.0, -2.0]]).reshape(3, 1, 2, 1)
LABELS = jnp.zeros(3, jnp.int32)
# h = [x0, x1 - x0, -10], so that the last unit is dead; the logits are 2 relu(h0) + 3 relu(h1) and 0.
PARAMS = {
    "h": {"kernel": jnp.array([[1.0, -1.0, 0.0], [0.0, 1.0, 0.0]]), "bias": jnp.array([0.0, 0.0, -10.0])},
    "out": {"kernel": jnp.array([[2.0, 0.0], [3.0, 0.0], [4.0, 0.0]]), "bias": jnp.zeros(2)},
}
H = np.array([[1.0, 1.0, -10.0], [-1.0, 1.0, -10.0], [0.0, -2.0, -10.0]])


class Tiny(nn.Module):
    @nn.compact
    def __call__(self, x, *, train=False):
        h = nn.Dense(3, name="h")(x.reshape(len(x), -1))
        return nn.Dense(2, name="out")(relu(h))


class Maps(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(1, name="out")(relu(Conv(2, 1, name="conv")(x)).mean((1, 2)))


class Small(nn.Module):
    """What the networks of the papers are made of."""

    dtype: Any = None

    @nn.compact
    def __call__(self, x, *, train=False):
        x = Conv(4, 3, padding=1, dtype=self.dtype, name="conv")(x)
        x = relu(BatchNorm(name="bn")(x, train=train))
        x = relu(Conv(6, 3, 2, dtype=self.dtype, name="conv2")(x))
        return nn.Dense(10, dtype=self.dtype, name="fc")(x.reshape(len(x), -1)).astype(jnp.float32)


SMALL = Small()
PICTURES, CLASSES = random_array((7, 6, 6, 3)), jnp.arange(7)
VARIABLES = SMALL.init(jax.random.key(0), PICTURES)


def first_logit(logits, labels):
    return logits[:, 0]


def save(figure):
    figure.savefig(io.BytesIO(), format="png")


def test_a_network_by_hand():
    found = statistics.statistics(Tiny(), {"params": PARAMS}, [(X, LABELS)], first_logit)
    assert list(found) == ["h", "out"]
    h, out = found["h"], found["out"]
    assert (h.mean, h.std) == (pytest.approx(H.mean()), pytest.approx(H.std()))
    np.testing.assert_allclose(h.inactive, [2 / 3, 1 / 3, 1])
    assert (h.follows, h.dead, h.saturated) == ("relu", 1, None)
    assert (out.follows, out.dead) == ("", None)
    # ∂ loss / ∂ out is [1, 0] of each example; ∂ loss / ∂ h is [2, 3, 4] where h is positive.
    slope = np.array([[2.0, 3, 0], [0, 3, 0], [0, 0, 0]])
    assert out.gradient == pytest.approx(np.sqrt(1 / 2))
    assert h.gradient == pytest.approx(np.sqrt(np.mean(slope**2)))
    by_kernel = np.asarray(X).reshape(3, 2).T @ slope / 3
    assert h.weight == pytest.approx(np.sqrt(3 / 6))
    assert h.weight_gradient == pytest.approx(np.sqrt(np.mean(by_kernel**2)))
    assert h.ratio == pytest.approx(h.weight_gradient / h.weight)
    by_out = np.maximum(H, 0).sum(0) / 3  # of the kernel's first column, 0 of the second
    assert out.weight_gradient == pytest.approx(np.sqrt(np.sum(by_out**2) / 6))
    assert (h.parameters, out.parameters) == ("kernel", "kernel")


def test_the_gradient_of_each_layer_by_hand():
    rms = statistics.gradient_rms(Tiny(), {"params": PARAMS}, X, LABELS, first_logit)
    assert {name: round(float(value), 5) for name, value in rms.items()} == {
        "h": round(np.sqrt((4 + 9 + 9) / 9), 5),
        "out": round(np.sqrt(1 / 2), 5),
    }


def test_gradients_are_of_each_examples_own_loss():
    outputs, by_output, by_params = statistics.layer_gradients(SMALL, VARIABLES, PICTURES, CLASSES, cross_entropy)
    assert list(outputs) == list(by_output) == ["conv", "bn", "conv2", "fc"]
    logits, found = run(SMALL, VARIABLES, PICTURES)
    np.testing.assert_allclose(outputs["conv2"], found["conv2"], atol=1e-6)
    np.testing.assert_allclose(by_output["fc"], jax.nn.softmax(logits) - jax.nn.one_hot(CLASSES, 10), atol=1e-6)
    # A bias is added to its layer's output, at every place.
    np.testing.assert_allclose(by_output["conv2"].sum((0, 1, 2)), by_params["conv2"]["bias"], rtol=1e-4, atol=1e-6)

    def plain(params):
        return cross_entropy(SMALL.apply({**VARIABLES, "params": params}, PICTURES), CLASSES).sum()

    plain = jax.grad(plain)(VARIABLES["params"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), by_params, plain)


def test_batches_make_no_difference():
    # So that batch normalisation changes something, and some units are dead.
    changed = {**VARIABLES, "params": jax.tree.map(lambda leaf: leaf - 0.1, VARIABLES["params"])}
    once = statistics.statistics(SMALL, changed, [(PICTURES, CLASSES)], cross_entropy)
    parts = [(PICTURES[:4], CLASSES[:4]), (PICTURES[4:], CLASSES[4:])]
    streamed = statistics.statistics(SMALL, changed, parts, cross_entropy)
    assert list(once) == list(streamed) == ["conv", "bn", "conv2", "fc"]
    for name, layer in once.items():
        other = streamed[name]
        np.testing.assert_array_equal(layer.inactive, other.inactive)
        assert (layer.follows, layer.parameters) == (other.follows, other.parameters)
        for field in ("mean", "std", "gradient", "weight", "weight_gradient"):
            assert getattr(other, field) == pytest.approx(getattr(layer, field), rel=1e-4, abs=1e-7), (name, field)
    whole = np.asarray(run(SMALL, changed, PICTURES)[1]["bn"], np.float64)
    layer = once["bn"]
    assert (layer.mean, layer.std) == (pytest.approx(whole.mean(), abs=1e-6), pytest.approx(whole.std(), rel=1e-5))
    np.testing.assert_allclose(layer.inactive, (whole <= 0).mean((0, 1, 2)))
    assert layer.parameters == "scale"


def test_a_map_that_is_positive_at_one_place_is_not_dead():
    x = jnp.full((3, 2, 2, 1), -1.0).at[2, 1, 0].set(1.0)
    params = {
        "conv": {"kernel": jnp.array([[[[1.0, 1.0]]]]), "bias": jnp.array([0.0, -1.0])},
        "out": {"kernel": jnp.ones((2, 1)), "bias": jnp.zeros(1)},
    }
    parts = [(x[:2], LABELS[:2]), (x[2:], LABELS[2:])]
    layer = statistics.statistics(Maps(), {"params": params}, parts, first_logit)["conv"]
    assert layer.inactive.tolist() == [11 / 12, 1]  # exactly 0 is not positive
    assert layer.dead == 1


@pytest.mark.parametrize(("function", "edge"), [(scaled_tanh, 2.7277), (nn.sigmoid, 3.6369)])
def test_saturation(function, edge):
    """At the edge the slope is a tenth of that at 0."""
    slope = jax.grad(function)
    assert slope(edge) / slope(0.0) == pytest.approx(0.1, rel=1e-3)
    model = nn.Sequential([nn.Dense(1), function, nn.Dense(1)])
    one = {"kernel": jnp.ones((1, 1)), "bias": jnp.zeros(1)}
    x = jnp.array([0.0, 0.99 * edge, 1.01 * edge, -1.01 * edge, -9.0]).reshape(5, 1)
    variables = {"params": {"layers_0": one, "layers_2": one}}
    found = statistics.statistics(model, variables, [(x, jnp.zeros(5, int))], first_logit)
    assert found["layers_0"].saturated == pytest.approx(3 / 5)
    assert found["layers_0"].dead is None
    assert found["layers_2"].saturated is None


def test_gradients_that_vanish_are_still_measured():
    small = {"kernel": jnp.full((1, 1), 1e-12), "bias": jnp.zeros(1)}
    model = nn.Sequential([nn.Dense(1), nn.Dense(1), nn.Dense(1)])
    variables = {"params": {f"layers_{i}": small for i in range(3)}}
    x = jnp.ones((2, 1))
    rms = statistics.gradient_rms(model, variables, x, LABELS[:2], first_logit)
    assert float(rms["layers_0"]) == pytest.approx(1e-24, rel=1e-5)  # its square is 0 in float32
    assert float(statistics.root_mean_square(jnp.zeros(3))) == 0


def test_bfloat16_stays():
    model = Small(jnp.bfloat16)
    outputs, by_output, _ = statistics.layer_gradients(model, VARIABLES, PICTURES, CLASSES, cross_entropy, ("conv2",))
    assert list(outputs) == list(by_output) == ["conv2"]
    assert outputs["conv2"].dtype == by_output["conv2"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(outputs["conv2"], run(model, VARIABLES, PICTURES)[1]["conv2"])
    assert statistics.root_mean_square(by_output["conv2"]).dtype == jnp.float32


def test_layers_by_name():
    found = statistics.statistics(Tiny(), {"params": PARAMS}, [(X, LABELS)], first_logit, ("out",))
    assert list(found) == ["out"]
    with pytest.raises(UserError, match=r"there is no layer 'fc'.*: there are h, out"):
        statistics.statistics(Tiny(), {"params": PARAMS}, [(X, LABELS)], first_logit, ("fc",))


def test_the_table():
    found = statistics.statistics(Tiny(), {"params": PARAMS}, [(X, LABELS)], first_logit)
    head, h, out = statistics.format_table(found).splitlines()
    assert head.split()[:5] == ["layer", "units", "before", "mean", "std"]
    assert h.split()[:7] == ["h", "3", "relu", "-3.33", "4.81", "66.7%", "1"]
    assert out.split()[:2] == ["out", "2"]
    assert len({len(line) for line in (head, h, out)}) == 1


def test_the_figure():
    found = statistics.statistics(Tiny(), {"params": PARAMS}, [(X, LABELS)], first_logit)
    drawn = statistics.figure(found, "Tiny")
    _, use, gradient, ratio = drawn.axes
    assert [axes.get_yscale() for axes in drawn.axes] == ["log", "linear", "log", "log"]
    assert [patch.get_height() for patch in use.patches] == [pytest.approx(100 / 3), 0]
    np.testing.assert_allclose(use.lines[0].get_xydata(), [[0, 200 / 3]])
    np.testing.assert_allclose(gradient.lines[0].get_ydata(), [found["h"].gradient, found["out"].gradient])
    assert [label.get_text() for label in ratio.get_xticklabels()] == ["h", "out"]
    save(drawn)


def test_a_figure_without_any_gradient():
    nothing = statistics.statistics(Tiny(), {"params": PARAMS}, [(X, LABELS)], lambda logits, labels: 0 * logits[:, 0])
    assert nothing["h"].gradient == nothing["h"].ratio == 0
    drawn = statistics.figure(nothing, "Tiny")
    assert [axes.get_yscale() for axes in drawn.axes] == ["log", "linear", "linear", "linear"]
    save(drawn)


def test_of_a_run_on_its_training_examples(monkeypatch, capsys):
    experiment = lenet_digits.build(lenet_digits.get_config())
    state = loop.initial_state(experiment)
    subject = Subject(experiment, lambda: state)
    options = configs.options_of("inspect")
    options.examples = 20
    drawn = statistics.draw(subject, options)["statistics"]
    assert "20 training examples" in drawn.get_suptitle()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["C1", "S2", "C3", "S4", "C5", "F6"]
    monkeypatch.setattr(statistics, "NUMBERS", 60_000)
    parts = list(statistics._batches(subject, 20))
    assert len(parts) > 1  # what is computed at once is bounded
    (batch,) = subject.examples(20, train=True)
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in parts]), batch["label"])
    whole = experiment.task.preprocess(jnp.asarray(batch["image"]))
    np.testing.assert_array_equal(np.concatenate([x for x, _ in parts]), whole)
