"""Faster R-CNN on PASCAL VOC 2007, as in the paper: VGG-16, ZF Net or ResNet-50, from ImageNet.

Paper: Ren, He, Girshick, Sun, "Faster R-CNN: towards real-time object detection with region proposal networks", 2015;
approximate joint training (section 3.2). --config.data=FOLDER takes a folder as PASCAL VOC's or COCO's.

Command: python launch.py --experiment=faster_rcnn_voc --config.init_from=WEIGHTS
WEIGHTS being a classifier's: published ones of VGG-16 or ResNet-50, a file or a hub id, or the workdir of a run of
vgg_imagenet, zfnet_imagenet or resnet_imagenet.

Expected: the paper's 69.9 % AP (11 points) with VGG-16, 59.9 % with ZF Net; days on two cores, hours on a GPU.

Measured: the run was not made.
"""

from ml_collections import ConfigDict

from cnnlab.errors import UserError
from cnnlab.experiment import Experiment
from cnnlab.models import detectors
from cnnlab.models.faster_rcnn import FasterRCNN
from cnnlab.recipes.detection import assemble, detection_fields

NETS = ("vgg16", "zf", "resnet50", "resnet50_fpn")


def get_config() -> ConfigDict:
    """The fields that `--config.field=value` overrides."""
    config = detection_fields()
    config.net = "vgg16"  # or "zf"; or "resnet50", "resnet50_fpn", which come after the paper
    config.freeze = "backbone/conv1_*,backbone/conv2_*"  # as in the paper, of VGG-16; with other nets "backbone/conv1"
    config.decay_all = False  # weight decay falls on filters and matrices only
    return config


def build(config: ConfigDict) -> Experiment:
    """The run that the configuration describes."""
    if config.net not in NETS:
        raise UserError(f'config.net is "{config.net}"; it must be one of {", ".join(NETS)}')

    def model(num_classes: int, **fields):
        return getattr(detectors, config.net)(FasterRCNN, num_classes, **fields)

    return assemble(config, "faster_rcnn_voc", model)
