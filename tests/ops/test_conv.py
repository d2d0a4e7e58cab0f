"""Convolution against a loop over every output written out in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.errors import UserError
from cnnlab.ops.conv import Conv, conv2d, pair


def by_hand(x, kernel, stride, padding, groups):
    """The definition: every output is a sum over its window, group by group."""
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    (sh, sw), (ph, pw) = pair(stride), pair(padding)
    x = np.pad(x, ((0, 0), (ph, ph), (pw, pw), (0, 0)))
    kh, kw, cg, features = kernel.shape
    rows, columns = (x.shape[1] - kh) // sh + 1, (x.shape[2] - kw) // sw + 1
    y = np.zeros((x.shape[0], rows, columns, features))
    for k in range(features):
        group = k // (features // groups)
        seen = x[..., group * cg : (group + 1) * cg]
        for i in range(rows):
            for j in range(columns):
                window = seen[:, i * sh : i * sh + kh, j * sw : j * sw + kw]
                y[:, i, j, k] = np.sum(window * kernel[..., k], (1, 2, 3))
    return y


CASES = [(3, 1, 0, 1), (3, 2, 1, 1), ((1, 5), 1, (0, 2), 2), (4, (2, 3), 2, 2), (1, 1, 0, 4)]


@pytest.mark.parametrize(("size", "stride", "padding", "groups"), CASES)
def test_values(size, stride, padding, groups):
    draw = np.random.default_rng(0)
    x = draw.normal(size=(2, 9, 8, 4)).astype(np.float32)
    kernel = draw.normal(size=(*pair(size), 4 // groups, 8)).astype(np.float32)
    expected = by_hand(x, kernel, stride, padding, groups)
    assert np.allclose(conv2d(jnp.array(x), jnp.array(kernel), stride, padding, groups), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "padding", "groups", "dilation"), [(3, 2, 1, 2), ((1, 3), (0, 1), 2, 3), (2, 0, 1, 4)]
)
def test_filters_with_holes(size, padding, groups, dilation):
    """A dilated filter is a larger one with zeros between its weights."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(2, 9, 10, 4)).astype(np.float32)
    kernel = draw.normal(size=(*pair(size), 4 // groups, 6)).astype(np.float32)
    wide = np.zeros((*((k - 1) * dilation + 1 for k in pair(size)), *kernel.shape[2:]), np.float32)
    wide[::dilation, ::dilation] = kernel
    expected = by_hand(x, wide, 1, padding, groups)
    found = conv2d(jnp.array(x), jnp.array(kernel), 1, padding, groups, dilation)
    assert found.shape == expected.shape
    assert np.allclose(found, expected, atol=1e-5)


def test_the_layer_adds_its_bias_and_names_its_parameters():
    layer = Conv(6, (3, 5), padding=(1, 2), groups=2, bias_init=jax.nn.initializers.ones)
    x = jax.random.normal(jax.random.key(0), (2, 7, 7, 4))
    variables = layer.init(jax.random.key(1), x)
    assert jax.tree.map(jnp.shape, variables["params"]) == {"kernel": (3, 5, 2, 6), "bias": (6,)}
    expected = by_hand(x, variables["params"]["kernel"], 1, (1, 2), 2) + 1
    assert np.allclose(layer.apply(variables, x), expected, atol=1e-5)
    assert "bias" not in Conv(6, 3, use_bias=False).init(jax.random.key(0), x)["params"]


def test_the_curve_detector_of_the_guide():
    """The 7×7 filter, 30 along a curve, against its two printed receptive fields: 6600 and 0."""
    curve, here, elsewhere = np.zeros((3, 7, 7))
    for row, column in [(0, 5), (1, 4), (2, 3), (3, 3), (4, 3), (5, 3)]:
        curve[row, column] = 30
    here[0, 6], here[1, 4:7], here[2, 3:5], here[3:7, 3:5] = 30, 50, (20, 50), 50
    elsewhere[1, 1], elsewhere[2, [0, 2]], elsewhere[3, :2] = 40, 40, (40, 20)
    elsewhere[4, 1], elsewhere[5, 2], elsewhere[6, [0, 1, 3]] = 50, 50, (25, 25, 50)
    kernel = jnp.array(curve, jnp.float32)[..., None, None]
    for seen, answer in ((here, 6600), (elsewhere, 0)):
        assert conv2d(jnp.array(seen, jnp.float32)[None, ..., None], kernel).item() == answer


def test_half_precision_computes_and_keeps_float32_parameters():
    layer = Conv(4, 3, dtype=jnp.bfloat16)
    y, variables = layer.init_with_output(jax.random.key(0), jnp.ones((1, 5, 5, 2)))
    assert y.dtype == jnp.bfloat16
    assert variables["params"]["kernel"].dtype == jnp.float32


def test_a_filter_that_does_not_fit_is_named():
    with pytest.raises(UserError, match=r"too small for layer .*: a filter of 7 is larger than the input of 5 \+ 2·0"):
        Conv(4, 7, name="conv1").init(jax.random.key(0), jnp.ones((1, 5, 5, 2)))
