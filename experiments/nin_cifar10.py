"""Network in Network on CIFAR-10: 1×1 convolutions after each convolution, 966,986 parameters.

Paper: Lin, Chen, Yan, "Network in network", 2013, section 4.2.
Command: python launch.py --experiment=nin_cifar10 --data_dir=WHERE_TFDS_DATA_LIES
Without CIFAR-10: --config.data=digits, built in.
Expected: 10.41 % error on the test set; 8.81 % with --config.augment=True (translation and mirror images): the paper's
figures. It whitens the pictures after normalising each one's contrast; here they are not whitened.
Measured: 14.76 % error on scikit-learn's test digits with --config.data=digits (seed 0, 38 s on two CPU cores);
the run of 120,000 steps was not made.
"""

from ml_collections import ConfigDict

from cnnlab.data.preprocess import contrast_normalise
from cnnlab.experiment import Experiment
from cnnlab.models.nin import NiN
from experiments import resnet_cifar10
from experiments.resnet_cifar10 import assemble, descent_with_drops


def get_config() -> ConfigDict:
    """Plain values; each can be overridden as --config.field=value. Fields not named here: `recipe` of ResNet."""
    config = resnet_cifar10.recipe()
    config.augment = False  # train on random crops of the pictures, padded by 4 pixels, and on their mirror images
    config.steps = 120_000  # in the whole run; the paper does not say
    config.learning_rate = 0.1  # at the first step; the paper does not say
    config.drops = (80_000, 100_000)  # steps after which it is a tenth, at last a hundredth; the paper: at a plateau
    config.small.batch_size = 32  # of all devices together, in training and testing
    config.small.steps = 400  # in the whole run
    config.small.learning_rate = 5e-4  # of Adam, falling to 0: the paper's schedule has no place in so few steps
    return config


def build(config: ConfigDict) -> Experiment:
    """The experiment of a configuration."""
    return assemble(config, "nin_cifar10", NiN, descent_with_drops(config), contrast_normalise)
