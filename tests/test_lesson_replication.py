"""The lesson on replicated features: tied copies follow the convolution's trajectory, on any number of devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab import parallel
from cnnlab.data.digits import digits
from cnnlab.errors import UserError
from cnnlab.rngs import stream_key
from experiments import lesson_replication
from tests.small import same

STEPS = 6


def run_of(kind, **fields):
    config = lesson_replication.get_config()
    config.update({"maps": (3, 4), "member": kind, **fields})
    return lesson_replication.build(config)


@functools.cache
def batch_of(number, size=16):
    batch = digits("train", 8).batch(size * number + np.arange(size))
    return {**{name: jnp.asarray(x) for name, x in batch.items()}, "position": jnp.arange(size)}


@functools.cache
def trajectory(kind):
    """The parameters before the first step and after each, and the metrics of each."""
    task = run_of(kind).task
    state, found = jax.jit(task.init)(stream_key(0, "init"), batch_of(0)), []
    step = jax.jit(functools.partial(task.train_step, reduce=parallel.identity))
    first = jax.device_get(state.params)
    for number in range(STEPS):
        state, metrics = step(state, batch_of(number), stream_key(0, "train"))
        found.append(jax.device_get((state.params, metrics)))
    return first, found


def first_places(params):
    """A net of copies' parameters as the convolution's, those of the first place; all must be equal to it."""
    found = {"fc": params["fc"]}
    for name, maps in (("conv1", 1), ("conv2", 3)):
        kernel, bias = params[name]["kernel"], params[name]["bias"]
        for leaf in (kernel, bias):
            assert np.array_equal(leaf, np.broadcast_to(leaf[0, 0], leaf.shape))
        found[name] = {"kernel": kernel[0, 0].reshape(3, 3, maps, -1), "bias": bias[0, 0]}
    return found


def test_tied_copies_follow_the_convolution():
    (shared, all_shared), (copies, all_copies) = trajectory("convolution"), trajectory("tied")
    assert same(first_places(copies), dict(sorted(shared.items())))
    for (params, metrics), (others, theirs) in zip(all_copies, all_shared, strict=True):
        assert metrics["apart"] == 0
        assert metrics["loss"] == pytest.approx(theirs["loss"], abs=1e-5)
        pairs = zip(jax.tree.leaves(first_places(params)), jax.tree.leaves(others), strict=True)
        assert max(np.abs(one - other).max() for one, other in pairs) < 1e-5
    assert np.abs(all_shared[-1][0]["conv1"]["kernel"] - shared["conv1"]["kernel"]).max() > 0.01  # it has learnt
    assert "apart" not in all_shared[0][1]


def test_without_ties_they_drift_apart():
    first, found = trajectory("untied")
    assert same(first, trajectory("tied")[0])
    distances = [float(metrics["apart"]) for _, metrics in found]
    assert 0 < distances[0] < distances[-1]
    kernel = found[-1][0]["conv1"]["kernel"]
    assert distances[-1] >= np.max(kernel.max((0, 1)) - kernel.min((0, 1))) > 0.01


def test_one_and_four_devices_agree():
    task = run_of("tied").task
    batch, key = batch_of(0), stream_key(0, "train")
    state = jax.jit(task.init)(stream_key(0, "init"), batch)
    whole, metrics = jax.jit(functools.partial(task.train_step, reduce=parallel.identity))(state, batch, key)
    shared = jax.tree.map(lambda x: x.reshape(4, 4, *x.shape[1:]), batch)
    step = functools.partial(task.train_step, reduce=lambda tree: jax.lax.pmean(tree, parallel.AXIS))
    four = jax.jit(jax.vmap(step, axis_name=parallel.AXIS, in_axes=(None, 0, None)))(state, shared, key)
    first = jax.tree.map(lambda x: x[0], four)
    pairs = zip(jax.tree.leaves((whole.params, metrics)), jax.tree.leaves((first[0].params, first[1])), strict=True)
    assert max(float(jnp.abs(one - other).max()) for one, other in pairs) < 1e-5
    assert float(first[1]["apart"]) == 0


def test_how_gradients_are_combined():
    with pytest.raises(UserError, match=r'combined by "average"; it must be "sum" or "mean"'):
        run_of("tied", combine="average")
    with pytest.raises(UserError, match=r"lesson_replication has no member 'tide'; did you mean tied or untied\?"):
        run_of("tide")
