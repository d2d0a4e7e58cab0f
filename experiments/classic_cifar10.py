"""The classic small net of a beginner's guide on CIFAR-10: three convolutions, 69,610 parameters.

Paper: none; the net is that of "A beginner's guide to understanding convolutional neural networks", 2016, part 1.
Command: python launch.py --experiment=classic_cifar10 --data_dir=WHERE_TFDS_DATA_LIES
Without CIFAR-10: --config.data=digits, built in.
Expected: the guide gives no figure.
Measured: 1.11 % error on scikit-learn's test digits with --config.data=digits (seed 0, 32 s on two CPU cores);
the run on CIFAR-10 was not made.
"""

from ml_collections import ConfigDict

from cnnlab.errors import UserError
from cnnlab.experiment import Experiment
from cnnlab.models.classic import ClassicNet
from cnnlab.optim import adam_cosine
from cnnlab.recipes.descent import descent_fields
from cnnlab.tasks.classification import half_squared_error
from experiments import resnet_cifar10
from experiments.resnet_cifar10 import assemble

LOSSES = {"cross_entropy": None, "half_squared_error": half_squared_error}  # None: as config.label_smoothing says


def get_config() -> ConfigDict:
    """Plain values; each can be overridden as --config.field=value. Fields not named here: `recipe` of ResNet."""
    config = resnet_cifar10.recipe()
    for field in ("drops", *descent_fields()):  # what is Adam's is below
        del config[field]
    config.steps = 12_000  # in the whole run: about 30 epochs
    config.learning_rate = 2e-3  # of Adam at the first step; it falls to 0 along half a cosine
    config.loss = "cross_entropy"  # or "half_squared_error", the guide's ½ Σ (target − output)²
    config.weight_decay = 0.0  # decoupled, times the learning rate
    config.small.size = 32  # of the pictures, in pixels
    config.small.steps = 300  # in the whole run
    config.small.learning_rate = 3e-3  # of Adam, falling to 0
    return config


def build(config: ConfigDict) -> Experiment:
    """The experiment of a configuration."""
    optimizer = adam_cosine(config.learning_rate, config.steps, config.weight_decay)
    if config.loss not in LOSSES:
        raise UserError(f'config.loss is "{config.loss}"; it must be one of {", ".join(LOSSES)}')
    return assemble(config, "classic_cifar10", ClassicNet, optimizer, loss=LOSSES[config.loss])
