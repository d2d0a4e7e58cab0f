"""ResNet in ResNet on CIFAR-10: a residual and a transient stream side by side, 18 wide layers.

Paper: Targ, Almeida, Lyman, "Resnet in Resnet: generalizing residual architectures", 2016, section 3.
Command: python launch.py --experiment=rir_cifar10 --data_dir=WHERE_TFDS_DATA_LIES
Without CIFAR-10: --config.data=digits, built in.
Expected: 5.01 % error on the test set, and 22.90 % with --config.data=cifar100: the paper's figures.
Measured: 1.39 % error on scikit-learn's test digits with --config.data=digits (seed 0, 97 s on two CPU cores);
the run of 8,200 steps was not made.
"""

from ml_collections import ConfigDict

from cnnlab.experiment import Experiment
from cnnlab.models.rir import RiR
from experiments import resnet_cifar10
from experiments.resnet_cifar10 import assemble, descent_with_drops


def get_config() -> ConfigDict:
    """Plain values; each can be overridden as --config.field=value. Fields not named here: `recipe` of ResNet."""
    config = resnet_cifar10.recipe()
    config.batch_size = 500  # of all devices together, which must divide it
    config.steps = 8200  # in the whole run: 82 epochs
    config.drops = (4200, 6200)  # steps after which the rate is a tenth: 42 and 62 epochs
    config.small.batch_size = 32  # of all devices together, in training and testing
    return config


def build(config: ConfigDict) -> Experiment:
    """The experiment of a configuration."""
    return assemble(config, "rir_cifar10", RiR, descent_with_drops(config))
