"""Faster R-CNN with ResNet-50 and a feature pyramid on COCO; torchvision's published weights fit.

Paper: Ren, He, Girshick, Sun, "Faster R-CNN", 2015, with Lin et al., "Feature pyramid networks for object detection",
2016. 41,755,286 parameters.

Command: python launch.py --experiment=faster_rcnn_coco --mode=predict --config.init_from=WEIGHTS --input=PICTURES
WEIGHTS being torchvision's file of fasterrcnn_resnet50_fpn (.pth), or the same as .safetensors. Without --mode it
trains: --config.epsilon=1e-5 --config.init_from=WEIGHTS_OF_RESNET50.

Expected: 37.0 % AP on COCO's val2017 with the published weights, says torchvision.

Measured: on random weights the same boxes and scores as torchvision 0.28, to 6e-5 pixels and 5e-6 (one picture of
384×320, 100 findings; 2026-11-21). Neither the published file nor COCO could be had where this was written.
"""

import functools

from ml_collections import ConfigDict

from cnnlab.experiment import Experiment
from cnnlab.models.detectors import resnet50_fpn
from cnnlab.models.faster_rcnn import FasterRCNN
from cnnlab.recipes.detection import assemble, detection_fields


def get_config() -> ConfigDict:
    """The fields that `--config.field=value` overrides."""
    config = detection_fields()
    config.data = "coco"  # of TFDS; or a folder as COCO's or PASCAL VOC's
    config.numbered = True  # classes are COCO's ids 1 to 90, gaps too, as in the published weights; else those of data
    config.epsilon = 0.0  # of batch normalisation, which is frozen: 0 in torchvision's weights of COCO, else 1e-5
    config.objects = 100  # of a picture at most: what boxes are padded to
    config.shorter = 800  # pixels of a picture's shorter side once it is resized
    config.longer = 1333  # pixels of its longer side at most
    config.batch_size = 16  # pictures, of all devices together, which must divide it
    config.steps = 90_000  # in the whole run
    config.learning_rate = 0.02  # at the first step
    config.drops = (60_000, 80_000)  # steps after which the rate is a tenth
    config.warm_up = 500  # steps in which the rate rises linearly from 0
    config.weight_decay = 1e-4  # L2 penalty
    config.freeze = "backbone/conv1,backbone/conv2_*"  # layers that stay as they are
    config.rules.cross_boundary = True  # anchors that reach over the picture's border are learnt from too
    config.rules.train_before = 2000  # anchors of each map, those with the highest scores, that become proposals
    config.rules.test_before = 1000  # likewise in testing
    config.rules.test_proposals = 1000  # what is left of them
    config.rules.regions = 512  # of a picture that the head learns from in a step
    config.rules.overlap = 0.5  # IoU above which the less probable of two findings of a class goes
    return config


def build(config: ConfigDict) -> Experiment:
    """The run that the configuration describes."""
    net = functools.partial(resnet50_fpn, FasterRCNN, epsilon=config.epsilon)
    return assemble(config, "faster_rcnn_coco", net)
