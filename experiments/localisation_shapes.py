"""Localisation by regression on shapes drawn on the spot: one object a picture, its class and its box.

Paper: Simonyan, Zisserman, "Very deep convolutional networks for large-scale image recognition", 2014, appendix A.
Here with four convolutions instead of VGG-16's thirteen, and one net for classes and boxes instead of two.

Command: python launch.py --experiment=localisation_shapes
As in the paper, from a classifier's weights: --config.net=vgg16 --config.size=224 --config.data=VOC_OR_COCO_FOLDER
--config.init_from=timm/vgg16.tv_in1k (or a workdir of vgg_imagenet), and --config.per_class for a box of each class.

Expected: most boxes in the right place in about two minutes of two cores, from scratch. The paper has 25.3 % top-5
localisation error on ImageNet's test set, per-class boxes better than one for all, and all layers trained better than
the last ones alone.

Measured: on 500 test pictures 8.2 % of the classes wrong, 10.4 % localisation error (class or box), 2.8 % top-5
localisation error, which with five classes is that of the boxes alone, mean IoU 0.779 (seed 0). The run took 240 s of
processor time, and 24 minutes as it had a small share of two cores, which other runs used too. Per-class boxes and
VGG were not run.
"""

import dataclasses
import functools
from pathlib import Path

from ml_collections import ConfigDict

from cnnlab import parallel, workdirs
from cnnlab.begin import from_published
from cnnlab.data import detected
from cnnlab.data.augment import horizontal_flip
from cnnlab.data.canvas import Resizing
from cnnlab.data.one_object import one_object
from cnnlab.data.source import Source
from cnnlab.errors import UserError, nearest
from cnnlab.experiment import Experiment
from cnnlab.models.localiser import LOCALISERS, Localiser
from cnnlab.optim import adam_cosine
from cnnlab.published import IMAGENET
from cnnlab.recipes.classification import paper_convention, settle_convention
from cnnlab.recipes.runs import compute_type, craft_fields, on_canvases
from cnnlab.tasks.localisation import Localisation


def get_config() -> ConfigDict:
    """The fields that `--config.field=value` overrides. Fields not named here: `recipes/runs.py`."""
    config = ConfigDict()
    config.data = "shapes"  # drawn on the spot; a folder as PASCAL VOC's or COCO's; or "voc" or "coco" of TFDS
    config.classes = ()  # of a folder: found there, recorded with the run; predict then needs no folder
    config.size = 64  # pixels of the network's input, and of a picture's longer side once it is resized
    config.net = "small"  # "alexnet" (227 pixels), "zfnet", "vgg11" … "vgg19" (224 pixels), "resnet18", "resnet34" …
    config.per_class = False  # a box for each class (PCR) instead of one for all (SCR)
    config.box_weight = 50.0  # what the Euclidean loss of the box counts beside the cross-entropy of the class
    config.batch_size = 64  # pictures, of all devices together, which must divide it
    config.eval_batch_size = 100  # likewise
    config.steps = 1500  # in the whole run
    config.learning_rate = 2e-3  # Adam's at the first step; it falls to 0 along half a cosine
    config.weight_decay = 0.0  # decoupled, times the learning rate
    config.clip_norm = 0.0  # gradients of a greater norm are scaled down to it; 0: none
    config.update(craft_fields())
    config.convention = ""  # of the input's colours, "paper" or "published"; "": as init_from has it, then recorded
    config.seed = 0  # of the initial weights, the order of the pictures, augmentation and dropout
    config.log_every = 50  # steps between reports
    config.eval_every = 250  # steps between tests
    config.checkpoint_every = 250  # steps between checkpoints
    return config


def build(config: ConfigDict) -> Experiment:
    """The run that the configuration describes.

    Raises:
      UserError: an unknown net; a weight of the boxes that is not positive; what the data are not.
    """
    config = config.copy_and_resolve_references()
    if config.net not in LOCALISERS:
        hint = nearest(config.net, LOCALISERS) or f": it must be one of {', '.join(LOCALISERS)}"
        raise UserError(f'config.net is "{config.net}"{hint}')
    if not config.box_weight > 0:
        raise UserError(f"config.box_weight is {config.box_weight}; it must be positive")
    if config.freeze == "body":
        config.freeze = "backbone"  # and not the one box for all classes, at random weights
    resizing = Resizing(config.size, config.size, multiple=1)
    drawn = config.data == "shapes"
    data = detected.choose(config.data, resizing, int(drawn), tuple(config.classes), "localisation_shapes")
    config.update(classes=data.class_names)
    parallel.check_batch_sizes(config)
    settle_convention(config, convention_of)
    convention = paper_convention(IMAGENET.size) if config.convention == "paper" else IMAGENET
    make = LOCALISERS[config.net]
    model: Localiser = make(num_classes=len(data.class_names), per_class=config.per_class, **compute_type(config))
    task = Localisation(
        model=model,
        optimizer=adam_cosine(config.learning_rate, config.steps, config.weight_decay, config.clip_norm),
        preprocess=convention.normalise,
        class_names=data.class_names,
        box_weight=config.box_weight,
        augment=horizontal_flip,
    )

    def of(source) -> Source:
        return one_object(source(), config.size)

    data = dataclasses.replace(data, train=functools.partial(of, data.train), test=functools.partial(of, data.test))
    return on_canvases(config, "localisation_shapes", task, data, resizing, "localisation_error")


def convention_of(init_from: str) -> str:
    """How the network's input is made of pictures: as it was where its first weights were learnt, "paper" or
    "published".

    Our own classifiers that began from no published weights had pictures less ImageNet's mean, not scaled.
    """
    found = workdirs.read(Path(init_from).expanduser()) if init_from else None
    if found is None or from_published(init_from):
        return "published"
    if "box_weight" in found["config"]:  # a localiser
        return found["config"].get("convention") or convention_of(found["config"]["init_from"])
    return "paper"
