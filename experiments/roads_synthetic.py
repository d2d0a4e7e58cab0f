"""Roads found in aerial scenes drawn on the spot, with maps that omit or displace them on request.

Paper: Mnih, Hinton, "Learning to detect roads in high-resolution aerial images", 2010, and "Learning to label aerial
images from noisy data", 2012. Their pictures, Massachusetts Roads, are for roads_folder; here scenes of 256×256 are
drawn, with roads, roofs of the same grey, trees and shadows.

Command: python launch.py --experiment=roads_synthetic
with bad maps: --config.omitted=0.3 --config.loss=omission; or --config.shift=3 and then, from that run's folder,
--config.shift=3 --config.loss=translation --config.theta1=0.05 --config.init_from=FOLDER

Expected: relaxed precision and recall alike at 0.90 or more in 10 minutes of two cores; trained on maps without 30 % of
the roads, the loss robust to omissions above cross-entropy.

Measured: break-even 0.988 on 20 test scenes (seed 0), 0.979 after 500 of the steps; 5 min on two CPU cores that others
shared. --config.net=untied: 0.982; 10 min, shared.
With 30 % of the roads left out of the maps to train on, --config.steps=700, mean of seeds 0 to 2: robust to
omissions 0.960 (0.961, 0.956, 0.962), cross-entropy 0.956 (0.953, 0.959, 0.956); at a probability of 0.5 the one finds
97.6 % of the roads, the other 88.9 %. With maps displaced by up to 6 pixels, 12 test scenes, tiles not overlapping:
cross-entropy 0.880 after 400 steps; 250 more from there at a rate of 5e-4, 0.918 with cross-entropy and 0.920 with the
loss robust to displacements (reach 5, theta0 0.01, theta1 0.05), which is no difference; as patches are turned, a fifth
of them was then displaced by more than that reach. 2026-11-22.
"""

import functools

from ml_collections import ConfigDict

from cnnlab.data.aerial import AerialScenes
from cnnlab.experiment import Experiment
from cnnlab.recipes.roads import assemble, road_fields


def get_config() -> ConfigDict:
    """The fields that `--config.field=value` overrides; those not named here: `recipes/roads.py`."""
    config = road_fields()
    config.scenes = 200  # to train on
    config.test_scenes = 20  # to test on
    config.side = 256  # pixels of a scene's height and width
    config.omitted = 0.0  # share of the roads that the maps to train on leave out
    config.shift = 0  # pixels that these maps are displaced by at most, both ways
    return config


def build(config: ConfigDict) -> Experiment:
    """The run that the configuration describes."""
    train = functools.partial(AerialScenes, "train", config.scenes, config.side, config.omitted, config.shift)
    test = functools.partial(AerialScenes, "test", config.test_scenes, config.side)
    return assemble(config, "roads_synthetic", train, test)
