"""ResNet on ImageNet, 18 to 152 layers, and the plain nets of 18 and 34.

Paper: He, Zhang, Ren, Sun, "Deep residual learning for image recognition", 2015, sections 3.4 and 4.1.
Command: python launch.py --experiment=resnet_imagenet --data_dir=WHERE_TFDS_DATA_LIES
Without ImageNet: --config.data=digits, built in; --config.data=PICTURES, a folder of your own.
Expected: 22.85 % top-1 and 6.71 % top-5 error on the validation set for 50 layers (34: 24.52 and 7.46; 101: 21.75 and
6.05; 152: 21.43 and 5.71; plain 34: 28.54 and 10.02), the paper's figures, which average ten crops a picture, as
--mode=eval --config.eval.crops=10 does; training tests one central crop, so finds somewhat more.
Measured: 5.01 % error on scikit-learn's test digits with --config.data=digits (seed 0, 64 s on two CPU cores);
the run on ImageNet was not made.
"""

import functools

from ml_collections import ConfigDict

from cnnlab.experiment import Experiment
from cnnlab.models.resnet import ResNet
from cnnlab.recipes.classification import assemble, descent_with_drops, imagenet_fields, paper_convention


def get_config() -> ConfigDict:
    """Plain values; each can be overridden as --config.field=value. Fields not named here: `imagenet_fields`."""
    config = imagenet_fields()
    config.depth = 50  # 18, 34, 50, 101 or 152 layers
    config.plain = False  # leave the shortcuts out
    config.option = "B"  # shortcuts: "A" zeros for new maps, "B" projections where shapes change, "C" everywhere
    config.stride_on_3x3 = False  # where a bottleneck strides: the paper's first 1×1, or as in published weights
    config.augment = "scale_jitter=1.875,flip,colour_noise"  # of training pictures: at 256 to 480 pixels …
    config.stored_size = 480  # … of which they are squares; in testing 256
    config.batch_size = 256  # of all devices together, which must divide it
    config.epochs = 120.0  # passes over the training pictures: the paper's 600,000 steps
    config.learning_rate = 0.1  # at the first step
    config.drops = (30.0, 60.0, 90.0)  # epochs after which it is a tenth; the paper waits for a plateau
    config.weight_decay = 1e-4  # L2 penalty on all parameters
    config.small.size = 32  # of the pictures, in pixels
    config.small.steps = 120  # in the whole run
    config.small.learning_rate = 1e-3  # of Adam, falling to 0: the paper's schedule has no place in so few steps
    return config


def build(config: ConfigDict) -> Experiment:
    """The experiment of a configuration."""
    model = functools.partial(
        ResNet, depth=config.depth, plain=config.plain, option=config.option, stride_on_3x3=config.stride_on_3x3
    )
    return assemble(
        config,
        name="resnet_imagenet",
        model=model,
        optimizer=functools.partial(descent_with_drops, config),
        convention=paper_convention(224),
    )
