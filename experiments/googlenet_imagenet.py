"""GoogLeNet on ImageNet: nine inception modules, 6,998,552 parameters and two auxiliary classifiers.

Paper: Szegedy et al., "Going deeper with convolutions", 2014, sections 5 to 7.
Command: python launch.py --experiment=googlenet_imagenet --data_dir=WHERE_TFDS_DATA_LIES
Without ImageNet: --config.data=digits, built in; --config.data=PICTURES, a folder of your own.
Expected: 10.07 % top-5 error on the validation set, the paper's figure for one net and one crop; 7.89 % with
--mode=eval --config.eval.crops=144.
Measured: 8.36 % error on scikit-learn's test digits with --config.data=digits (seed 0, 108 s on two CPU cores);
the run on ImageNet was not made.
"""

import functools

from ml_collections import ConfigDict

from cnnlab.data.preprocess import Convention
from cnnlab.experiment import Experiment
from cnnlab.models.googlenet import GoogLeNet
from cnnlab.optim import exponential_schedule
from cnnlab.recipes.classification import MEAN, assemble, imagenet_fields
from cnnlab.recipes.descent import descent

# Less the mean colour, as in the paper, and divided by its standard deviation: the paper says nothing of the scale, and
# from 0 to 255, with weights that keep the size of signals, the first steps diverge.
CONVENTION = Convention(224, 256, MEAN, (0.229, 0.224, 0.225))


def get_config() -> ConfigDict:
    """Plain values; each can be overridden as --config.field=value. Fields not named here: `imagenet_fields`."""
    config = imagenet_fields()
    del config.drops
    config.variant = "paper"  # or "published", the net of the published weights, with batch normalisation
    config.auxiliary = True  # the classifiers beside 4a and 4d …
    config.auxiliary_weight = 0.3  # … and what the loss of each counts in training
    config.augment = "resized_crop,flip,colour_jitter"  # of training pictures: section 6
    config.stored_size = 352  # of pictures, in pixels: the largest scale that is tested; one crop is of 256
    config.average = 0.9999  # decay of the moving average of the weights, used in testing: section 6
    config.epochs = 80.0  # passes over the training pictures; the paper does not say
    config.learning_rate = 0.01  # at the first step; the paper does not say
    config.rate_factor = 0.96  # what it is multiplied by …
    config.rate_epochs = 8.0  # … every so many epochs
    config.weight_decay = 2e-4  # L2 penalty on all parameters; the paper does not say
    config.small.size = 80  # the smallest picture that the auxiliary classifiers' windows fit
    config.small.batch_size = 16  # of all devices together, in training and testing
    config.small.steps = 200  # in the whole run
    config.small.learning_rate = 1.5e-4  # of Adam, falling to 0: the paper's descent would not move in so few steps
    return config


def build(config: ConfigDict) -> Experiment:
    """The experiment of a configuration."""

    def optimizer(steps_of):
        rate = exponential_schedule(config.learning_rate, config.rate_factor, steps_of(config.rate_epochs))
        return descent(config, rate, steps_of(config.epochs), steps_of(1.0))

    model = functools.partial(GoogLeNet, variant=config.variant, auxiliary=config.auxiliary)
    return assemble(config, "googlenet_imagenet", model, optimizer, CONVENTION)
