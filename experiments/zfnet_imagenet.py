"""ZF Net on ImageNet: AlexNet with smaller filters and strides in front, 62,357,608 parameters.

Paper: Zeiler, Fergus, "Visualizing and understanding convolutional networks", 2013, section 3.
Command: python launch.py --experiment=zfnet_imagenet --data_dir=WHERE_TFDS_DATA_LIES
Without ImageNet: --config.data=digits, built in; --config.data=PICTURES, a folder of your own.
Expected: 16.5 % top-5 error on the validation set, the paper's figure for one net and ten crops a picture, as
--mode=eval --config.eval.crops=10 has them; training tests one central crop, so finds somewhat more.
Measured: 1.67 % error on scikit-learn's test digits with --config.data=digits (seed 0, 58 s on two CPU cores);
the run on ImageNet was not made.
"""

import optax
from ml_collections import ConfigDict

from cnnlab.experiment import Experiment
from cnnlab.models.zfnet import ZFNet
from cnnlab.optim import limit_filters
from cnnlab.recipes.classification import assemble, descent_with_drops, imagenet_fields, paper_convention


def get_config() -> ConfigDict:
    """Plain values; each can be overridden as --config.field=value. Fields not named here: `imagenet_fields`."""
    config = imagenet_fields()
    config.augment = "crop,flip"  # of training pictures, in turn
    config.epochs = 70.0  # passes over the training pictures
    config.drops = (30.0, 50.0, 60.0)  # epochs after which the rate is a tenth; the paper turns it down by hand
    config.weight_decay = 0.0  # the paper names none: it limits the filters' size instead
    config.filter_limit = 0.1  # RMS of a convolution's filter; what is larger is scaled down to it after each step
    config.small.steps = 200  # in the whole run
    config.small.learning_rate = 2e-4  # of Adam, falling to 0: the paper's descent would not move in so few steps
    return config


def build(config: ConfigDict) -> Experiment:
    """The experiment of a configuration."""

    def optimizer(steps_of):
        return optax.chain(descent_with_drops(config, steps_of), limit_filters(config.filter_limit))

    return assemble(config, "zfnet_imagenet", ZFNet, optimizer, paper_convention(224))
