"""FCN-32s, 16s and 8s in stages, from scratch, on shapes that are drawn on the spot.

Paper: Long, Shelhamer, Darrell, "Fully convolutional networks for semantic segmentation", 2015, section 4. Here on a
ResNet-18 of half its width with batch normalisation in place of VGG-16, which would have to begin with ImageNet's
weights, and the rate of Adam falling to 0 in each stage.
  fcn32s   scores every 32 pixels, interpolated;
  fcn16s   begins with it, and adds scores of the maps of every 16 pixels;
  fcn8s    begins with that, and adds those of every 8.

Command: python launch.py --experiment=fcn_shapes
then, of the last: --workdir=runs/fcn_shapes/fcn8s --mode=eval, or --mode=predict --input=PICTURES

Expected: mean IoU of 8s at least 0.90, and 32s < 16s < 8s as in the paper, each in 10 minutes of two cores.

Measured: mean IoU 74.6 % (32s), 85.3 % (16s) and 90.6 % (8s) on 500 test pictures of 192×192 (seed 0). A step takes
317 ms on two CPU cores (--mode=benchmark), so a stage 9 min; these runs shared them with others and took two to three
times that. With 1,000 steps a stage: 71.9, 82.9 and 88.7 %. Pictures of 128×128 and 2,000 steps a stage: 65.9, 79.8
and, after 1,000 of the steps, 85.9. What scores every 8 pixels can give at all, fitted to the labels of 16 pictures:
98.3 % at 192×192, 96.5 % at 128×128. 2026-11-22.
"""

import functools

from ml_collections import ConfigDict

from cnnlab import parallel
from cnnlab.experiment import Experiment
from cnnlab.models.segmenters import small
from cnnlab.recipes.segmentation import in_stages, segmentation_fields
from cnnlab.series import Series


def get_config() -> ConfigDict:
    """The fields that `--config.field=value` overrides; those not named here: `recipes/segmentation.py`."""
    config = segmentation_fields()
    config.member = ""  # which of the three runs; "": all in turn
    config.data = "shapes"  # drawn on the spot; or a folder as PASCAL VOC's or COCO's, or of pictures and masks
    config.longer = 192  # pixels of a drawing's side
    config.width = 32  # maps of the first stage of the ResNet
    config.batch_size = 16  # pictures, of all devices together, which must divide it
    config.eval_batch_size = 50  # likewise
    config.steps = 1700  # of each run
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
