"""LeNet-5, the paper's net, on 1,797 real digits that come with scikit-learn: no download.

Paper: LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition", 1998, section II.
Command: python launch.py --experiment=lenet_digits
Expected: at most 1.5 % error on the held-out fifth (359 digits), in under a minute; the paper has no such figure.
Measured: 0.84, 0.28, 0.56 % (--config.seed=0, 1, 2), mean 0.56 %; 20 s from a cold start, with nothing compiled
before, on two CPU cores (AMD EPYC; jax 0.10.2). 2026-11-21.
"""

import functools
from collections.abc import Callable

from ml_collections import ConfigDict

from cnnlab import parallel
from cnnlab.configs import plain
from cnnlab.data.augment import Augment, compose
from cnnlab.data.digits import CLASS_NAMES, TRAIN_EXAMPLES, digits
from cnnlab.data.distort import affine_distortion, translation
from cnnlab.data.pictures import read_picture
from cnnlab.data.preprocess import pad_and_scale
from cnnlab.data.source import Source
from cnnlab.errors import UserError
from cnnlab.experiment import Experiment
from cnnlab.inspect import attacks
from cnnlab.models.lenet import LeNet, map_loss
from cnnlab.optim import adam_cosine
from cnnlab.tasks.classification import Classification, cross_entropy


def get_config() -> ConfigDict:
    """Plain values; each can be overridden as --config.field=value."""
    config = ConfigDict()
    config.variant = "paper"  # "paper": sparse C3, trainable subsampling, tanh, RBF; "modern": ReLU, max pool, softmax
    config.j = 1.0  # of the RBF outputs' loss (equation 9): beyond it, a wrong class's penalty grows no further
    config.batch_size = 64  # of all devices together, which must divide it
    config.eval_batch_size = 360  # likewise
    config.distort = False  # train on each digit scaled, turned or sheared, and moved, anew each time
    config.attack = ConfigDict()  # adversarial training
    config.attack.epsilon = 0.0  # how far adversaries may change a pixel, which is from 0 to 1; 0: there are none
    config.attack.steps = 1  # 1: the fast gradient sign method; more: projected gradient ascent from a random start
    config.attack.clean_weight = 0.5  # what the digits' loss counts before the attack; after it: the rest of 1
    config.epochs = 60.0  # passes over the training pictures
    config.learning_rate = 3e-3  # Adam's at the first step; it falls to 0 along half a cosine
    config.weight_decay = 0.0  # decoupled, times the learning rate
    config.invert = False  # predict: True for dark ink on white paper, as the net learns white ink on black
    config.seed = 0  # of the initial weights and of the order of the examples
    config.log_every = 50  # steps between reports
    config.eval_every = 450  # steps between tests
    config.checkpoint_every = 450  # steps between checkpoints
    return config


def build(config: ConfigDict) -> Experiment:
    """The experiment of a configuration."""
    return assemble(
        config,
        name="lenet_digits",
        class_names=CLASS_NAMES,
        train_examples=TRAIN_EXAMPLES,
        train_data=functools.partial(digits, "train"),
        test_data=functools.partial(digits, "test"),
    )


def assemble(
    config: ConfigDict,
    name: str,
    class_names: tuple[str, ...],
    train_examples: int,
    train_data: Callable[[], Source],
    test_data: Callable[[], Source],
    prepare: Callable[[], None] | None = None,
) -> Experiment:
    """LeNet-5 on any pictures of 28×28 grey pixels; the experiments on other data use it too."""
    parallel.check_batch_sizes(config)
    if not 0 <= config.attack.clean_weight < 1:
        raise UserError(f"config.attack.clean_weight is {config.attack.clean_weight}; it must be from 0 to below 1")
    steps = round(config.epochs * train_examples / config.batch_size)
    rbf_loss = functools.partial(map_loss, j=config.j)
    return Experiment(
        name=name,
        config=plain(config),
        task=Classification(
            model=LeNet(num_classes=len(class_names), variant=config.variant),
            optimizer=adam_cosine(config.learning_rate, steps, config.weight_decay),
            preprocess=functools.partial(pad_and_scale, size=32, low=-0.1, high=1.175),
            class_names=class_names,
            loss=rbf_loss if config.variant == "paper" else cross_entropy,
            augment=distortion() if config.distort else None,
            attack=adversary(config.attack.epsilon, config.attack.steps),
            clean_weight=config.attack.clean_weight,
        ),
        train_data=train_data,
        test_data=test_data,
        prepare=prepare,
        picture_shape=(28, 28, 1),
        read_picture=functools.partial(read_picture, shape=(28, 28, 1), invert=config.invert),
        batch_size=config.batch_size,
        eval_batch_size=config.eval_batch_size,
        steps=steps,
        seed=config.seed,
        log_every=config.log_every,
        eval_every=config.eval_every,
        checkpoint_every=config.checkpoint_every,
    )


def distortion() -> Augment:
    """Planar affine changes, as in section III-C: scaling, squeezing, shearing, translation; and small turns."""
    affine = functools.partial(affine_distortion, degrees=10, gentle=(), scale=(0.0, 0.15))
    return compose(affine, functools.partial(translation, horizontal=(-0.06, 0.06), vertical=(-0.06, 0.06)))


def adversary(epsilon: float, steps: int) -> attacks.Attack | None:
    """What attacks the network in training, in the maximum norm; None for an ε of 0.

    Raises:
      UserError: ε or the number of steps is out of its range.
    """
    attacks.check_epsilon(epsilon, "linf", (), "config.attack.epsilon")
    attacks.check_steps(steps, "config.attack.steps")
    if steps == 1:
        attack = lambda logits, x, labels, keys: attacks.fgsm(logits, x, labels, epsilon=epsilon)
    else:
        attack = functools.partial(attacks.pgd, epsilon=epsilon, steps=steps)
    return attack if epsilon else None
