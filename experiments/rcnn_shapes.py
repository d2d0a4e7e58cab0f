"""R-CNN on shapes that are drawn on the spot: fine-tuned net, SVMs, box regression in turn.

Paper: Girshick, Donahue, Darrell, Malik, "Rich feature hierarchies for accurate object detection and semantic
segmentation", 2013. Here with a ResNet-18 of a quarter of its width on regions of 64×64 instead of AlexNet on 227×227,
which would have to begin with ImageNet's weights, and so trained from scratch.

Command: python launch.py --experiment=rcnn_shapes
then, of the whole: --workdir=runs/rcnn_shapes/judges --mode=eval, or --mode=predict --input=PICTURES

Expected: the slowest detector of the three by far, as every region is convolved by itself; needs
pip install -e '.[detection]'.

Measured: on 500 test pictures, learnt from 1,000 (seed 0): by the softmax of fine-tuning AP50 0.882, AP 0.628; by SVMs
and with box regression AP50 0.884, AP 0.641; 21 min on two CPU cores that were busy with other work too.

The three of them, a picture of 128×128 on these cores, in turn, medians of seven (2026-11-21):
                  AP50 (training pictures)   search    network   training
R-CNN             0.884 (1,000)              0.058 s   0.201 s   21 min
Fast R-CNN        0.920 (2,000)              0.058 s   0.060 s   18 min
Faster R-CNN      0.931 (20,000)                 –     0.019 s   17 min
"""

import dataclasses
import functools
from pathlib import Path

from ml_collections import ConfigDict

from cnnlab import series
from cnnlab.experiment import Experiment
from cnnlab.figures import curves
from cnnlab.models.rcnn import RCNN
from cnnlab.models.resnet import ResNet
from cnnlab.recipes.detection import assemble, detection_fields, judged, search_fields
from cnnlab.series import Series
from cnnlab.tasks.rcnn import CODE, RCNNDetection

MEMBERS = ("finetune", "judges")  # the net learns by a softmax; SVMs and box regressions on its features


def get_config() -> ConfigDict:
    """The fields that `--config.field=value` overrides."""
    config = detection_fields()
    config.member = ""  # which of the two runs; "": both in turn
    config.data = "shapes"  # drawn on the spot; or a folder as PASCAL VOC's or COCO's
    config.train_pictures = 1000  # the first so many are searched for proposals and learnt from; 0: all
    config.objects = 8  # of a picture at most: what boxes are padded to
    config.shorter = 128  # pixels of a picture's shorter side once it is resized
    config.longer = 128  # pixels of its longer side at most
    config.update(search_fields())
    config.proposals = 300  # of a picture at most, the first that selective search gives
    config.size = 64  # pixels that regions are warped to
    config.context = 5  # of them at each side show what is around the region
    config.width = 16  # maps of the net's first stage
    config.batch_size = 16  # pictures, of all devices together, which must divide it
    config.eval_batch_size = 10  # likewise
    config.steps = 800  # of fine-tuning
    config.optimizer = "adam"  # its rate falling to 0 along a cosine
    config.learning_rate = 1e-3  # at the first step
    config.clip_norm = 10.0  # gradients of a greater norm are scaled down to it
    config.rules.regions = 16  # of a picture that a step learns from
    config.rules.code = CODE  # of the regressions' targets
    config.eval_every = 800  # steps between tests
    config.checkpoint_every = 200  # steps between checkpoints
    return config


def build(config: ConfigDict) -> Series | Experiment:
    """The runs that the configuration describes."""

    def make(member: str) -> Experiment:
        def model(num_classes: int, **fields) -> RCNN:
            net = ResNet(18, width=config.width, maps=("conv5",), **fields)
            return RCNN(num_classes, net, config.size, config.context, **fields)

        task = functools.partial(RCNNDetection, by_softmax=member == "finetune")
        experiment = assemble(config, "rcnn_shapes", model, task)
        return experiment if member == "finetune" else dataclasses.replace(experiment, steps=config.steps + 1)

    def first(folder: Path):
        return judged(make("finetune"), folder / "finetune", config.steps + 1)

    def draw(rows):
        return {"curves": curves(rows["finetune"])}

    return series.assemble(config, "rcnn_shapes", MEMBERS, make, draw, first={"judges": first})
