"""FCN on PASCAL VOC, as its paper has it: VGG-16 turned into convolutions, 32s, 16s and 8s in stages.

Paper: Long, Shelhamer, Darrell, "Fully convolutional networks for semantic segmentation", 2015, sections 4 and 5.

Command: python launch.py --experiment=fcn_voc --config.data=VOC2012 --config.init_from=timm/vgg16.tv_in1k
VOC2012 holds JPEGImages, SegmentationClass and ImageSets/Segmentation. init_from: published weights of the net, or a
run's workdir; they are carried over into the convolutions exactly. Other nets: --config.net=alexnet or googlenet
--config.member=fcn32s, resnet50; and dilated_resnet50, which torchvision's weights of fcn_resnet50 fit: for these
--config.net=dilated_resnet50 --config.member=fcn8s --config.init_from=WEIGHTS --mode=predict --input=PICTURES.

Expected: on VOC 2011's validation pictures a mean IoU of 59.4, 62.4 and 62.7 % for 32s, 16s and 8s (VGG-16).

Measured: the run was not made: neither the weights nor VOC could be had where this was written.
"""

from ml_collections import ConfigDict

from cnnlab.data.segmented import VOC_NAMES
from cnnlab.errors import UserError
from cnnlab.experiment import Experiment
from cnnlab.models.segmenters import SEGMENTERS
from cnnlab.recipes.segmentation import in_stages, segmentation_fields
from cnnlab.series import Series


def get_config() -> ConfigDict:
    """The fields that `--config.field=value` overrides; those not named here: `recipes/segmentation.py`."""
    config = segmentation_fields()
    config.member = ""  # which of the three runs, fcn32s, fcn16s or fcn8s; "": all in turn
    config.net = "vgg16"  # or "alexnet", "googlenet", "resnet50", "dilated_resnet50"; see models/segmenters.py
    config.longer = 500  # pixels of a picture's longer side at most: VOC's
    config.decay_all = False  # weight decay leaves biases alone
    return config


def build(config: ConfigDict) -> Series | Experiment:
    """The runs that the configuration describes.

    Raises:
      UserError: an unknown net.
    """
    if config.net not in SEGMENTERS:
        raise UserError(f'config.net is "{config.net}"; it must be one of {", ".join(SEGMENTERS)}')
    if not config.data:  # none is needed to predict with published weights
        config = ConfigDict({**config, "classes": VOC_NAMES})
    return in_stages(config, "fcn_voc", SEGMENTERS[config.net])
