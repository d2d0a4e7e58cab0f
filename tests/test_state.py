"""The training state."""

import jax.numpy as jnp

from cnnlab.state import TrainState


def test_variables_and_counts():
    stats = {"batch_stats": {"mean": jnp.zeros(3)}}
    state = TrainState(jnp.int32(0), {"w": jnp.zeros((2, 3)), "b": jnp.zeros(3)}, stats, ())
    assert state.variables == {"params": state.params, **stats}
    assert state.parameter_count() == 9
