"""Sentences about pictures, word by word, from scratch, on shapes that are drawn on the spot.

Paper: Karpathy, Fei-Fei, "Deep visual-semantic alignments for generating image descriptions", 2015, section 3.3. Here
on a ResNet-18 of half its width, learnt along with the sentences, in place of VGG-16 that was trained on ImageNet, and
with Adam's rate falling to 0.

Command: python launch.py --experiment=caption_shapes
then --workdir=runs/caption_shapes --mode=predict --input=PICTURES, which says a sentence and the runners-up of each.
Beam search against the likeliest word each time: --mode=eval --config.beam=1.
Of regions (section 3.2): --config.alignment=runs/alignment_shapes --config.size=64 --workdir=runs/region_captions, then
--mode=predict --config.regions=True --config.detector=WORKDIR of a trained detector.

Expected: BLEU-4 of at least 0.60, and 90 % of the sentences true of their pictures, in 20 minutes of two cores.

Measured: short of that, before things were named and with the paper's cell. With --config.steps=1200: BLEU-1 to 4 of 79.3, 68.2, 55.2 and 42.8 %, CIDEr 2.25, 5.0 % true
on 1,000 test pictures (seed 0), with a beam of 1 BLEU-4 of 41.6 %, CIDEr 2.33, 3.0 % true; 13 min on two CPU cores that
tests shared. Colours and sizes are right, shapes are not yet told apart: the loss still falls (0.66 nats a word in
training). Begun with a detector's network it learnt no sooner, with up to 6 shapes a drawing much later. What limits is
the recurrent network: told exactly which things are where, in place of a picture, it is hardly further after as many
steps (0.68 nats, 14.6 % true), an LSTM of 256 at a rate of 3e-3 is: 0.40 nats, 64 % true. So told, and told too which
things there are at all, a GRU of 384 at 2e-3 has 0.36 nats and 83 % true after 3,000 steps of 20 pictures. 2026-11-22.
"""

from ml_collections import ConfigDict

from cnnlab import parallel
from cnnlab.caption_recipes import assemble, caption_fields, captioner_fields, captioning
from cnnlab.experiment import Experiment
from cnnlab.models.resnet import ResNet
from cnnlab.recipes import compute_type


def get_config() -> ConfigDict:
    """The fields that `--config.field=value` overrides; those not named here: `caption_recipes.py`."""
    config = caption_fields()
    config.update(captioner_fields())
    config.shapes = 3  # in a drawing at most
    config.size = 96  # pictures are drawn of size×size pixels
    config.width = 32  # maps of the first stage of the ResNet
    config.flat = True  # besides the mean of the last maps all their places: sentences say what is where
    config.sync_norm = True  # batch normalisation over all devices, so that their number changes nothing
    config.cell = "gru"  # of the recurrent network; or "lstm", or "rnn", the paper's
    config.naming = 1.0  # weight of naming what there is at each place, beside the sentences; 0: they alone are learnt
    config.sentences = 3  # of a picture's five that a step learns from, drawn anew in each
    config.batch_size = 20  # pictures, of all devices together, which must divide it
    config.steps = 8000  # in the whole run
    config.average = 0.99  # decay of a moving average of the weights, used in testing
    return config


def build(config: ConfigDict) -> Experiment:
    """The run that the configuration describes."""
    axis = parallel.AXIS if config.sync_norm else None
    # What is named is to be told apart by where it is: of every 16th pixel, in place of every 32nd.
    maps, places = ("conv4", -(-config.size // 16)) if config.naming else ("conv5", 0)
    backbone = ResNet(18, width=config.width, maps=(maps,), axis_name=axis, **compute_type(config))
    make = captioning(config, backbone, config.flat, config.naming)
    return assemble(config, "caption_shapes", make, "-BLEU-4", places=places)
