"""AlexNet on ImageNet: the paper's two columns, 60,965,224 parameters.

Paper: Krizhevsky, Sutskever, Hinton, "ImageNet classification with deep convolutional neural networks", 2012.
Command: python launch.py --experiment=alexnet_imagenet --data_dir=WHERE_TFDS_DATA_LIES
Without ImageNet: --config.data=digits, built in; --config.data=PICTURES, a folder of your own.
Expected: 40.7 % top-1 and 18.2 % top-5 error on the validation set, the paper's figures for one net, which average ten
crops a picture, as --mode=eval --config.eval.crops=10 does; training tests one central crop, so finds somewhat more.
Measured: 4.46 % error on scikit-learn's test digits with --config.data=digits (seed 0, 65 s on two CPU cores);
the run on ImageNet was not made.
"""

import functools

from ml_collections import ConfigDict

from cnnlab.experiment import Experiment
from cnnlab.models.alexnet import AlexNet
from cnnlab.recipes.classification import assemble, descent_with_drops, imagenet_fields, paper_convention


def get_config() -> ConfigDict:
    """Plain values; each can be overridden as --config.field=value. Fields not named here: `imagenet_fields`."""
    config = imagenet_fields()
    config.variant = "paper"  # or "one_column", the net of the published weights, for 224×224
    config.groups = 2  # columns of conv2, conv4 and conv5 of "paper"; 1 joins them
    config.small.size = 67  # the net's smallest picture
    config.small.steps = 300  # in the whole run
    config.small.learning_rate = 2e-4  # of Adam, falling to 0: the paper's descent would not move in so few steps
    return config


def build(config: ConfigDict) -> Experiment:
    """The experiment of a configuration."""
    return assemble(
        config,
        name="alexnet_imagenet",
        model=functools.partial(AlexNet, variant=config.variant, groups=config.groups),
        optimizer=functools.partial(descent_with_drops, config),
        convention=paper_convention(227 if config.variant == "paper" else 224),
    )
