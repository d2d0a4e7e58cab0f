"""A network that learns from labels alone: the measure of what another learnt without any.

Radford, Metz, Chintala 2015, section 5.2: beside the machine on the discriminator's features stands a network of the
same layers that learnt from scratch, from the same labelled examples.
"""

import functools

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Float, Int

from cnnlab import parallel
from cnnlab.data import pipeline
from cnnlab.data.source import ArraySource
from cnnlab.optim import adam_cosine
from cnnlab.tasks.classification import Classification

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
    task = Classification(model, adam_cosine(RATE, steps), preprocess=lambda x: x, class_names=())
    source = ArraySource({"image": train, "label": train_labels})
    state = jax.jit(task.init)(jax.random.key(0), {"image": train[:1]})
    step = functools.partial(task.train_step, reduce=parallel.identity)
    learn = parallel.for_cpu(jax.jit(step, donate_argnums=0))
    for n in range(steps):
        state, _ = learn(state, pipeline.train_batch(source, 0, n, size, slice(None)), jax.random.key(n))
    classify = parallel.for_cpu(jax.jit(lambda variables, x: model.apply(variables, x).argmax(-1)))
    found = [classify(state.variables, test[at : at + BATCH]) for at in range(0, len(test), BATCH)]
    return float(np.mean(np.concatenate(found) != test_labels))
