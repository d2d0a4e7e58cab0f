"""Mask R-CNN with ResNet-50 and a feature pyramid on COCO; torchvision's published weights fit.

Paper: He, Gkioxari, Dollár, Girshick, "Mask R-CNN", 2017. 44,401,393 parameters.

Command: python launch.py --experiment=mask_rcnn_coco --mode=predict --config.init_from=WEIGHTS --input=PICTURES
WEIGHTS being torchvision's file of maskrcnn_resnet50_fpn (.pth), or the same as .safetensors. Without --mode it trains
on a folder as COCO's: --config.data=FOLDER --config.epsilon=1e-5 --config.init_from=WEIGHTS_OF_RESNET50.

Expected: 34.6 % AP of masks and 37.9 % of boxes on COCO's val2017 with the published weights, says torchvision.

Measured: on random weights the same boxes, scores and 28×28 masks as torchvision 0.28, to 6e-5 pixels, 2e-6 and 2e-6
(one picture of 384×320, 100 findings; 2026-11-21). Neither the published file nor COCO could be had where this was
written.
"""

import functools

from ml_collections import ConfigDict

from cnnlab.experiment import Experiment
from cnnlab.models.detectors import resnet50_fpn
from cnnlab.models.mask_rcnn import MaskRCNN
from cnnlab.recipes.detection import assemble, mask_fields
from cnnlab.tasks.mask_detection import MaskDetection
from experiments import faster_rcnn_coco


def get_config() -> ConfigDict:
    """The fields that `--config.field=value` overrides."""
    config = faster_rcnn_coco.get_config()
    config.update(mask_fields())
    config.data = "coco"  # a folder as COCO's to train and test on (TFDS's has no outlines); or "shapes"
    return config


def build(config: ConfigDict) -> Experiment:
    """The run that the configuration describes."""
    net = functools.partial(resnet50_fpn, MaskRCNN, epsilon=config.epsilon)
    return assemble(config, "mask_rcnn_coco", net, MaskDetection)
