"""What detectors' recipes make of their data: a trained proposer's proposals lie with the pictures that they are of."""

import functools

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax

from cnnlab import loop
from cnnlab.data.shapes import ShapesSource
from cnnlab.experiment import Experiment
from cnnlab.recipes.detection import with_proposals_of
from cnnlab.state import TrainState
from cnnlab.tasks.detection import Detection, Rules

STATE = TrainState(jnp.zeros((), jnp.int32), {}, {}, ())
UNREADABLE = 1


class Numbered(Detection):
    """Proposes one box in each picture, as large as the picture's number and 1; the second row is no finding."""

    def eval_step(self, state, batch):
        side = batch["index"].astype(jnp.float32) + 1
        box = jnp.stack([jnp.zeros_like(side), jnp.zeros_like(side), side, side], -1)[:, None]
        predicted = jnp.tile(jnp.array([0, -1]), (len(side), 1))
        boxes = jnp.concatenate([box, jnp.zeros_like(box)], 1)
        return {"mask": batch["mask"], "index": batch["index"], "boxes": boxes, "predicted": predicted}


class OneUnreadable(ShapesSource):
    """Drawings of which one is as a file that cannot be read."""

    def batch(self, indices, canvas=None):
        return {**super().batch(indices, canvas), "mask": (indices != UNREADABLE).astype(np.float32)}


def test_proposals_stay_with_their_pictures_where_one_cannot_be_read(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "restored_state", lambda experiment, folder: STATE)
    task = Numbered(nn.Dense(1), optax.sgd(0.1), lambda x: x / 255, ("object",), Rules(train_proposals=3))
    sizes = {"batch_size": 2, "eval_batch_size": 2, "steps": 1, "log_every": 1, "eval_every": 1, "checkpoint_every": 1}
    data = functools.partial(OneUnreadable, "train", 5, 32, 2)
    proposer = Experiment("x", {}, task, data, data, (32, 32, 3), lambda path: None, seed=0, **sizes)
    source = with_proposals_of(proposer, tmp_path, proposer).train_data()
    expected = [[[0, 0, number + 1, number + 1]] for number in range(5)]
    expected[UNREADABLE] = []
    assert [own.tolist() for own in source.proposals] == expected
    assert source.batch(np.array([0, 1, 4]))["proposals"][:, 0, 2].tolist() == [1, 0, 5]
