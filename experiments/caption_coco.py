"""Sentences about photographs: COCO's captions, Flickr's, or a folder of one's own.

Paper: Karpathy, Fei-Fei, "Deep visual-semantic alignments for generating image descriptions", 2015, sections 3.3 and
4.2: a recurrent network of 512 rectified units that sees fc7 of VGG-16 at the first word only. The paper's CNN was
trained on ImageNet and stays as it is: --config.init_from=WEIGHTS --config.freeze=backbone.

Command: python launch.py --experiment=caption_coco
which takes TFDS's coco_captions; a folder as COCO's (annotations/captions_*.json), or as Flickr8k's with its file of
sentences, by --config.data=FOLDER.

Expected: BLEU-1 to 4 of 62.5, 45.0, 32.1 and 23.0 % on COCO, 57.9, 38.3, 24.5 and 16.0 % on Flickr8k (tables 2 and 3,
with a beam of 7).

Measured: not on these sets. On a folder of 50 and 51 of COCO's photographs, from scratch (--config.data=DIR
--config.net=small --config.size=96 --config.minimum=1 --config.words=0 --config.cut=False --config.dropout=0
--config.batch_size=25 --config.eval_batch_size=25 --config.steps=300 --config.test_on=train; 6 min on two CPU cores
that others shared): BLEU-4 of 100 % on the 50 that were learnt, after 200 steps; on the 51 others BLEU-1 to 4 of 35.8,
15.8, 6.4 and 2.8 %, METEOR 0.095, with a beam of 1 33.6, 13.7, 0 and 0 %, METEOR 0.092. 2026-11-22.
"""

import functools
from collections.abc import Callable

import flax.linen as nn
from ml_collections import ConfigDict

from cnnlab.errors import UserError
from cnnlab.experiment import Experiment
from cnnlab.models.alexnet import AlexNet
from cnnlab.models.resnet import ResNet
from cnnlab.models.vgg import VGG
from cnnlab.recipes.captions import assemble, caption_fields, captioner_fields, captioning
from cnnlab.recipes.runs import compute_type

NETS: dict[str, Callable[..., nn.Module]] = {
    "vgg16": functools.partial(VGG, "D", maps=("fc7",)),
    "alexnet": functools.partial(AlexNet, "one_column", maps=("fc7",)),
    "resnet18": functools.partial(ResNet, 18, maps=("conv5",)),
    "resnet50": functools.partial(ResNet, 50, stride_on_3x3=True, maps=("conv5",)),
    "small": functools.partial(ResNet, 18, width=32, maps=("conv5",)),
}


def get_config() -> ConfigDict:
    """The fields that `--config.field=value` overrides; those not named here: `recipes/captions.py`."""
    config = caption_fields()
    config.update(captioner_fields())
    config.data = "coco_captions"  # of TFDS; a folder as COCO's or Flickr's; or "shapes"
    config.net = "vgg16"  # or "alexnet", "resnet18", "resnet50" or "small", a ResNet-18 of half the width
    config.flat = False  # of a ResNet: besides the mean of the last maps all their places
    config.size = 224  # pictures are stretched to size×size pixels; fc7 wants 224
    config.cut = True  # longer sentences are cut off
    config.words = 20  # of a sentence at most
    config.steps = 50_000  # in the whole run
    config.dropout = 0.5  # share of the words' and the hidden numbers that is dropped in training
    config.eval_every = 5000  # steps between tests
    config.checkpoint_every = 1000  # steps between checkpoints
    config.log_every = 100  # steps between reports
    return config


def build(config: ConfigDict) -> Experiment:
    """The run that the configuration describes.

    Raises:
      UserError: an unknown net.
    """
    if config.net not in NETS:
        raise UserError(f'config.net is "{config.net}"; it must be one of {", ".join(NETS)}')
    backbone = NETS[config.net](**compute_type(config))
    return assemble(config, "caption_coco", captioning(config, backbone, config.flat), "-BLEU-4")
