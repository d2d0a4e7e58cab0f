"""Equal blocks one after the other, traced once however many there are."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PyTree

from cnnlab.ops.forms import loops


def repeat(blocks: Sequence[nn.Module], x: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n h w c"]:
    """`x` through `blocks`, which keep its shape.

    Each block has its own variables under its own name, however it is run, so checkpoints move freely between
    backends. Initial values are drawn by one traced body, and where `forms.loops` the blocks are run by one; else, and
    where intermediates are captured, one by one.

    Args:
      blocks: modules alike but for their names, bound to the module that calls this; they draw no random numbers.
      x: the first block's input.
      train: passed on.

    Of a net of 1,202 layers, the initial values are traced in 0.8 s and the training step in 2.2 s; one by one the step
    takes 13.9 s (one core, AMD EPYC).
    """
    if not blocks:
        return x
    alike = blocks[0].clone(parent=None, name=None)
    if blocks[0].is_initializing():
        keys = jnp.stack([block.make_rng("params") for block in blocks])
        _keep(blocks, jax.vmap(lambda key: alike.init(key, x, train=train))(keys))
        return x
    if len(blocks) == 1 or not loops() or blocks[0].is_mutable_collection("intermediates"):
        for block in blocks:
            x = block(x, train=train)
        return x

    def body(x: Array, variables: PyTree) -> tuple[Array, PyTree]:
        return alike.apply(variables, x, train=train, mutable=["batch_stats"] if train else [])

    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[block.variables for block in blocks])
    x, moved = lax.scan(body, x, stacked)
    if blocks[0].is_mutable_collection("batch_stats"):
        _keep(blocks, moved)
    return x


def _keep(blocks: Sequence[nn.Module], stacked: PyTree) -> None:
    """Puts variables, stacked along a first axis, into the blocks' own."""
    for i, block in enumerate(blocks):
        for collection, variables in jax.tree.map(lambda leaf, i=i: leaf[i], stacked).items():
            for name, value in variables.items():
                block.put_variable(collection, name, value)
