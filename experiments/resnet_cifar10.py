"""ResNets and plain nets of 6n + 2 layers on CIFAR-10.

Paper: He, Zhang, Ren, Sun, "Deep residual learning for image recognition", 2015, section 4.2.
Command: python launch.py --experiment=resnet_cifar10 --data_dir=WHERE_TFDS_DATA_LIES
Without CIFAR-10: --config.data=digits, built in.
Expected: 8.75 % error on the test set for 20 layers (32: 7.51, 44: 7.17, 56: 6.97, 110: 6.43, 1202: 7.93), the paper's
figures. Plain nets (--config.plain=True) get worse with depth.
Measured: 0.00 % error on scikit-learn's test digits with --config.data=digits (seed 0, 25 s on two CPU cores).
Of the runs on CIFAR-10 only the beginnings, seed 0, the rate still the first:
20 layers: 49.4, 43.9 % after 390, 780 steps (--config.eval_every=390; 370 to 430 images/s on two CPU cores;
2026-11-22); 27.2, 18.9, 16.3 % after 2,000, 4,000, 6,000 of 64,000, 15 of 164 epochs (48 min on shared cores;
2026-11-23). With --config.steps=390 --config.eval_every=195, after 195 and 390 steps (2026-11-23):
plain net of 20 layers, --config.plain=True: 64.8 and 60.2 %
32 layers, --config.depth=32: 61.8 and 58.0 %
56 layers, --config.depth=56: 89.5 and 83.7 % (130 images/s); with --config.seed=1 76.7 % after 300
plain net of 56 layers: 79.7 and 80.6 %
110 layers, --config.depth=110, --config.steps=195: 68.6 % after 195, all at a tenth of the rate, as the paper begins.
"""

import functools
from collections.abc import Callable

import flax.linen as nn
import optax
from jaxtyping import Array
from ml_collections import ConfigDict

from cnnlab import parallel
from cnnlab.data import labelled
from cnnlab.data.cifar_classes import NAMES
from cnnlab.data.named_augmentations import named
from cnnlab.data.preprocess import Convention
from cnnlab.errors import UserError
from cnnlab.experiment import Experiment
from cnnlab.models.resnet_cifar import ResNetCifar
from cnnlab.optim import step_schedule
from cnnlab.recipes.classification import experiment_of, loss_of, on_digits
from cnnlab.recipes.descent import descent, descent_fields
from cnnlab.recipes.runs import compute_type, craft_fields
from cnnlab.tasks.classification import Classification, Loss

TRAIN_EXAMPLES = 50_000
# The mean colour and its standard deviation. The paper subtracts each pixel's mean, which is nearly the same
# everywhere, and does not divide; batch normalisation makes the scale immaterial.
CONVENTIONS = {
    "cifar10": Convention(32, 32, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": Convention(32, 32, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
}


def get_config() -> ConfigDict:
    """Plain values; each can be overridden as --config.field=value. Fields not named here: `recipe`."""
    config = recipe()
    config.depth = 20  # layers, 6n + 2
    config.plain = False  # leave the shortcuts out
    return config


def recipe() -> ConfigDict:
    """The fields that all CIFAR experiments have, with ResNet's values."""
    config = ConfigDict()
    config.data = "cifar10"  # of TFDS; or "cifar100", or "digits"
    config.augment = "crop=4,flip"  # of training pictures, in turn; `data/named_augmentations.py`; "": none
    config.label_smoothing = 0.0  # the share of the label that all classes have alike
    config.batch_size = 128  # of all devices together, which must divide it
    config.eval_batch_size = 1000  # likewise
    config.steps = 64_000  # in the whole run
    config.learning_rate = 0.1  # at the first step; from 110 layers on, a tenth of it in the first 400 steps
    config.drops = (32_000, 48_000)  # steps after which it is a tenth
    config.weight_decay = 1e-4  # L2 penalty on all parameters
    config.update({**descent_fields(), **craft_fields()})
    config.seed = 0  # of the initial weights, the order of the examples, augmentation and dropout
    config.log_every = 100  # steps between reports
    config.eval_every = 2000  # steps between tests
    config.checkpoint_every = 1000  # steps between checkpoints
    config.small = ConfigDict()  # what replaces the paper's values with data "digits", to run in about a minute
    config.small.size = 16  # of the pictures, in pixels
    config.small.batch_size = 64  # of all devices together, in training and testing
    config.small.steps = 150  # in the whole run
    config.small.learning_rate = 3e-3  # of Adam, falling to 0: the paper's schedule has no place in so few steps
    return config


def build(config: ConfigDict) -> Experiment:
    """The experiment of a configuration."""
    # Deep nets begin at a tenth of the rate, until the training error is below 80 %: about 400 steps (section 4.2).
    slow = 400 if config.depth >= 110 else 0
    return assemble(
        config,
        name="resnet_cifar10",
        model=functools.partial(ResNetCifar, depth=config.depth, plain=config.plain),
        optimizer=descent_with_drops(config, slow),
    )


def descent_with_drops(config: ConfigDict, slow: int = 0) -> optax.GradientTransformation:
    """Descent whose rate, as in the paper, is a tenth after each of config.drops and in the first `slow` steps."""
    parallel.check_batch_sizes(config)
    schedule = step_schedule(config.learning_rate, tuple(config.drops), slow)
    return descent(config, schedule, config.steps, TRAIN_EXAMPLES // config.batch_size)


def assemble(
    config: ConfigDict,
    name: str,
    model: Callable[..., nn.Module],
    optimizer: optax.GradientTransformation,
    preprocess: Callable[[Array], Array] | None = None,
    loss: Loss | None = None,
) -> Experiment:
    """A net on CIFAR-10, CIFAR-100 or digits; the other CIFAR experiments use it too.

    Args:
      config: with the fields of `recipe`.
      name: of the experiment.
      model: makes the net, given `num_classes`.
      optimizer: the paper's.
      preprocess: stored uint8 pictures → the network's input; None: normalised by the data set's colours.
      loss: per example; None: cross-entropy.

    Raises:
      UserError: config.data is unknown; batch sizes do not fit the devices.
    """
    model = functools.partial(model, **compute_type(config))
    loss, convention = loss or loss_of(config), CONVENTIONS.get(config.data, CONVENTIONS["cifar10"])
    preprocess = preprocess or convention.normalise
    if config.data == "digits":
        return on_digits(config, name, model, preprocess, config.small.size, loss)
    if config.data not in CONVENTIONS:
        raise UserError(f'config.data is "{config.data}"; it must be "cifar10", "cifar100" or "digits"')
    parallel.check_batch_sizes(config)
    command = f"{name} --config.data={config.data}"
    data = labelled.of_tfds(config.data, "test", NAMES[config.data], TRAIN_EXAMPLES, convention.size, command)
    task = Classification(
        model=model(num_classes=len(data.class_names)),
        optimizer=optimizer,
        preprocess=preprocess,
        class_names=data.class_names,
        loss=loss,
        # Padded with the mean colour, which becomes 0 in the network's input, as if padded afterwards; not so where
        # preprocessing is of whole pictures, as NiN's is: it has the padding in it.
        augment=named(config.augment, convention.size, convention.size, convention.colour),
    )
    return experiment_of(config, name, task, data, convention.size, config.steps)
