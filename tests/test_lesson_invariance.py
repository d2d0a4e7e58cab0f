"""The lesson on pooling: what a test says of shifted digits, against pictures shifted beforehand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.errors import UserError
from cnnlab.rngs import stream_key
from experiments import lesson_invariance

COUNT = 12
WAYS = [(0, 1), (1, 0), (0, -1), (-1, 0)]  # down, right: of examples 0, 1, 2 and 3


def config_with(**fields):
    config = lesson_invariance.get_config()
    config.update({"maps": (4, 4), "shifts": (3, 4), **fields})
    return config


@functools.cache
def made(pooling):
    """The task, a fresh state, a batch, and the compiled evaluation."""
    experiment = lesson_invariance.build(config_with(member=f"{pooling}_0"))
    batch = experiment.test_data().batch(np.arange(COUNT))
    batch = {**batch, "mask": np.ones(COUNT, np.float32), "index": np.arange(COUNT)}
    state = jax.jit(experiment.task.init)(stream_key(0, "init"), batch)
    return experiment.task, state, batch, jax.jit(experiment.task.eval_step)


@functools.cache
def evaluated(pooling):
    """The task, and the outputs of a fresh net's evaluation."""
    task, state, batch, step = made(pooling)
    return task, jax.device_get(step(state, batch))


@pytest.mark.parametrize("pooling", ["none", "max"])
@pytest.mark.parametrize("shift", [3, 4])
def test_wrong_as_on_pictures_that_were_shifted(pooling, shift):
    """The labels are what the net itself says of the shifted pictures: nothing is wrong, if they are shifted alike."""
    task, state, batch, step = made(pooling)
    x = np.asarray(task.preprocess(jnp.asarray(batch["image"])))
    moved = np.stack([np.roll(x[i], shift * np.array(WAYS[i % 4]), (0, 1)) for i in range(COUNT)])
    logits = jax.jit(lambda x: task.model.apply(state.variables, x))(jnp.asarray(moved))
    own = {**batch, "label": np.argmax(logits, -1).astype(np.int32)}
    assert not step(state, own)["shifted"][shift]["wrong"].any()
    # Two examples on, the directions are the opposite ones: the net must say other things then, or it tells nothing.
    assert step(state, {**own, "index": own["index"] + 2})["shifted"][shift]["wrong"].any()


@pytest.mark.parametrize("pooling", ["none", "average", "max"])
def test_maps_move_along_by_the_product_of_the_strides(pooling):
    task, outputs = evaluated(pooling)
    metrics = task.metrics()
    metrics.add(outputs)
    scores = metrics.compute()
    assert scores["shift4_equivariance"] < 1e-5
    assert 0.05 < scores["shift3_equivariance"] < scores["shift3_invariance"]


def test_padding_of_a_batch_counts_for_nothing():
    task, outputs = evaluated("max")
    once, masked = task.metrics(), task.metrics()
    once.add(jax.tree.map(lambda x: x[:5], outputs))
    masked.add({**outputs, "mask": (np.arange(COUNT) < 5).astype(np.float32)})
    assert masked.compute() == once.compute()
    assert once.compute()["shift3_error"] == outputs["shifted"][3]["wrong"][:5].mean()


def test_what_cannot_be():
    for fields, said in (
        ({"runs": 0}, r"config\.runs is 0 and config\.digit 14: there must be at least one run"),
        ({"digit": 30}, r"digits of 8 to 26 pixels"),
        ({"shifts": (3, 8)}, r"config\.shifts is \(3, 8\): it must hold one or more from 1 to 7, which leave a digit"),
        ({"shifts": (0,)}, r"config\.shifts is \(0,\)"),
        ({"member": "mean_0"}, r"lesson_invariance has no member 'mean_0'"),
    ):
        with pytest.raises(UserError, match=said):
            lesson_invariance.build(config_with(**fields))


def test_a_figure_of_what_was_measured():
    rows = [{"step": 9, "split": "test", "error": 0.1, "shift3_error": 0.5, "shift4_error": 0.75}]
    rows[0] |= {f"shift{shift}_{name}": 0.25 for shift in (3, 4) for name in lesson_invariance.MEASURES}
    drawn = lesson_invariance.figure({f"{kind}_0": rows for kind in lesson_invariance.KINDS}, [3, 4])
    accuracy, moves, _ = drawn.axes
    assert accuracy.lines[1].get_ydata().tolist() == [90, 50, 25]
    assert moves.lines[1].get_xdata().tolist() == [0, 3, 4]
    assert moves.lines[1].get_ydata().tolist() == [0, 0.25, 0.25]
