"""Checkpoints: whole, verified, the last few and the best."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnlab.checkpoint import Checkpoints, digest
from cnnlab.errors import UserError
from cnnlab.state import TrainState
from tests.small import same


def make_state(value: float, shape=(40, 30)) -> TrainState:
    params = {"C1": {"kernel": jnp.full(shape, value) + jnp.arange(shape[-1])}}
    return TrainState(jnp.int32(value), params, {}, optax.adam(1e-3).init(params))


TEMPLATE = jax.eval_shape(lambda: make_state(0.0))


def test_what_was_saved_comes_back(tmp_path):
    checkpoints = Checkpoints(tmp_path / "c")
    checkpoints.save(3, make_state(3.0), [{"loss": 0.1}])
    checkpoints.finish()
    restored = checkpoints.restore(TEMPLATE)
    assert same(restored.state, make_state(3.0))
    assert restored.pending == [{"loss": 0.1}]
    checkpoints.close()


def test_nothing_there(tmp_path):
    assert Checkpoints(tmp_path / "c").restore(TEMPLATE) is None
    assert not (tmp_path / "c").exists()


def test_the_last_and_the_best_stay_also_over_restarts(tmp_path):
    errors = {1: 0.5, 2: 0.1, 3: 0.3, 4: 0.4, 5: None, 6: 0.2}
    for step, error in errors.items():
        checkpoints = Checkpoints(tmp_path, keep=2)
        checkpoints.save(step, make_state(float(step)), [], {"error": error} if error else None)
        checkpoints.finish()
        checkpoints.close()
    assert Checkpoints(tmp_path).steps() == [2, 5, 6]
    assert int(Checkpoints(tmp_path).restore(TEMPLATE, "best").state.step) == 2
    assert int(Checkpoints(tmp_path).restore(TEMPLATE, "latest").state.step) == 6


def test_scores_that_come_later_are_added(tmp_path):
    """A checkpoint written on a signal has no scores; the resumed run saves the same step with them."""
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, make_state(1.0), [])
    checkpoints.save(1, make_state(1.0), [], {"error": 0.1})
    checkpoints.save(2, make_state(2.0), [], {"error": 0.2})
    checkpoints.finish()
    assert int(checkpoints.restore(TEMPLATE, "best").state.step) == 1
    checkpoints.close()


def damage_flip(folder):
    file = max((f for f in (folder / "state").rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    file.write_bytes(data)


def damage_truncate(folder):
    file = max((f for f in (folder / "state").rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)
    file.write_bytes(file.read_bytes()[:50])


def damage_note(folder):
    (folder / "note" / "metadata").write_text("{")


def damage_missing(folder):
    for file in (folder / "state").rglob("*"):
        if file.is_file():
            file.unlink()


@pytest.mark.parametrize("damage", [damage_flip, damage_truncate, damage_note, damage_missing])
def test_a_damaged_one_is_named_and_the_one_before_it_used(tmp_path, capfd, damage):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        checkpoints.save(step, make_state(float(step)), [])
    checkpoints.finish()
    checkpoints.close()
    damage(tmp_path / "2")
    beside = Checkpoints(tmp_path)
    assert int(beside.restore(TEMPLATE).state.step) == 1
    assert "checkpoint 2 is damaged" in capfd.readouterr().err
    assert (tmp_path / "2").is_dir(), "what only reads moves nothing"
    beside.close()
    checkpoints = Checkpoints(tmp_path, owns=True)
    assert int(checkpoints.restore(TEMPLATE).state.step) == 1
    assert "checkpoint 2 is damaged" in capfd.readouterr().err
    assert (tmp_path / "damaged-2").is_dir()
    checkpoints.save(2, make_state(2.0), [])
    checkpoints.finish()
    assert int(checkpoints.restore(TEMPLATE).state.step) == 2
    checkpoints.close()


def test_an_unfinished_write_is_no_checkpoint(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, make_state(1.0), [])
    checkpoints.finish()
    checkpoints.close()
    (tmp_path / "2.orbax-checkpoint-tmp").mkdir()
    assert Checkpoints(tmp_path).steps() == [1]
    assert int(Checkpoints(tmp_path).restore(TEMPLATE).state.step) == 1
    assert (tmp_path / "2.orbax-checkpoint-tmp").is_dir(), "a trainer may be writing it just now"
    assert int(Checkpoints(tmp_path, owns=True).restore(TEMPLATE).state.step) == 1
    assert not (tmp_path / "2.orbax-checkpoint-tmp").exists()


def test_another_networks_state_is_refused_and_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, make_state(1.0), [])
    checkpoints.finish()
    with pytest.raises(UserError, match="another network's state"):
        checkpoints.restore(jax.eval_shape(lambda: make_state(0.0, (2, 3))))
    assert checkpoints.steps() == [1]
    checkpoints.close()


def test_a_state_that_is_not_finite_is_not_written(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(UserError, match="not finite after step 1"):
        checkpoints.save(1, make_state(1.0).replace(params={"w": jnp.array([0.0, jnp.nan])}), [])
    assert checkpoints.steps() == []


def test_what_is_saved_is_a_copy(tmp_path):
    """Training goes on, and reuses the state's memory, while the checkpoint is being written."""
    step = jax.jit(lambda state: jax.tree.map(lambda x: x + 1, state), donate_argnums=0)
    checkpoints = Checkpoints(tmp_path, keep=100)
    state, pending = make_state(0.0), []
    for n in range(20):
        checkpoints.save(n, state, pending)
        state = step(state)
        pending.append({"loss": float(n)})
    checkpoints.finish()
    found = checkpoints.restore(TEMPLATE)
    assert np.array_equal(found.state.params["C1"]["kernel"], np.full((40, 30), 19.0) + np.arange(30))
    assert found.pending == [{"loss": float(n)} for n in range(19)]
    checkpoints.close()


def test_digest_depends_on_every_byte():
    arrays = {"a": np.arange(4.0), "b": np.int32(1)}
    assert digest(arrays) == digest({"a": np.arange(4.0), "b": np.int32(1)})
    assert digest(arrays) != digest({"a": np.arange(4.0), "b": np.int32(2)})
    assert digest(arrays) != digest({"a": np.array([0.0, 1.0, 2.0, 3.0000000000000004]), "b": np.int32(1)})
