"""Faster R-CNN on BCCD's photographs of blood cells, or on any folder as PASCAL VOC's: from scratch.

Paper: Ren, He, Girshick, Sun, "Faster R-CNN: towards real-time object detection with region proposal networks", 2015;
the net is that of faster_rcnn_shapes. BCCD has 364 microscope photographs with boxes of red cells, white cells and
platelets; two of its boxes have no area, which is said and they are left out.

Command: python launch.py --experiment=faster_rcnn_bccd --config.data=FOLDER
with the folder that holds Annotations, JPEGImages and ImageSets.

Expected: AP50 of at least 0.70 on the 72 test photographs after at most 60 minutes on two cores.

Measured: AP50 0.913, AP 0.583 on the 72 test photographs, trained on the other 292 (seed 0); 19 min on two CPU cores
that were busy with other work too (jax 0.10.2). After 200 of the 600 steps AP50 was 0.898. 2026-11-21.
"""

import functools

from ml_collections import ConfigDict

from cnnlab import parallel
from cnnlab.data.augment import compose, horizontal_flip, vertical_flip
from cnnlab.experiment import Experiment
from cnnlab.models.detectors import small
from cnnlab.models.faster_rcnn import FasterRCNN
from cnnlab.recipes.detection import assemble
from experiments import faster_rcnn_shapes


def get_config() -> ConfigDict:
    """The fields that `--config.field=value` overrides."""
    config = faster_rcnn_shapes.get_config()
    config.data = "BCCD"  # the folder
    config.objects = 0  # of a picture at most, what boxes are padded to; 0: as many as the fullest has
    config.shorter = 256  # pixels of a picture's shorter side once it is resized: 341×256 of BCCD's 640×480
    config.longer = 400  # pixels of its longer side at most
    config.batch_size = 8  # pictures, of all devices together, which must divide it
    config.eval_batch_size = 8  # likewise
    config.steps = 600  # in the whole run
    config.rules.anchors = 256  # of a picture that the RPN learns from in a step
    config.rules.regions = 128  # of a picture that the head learns from in a step
    config.rules.overlap = 0.4  # IoU above which the less probable of two findings goes: cells overlap
    config.eval_every = 200  # steps between tests
    config.checkpoint_every = 100  # steps between checkpoints
    return config


def build(config: ConfigDict) -> Experiment:
    """The run that the configuration describes."""
    # Cells have neither an up nor a left.
    augment = compose(horizontal_flip, vertical_flip)
    net = functools.partial(small, FasterRCNN, axis_name=parallel.AXIS if config.sync_norm else None)
    return assemble(config, "faster_rcnn_bccd", net, augment=augment)
