"""Lesson: depth. Plain nets learn worse the deeper they are; with shortcuts they do not.

Paper: the guide, part 3, on ResNet; He, Zhang, Ren, Sun, "Deep residual learning for image recognition", 2015,
section 4.2 and figure 6.
Command: python launch.py --experiment=lesson_depth
With CIFAR-10: --config.data=cifar10 --config.depths="(20, 32, 44, 56)" --data_dir=WHERE_TFDS_DATA_LIES
Expected: after as many steps, the deeper of the plain nets has the greater error on what it was trained on, so this is
not overfitting; of the residual nets, which have the same layers and as many parameters, all learn alike.
Measured: on the test digits after 200 steps, with plain nets of 8, 20 and 44 layers, 1.39, 3.06 and 44.85 % error, with
residual ones 1.11, 1.11 and 0.84 % (seed 0; 105 s for all six on two CPU cores). 2026-11-22.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from cnnlab import series
from cnnlab.errors import UserError
from cnnlab.experiment import Experiment
from cnnlab.lessons import Row, points, running_mean
from experiments import resnet_cifar10

NAME = "lesson_depth"
KINDS = {"plain": "Plain nets", "residual": "Residual nets: the same layers, with shortcuts"}
COLOURS = {"plain": "Reds", "residual": "Blues"}
SMOOTH = 0.1  # of a run's steps: what a curve averages over


def get_config() -> ConfigDict:
    """Plain values; each can be overridden as --config.field=value. Fields not named here: `recipe` of ResNet."""
    config = resnet_cifar10.recipe()
    config.data = "digits"  # built in; or "cifar10" of TFDS, with the paper's steps and rates
    config.member = ""  # only this run of the series, by the name of its folder; "": all of them
    config.depths = (8, 20, 44)  # layers of the nets, 6n + 2; each without and with shortcuts
    config.small.size = 8  # of the pictures, in pixels: as they come
    config.small.steps = 200  # in each run
    config.small.log_every = 5  # steps between reports, the points of the curves
    return config


def build(config: ConfigDict) -> series.Series | Experiment:
    """A run for each kind and depth, or the one that config.member names."""
    if len(set(config.depths)) < len(config.depths) or not config.depths:
        raise UserError(f"config.depths is {tuple(config.depths)}; it must hold one depth or more, all different")
    members = {f"{kind}_{depth}": (kind, depth) for kind in KINDS for depth in config.depths}
    return series.assemble(
        config,
        NAME,
        tuple(members),
        lambda member: one_run(config, *members[member]),
        lambda rows: {"depth": figure(members, rows)},
    )


def one_run(config: ConfigDict, kind: str, depth: int) -> Experiment:
    """The run of one net: that of `resnet_cifar10`, with reports close enough to draw."""
    of_net = ConfigDict({**config.to_dict(), "depth": depth, "plain": kind == "plain"})
    experiment = dataclasses.replace(resnet_cifar10.build(of_net), name=NAME)
    return dataclasses.replace(experiment, log_every=config.small.log_every) if config.data == "digits" else experiment


def figure(nets: Mapping[str, tuple[str, int]], rows: Mapping[str, Sequence[Row]]) -> Figure:
    """The training error against the step, a panel a kind, and what it has come to by depth.

    Args:
      nets: kind and depth by member.
      rows: by member.
    """
    drawn = Figure(figsize=(14, 5), layout="constrained")
    drawn.suptitle("Plain nets get worse with depth, in training too; shortcuts round each pair of layers mend it")
    *panels, end = drawn.subplots(1, len(KINDS) + 1, sharey=True)
    depths = sorted({depth for _, depth in nets.values()})
    shades = dict(zip(depths, np.linspace(0.35, 0.95, len(depths)), strict=True))
    for axes, (kind, title) in zip(panels, KINDS.items(), strict=True):
        ends = []
        for member in (f"{kind}_{depth}" for depth in depths):
            at, errors = points(rows[member], "train", "error")
            mean = 100 * running_mean(errors, max(1, round(SMOOTH * len(errors))))
            ends.append((mean[-1], 100 * points(rows[member], "test", "error")[1][-1]))
            colour = matplotlib.colormaps[COLOURS[kind]](shades[nets[member][1]])
            axes.plot(at, mean, color=colour, linewidth=2, label=f"{nets[member][1]} layers")
        axes.set(title=title, xlabel="step")
        axes.legend()
        for errors, split, style in zip(zip(*ends, strict=True), ("training", "test"), ("o-", "s--"), strict=True):
            colour = matplotlib.colormaps[COLOURS[kind]](0.8)
            end.plot(depths, errors, style, color=colour, linewidth=2, label=f"{kind}, {split}")
    panels[0].set_ylabel(f"error on the training batches, %, mean of the last {SMOOTH:.0%} of the run")
    end.set(title="At the end", xlabel="layers", xticks=depths)
    end.legend()
    for axes in (*panels, end):
        axes.grid(alpha=0.3)
    return drawn
