"""LeNet-5 (LeCun et al. 1998), the paper's net, on 1,797 real 8×8 digits that come with scikit-learn.

python launch.py --experiment=lenet_digits
"""

import functools

from ml_collections import ConfigDict

from cnnlab import parallel
from cnnlab.configs import plain
from cnnlab.data.digits import CLASS_NAMES, TRAIN_EXAMPLES, digits
from cnnlab.data.pictures import read_picture
from cnnlab.data.preprocess import pad_and_scale
from cnnlab.experiment import Experiment
from cnnlab.models.lenet import LeNet, map_loss
from cnnlab.optim import adam_cosine
from cnnlab.tasks.classification import Classification, cross_entropy


def get_config() -> ConfigDict:
    """Plain values; every one can be overridden as --config.field=value."""
    config = ConfigDict()
    config.variant = "paper"  # "paper": sparse C3, trainable subsampling, tanh, RBF; "modern": ReLU, max pool, softmax
    config.j = 1.0  # of the RBF outputs' loss (equation 9): beyond it, a wrong class's penalty grows no further
    config.batch_size = 64  # of all devices together; they must divide it
    config.eval_batch_size = 360  # likewise
    config.epochs = 60.0  # passes over the 1,438 training digits
    config.learning_rate = 3e-3  # Adam's at the first step; it falls to 0 along half a cosine
    config.weight_decay = 0.0  # decoupled
    config.invert = False  # predict: True for dark ink on white paper
    config.seed = 0  # of the initial weights and the order of examples
    config.log_every = 20  # steps between rows of metrics.jsonl
    config.eval_every = 440  # steps between tests
    config.checkpoint_every = 440  # steps between checkpoints
    return config


def build(config: ConfigDict) -> Experiment:
    """The experiment of a configuration."""
    parallel.check_batch_size("config.batch_size", config.batch_size)
    parallel.check_batch_size("config.eval_batch_size", config.eval_batch_size)
    steps = round(config.epochs * TRAIN_EXAMPLES / config.batch_size)
    paper = config.variant == "paper"
    return Experiment(
        name="lenet_digits",
        config=plain(config),
        task=Classification(
            model=LeNet(num_classes=10, variant=config.variant),
            optimizer=adam_cosine(config.learning_rate, steps, config.weight_decay),
            preprocess=functools.partial(pad_and_scale, size=32, low=-0.1, high=1.175),
            class_names=CLASS_NAMES,
            loss=functools.partial(map_loss, j=config.j) if paper else cross_entropy,
        ),
        train_data=functools.partial(digits, "train"),
        test_data=functools.partial(digits, "test"),
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
