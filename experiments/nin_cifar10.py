"""Network in Network on CIFAR-10: 1×1 convolutions after each convolution, 966,986 parameters.

Paper: Lin, Chen, Yan, "Network in network", 2013, section 4.2.
Command: python launch.py --experiment=nin_cifar10 --data_dir=WHERE_TFDS_DATA_LIES
Without CIFAR-10: --config.data=digits, built in.
Expected: 10.41 % error on the test set; 8.81 % with --config.augment=crop=4,flip (translation and mirror images):
the paper's figures.
Measured: 6.69 % error on scikit-learn's test digits with --config.data=digits (seed 0, 37 s on two CPU cores);
of the run on CIFAR-10, --config.eval_every=300, only the beginning: 82.0, 61.1, 56.4 % after 300, 900, 1,200 of
120,000 steps (seed 0, 120 images/s on two CPU cores). 2026-11-23. With --config.learning_rate=0.1 the last layer's
rectifiers died: at step 500 all classes were equally likely, test error 90.0 % (seed 0).
"""

import functools

import jax
import optax
from jaxtyping import Array
from ml_collections import ConfigDict

from cnnlab.data.preprocess import contrast_normalise
from cnnlab.experiment import Experiment
from cnnlab.models.nin import NiN
from experiments import resnet_cifar10
from experiments.resnet_cifar10 import assemble, descent_with_drops


def get_config() -> ConfigDict:
    """Plain values; each can be overridden as --config.field=value. Fields not named here: `recipe` of ResNet."""
    config = resnet_cifar10.recipe()
    config.whiten = True  # make the pixels of pictures of equal contrast independent of each other (ZCA)
    config.augment = ""  # of training pictures; "crop=4,flip" for the paper's translations and mirror images
    config.steps = 120_000  # in the whole run; the paper does not say
    config.learning_rate = 0.05  # at the first step; the paper does not say, the author's code has 0.1
    config.drops = (80_000, 100_000)  # steps after which it is a tenth, at last a hundredth; the paper: at a plateau
    config.decay_all = False  # weight decay spares biases, as in the author's code
    config.small.whiten = False  # as `whiten`: digits of 8×8 pixels, enlarged, have few directions to make independent
    config.small.batch_size = 32  # of all devices together, in training and testing
    config.small.steps = 400  # in the whole run
    config.small.learning_rate = 5e-4  # of Adam, falling to 0: the paper's schedule has no place in so few steps
    return config


def build(config: ConfigDict) -> Experiment:
    """The experiment of a configuration."""
    whiten = config.small.whiten if config.data == "digits" else config.whiten
    model = functools.partial(NiN, whiten=whiten)
    optimizer = optax.chain(descent_with_drops(config), authors_rates())
    return assemble(config, "nin_cifar10", model, optimizer, contrast_normalise)


def authors_rates() -> optax.GradientTransformation:
    """The last part of a chain: biases learn twice as fast as weights, and the last layer a tenth as fast as others.

    The paper does not name rates; these are the ratios of the first author's published code.
    """

    def scaled(path: tuple, update: Array) -> Array:
        layer, *_, kind = (key.key for key in path)
        return update * (2.0 if kind == "bias" else 1.0) * (0.1 if layer == "cccp6" else 1.0)

    return optax.stateless(lambda updates, _: jax.tree_util.tree_map_with_path(scaled, updates))
