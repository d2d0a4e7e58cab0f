"""FCN on your own pictures and masks: each pixel gets its class; from scratch or published weights.

Paper: Long, Shelhamer, Darrell, "Fully convolutional networks for semantic segmentation", 2015.

Command: python launch.py --experiment=fcn_folder --config.data=FOLDER
Data: FOLDER/images and FOLDER/masks, of which a fifth is held out; or these within train/ and within val/ or test/; or
train/ and train_labels/ with val/ and val_labels/, as CamVid comes. A mask is a PNG of its picture's name, or of that
and _more. Its pixels are colours, with a line name,r,g,b for each class in FOLDER/classes.csv (or class_dict.csv), or
class numbers, 255 for void; then the file's lines may be names alone, or there may be none. A class named void is not
learnt.
From published weights: --config.net=dilated_resnet50 --config.init_from=WEIGHTS, of a ResNet-50 or of torchvision's
fcn_resnet50, the latter with --config.replace_head.

Expected: what your masks allow; the paper has no such data.

Measured: on a folder laid out as CamVid's, of 24 drawings of 480×360, it trained, was tested and predicted; no figure,
as no such photographs could be had where this was written.
"""

import functools

from ml_collections import ConfigDict

from cnnlab import parallel
from cnnlab.errors import UserError
from cnnlab.experiment import Experiment
from cnnlab.models.segmenters import SEGMENTERS
from cnnlab.recipes.segmentation import assemble, segmentation_fields


def get_config() -> ConfigDict:
    """The fields that `--config.field=value` overrides; those not named here: `recipes/segmentation.py`."""
    config = segmentation_fields()
    config.net = "small"  # or "dilated_resnet50", "resnet50", "vgg16", "googlenet", "alexnet"; see models/segmenters.py
    config.finest = 8  # pixels between the finest maps that are judged: 32, 16 or 8
    config.batch_size = 8  # pictures, of all devices together, which must divide it
    config.eval_batch_size = 4  # likewise
    config.steps = 2000  # in the whole run
    config.sync_norm = True  # of "small": batch normalisation over all devices, so that their number changes nothing
    config.optimizer = "adam"  # its rate falling to 0 along a cosine
    config.learning_rate = 1e-3  # at the first step; 1e-4 with published weights
    config.clip_norm = 10.0  # gradients of a greater norm are scaled down to it
    config.average = 0.99  # decay of a moving average of the weights, used in testing
    config.eval_every = 500  # steps between tests
    config.checkpoint_every = 250  # steps between checkpoints
    return config


def build(config: ConfigDict) -> Experiment:
    """The run that the configuration describes.

    Raises:
      UserError: an unknown net.
    """
    if config.net not in SEGMENTERS:
        raise UserError(f'config.net is "{config.net}"; it must be one of {", ".join(SEGMENTERS)}')
    of_small = {"axis_name": parallel.AXIS} if config.net == "small" and config.sync_norm else {}
    return assemble(config, "fcn_folder", functools.partial(SEGMENTERS[config.net], finest=config.finest, **of_small))
