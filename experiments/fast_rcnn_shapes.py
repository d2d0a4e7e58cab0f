"""Fast R-CNN on shapes that are drawn on the spot, with selective search's proposals.

Paper: Girshick, "Fast R-CNN", 2015. Here with a ResNet-18 of half its width, batch normalisation and a feature pyramid
instead of VGG-16, which would have to begin with ImageNet's weights; the same net as in faster_rcnn_shapes but for the
region proposal network.

Command: python launch.py --experiment=fast_rcnn_shapes

Expected: slower to look for regions than to judge them, as in the paper; needs pip install -e '.[detection]'.

Measured: AP50 0.920, AP 0.726 on 500 test pictures, learnt from 2,000 (seed 0); 18 min on two CPU cores that were busy
with other work too, 3 of them searching 2,500 pictures (jax 0.10.2). 2026-11-21.
"""

import functools

from ml_collections import ConfigDict

from cnnlab import parallel
from cnnlab.experiment import Experiment
from cnnlab.models.detectors import small
from cnnlab.models.fast_rcnn import FastRCNN
from cnnlab.recipes.detection import assemble, search_fields
from experiments import faster_rcnn_shapes


def get_config() -> ConfigDict:
    """The fields that `--config.field=value` overrides."""
    config = faster_rcnn_shapes.get_config()
    config.update(search_fields())
    config.train_pictures = 2000  # the first so many are searched for proposals and learnt from; 0: all
    config.proposals = 300  # of a picture at most, the first that selective search gives
    config.rules.region_low = 0.1  # the least IoU of a region on the background with an object
    return config


def build(config: ConfigDict) -> Experiment:
    """The run that the configuration describes."""
    net = functools.partial(small, FastRCNN, axis_name=parallel.AXIS if config.sync_norm else None)
    return assemble(config, "fast_rcnn_shapes", net)
