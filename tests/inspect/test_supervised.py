"""A net that learns from labels alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.inspect import supervised
from cnnlab.models import dcgan, gan

NETS = [dcgan.Discriminator((4, 8), hidden=8, outputs=3), gan.Discriminator((8, 8), 2, outputs=3, init_range=0.1)]


@pytest.mark.parametrize("model", NETS, ids=["dcgan", "gan"])
def test_it_learns_what_can_be_learnt(model, monkeypatch):
    """Where in the picture it is bright is learnt; labels that say nothing of the picture are not."""
    monkeypatch.setattr(supervised, "LEAST", 150)
    draw = np.random.default_rng(0)

    def examples(count):
        labels = draw.integers(0, 3, count)
        pictures = draw.normal(size=(count, 8, 9, 1), scale=0.3).astype(np.float32)
        for picture, label in zip(pictures, labels, strict=True):
            picture[:, 3 * label : 3 * label + 3] += 1
        return pictures, labels

    train, test = examples(60), examples(50)
    assert supervised.supervised_error(model, *train, *test) < 0.1
    shuffled = draw.permutation(test[1])
    assert supervised.supervised_error(model, *train, test[0], shuffled) > 0.4


@pytest.mark.parametrize("model", NETS, ids=["dcgan", "gan"])
def test_a_logit_a_class(model):
    x = jnp.ones((2, 8, 9, 1))
    logits, variables = model.init_with_output(jax.random.key(0), x)
    assert logits.shape == (2, 3)
    assert variables["params"]["output"]["kernel"].shape[-1] == 3
