"""Spatial transformer networks on distorted MNIST: turned, moved, scaled, projected, bent, cluttered.

Paper: Jaderberg, Simonyan, Zisserman, Kavukcuoglu, "Spatial transformer networks", 2015, section 4.1 and appendix A.4.
Every net has as many parameters as it may have below 400,000, its localisation net included, and learns from digits
distorted anew each time. The 10,000 test pictures are distorted once, the same for all nets.

Command: python launch.py --experiment=stn_mnist --config.distortion=RTS --config.transformer=affine
--config.distortion is R, RTS, P, E or cluttered, --config.transformer none, affine, projective or tps, --config.body
cnn or fcn.
The paper's schedule: --config.optimizer=sgd --config.learning_rate=0.01 --config.steps=150000
Without MNIST: --config.data=digits

Expected: test error of the paper, CNN and ST-CNN affine: R 1.2 and 0.7, RTS 0.8 and 0.5, P 1.5 and 0.8, E 1.4 and
1.2 %, after 150,000 steps. In fewer steps, ours: lower with the transformer than without.

Measured: error on 10,000 test pictures of CNN and ST-CNN affine (seed 0), batches of 128: R 3.38 and 2.25 %, RTS 4.71
and 2.86 % after 2,000 steps; P 14.57 and 6.63, E 3.94 and 2.69 % after 1,000. On two free CPU cores 1,300 pictures a
second on R with the transformer (--config.batch_size=128 --config.steps=2000).
Of the fully connected net after 1,200 steps of 256 on R: 5.34 % without, 4.11 % with the affine transformer; where its
localisation net learns at a third or a tenth of the rate, 4.63 and 4.93 %. Of scikit-learn's digits on RTS
(--config.data=digits --config.body=fcn --config.steps=300 --config.batch_size=64 --config.learning_rate=0.002): 57.7 %
without, 15.9 % with two affine transformers in parallel that begin with 0.7,0,0,0,0.7,0. 2026-11-22.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import UInt8
from ml_collections import ConfigDict
from PIL import Image

from cnnlab import parallel
from cnnlab.data import digits
from cnnlab.data.clutter import digit_bank
from cnnlab.data.distorted_digits import DIGIT, DISTORTIONS, Distortion, distorted
from cnnlab.data.labelled import Labelled
from cnnlab.data.pictures import read_picture
from cnnlab.data.prepare import prepare
from cnnlab.data.preprocess import pad_and_scale
from cnnlab.data.source import ArraySource, Source
from cnnlab.data.tfds_source import tfds_source
from cnnlab.errors import UserError, nearest
from cnnlab.experiment import Experiment
from cnnlab.models.stn import STCNN, STFCN, ConvLocaliser, DenseLocaliser, SpatialTransformer, widest
from cnnlab.ops.grid_sample import KINDS, check_transform
from cnnlab.recipes.descent import descent_fields, optimizer_of
from cnnlab.recipes.runs import check_unused, compute_type, craft_fields, run_of
from cnnlab.tasks.classification import Classification
from cnnlab.tasks.transformed import TransformedClassification

T = TypeVar("T")
NAME = "stn_mnist"
BODIES = {"cnn": (STCNN, ConvLocaliser), "fcn": (STFCN, DenseLocaliser)}  # with their localisation nets


def get_config() -> ConfigDict:
    """Plain values; each can be overridden as --config.field=value."""
    config = ConfigDict()
    config.data = "mnist"  # of TFDS; or "digits", scikit-learn's, which need no download
    config.train_examples = 60_000  # the first so many of MNIST's training pictures
    config.distortion = "R"  # rotated; "RTS": also scaled and moved; "P": projected; "E": bent; or "cluttered"
    config.body = "cnn"  # convolutional; or "fcn", fully connected
    config.transformer = "affine"  # or "projective", "tps" (thin-plate spline), or "none"
    config.parallel = 1  # transformers side by side
    config.initial = ()  # transform to begin with, for instance 0.5,0,0,0,0.5,0: a closer look; (): the identity
    config.parameters = 400_000  # of the whole network, at most: the widest such is made
    config.batch_size = 256  # of all devices together, which must divide it
    config.eval_batch_size = 500  # likewise
    config.steps = 4000  # in the whole run; the paper's has 150,000
    config.optimizer = "adam"  # its rate falling to 0 along a cosine; or "sgd", with momentum, as in the paper
    config.learning_rate = 1e-3  # at the first step; the paper's descent has 0.01
    config.drops = (50_000, 100_000)  # with "sgd": steps after which the rate is a tenth
    config.weight_decay = 0.0  # with "sgd": L2 penalty on all parameters
    config.update({**descent_fields(), **craft_fields()})  # rates "transformer=0.1": slower localisation nets
    config.invert = False  # predict: True for dark ink on white paper, as the net learns white ink on black
    config.seed = 0  # of the initial weights, the order of the examples and the distortions in training
    config.log_every = 100  # steps between reports
    config.eval_every = 1000  # steps between tests
    config.checkpoint_every = 500  # steps between checkpoints
    return config


def build(config: ConfigDict) -> Experiment:
    """The experiment of a configuration."""
    config = config.copy_and_resolve_references()
    distortion = _chosen("distortion", config, DISTORTIONS)
    parallel.check_batch_sizes(config)
    train, test = sources(config)
    shape = (distortion.size, distortion.size, 1)
    plain = config.transformer == "none"
    task = (Classification if plain else TransformedClassification)(
        model=network(config, distortion),
        optimizer=optimizer_of(config),
        preprocess=functools.partial(pad_and_scale, size=distortion.size, low=0.0, high=1.0),
        class_names=digits.CLASS_NAMES,
        augment=distortion.function(lambda: digit_bank(train())),
    )
    data = Labelled(
        digits.CLASS_NAMES,
        config.train_examples,
        train,
        functools.cache(lambda: distorted(test(), distortion)),
        functools.partial(prepare, "mnist") if config.data == "mnist" else None,
    )
    read = functools.partial(read_digit, size=distortion.size, invert=config.invert)
    return dataclasses.replace(run_of(config, NAME, task, data, distortion.size, read), picture_shape=shape)


def _chosen(field: str, config: ConfigDict, known: Mapping[str, T]) -> T:
    name = config[field]
    if name not in known:
        raise UserError(f'config.{field} is "{name}"; it must be one of {", ".join(known)}{nearest(name, known)}')
    return known[name]


def sources(config: ConfigDict) -> tuple[Callable[[], Source], Callable[[], Source]]:
    """What makes the undistorted digits to train and to test on."""
    shape = (DIGIT, DIGIT, 1)
    known = {
        "mnist": [
            functools.partial(tfds_source, "mnist", split, shape, NAME)
            for split in (f"train[:{config.train_examples}]", "test")
        ],
        "digits": [functools.partial(framed_digits, split) for split in ("train", "test")],
    }
    train, test = _chosen("data", config, known)
    if config.data == "digits":
        check_unused(config, NAME, ("train_examples",))
    return train, test


def framed_digits(split: str) -> ArraySource:
    """scikit-learn's digits as MNIST has its own: 20×20 pixels in the middle of 28×28."""
    source, margin = digits.digits(split, 20), (DIGIT - 20) // 2
    image = np.pad(source.arrays["image"], ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    return dataclasses.replace(source, arrays={**source.arrays, "image": image})


def network(config: ConfigDict, distortion: Distortion) -> STCNN | STFCN:
    """The widest net that config.parameters allow, transformer included, as the paper compares them."""
    body, localiser = _chosen("body", config, BODIES)
    dtype = compute_type(config)
    _chosen("transformer", config, {"none": None, **KINDS})
    fields = {}
    if config.transformer == "none" and (config.initial or config.parallel != 1):
        raise UserError("config.initial and config.parallel are of a transformer, and config.transformer is none")
    if config.transformer != "none":
        if config.initial:
            if not all(isinstance(x, int | float) for x in config.initial):
                raise UserError(f"config.initial is {tuple(config.initial)}; it must be numbers, as in 1,0,0,0,1,0")
            check_transform(config.transformer, config.initial, "config.initial")
        transformer = SpatialTransformer(
            config.transformer, localiser, config.parallel, initial=tuple(map(float, config.initial)), **dtype
        )
        fields = {"transformer": transformer, "downsample": distortion.downsample}

    def net(width: int) -> STCNN | STFCN:
        return body(width, len(digits.CLASS_NAMES), **fields, **dtype)

    return net(widest(net, (distortion.size, distortion.size, 1), config.parameters))


def read_digit(path: Path, size: int, invert: bool) -> UInt8[np.ndarray, "h w 1"]:
    """A picture file as the network takes it: as it is where it has the size; else as a digit of MNIST, 28×28 pixels,
    in the middle of a black square.
    """
    digit = read_picture(path, (DIGIT, DIGIT, 1), invert=invert)
    with Image.open(path) as opened:
        if opened.size == (size, size):
            return read_picture(path, (size, size, 1), invert=invert)
    before = (size - DIGIT) // 2
    return np.pad(digit, (*[(before, size - DIGIT - before)] * 2, (0, 0)))
