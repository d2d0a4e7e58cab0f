"""Road finders: parameters and multiply-adds by hand, tied and untied."""

import jax
import jax.numpy as jnp
import pytest

from cnnlab import summary
from cnnlab.errors import UserError
from cnnlab.models.road_net import RoadNet
from tests.small import count

HEAD = (6 * 6 * 48 * 512 + 512) + (512 * 256 + 256)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("untied", 14 * 14 * (432 * 32 + 32) + 6 * 6 * (512 * 48 + 48) + HEAD),
        ("convolutional", (432 * 32 + 32) + (512 * 48 + 48) + HEAD),
    ],
)
def test_parameters_and_maps(kind, expected):
    net, x = RoadNet(kind), jax.ShapeDtypeStruct((3, 64, 64, 3), jnp.float32)
    variables = jax.eval_shape(lambda x: net.init(jax.random.key(0), x, train=True), x)
    assert count(variables["params"]) == expected
    maps = {row.name: row.output_shape for row in summary.summarize(net, x.shape)}
    assert maps == {"fields1": (1, 14, 14, 32), "fields2": (1, 6, 6, 48), "hidden": (1, 512), "labels": (1, 256)}
    assert jax.eval_shape(lambda v, x: net.apply(v, x, train=False), variables, x).shape == (3, 16, 16, 1)


def test_both_kinds_take_as_many_multiply_adds():
    costs = [
        sum(row.multiply_adds for row in summary.summarize(RoadNet(k), (1, 64, 64, 3)))
        for k in ("untied", "convolutional")
    ]
    assert costs[0] == costs[1] == 196 * 432 * 32 + 36 * 512 * 48 + 1728 * 512 + 512 * 256


def test_what_it_refuses():
    with pytest.raises(UserError, match=r'config\.net is "dense"; it must be untied or convolutional'):
        RoadNet("dense").init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)), train=False)
    with pytest.raises(UserError, match="a patch is 32×32; the net's are 64×64"):
        RoadNet().init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False)
