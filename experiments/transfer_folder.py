"""Transfer learning: a network that has learnt ImageNet learns your own pictures, one folder a class.

Paper: Yosinski, Clune, Bengio, Lipson, "How transferable are features in deep neural networks?", 2014.
Command: python launch.py --experiment=transfer_folder --config.data=PICTURES --config.init_from=timm/resnet18.tv_in1k
init_from: published weights of ResNet with config.depth layers, a file or a hub id, or a workdir of one's own.
Data: PICTURES/CLASS/*.png or .jpg of any size. A fifth is held out for testing, unless PICTURES holds train/CLASS/
and val/CLASS/ or test/CLASS/.
Expected: a few per cent of error from some dozens of pictures a class where they look like photographs.
Measured: with published weights the run was not made. From a ResNet-18 that had seen 400 each of MNIST's digits 0 to 4,
twice (resnet_imagenet with --config.depth=18 --config.stride_on_3x3=True --config.augment=crop --config.batch_size=32
--config.schedule=cosine --config.learning_rate=0.02 --config.epochs=2: 1.8 % error), to 5 to 9 from 20 pictures each,
--config.augment=crop: 43.2 % of 500 test digits (seed 0, 67 s on two CPU cores). So narrow a beginning is none for a
frozen body: the former command learns the same 100 pictures from scratch, in 20 epochs, to 6.6 %. With all layers
learning, --config.freeze= --config.epochs=12, it is 5.0 %. 2026-11-23.
"""

import functools

from ml_collections import ConfigDict

from cnnlab.errors import UserError
from cnnlab.experiment import Experiment
from cnnlab.models.resnet import ResNet
from cnnlab.optim import adam_cosine
from cnnlab.recipes.classification import assemble, imagenet_fields, paper_convention
from cnnlab.recipes.descent import descent_fields


def get_config() -> ConfigDict:
    """Plain values; each can be overridden as --config.field=value. Fields not named here: `imagenet_fields`."""
    config = imagenet_fields()
    for field in ("drops", "small", *descent_fields()):  # what is Adam's is below
        del config[field]
    config.data = ""  # a folder of train/CLASS/ and val/CLASS/, or of CLASS/
    config.depth = 18  # layers of the ResNet: 18, 34, 50, 101 or 152
    config.augment = "crop,flip"  # of training pictures, in turn; no "flip" where left and right matter, as in text
    config.stride_on_3x3 = True  # where a bottleneck strides: as in published weights; in own ones mostly False
    config.replace_head = True  # begin with a new last layer, for other classes than those learnt before
    config.freeze = "body"  # all but the new last layer stay as they are; "" trains all; "conv2*,conv3*" keeps those
    config.batch_size = 32  # of all devices together, which must divide it
    config.eval_batch_size = 32  # likewise
    config.epochs = 20.0  # passes over the training pictures
    config.learning_rate = 1e-3  # Adam's at the first step; it falls to 0 along half a cosine
    config.weight_decay = 1e-4  # decoupled, times the learning rate
    config.log_every = 10  # steps between reports
    config.eval_every = 100  # steps between tests
    config.checkpoint_every = 100  # steps between checkpoints
    return config


def build(config: ConfigDict) -> Experiment:
    """The experiment of a configuration.

    Raises:
      UserError: the data or the weights are not named.
    """
    for field, what in (("data", "a folder with a folder for each class"), ("init_from", "the weights to begin with")):
        if not config[field]:
            raise UserError(f"config.{field} is not set: --config.{field}=… names {what}")
    if config.data == "digits":
        raise UserError('config.data is "digits", which is for learning from scratch: name a folder of pictures')

    def optimizer(steps_of):
        return adam_cosine(config.learning_rate, max(1, steps_of(config.epochs)), config.weight_decay)

    return assemble(
        config,
        name="transfer_folder",
        model=functools.partial(ResNet, depth=config.depth, stride_on_3x3=config.stride_on_3x3),
        optimizer=optimizer,
        convention=paper_convention(224),
    )
