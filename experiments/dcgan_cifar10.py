"""DCGAN on CIFAR-10; its discriminator's features tell classes apart that it was never told of.

Paper: Radford, Metz, Chintala, "Unsupervised representation learning with deep convolutional generative adversarial
networks", 2015, section 5.1.
Command: python launch.py --experiment=dcgan_cifar10 --data_dir=WHERE_TFDS_DATA_LIES
Without CIFAR-10: --config.data=digits, built in.
The features: python launch.py --workdir=THE_RUN --mode=inspect --config.inspect=svm
Expected: 82.8 % of the test pictures classified rightly by a linear SVM on the discriminator's features, the paper's
figure, whose DCGAN was trained on ImageNet.
Measured: only the beginning, of narrower nets: --config.generator='(256,128,64)' --config.discriminator='(64,128,256)'
--config.steps=1000 --config.falling=0.5 --config.average=0.99, 200 images/s on two CPU cores, 2026-11-22 (seed 0). Of
10,000 test pictures a machine on its discriminator's features that learnt from 10,000 labelled ones
(--config.examples=10000) has 54.9 % right, one on raw pixels 38.8 %, the discriminator's layers trained with these
labels 59.7 %. Fréchet distance 3.5 by two epochs of resnet_cifar10 as judge; samples have a photograph's colours and
textures and show no objects yet; the discriminator tells 97 % of both kinds apart.
"""

from ml_collections import ConfigDict

from cnnlab.experiment import Experiment
from cnnlab.recipes import gan as gan_recipes
from experiments import dcgan_mnist


def get_config() -> ConfigDict:
    """Plain values; each can be overridden as --config.field=value. Fields not named here: `dcgan_mnist.py`."""
    config = dcgan_mnist.get_config()
    config.data = "cifar10"  # of TFDS; or "digits"
    config.generator = (512, 256, 128)  # channels of the generator's layers, from the smallest maps on
    config.discriminator = (128, 256, 512)  # channels of the discriminator's layers
    config.hidden = 0  # units of a fully connected layer in either net; 0: none
    config.generator_rate = 2e-4  # Adam's, the paper's
    config.steps = 50_000  # in the whole run
    config.eval_every = 5000  # steps between tests
    config.falling = 0.0  # share of the run at whose end both rates fall to 0 along a line; 0: they stay as they are
    config.average = 0.999  # decay of a moving average of the generator's weights, which makes the samples; 0: none
    config.small.generator = (64, 32, 16)  # channels of the generator's layers
    config.small.discriminator = (16, 32, 64)  # channels of the discriminator's layers
    config.small.steps = 500  # in the whole run
    return config


def build(config: ConfigDict) -> Experiment:
    """The experiment of a configuration."""
    data = gan_recipes.colour_data(config.data, "dcgan_cifar10")
    return gan_recipes.assemble(config, "dcgan_cifar10", dcgan_mnist.nets(config, (32, 32, 3)), data, (32, 32, 3))
