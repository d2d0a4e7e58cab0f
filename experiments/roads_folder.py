"""Roads found in your own aerial pictures, from pictures and maps as Massachusetts Roads has them.

Paper: Mnih, Hinton, "Learning to detect roads in high-resolution aerial images", 2010, and "Learning to label aerial
images from noisy data", 2012.

Command: python launch.py --experiment=roads_folder --config.data=FOLDER
Data: FOLDER/sat and FOLDER/map, of which a fifth is held out; or these within train/ and within test/ or valid/; or
train/ and train_labels/ with test/ and test_labels/; input/ and output/, or images/ and masks/, do as well. A mask has
its picture's name and size, 0 where there is no road and 255 where there is one. PNG, TIFF and other pictures of any
size from 64×64 up, of about a metre a pixel; TIFFs that are not packed are read part by part.
Then --mode=predict --input=FOLDER/test/sat draws the roads over the pictures, right and wrong where there are maps.

Expected: what your maps allow.

Measured: on a folder laid out as Massachusetts Roads, of 6 drawn scenes of 300×300 to 600×600 as PNG and TIFF, packed
and not, it trained, was tested and predicted; no figure, as the set itself was not at hand.
"""

import functools
from pathlib import Path

from ml_collections import ConfigDict

from cnnlab.data.road_folders import RoadFolder, split_files
from cnnlab.errors import UserError
from cnnlab.experiment import Experiment
from cnnlab.recipes.roads import assemble, road_fields


def get_config() -> ConfigDict:
    """The fields that `--config.field=value` overrides; those not named here: `recipes/roads.py`."""
    config = road_fields()
    config.data = ""  # a folder of pictures and masks
    config.test_share = 0.2  # of a folder without test pictures, held out for testing
    config.loss = "omission"  # maps are never whole; or "translation", "cross_entropy"
    config.theta1 = 0.05  # share of the roads' pixels that maps leave out
    config.steps = 10_000  # in the whole run
    config.eval_every = 2000  # steps between tests
    return config


def build(config: ConfigDict) -> Experiment:
    """The run that the configuration describes."""

    def read(side: int) -> RoadFolder:
        if not config.data:
            raise UserError("config.data is not set: it must be a folder of aerial pictures and road maps")
        return RoadFolder(split_files(Path(config.data).expanduser(), config.test_share)[side])

    return assemble(config, "roads_folder", functools.partial(read, 0), functools.partial(read, 1))
