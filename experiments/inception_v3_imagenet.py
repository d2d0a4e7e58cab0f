"""Inception-v3 on ImageNet: large filters fallen apart into small ones, 27,161,264 parameters.

Paper: Szegedy, Vanhoucke, Ioffe, Shlens, Wojna, "Rethinking the Inception architecture for computer vision", 2015.
Command: python launch.py --experiment=inception_v3_imagenet --data_dir=WHERE_TFDS_DATA_LIES
Without ImageNet: --config.data=digits, built in; --config.data=PICTURES, a folder of your own.
Expected: 21.2 % top-1 and 5.6 % top-5 error on the validation set, the paper's figures for one net and one crop
(table 3).
Measured: 14.48 % error on scikit-learn's test digits with --config.data=digits (seed 0, 104 s on two CPU cores);
the run on ImageNet was not made.
"""

import functools

from ml_collections import ConfigDict

from cnnlab.data.preprocess import Convention
from cnnlab.experiment import Experiment
from cnnlab.models.inception_v3 import InceptionV3
from cnnlab.optim import exponential_schedule, rmsprop
from cnnlab.recipes.classification import assemble, imagenet_fields
from cnnlab.recipes.descent import descent_fields

# Pixels from −1 to 1, as in the authors' code; the paper does not say.
CONVENTION = Convention(299, 342, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def get_config() -> ConfigDict:
    """Plain values; each can be overridden as --config.field=value. Fields not named here: `imagenet_fields`."""
    config = imagenet_fields()
    for field in ("drops", "weight_decay", *descent_fields()):  # the paper has RMSProp, and names no decay
        del config[field]
    config.auxiliary = True  # the classifier beside the last 17×17 maps; not with digits
    config.auxiliary_weight = 0.4  # what its loss counts; as in the authors' code: the paper does not say
    config.dropout = 0.2  # share of units dropped before the last layer; likewise
    config.augment = "resized_crop,flip,colour_jitter"  # of training pictures, in turn; the paper does not say
    config.average = 0.9999  # decay of the moving average of the weights, used in testing: section 8
    config.label_smoothing = 0.1  # the share of the label that all classes have alike
    config.batch_size = 32  # of all devices together; the paper has 50 machines with 32 each, one after the other
    config.epochs = 100.0  # passes over the training pictures
    config.learning_rate = 0.045  # at the first step
    config.rate_factor = 0.94  # what it is multiplied by …
    config.rate_epochs = 2.0  # … every so many epochs
    config.small.size = 75  # the net's smallest picture, too small for the auxiliary classifier
    config.small.batch_size = 16  # of all devices together, in training and testing
    config.small.learning_rate = 3e-3  # of Adam, falling to 0: the paper's schedule has no place in so few steps
    return config


def build(config: ConfigDict) -> Experiment:
    """The experiment of a configuration."""
    auxiliary = config.auxiliary and (config.data != "digits" or bool(config.init_from))

    def optimizer(steps_of):
        return rmsprop(exponential_schedule(config.learning_rate, config.rate_factor, steps_of(config.rate_epochs)))

    return assemble(
        config,
        name="inception_v3_imagenet",
        model=functools.partial(InceptionV3, auxiliary=auxiliary, dropout=config.dropout),
        optimizer=optimizer,
        convention=CONVENTION,
    )
