"""LeNet-5 against the paper's numbers and against slow formulas written out in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.models.lenet import C3_TABLE, RBF, LeNet, Subsampling, TableConv, map_loss, rbf_codes

PAPER = {"C1": 156, "S2": 12, "C3": 1_516, "S4": 32, "C5": 48_120, "F6": 10_164}
MODERN = {"C1": 156, "C3": 2_416, "C5": 48_120, "F6": 10_164, "output": 850}


def parameters(model):
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 1)))["params"]


@pytest.mark.parametrize(
    ("variant", "layers", "total"), [("paper", PAPER, 60_000), ("modern", MODERN, 61_706)], ids=["paper", "modern"]
)
def test_parameter_counts(variant, layers, total):
    counts = {
        name: sum(leaf.size for leaf in jax.tree.leaves(layer))
        for name, layer in parameters(LeNet(variant=variant)).items()
    }
    assert counts == layers
    assert sum(counts.values()) == total


def test_c3_table_is_table_one():
    # Table I of the paper, column by column: the S2 maps that each of C3's 16 maps sees.
    assert [set(row) for row in C3_TABLE] == [
        {0, 1, 2},
        {1, 2, 3},
        {2, 3, 4},
        {3, 4, 5},
        {4, 5, 0},
        {5, 0, 1},
        {0, 1, 2, 3},
        {1, 2, 3, 4},
        {2, 3, 4, 5},
        {3, 4, 5, 0},
        {4, 5, 0, 1},
        {5, 0, 1, 2},
        {0, 1, 3, 4},
        {1, 2, 4, 5},
        {0, 2, 3, 5},
        {0, 1, 2, 3, 4, 5},
    ]
    assert sum(len(row) for row in C3_TABLE) == 60


def test_table_conv_is_a_convolution_a_map():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 9, 7, 6)).astype(np.float32)
    weights = rng.normal(size=(5, 5, 60)).astype(np.float32)
    bias = rng.normal(size=16).astype(np.float32)
    expected = np.zeros((2, 5, 3, 16)) + bias
    connection = 0
    for output, inputs in enumerate(C3_TABLE):
        for channel in inputs:
            for i in range(5):
                for j in range(3):
                    patch = x[:, i : i + 5, j : j + 5, channel]
                    expected[:, i, j, output] += (patch * weights[:, :, connection]).sum((1, 2))
            connection += 1
    actual = TableConv().apply({"params": {"kernel": weights, "bias": bias}}, jnp.asarray(x))
    np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_subsampling_by_hand():
    x = jnp.array([[1, 2, 5, 6, 9], [3, 4, 7, 8, 9]], jnp.float32)  # the last column fills no square
    x = jnp.stack([x, -x], -1)[None]
    params = {"scale": jnp.array([0.5, 2.0]), "bias": jnp.array([1.0, -1.0])}
    expected = [[[0.5 * 10 + 1, -2 * 10 - 1], [0.5 * 26 + 1, -2 * 26 - 1]]]
    np.testing.assert_allclose(Subsampling().apply({"params": params}, x)[0], expected)


def test_rbf_by_hand():
    codes = ((1.0, -1.0, 1.0), (-1.0, -1.0, -1.0))
    x = jnp.array([[1.0, -1.0, 1.0], [0.5, 0.0, -2.0]])
    expected = [[0, 8], [0.25 + 1 + 9, 2.25 + 1 + 1]]
    np.testing.assert_allclose(RBF(codes).apply({}, x), expected)


def test_digit_codes():
    codes = rbf_codes(10)
    assert (codes.shape, codes.dtype) == ((10, 84), np.float32)
    assert set(np.unique(codes)) == {-1, 1}
    assert len(np.unique(codes, axis=0)) == 10
    # The picture of the one, 12 rows of 7.
    one = ["".join("#" if dot > 0 else "." for dot in row) for row in codes[1].reshape(12, 7)]
    assert one == ["...##..", "..###..", ".####..", *["...##.."] * 8, ".######"]
    # A seven begins with a full row, a zero with a gap.
    assert codes[7][:7].tolist() == [1] * 7
    assert codes[0][:7].tolist() == [-1, -1, 1, 1, 1, -1, -1]


@pytest.mark.parametrize("classes", [2, 9, 11, 100])
def test_codes_of_other_numbers_of_classes(classes):
    codes = rbf_codes(classes)
    assert codes.shape == (classes, 84)
    assert set(np.unique(codes)) == {-1, 1}
    assert len(np.unique(codes, axis=0)) == classes
    np.testing.assert_array_equal(codes, rbf_codes(classes))


def reference_loss(logits, labels, j):
    """Equation 9, in float64, of one example after the other."""
    return [
        penalties[label] + np.log(np.exp(-j) + np.exp(-penalties).sum())
        for penalties, label in zip(-np.asarray(logits, np.float64), labels, strict=True)
    ]


@pytest.mark.parametrize("j", [0.1, 1.0, 20.0])
def test_map_loss_and_its_gradient(j):
    rng = np.random.default_rng(1)
    logits = -(10 * rng.random((4, 5))).astype(np.float32)
    labels = np.array([0, 4, 2, 2])
    np.testing.assert_allclose(
        map_loss(jnp.asarray(logits), jnp.asarray(labels), j=j), reference_loss(logits, labels, j), rtol=1e-5
    )
    gradient = jax.grad(lambda x: map_loss(x, jnp.asarray(labels), j=j).sum())(jnp.asarray(logits))
    step = 1e-6
    for place in np.ndindex(*logits.shape):
        moved = np.zeros(logits.shape)
        moved[place] = step
        up, down = (sum(reference_loss(logits + sign * moved, labels, j)) for sign in (1, -1))
        assert gradient[place] == pytest.approx((up - down) / (2 * step), abs=1e-5)


def test_map_loss_by_hand():
    # Penalties 0 and 0, j = 0: log(1 + 1 + 1).
    np.testing.assert_allclose(map_loss(jnp.zeros((1, 2)), jnp.array([1]), j=0.0), [np.log(3)], rtol=1e-6)


def test_map_loss_of_great_penalties_is_finite():
    # Penalties of hundreds underflow e^−y: what is left is y_D − j.
    loss = map_loss(jnp.array([[-500.0, -900.0]]), jnp.array([1]), j=2.0)
    np.testing.assert_allclose(loss, [900 - 2], rtol=1e-6)


FAN_IN = {"C1": 25, "S2": 4, "S4": 4, "C5": 400, "F6": 120}


def test_initial_weights_are_uniform_within_the_papers_bound():
    params = jax.jit(LeNet().init)(jax.random.key(0), jnp.zeros((1, 32, 32, 1)))["params"]
    for name, fan_in in FAN_IN.items():
        for leaf in jax.tree.leaves(params[name]):
            assert np.abs(leaf).max() <= 2.4 / fan_in
        kernel = params[name].get("kernel")
        if kernel is not None:
            assert np.abs(kernel).max() > 0.9 * 2.4 / fan_in
            assert np.std(kernel) == pytest.approx(2.4 / fan_in / np.sqrt(3), rel=0.15)
    kernel, start = np.abs(params["C3"]["kernel"]), 0
    for row in C3_TABLE:
        bound = 2.4 / (25 * len(row))
        assert 0.9 * bound < kernel[..., start : start + len(row)].max() <= bound
        start += len(row)


@pytest.mark.parametrize("variant", ["paper", "modern"])
def test_forward_in_bfloat16_with_float32_parameters(variant):
    x = jax.random.normal(jax.random.key(1), (3, 32, 32, 1))
    single, half = LeNet(variant=variant), LeNet(variant=variant, dtype=jnp.bfloat16)
    variables = jax.jit(half.init)(jax.random.key(0), x)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    expected, actual = jax.jit(single.apply)(variables, x), jax.jit(half.apply)(variables, x)
    assert expected.dtype == actual.dtype == jnp.float32
    assert expected.shape == (3, 10)
    np.testing.assert_allclose(actual, expected, rtol=0.05, atol=0.05)
    assert np.abs(actual - expected).max() > 0


def test_the_papers_net_layer_by_layer():
    """The whole network in numpy."""
    model = LeNet()
    x = np.asarray(jax.random.normal(jax.random.key(1), (1, 32, 32, 1)))
    variables = jax.jit(model.init)(jax.random.key(0), jnp.asarray(x))
    params = jax.tree.map(np.asarray, variables["params"])

    def squash(x):
        return 1.7159 * np.tanh(2 / 3 * x)

    def convolve(x, kernel, bias):
        height, width = x.shape[0] - 4, x.shape[1] - 4
        out = np.zeros((height, width, kernel.shape[-1])) + bias
        for i in range(height):
            for j in range(width):
                out[i, j] += np.tensordot(x[i : i + 5, j : j + 5], kernel, 3)
        return out

    def subsample(x, scale, bias):
        return (x[::2, ::2] + x[1::2, ::2] + x[::2, 1::2] + x[1::2, 1::2]) * scale + bias

    table = np.zeros((5, 5, 6, 16))
    connections = [(channel, output) for output, inputs in enumerate(C3_TABLE) for channel in inputs]
    for n, (channel, output) in enumerate(connections):
        table[:, :, channel, output] = params["C3"]["kernel"][:, :, n]
    h = squash(convolve(x[0], **params["C1"]))
    h = squash(subsample(h, **params["S2"]))
    h = squash(convolve(h, table, params["C3"]["bias"]))
    h = squash(subsample(h, **params["S4"]))
    h = squash(convolve(h, **params["C5"]))[0, 0]
    h = squash(h @ params["F6"]["kernel"] + params["F6"]["bias"])
    expected = -((h - rbf_codes(10)) ** 2).sum(1)
    np.testing.assert_allclose(model.apply(variables, jnp.asarray(x))[0], expected, rtol=1e-4)


def test_other_numbers_of_classes():
    for variant in ("paper", "modern"):
        model = LeNet(num_classes=3, variant=variant)
        output, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), jnp.zeros((2, 32, 32, 1)))
        assert output.shape == (2, 3)


def test_an_unknown_variant():
    with pytest.raises(ValueError, match='must be "paper" or "modern"'):
        parameters(LeNet(variant="new"))
