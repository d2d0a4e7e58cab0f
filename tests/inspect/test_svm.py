"""Pooled features by hand, and a support vector machine against scikit-learn's."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.svm import LinearSVC

from cnnlab import configs, inspection, loop
from cnnlab.errors import UserError
from cnnlab.inspect import svm
from cnnlab.inspect.subject import Subject
from cnnlab.models.resnet_cifar import ResNetCifar
from experiments import dcgan_mnist
from tests.small import random_array


class Judge(nn.Module):
    """Two layers of maps, 9×8 and 3×2 pixels, and a logit."""

    @nn.compact
    def __call__(self, x, *, train=False):
        x = nn.Conv(2, (1, 1), use_bias=False, name="conv1")(x)
        x = nn.Conv(1, (3, 4), (3, 4), "VALID", use_bias=False, name="conv2")(nn.relu(x))
        return nn.Dense(1, name="logit")(x.reshape(len(x), -1))


def judge():
    """A judge whose first layer gives x and −x, and whose second sums up relu(x) and twice relu(−x)."""
    x = random_array((3, 9, 8, 1))
    variables = Judge().init(jax.random.key(0), x)
    params = dict(variables["params"])
    params["conv1"] = {"kernel": jnp.array([1.0, -1.0]).reshape(1, 1, 1, 2)}
    params["conv2"] = {"kernel": jnp.ones((3, 4, 2, 1)) * jnp.array([1.0, 2.0])[:, None]}
    return Judge(), {"params": params}, x


def problem(seed=0, noise=1.0):
    """90 examples of 5 features, around 3 points far from 0, and their labels. All of one shape: one program."""
    rng = np.random.default_rng(seed)
    labels = np.arange(90) % 3
    centres = np.random.default_rng(99).normal(size=(3, 5))
    return (50 + centres[labels] + noise * rng.normal(size=(90, 5))).astype(np.float32), labels


def one_against_the_rest(labels):
    return np.where(np.arange(3)[:, None] == labels, 1.0, -1.0)


def scaled(x):
    x = x - x.mean(0, dtype=np.float64)
    return x / np.sqrt(np.square(x).sum(1).mean())


@pytest.mark.parametrize(("height", "width"), [(8, 16), (7, 9), (1, 6)])
def test_the_grid_is_the_maxima_of_even_parts(height, width):
    maps = random_array((2, height, width, 3))
    found = jax.jit(svm.to_grid)(maps)  # as one program: apart, each maximum would be compiled
    gh, gw = min(4, height), min(4, width)
    assert found.shape == (2, gh, gw, 3)
    for i, j in np.ndindex(gh, gw):
        rows = slice(i * height // gh, int(np.ceil((i + 1) * height / gh)))
        columns = slice(j * width // gw, int(np.ceil((j + 1) * width / gw)))
        np.testing.assert_array_equal(found[:, i, j], np.asarray(maps)[:, rows, columns].max((1, 2)))


def test_features_of_all_layers_side_by_side():
    model, variables, x = judge()
    pooled = jax.jit(svm.pooled_features, static_argnums=(0, 3))
    found = pooled(model, variables, x)
    assert found.shape == (3, 4 * 4 * 2 + 3 * 2)
    both = np.stack([x[..., 0], -x[..., 0]], -1)
    first, second = np.asarray(found[:, :32]).reshape(3, 4, 4, 2), found[:, 32:]
    np.testing.assert_allclose(first[:, 0, 0], both[:, 0:3, 0:2].max((1, 2)), rtol=1e-6)  # 9 rows: 0 to 2, 2 to 4 …
    np.testing.assert_allclose(first[:, 1, 3], both[:, 2:5, 6:8].max((1, 2)), rtol=1e-6)
    np.testing.assert_allclose(first[:, 3, 1], both[:, 6:9, 2:4].max((1, 2)), rtol=1e-6)
    sums = (np.maximum(both, 0) * [1, 2]).reshape(3, 3, 3, 2, 4, 2).sum((2, 4, 5))
    np.testing.assert_allclose(second, sums.reshape(3, 6), rtol=1e-5)  # smaller than the grid: as it is
    np.testing.assert_array_equal(pooled(model, variables, x, ("conv2",)), second)


def test_features_of_any_network():
    model, x = ResNetCifar(depth=8), random_array((2, 8, 8, 3))
    variables = jax.eval_shape(lambda: model.init(jax.random.key(1), x))
    found = jax.eval_shape(functools.partial(svm.pooled_features, model), variables, x)
    assert found.shape == (2, 16 * (16 + 16 + 16 + 32) + 4 * 64)  # conv1, bn1, conv2_1, conv3_1, conv4_1 of 2×2
    with pytest.raises(UserError, match="there is no layer 'conv9'"):
        jax.eval_shape(functools.partial(svm.pooled_features, model, layers=("conv9",)), variables, x)


def test_a_network_without_maps():
    model, x = nn.Sequential([nn.Dense(3), nn.Dense(1)]), jnp.ones((2, 4))
    variables = model.init(jax.random.key(0), x)
    hidden = x @ variables["params"]["layers_0"]["kernel"] + variables["params"]["layers_0"]["bias"]
    np.testing.assert_allclose(svm.pooled_features(model, variables, x), hidden, atol=1e-6)
    single = nn.Sequential([nn.Dense(3)])
    with pytest.raises(UserError, match="gives feature maps to pool: there are layers_0"):
        svm.pooled_features(single, single.init(jax.random.key(0), x), x)


def test_no_more_batches_than_needed_are_asked_for():
    model, variables, x = judge()
    asked = []

    def batches():
        for i in range(5):
            asked.append(i)
            yield x + i, np.full(3, i)

    features = jax.jit(functools.partial(svm.pooled_features, model, variables))
    found, labels = svm.collect(features, batches(), 7)
    assert asked == [0, 1, 2]
    assert labels.tolist() == [0, 0, 0, 1, 1, 1, 2]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[3:6], features(x + 1), rtol=1e-6)
    everything, labels = svm.collect(features, batches(), 1000)
    assert everything.shape == (15, 38)
    assert len(labels) == 15
    for most, given in ((5, []), (0, batches())):
        with pytest.raises(UserError, match="no examples to learn from"):
            svm.collect(features, given, most)


@pytest.mark.parametrize("c", [0.01, 1.0])
def test_the_machine_is_scikit_learns(c):
    x, labels = problem()
    machine = svm.fit(jnp.asarray(x), one_against_the_rest(labels), c)
    expected = LinearSVC(C=c, tol=1e-8, max_iter=100_000, random_state=0).fit(scaled(x), labels)
    np.testing.assert_allclose(machine.weights[:, :-1], expected.coef_, atol=2e-3 * np.abs(expected.coef_).max())
    np.testing.assert_allclose(machine.weights[:, -1], expected.intercept_, atol=2e-3)
    np.testing.assert_allclose(machine.scores(jnp.asarray(x)).T, expected.decision_function(scaled(x)), atol=5e-3)


def test_what_has_no_target_has_no_influence():
    x, labels = problem()
    targets = one_against_the_rest(labels)
    targets[:, 60:] = 0
    found = svm.fit(jnp.asarray(x), targets, 0.1)
    expected = LinearSVC(C=0.1, tol=1e-8, max_iter=100_000, random_state=0).fit(scaled(x)[:60], labels[:60])
    np.testing.assert_allclose(found.weights[:, :-1], expected.coef_, atol=2e-3)


def test_a_problem_that_planes_solve():
    (x, labels), (test, test_labels) = problem(noise=0.1), problem(seed=1, noise=0.1)
    wrong = test_labels.copy()
    wrong[:9] = (wrong[:9] + 1) % 3
    assert svm.svm_error(x, 7 + labels, test, 7 + test_labels) == 0  # whatever the labels' numbers
    assert svm.svm_error(x, labels, test, wrong) == pytest.approx(0.1)


def test_features_that_say_nothing():
    same, labels = np.ones((90, 5), np.float32), np.array([0] * 60 + [1] * 20 + [2] * 10)
    assert svm.svm_error(same, labels, same, labels) == pytest.approx(1 / 3)


def test_c_is_what_errs_least_on_what_is_held_out():
    rng, labels = np.random.default_rng(0), np.tile([1, 2, 0, 0, 0, 0, 0, 0, 0], 10)
    x = (rng.normal(size=(90, 5)) * [1, 1, 1, 1, 5] + 5 * np.eye(3, 5)[labels]).astype(np.float32)
    # Where errors are as cheap as 10⁻⁶, the bias is most of what is learnt, and the commonest class wins everywhere.
    assert svm.choose_c(x, labels, (1e-6, 10.0, 100.0)) == 10.0  # of two that never err the first
    assert svm.choose_c(x, labels, (100.0, 10.0, 1e-6)) == 100.0
    # Of noise alone nothing can be learnt, however well the examples that are learnt from come out with a great c.
    noise = np.random.default_rng(5).normal(size=(90, 5)).astype(np.float32)
    assert svm.choose_c(noise, np.arange(90) % 3, (1.0, 0.001)) == 0.001
    for share in (0.0, 1.0):
        with pytest.raises(UserError, match="held out to choose c"):
            svm.choose_c(x, labels, held_out=share)


def test_the_same_twice():
    errors = [svm.svm_error(*problem(), *problem(seed=1)) for _ in range(2)]
    assert errors[0] == errors[1]
    assert 0 < errors[0] < 0.6


def test_a_discriminators_features_beside_raw_pixels(tmp_path, capsys, monkeypatch):
    config = dcgan_mnist.get_config()
    config.data = "digits"
    config.small.update(generator=(8, 4), discriminator=(4, 8), steps=1)
    experiment = dcgan_mnist.build(config)
    subject = Subject(experiment, lambda: loop.fresh_state(experiment))
    options = configs.options_of("inspect")
    options.update(inspect="svm", examples=60)
    whole, read = Subject.examples, []
    monkeypatch.setattr(Subject, "examples", lambda *given, train: read.append(train) or whole(*given, train=train))
    inspection.inspect_and_save(subject, tmp_path, options)
    assert read == [True, False]  # once, however many ways there are
    lines = capsys.readouterr().out.splitlines()
    # 28×28 pixels; 4×4 of 4 and 8 maps, convolution and leaky rectifier together; the same pixels again.
    assert [line.split(" numbers")[0].split()[-1] for line in lines[:3]] == ["784", "192", "784"]
    errors = [float(line.split()[-1].rstrip("%")) for line in lines[:3]]
    assert 0 < errors[2] < 60  # of 60 digits learnt; by chance it would be 90
    assert (tmp_path / "figures" / "svm.png").exists()
    options.inspect = "occlusion"
    with pytest.raises(UserError, match="occlusion is for classifiers; dcgan_mnist takes augment or svm"):
        inspection.inspect_and_save(subject, tmp_path, options)
