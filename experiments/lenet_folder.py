"""LeNet-5 on your own pictures: one folder of pictures a class.

Paper: LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition", 1998, section II.
Command: python launch.py --experiment=lenet_folder --config.folder=PICTURES --workdir=runs/mine
Data: PICTURES/CLASS/*.png or .jpg, any size, grey or colour; they become 28×28 and grey. A fifth of them is held out
for testing, unless PICTURES holds train/CLASS/ and test/CLASS/.
Expected: what 28×28 grey pixels tell apart; on digits, a few per cent of error.
Measured: scikit-learn's 1,797 digits written as 8×8 PNG files, one folder a class: 0.55 % error on the 365 held out,
with --config.variant=paper 0.82 %; 22 s on two CPU cores (AMD EPYC; jax 0.10.2). 2026-11-21.
"""

import functools
from pathlib import Path

from ml_collections import ConfigDict

from cnnlab.data.folders import check_unchanged, folder_source, split_listing
from cnnlab.data.source import Source
from cnnlab.errors import UserError
from cnnlab.experiment import Experiment
from experiments import lenet_digits


def get_config() -> ConfigDict:
    """Plain values; each can be overridden as --config.field=value. Fields not named here: lenet_digits.py."""
    config = lenet_digits.get_config()
    config.folder = ""  # where the class folders are
    config.test_share = 0.2  # of the pictures, held out for testing; a picture keeps its side when others are added
    config.variant = "modern"  # softmax suits any classes; "paper" gives them codes of random signs
    config.learning_rate = 2e-3  # Adam's at the first step; it falls to 0 along half a cosine
    config.classes = ()  # found in the folder, recorded with the run; predict then needs no folder
    config.train_examples = 0  # likewise
    return config


def build(config: ConfigDict) -> Experiment:
    """The experiment of a configuration."""
    config = config.copy_and_resolve_references()
    if not config.folder:
        raise UserError(
            "config.folder is not set: --config.folder=PICTURES names a folder with a folder for each class"
        )
    folder, shape = Path(config.folder).expanduser(), (28, 28, 1)
    if not config.classes:
        listing, _ = split_listing(folder, config.test_share)
        config.classes, config.train_examples = listing.class_names, len(listing.paths)

    def data(side: int) -> Source:
        listing = split_listing(folder, config.test_share)[side]
        check_unchanged(folder, listing, config.classes, None if side else config.train_examples)
        return folder_source(listing, shape, config.invert)

    return lenet_digits.assemble(
        config,
        name="lenet_folder",
        class_names=tuple(config.classes),
        train_examples=config.train_examples,
        train_data=functools.partial(data, 0),
        test_data=functools.partial(data, 1),
    )
