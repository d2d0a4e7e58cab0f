"""Faster R-CNN in four steps, as its paper trained it, on shapes that are drawn on the spot.

Paper: Ren, He, Girshick, Sun, "Faster R-CNN: towards real-time object detection with region proposal networks", 2015,
section 3.2, "4-step alternating training". The net is that of faster_rcnn_shapes, which learns all at once.
  rpn1   learns to propose;
  fast1  a net of its own learns the classes in rpn1's proposals;
  rpn2   fast1's layers stay as they are, and proposals are learnt on them;
  fast2  on the same layers the classes are learnt anew, in these proposals: the whole, one net.

Command: python launch.py --experiment=faster_rcnn_alternating
then, of the whole: --workdir=runs/faster_rcnn_alternating/fast2 --mode=eval, or --mode=predict --input=PICTURES

Expected: about what faster_rcnn_shapes has, for more steps. (The AP50 of rpn1 and rpn2 is of "an object or not".)

Measured: AP50 0.903 and AP 0.679 of fast2 on 500 test pictures (seed 0), after 0.901 and 0.666 of fast1; of "an object
or not" rpn1 0.737, rpn2 0.691. faster_rcnn_shapes has 0.931 and 0.730, of all pictures and in half the steps. About
25 min on two CPU cores that other trainings shared. 2026-11-21.
"""

import dataclasses
import functools
from pathlib import Path

from ml_collections import ConfigDict

from cnnlab import loop, parallel, series
from cnnlab.experiment import Experiment
from cnnlab.figures import curves
from cnnlab.models.detectors import small
from cnnlab.models.faster_rcnn import FasterRCNN
from cnnlab.recipes.detection import assemble, with_proposals_of
from cnnlab.series import Series
from cnnlab.state import TrainState
from experiments import faster_rcnn_shapes

NAME = "faster_rcnn_alternating"
MEMBERS = ("rpn1", "fast1", "rpn2", "fast2")
FROZEN = {"rpn2": "backbone,neck", "fast2": "backbone,neck,rpn"}  # what the steps share stays as it is


def get_config() -> ConfigDict:
    """The fields that `--config.field=value` overrides; those not named here: faster_rcnn_shapes.py."""
    config = faster_rcnn_shapes.get_config()
    config.member = ""  # which of the four runs; "": all in turn
    config.train_pictures = 4000  # the first so many are learnt from; 0: all
    config.steps = 800  # of each run
    config.eval_every = 400  # steps between tests
    config.checkpoint_every = 100  # steps between checkpoints
    return config


def build(config: ConfigDict) -> Series | Experiment:
    """The runs that the configuration describes."""
    net = functools.partial(small, FasterRCNN, axis_name=parallel.AXIS if config.sync_norm else None)

    def make(member: str) -> Experiment:
        own = config.copy_and_resolve_references()
        own.freeze = FROZEN.get(member, config.freeze)
        proposes = member.startswith("rpn")
        return assemble(own, NAME, net, learn_proposals=proposes, learn_classes=not proposes)

    def first(member: str, earlier: str, folder: Path) -> TrainState:
        return loop.initial_state(dataclasses.replace(make(member), init_from=str(folder / earlier)))

    def given(experiment: Experiment, folder: Path) -> Experiment:
        return with_proposals_of(make("rpn1"), folder / "rpn1", experiment)

    def draw(rows):
        return {f"curves_{member}": curves(rows[member]) for member in MEMBERS}

    begins = {"rpn2": functools.partial(first, "rpn2", "fast1"), "fast2": functools.partial(first, "fast2", "rpn2")}
    return series.assemble(config, NAME, MEMBERS, make, draw, first=begins, given={"fast1": given})
