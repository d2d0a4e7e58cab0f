"""A network that learns from labels alone: the measure of what another learnt without any.

Radford, Metz, Chintala 2015, section 5.2: beside the machine on the discriminator's features stands a network of the
same layers that learnt from scratch, from the same labelled examples.
"""

import flax.linen as nn
import jax
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key, PyTree

from cnnlab import parallel
from cnnlab.data import pipeline

BATCH = 64  # examples a step
EPOCHS = 10  # passes over the examples
LEAST = 300  # steps, where those passes are fewer
RATE = 1e-3  # Adam's at the first step; it falls to 0 along half a cosine


def supervised_error(
    model: nn.Module,
    train: Float[np.ndarray, "n h w c"],
    train_labels: Int[np.ndarray, " n"],
    test: Float[np.ndarray, "m h w c"],
    test_labels: Int[np.ndarray, " m"],
) -> float:
    """The test error, as a fraction, of a network after training from scratch.

    Args:
      model: gives a logit a class; called as the discriminators of `gan.py` and `dcgan.py` are.
      train, train_labels: what is learnt from; labels count from 0.
      test, test_labels: what is tested on.
    """
    size = min(BATCH, len(train))
    steps = max(LEAST, EPOCHS * len(train) // size)
    optimizer = optax.adam(optax.cosine_decay_schedule(RATE, steps))
    variables = dict(jax.jit(model.init)(jax.random.key(0), train[:1]))
    state = optimizer.init(variables["params"])

    def step(variables: PyTree, state: PyTree, x: Array, labels: Array, key: Key[Array, ""]) -> tuple[PyTree, PyTree]:
        params, rest = variables["params"], {kind: tree for kind, tree in variables.items() if kind != "params"}

        def loss(params: PyTree) -> tuple[Float[Array, ""], PyTree]:
            rngs = {"dropout": key}
            logits, moved = model.apply({"params": params, **rest}, x, train=True, mutable=list(rest), rngs=rngs)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), moved

        grads, moved = jax.grad(loss, has_aux=True)(params)
        updates, state = optimizer.update(grads, state)
        return {"params": optax.apply_updates(params, updates), **moved}, state

    learn = parallel.for_cpu(jax.jit(step, donate_argnums=(0, 1)))
    for n in range(steps):
        drawn = pipeline.batch_indices(0, n, size, len(train))
        variables, state = learn(variables, state, train[drawn], train_labels[drawn], jax.random.key(n))
    classify = parallel.for_cpu(jax.jit(lambda variables, x: model.apply(variables, x).argmax(-1)))
    found = [classify(variables, test[at : at + BATCH]) for at in range(0, len(test), BATCH)]
    return float(np.mean(np.concatenate(found) != test_labels))
