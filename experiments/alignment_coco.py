"""Regions of photographs and the words of sentences in one space: COCO's, Flickr's or one's own.

Paper: Karpathy, Fei-Fei, "Deep visual-semantic alignments for generating image descriptions", 2015, sections 3.1 and
4.1: the 19 surest regions of a detector and the whole picture, VGG-16's fc7 of each, sentences by a recurrent network
in both directions, descent with momentum on batches of 100. Here regions are pooled from the whole picture's maps, as
in Fast R-CNN. The paper's CNN was trained on ImageNet: --config.init_from=WEIGHTS.

Command: python launch.py --experiment=alignment_coco
which takes TFDS's coco_captions with COCO's boxes as regions; --config.data=FOLDER takes one as COCO's or Flickr's, and
--config.detector=WORKDIR the findings of a detector that was trained there, which Flickr's need.

Expected: R@1, 5, 10 and median rank of 16.5, 40.6, 54.2 and 7.6 from picture to sentence, 11.8, 32.1, 44.7 and 12.4
from sentence to picture on Flickr8k's 1,000 test pictures (table 1).

Measured: not on these sets; it ran 20 steps with the small network on a folder of 101 of COCO's photographs.
2026-11-22.
"""

from ml_collections import ConfigDict

from cnnlab import parallel
from cnnlab.errors import UserError
from cnnlab.experiment import Experiment
from cnnlab.models.alignment import AlignmentNet
from cnnlab.models.detectors import DETECTORS
from cnnlab.recipes.captions import aligning, alignment_fields, assemble, caption_fields
from cnnlab.recipes.runs import compute_type


def get_config() -> ConfigDict:
    """The fields that `--config.field=value` overrides; those not named here: `recipes/captions.py`."""
    config = caption_fields()
    config.update(alignment_fields())
    config.data = "coco_captions"  # of TFDS; a folder as COCO's or Flickr's; or "shapes"
    config.net = "vgg16"  # or "zf", "resnet50", "resnet50_fpn" or "small", as of detectors
    config.size = 224  # pictures are stretched to size×size pixels
    config.cut = True  # longer sentences are cut off
    config.words = 20  # of a sentence at most
    config.sentences = 1  # of a picture's five that a step learns from
    config.places = False  # where a region lies and how large it is are among its features
    config.optimizer = "sgd"  # with momentum 0.9
    config.learning_rate = 1e-5  # at the first step
    config.steps = 20_000  # in the whole run
    config.eval_every = 2000  # steps between tests
    config.checkpoint_every = 1000  # steps between checkpoints
    return config


def build(config: ConfigDict) -> Experiment:
    """The run that the configuration describes.

    Raises:
      UserError: an unknown net.
    """
    if config.net not in DETECTORS:
        raise UserError(f'config.net is "{config.net}"; it must be one of {", ".join(DETECTORS)}')
    net = DETECTORS[config.net](AlignmentNet, 0, **compute_type(config))
    axis = parallel.AXIS if config.sync_norm else None
    return assemble(config, "alignment_coco", aligning(config, net, axis), "-recall", regions=True)
