"""Sentences about pictures, word by word, from scratch, on shapes that are drawn on the spot.

Paper: Karpathy, Fei-Fei, "Deep visual-semantic alignments for generating image descriptions", 2015, section 3.3. Here
on a small ResNet in place of VGG-16 that was trained on ImageNet: what the paper's network had learnt before, to name
what there is, this one learns along (`naming`), and the recurrent network, a GRU, sees how much there is of each kind,
and where. Each word is chosen through one more layer (`deep_output`). Adam's rate falls to 0.

Command: python launch.py --experiment=caption_shapes
then --workdir=runs/caption_shapes --mode=predict --input=PICTURES, which says a sentence and the runners-up of each.
Beam search against the likeliest word each time: --mode=eval --config.beam=1.
Of regions (section 3.2): --config.alignment=runs/alignment_shapes --config.naming=0 --config.size=64
--workdir=runs/region_captions, then --mode=predict --config.regions=True --config.detector=WORKDIR of a detector.

Expected: BLEU-4 of at least 0.60, and 90 % of the sentences true of their pictures, in 20 minutes of two cores.

Measured: BLEU-1 to 4 of 97.0, 95.9, 94.3 and 91.6 %, CIDEr 5.29, METEOR 0.610, 90.5 % of the sentences true, on 1,000
test drawings (seed 0), in 19 min 25 s on two CPU cores (110 pictures a second); with a beam of 1 BLEU-4 of 90.4 %,
CIDEr 5.53, METEOR 0.599, 88.6 % true. All things are named right in 84.5 % of the drawings. Of 1,000 drawings of
different descriptions (--mode=eval --config.distinct=True), which show more, BLEU-4 88.7 %, 83.5 % true, 74.8 % named
right. What it took, from run to run: with the paper's cell, all places of the last maps and no names hardly a sentence
was true of the 1,000 different ones (5.0 %; 1,200 steps of 50 pictures); with names, the words chosen from 512 hidden
units themselves, 81.9 % of the first 1,000; from a layer of rectified units (`deep_output`) 88.8 %; and 90.5 % with a
thing's name counting as much among others as alone. Of regions only the beginning (--config.steps=400, 8,000 regions
seen, in 2 min with the reading of the phrases): perplexity 4.35, BLEU-1 36 % on 3,896 regions. 2026-11-22.
"""

from ml_collections import ConfigDict

from cnnlab import parallel
from cnnlab.experiment import Experiment
from cnnlab.models.resnet import ResNet
from cnnlab.recipes.captions import assemble, caption_fields, captioner_fields, captioning
from cnnlab.recipes.runs import compute_type


def get_config() -> ConfigDict:
    """The fields that `--config.field=value` overrides; those not named here: `recipes/captions.py`."""
    config = caption_fields()
    config.update(captioner_fields())
    config.shapes = 3  # in a drawing at most
    config.drawings = 200_000  # to train on: more than the run sees, so that none is learnt by heart
    config.size = 96  # pictures are drawn of size×size pixels
    config.width = 48  # maps of the first stage of the ResNet
    config.flat = True  # without naming: besides the mean of the last maps all their places are seen
    config.sync_norm = True  # batch normalisation over all devices, so that their number changes nothing
    config.cell = "gru"  # of the recurrent network; or "lstm", or "rnn", the paper's
    config.hidden = 384  # units of the recurrent network; 512 in the paper
    config.deep_output = 768  # rectified units between the recurrent ones and the choice of the next word
    config.naming = 0.5  # weight of naming what there is at each place, beside the sentences; 0: they alone are learnt
    config.sentences = 4  # of a picture's five that a step learns from, drawn anew in each
    config.batch_size = 20  # pictures, of all devices together, which must divide it
    config.steps = 6200  # in the whole run
    config.learning_rate = 2e-3  # Adam's at the first step; it falls to 0
    config.eval_every = 3100  # steps between tests
    config.average = 0.99  # decay of a moving average of the weights, used in testing
    return config


def build(config: ConfigDict) -> Experiment:
    """The run that the configuration describes."""
    axis = parallel.AXIS if config.sync_norm else None
    # Names stand close to each other: at every 8th pixel, where without them maps of every 32nd are seen.
    maps, places = ("conv3", -(-config.size // 8)) if config.naming else ("conv5", 0)
    backbone = ResNet(18, width=config.width, maps=(maps,), axis_name=axis, **compute_type(config))
    make = captioning(config, backbone, config.flat, config.naming)
    return assemble(config, "caption_shapes", make, "-BLEU-4", places=places)
