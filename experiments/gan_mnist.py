"""The first adversarial nets on MNIST: a fully connected generator against maxout units.

Paper: Goodfellow et al., "Generative adversarial networks", 2014, section 5.
Command: python launch.py --experiment=gan_mnist --data_dir=WHERE_TFDS_DATA_LIES
Data: TFDS mnist; --mode=prepare downloads and builds it. Without MNIST: --config.data=digits, built in.
For the scores that need a classifier: python launch.py --experiment=lenet_mnist --config.variant=modern
--workdir=JUDGE, then --config.judge=JUDGE here.
Expected: a Parzen-window log-likelihood of 225 ± 2, the paper's.
Measured: 232.7 ± 2.2 of samples whose noise is 0.7 of what was trained with; all ten classes among them, the rarest
8.5 %; Fréchet distance 8.6, precision 0.85, recall 0.84, by a modern LeNet of five epochs as judge. Of all the noise
(--config.truncation=1.0) 198.5 ± 2.3, 8.5 %, 3.1, 0.80 and 0.88. 45 min on two CPU cores that were busy with other work
too. 2026-11-21. Ten thousand training pictures in place of samples have 239 (of 3,000 test pictures; ± 4), samples of
half the noise 259: the figure likes pictures in the midst of others, and the Fréchet distance says more.
With the paper's losses alone (--config.r1=0.0) and both rates at 2e-4, nearly all samples of step 3,500 were ones and
nines.
"""

from ml_collections import ConfigDict

from cnnlab.experiment import Experiment
from cnnlab.models.adversaries import Adversaries
from cnnlab.models.gan import Discriminator, Generator
from cnnlab.recipes import gan as gan_recipes


def get_config() -> ConfigDict:
    """Plain values; each can be overridden as --config.field=value. Fields not named here: `recipes/gan.py`."""
    config = gan_recipes.gan_fields()
    config.data = "mnist"  # of TFDS; or "digits"
    config.noise = 100  # numbers of noise that a picture is made of
    config.generator = (1200, 1200)  # units of the generator's hidden layers
    config.discriminator = (240, 240)  # maxout units of the discriminator's hidden layers, of 5 pieces each
    config.r1 = 0.1  # γ: the discriminator's slope at real pictures is kept small; 0: the paper's losses alone
    config.generator_rate = 5e-4  # Adam's
    config.discriminator_rate = 5e-4  # Adam's
    config.steps = 40_000  # in the whole run
    config.falling = 0.5  # share of the run at whose end both rates fall to 0 along a line
    config.truncation = 0.7  # what the noise of samples is multiplied by: under 1 likelier ones, and less various
    config.average = 0.9995  # decay of a moving average of the generator's weights, which makes the samples; 0: none
    config.small.generator = (400, 400)  # units of the generator's hidden layers
    config.small.discriminator = (120, 120)  # maxout units of the discriminator's hidden layers
    return config


def build(config: ConfigDict) -> Experiment:
    """The experiment of a configuration."""
    size = config.small if config.data == "digits" else config

    def nets(num_classes: int) -> Adversaries:
        generator = Generator(hidden=tuple(size.generator), noise=config.noise, num_classes=num_classes)
        return Adversaries((generator,), (Discriminator(hidden=tuple(size.discriminator), num_classes=num_classes),))

    return gan_recipes.assemble(config, "gan_mnist", nets, gan_recipes.grey_data(config.data, "gan_mnist"), (28, 28, 1))
