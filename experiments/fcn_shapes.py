"""Fully convolutional networks on shapes that are drawn on the spot: FCN-32s, 16s and 8s from scratch, in stages.

Paper: Long, Shelhamer, Darrell, "Fully convolutional networks for semantic segmentation", 2015, section 4. Here on a
ResNet-18 of half its width with batch normalisation in place of VGG-16, which would have to begin with ImageNet's
weights, and the rate of Adam falling to 0 in each stage.
  fcn32s   scores every 32 pixels, interpolated;
  fcn16s   begins with it, and adds scores of the maps of every 16 pixels;
  fcn8s    begins with that, and adds those of every 8.

Command: python launch.py --experiment=fcn_shapes
then, of the last: --workdir=runs/fcn_shapes/fcn8s --mode=eval, or --mode=predict --input=PICTURES

Expected: mean IoU of 8s at least 0.90, and 32s < 16s < 8s as in the paper, each in 10 minutes of two cores.

Measured: the run was not made.
"""

import functools

from ml_collections import ConfigDict

from cnnlab import parallel
from cnnlab.experiment import Experiment
from cnnlab.models.segmenters import small
from cnnlab.segmentation_recipes import in_stages, segmentation_fields
from cnnlab.series import Series


def get_config() -> ConfigDict:
    """The fields that `--config.field=value` overrides; those not named here: `segmentation_recipes.py`."""
    config = segmentation_fields()
    config.member = ""  # which of the three runs; "": all in turn
    config.data = "shapes"  # drawn on the spot; or a folder as PASCAL VOC's or COCO's, or of pictures and masks
    config.longer = 192  # pixels of a drawing's side
    config.width = 32  # maps of the first stage of the ResNet
    config.batch_size = 16  # pictures, of all devices together, which must divide it
    config.eval_batch_size = 50  # likewise
    config.steps = 1000  # of each run
    config.sync_norm = True  # batch normalisation over all devices, so that their number changes nothing
    config.optimizer = "adam"  # its rate falling to 0 along a cosine
    config.learning_rate = 1e-3  # at the first step
    config.clip_norm = 10.0  # gradients of a greater norm are scaled down to it
    config.average = 0.99  # decay of a moving average of the weights, used in testing
    config.eval_every = 250  # steps between tests
    config.checkpoint_every = 200  # steps between checkpoints
    return config


def build(config: ConfigDict) -> Series | Experiment:
    """The runs that the configuration describes."""
    net = functools.partial(small, width=config.width, axis_name=parallel.AXIS if config.sync_norm else None)
    return in_stages(config, "fcn_shapes", net)
