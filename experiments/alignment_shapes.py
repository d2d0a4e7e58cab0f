"""Regions of pictures and the words of sentences in one space, on drawn shapes.

Paper: Karpathy, Fei-Fei, "Deep visual-semantic alignments for generating image descriptions", 2015, section 3.1: a
detector's features of regions, and a recurrent network over words in both directions. Here the detector is the small
Faster R-CNN of faster_rcnn_shapes, which is learnt on; regions tell where they lie too (`places`), and Adam's rate
falls to 0.

Command: python launch.py --experiment=alignment_shapes --config.init_from=runs/faster_rcnn_shapes
after python launch.py --experiment=faster_rcnn_shapes. Then
  --workdir=runs/alignment_shapes --mode=predict --input=PICTURES --config.query='a red circle left of a blue square'
  --config.detector=runs/faster_rcnn_shapes, as where the regions of pictures in files are is not known.

Expected: R@1 of at least 60 % both ways among 1,000 test pictures of different descriptions, in 20 min of two cores.

Measured: R@1, 5, 10 of 85.1, 97.8 and 99.0 % from picture to sentence, 66.8, 89.9 and 94.5 % from sentence to picture,
median rank 1 both ways (seed 0), begun with faster_rcnn_shapes, in 4 min 19 s on two CPU cores. On the regions that the
detector finds in place of the true boxes, --mode=eval --config.detector=runs/faster_rcnn_shapes, R@1 of 70.4 and
57.2 %. With --config.drawings=200000, 83.6 and 66.8 %. From scratch, with pictures of 128×128, after 1,000 steps of 50:
16.5 and 16.3 %. 2026-11-22.
"""

from ml_collections import ConfigDict

from cnnlab import parallel
from cnnlab.experiment import Experiment
from cnnlab.models.alignment import AlignmentNet
from cnnlab.models.detectors import small
from cnnlab.recipes.captions import aligning, alignment_fields, assemble, caption_fields
from cnnlab.recipes.runs import compute_type


def get_config() -> ConfigDict:
    """The fields that `--config.field=value` overrides; those not named here: `recipes/captions.py`."""
    config = caption_fields()
    config.update(alignment_fields())
    config.width = 32  # maps of the first stage of the ResNet
    config.joint = 256  # numbers of a vector in the space of regions and words: 1000 to 1600 in the paper
    config.hidden = 128  # units of each direction of the recurrent network, and of a word: 300 to 600 in the paper
    config.size = 96  # pictures are drawn of size×size pixels
    config.init_layers = "backbone,neck,head"  # with init_from: what a detector has that is used here
    config.batch_size = 50  # pictures, of all devices together, which must divide it
    config.steps = 600  # in the whole run
    config.eval_every = 200  # steps between tests
    config.checkpoint_every = 200  # steps between checkpoints
    config.average = 0.99  # decay of a moving average of the weights, used in testing
    return config


def build(config: ConfigDict) -> Experiment:
    """The run that the configuration describes."""
    axis = parallel.AXIS if config.sync_norm else None
    net = small(AlignmentNet, 0, config.width, axis_name=axis, **compute_type(config))
    return assemble(config, "alignment_shapes", aligning(config, net, axis), "-recall", regions=True)
