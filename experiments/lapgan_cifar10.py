"""LAPGAN on CIFAR-10: a pyramid of conditional adversarial nets, from 8×8 pixels to 16×16 and 32×32.

Paper: Denton, Chintala, Szlam, Fergus, "Deep generative image models using a Laplacian pyramid of adversarial
networks", 2015.
Command: python launch.py --experiment=lapgan_cifar10 --data_dir=WHERE_TFDS_DATA_LIES
Without CIFAR-10: --config.data=digits, built in.
Expected: samples that people took for photographs 40 % of the time, in the paper's test with people.
Measured: a narrower net and a twelfth of the steps, --config.width=16 --config.steps=4000, 208 images/s on two CPU
cores, so 41 min, 2026-11-22 (seed 0): Fréchet distance 1.41 by two epochs of resnet_cifar10 as judge, precision 0.94,
recall 0.52, all ten classes (the rarest 1.3 %), Parzen log-likelihood 753 ± 8; 2.10 after 2,000 steps. The samples have
skies, ground and things with edges, but hardly one that could be named; the training pictures nearest to them are
others. With the paper's losses alone (--config.r1=0 --config.falling=0.5 --config.average=0.99, both rates 2e-4, 800
steps) 5.1 with five of ten classes: the coarsest level learnt too slowly, its discriminator most of all.
"""

from ml_collections import ConfigDict

from cnnlab.experiment import Experiment
from cnnlab.models.adversaries import Adversaries
from cnnlab.models.lapgan import CoarsestDiscriminator, CoarsestGenerator, LevelDiscriminator, LevelGenerator
from cnnlab.recipes import gan as gan_recipes


def get_config() -> ConfigDict:
    """Plain values; each can be overridden as --config.field=value. Fields not named here: `recipes/gan.py`."""
    config = gan_recipes.gan_fields()
    config.data = "cifar10"  # of TFDS; or "digits"
    config.coarsest = (1200, 600)  # units of the 8×8 generator's and discriminator's two hidden layers each
    config.width = 128  # channels of the finer levels' convolutions
    config.r1 = 3.0  # γ: the discriminators' slopes at real pictures are kept small, at every level
    config.generator_rate = 1e-3  # Adam's
    config.discriminator_rate = 2e-3  # Adam's: the discriminators learn the faster, and are held back by r1
    config.average = 0.998  # decay of a moving average of the generators' weights, which then makes the samples
    config.falling = 0.7  # share of the run at whose end both rates fall to 0 along a line
    config.steps = 50_000  # in the whole run
    config.small.coarsest = (400, 200)  # units of the 8×8 generator's and discriminator's two hidden layers each
    config.small.width = 16  # channels of the finer levels' convolutions
    config.small.batch_size = 32  # of all devices together, in training and testing
    config.small.steps = 300  # in the whole run
    return config


def build(config: ConfigDict) -> Experiment:
    """The experiment of a configuration."""
    size = config.small if config.data == "digits" else config

    def nets(num_classes: int) -> Adversaries:
        of_generator, of_discriminator = ((units, units) for units in size.coarsest)
        levels = (16, 32)
        return Adversaries(
            (
                CoarsestGenerator(hidden=of_generator, num_classes=num_classes),
                *(LevelGenerator((side, side, 3), size.width, num_classes) for side in levels),
            ),
            (
                CoarsestDiscriminator(hidden=of_discriminator, num_classes=num_classes),
                *(LevelDiscriminator(size.width, num_classes=num_classes) for _ in levels),
            ),
        )

    data = gan_recipes.colour_data(config.data, "lapgan_cifar10")
    return gan_recipes.assemble(config, "lapgan_cifar10", nets, data, (32, 32, 3))
