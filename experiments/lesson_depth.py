"""Lesson: depth. Plain nets learn worse the deeper they are, in training too; with shortcuts they do not.

Paper: He, Zhang, Ren, Sun, "Deep residual learning for image recognition", 2015, section 4.2 and figure 6.
Command: python launch.py --experiment=lesson_depth
On CIFAR-10 as in the paper, for days: --config.data=cifar10 --data_dir=WHERE_TFDS_DATA_LIES
Expected: the training error of deep plain nets stays above that of shallow ones; that of residual nets does not.
Measured: on digits the error on the test digits after 200 steps is 1.11, 3.62 and 65.74 % with plain nets of 8, 20 and
44 layers, and 1.11, 1.39 and 2.23 % with residual ones (seed 0; 115 s for all six on two CPU cores, shared).
2026-11-21.
"""

import functools
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from ml_collections import ConfigDict

from cnnlab import series
from cnnlab.errors import UserError
from cnnlab.experiment import Experiment
from cnnlab.lessons import Row, points
from experiments import resnet_cifar10

NAME = "lesson_depth"
KINDS = ("plain", "residual")


def get_config() -> ConfigDict:
    """Plain values; each can be overridden as --config.field=value. Fields not named here: `resnet_cifar10.py`."""
    config = resnet_cifar10.recipe()
    config.member = ""  # only this run of the series, by the name of its folder; "": all of them
    config.depths = (8, 20, 44)  # layers, 6n + 2, of a plain and of a residual net each; the paper: 20, 32, 44, 56
    config.data = "digits"  # built in; or "cifar10" of TFDS
    config.small.size = 8  # of the digits, in pixels
    config.small.steps = 200  # in each run
    return config


def build(config: ConfigDict) -> series.Series | Experiment:
    """A plain and a residual net of each depth, or the one that config.member names."""
    if len(set(config.depths)) < len(config.depths) or not config.depths:
        raise UserError(f"config.depths is {tuple(config.depths)}; it must hold one depth or more, all different")
    members = {f"{kind}_{depth}": (kind, depth) for kind in KINDS for depth in config.depths}
    return series.assemble(
        config,
        NAME,
        tuple(members),
        lambda member: run_of(config, *members[member]),
        lambda rows: {"depth": figure(members, rows)},
    )


def run_of(config: ConfigDict, kind: str, depth: int) -> Experiment:
    """One net of the series."""
    model = functools.partial(resnet_cifar10.ResNetCifar, depth=depth, plain=kind == "plain")
    optimizer = resnet_cifar10.descent_with_drops(config)
    return resnet_cifar10.assemble(config, NAME, model, optimizer)


def figure(members: Mapping[str, tuple[str, int]], rows: Mapping[str, Sequence[Row]]) -> Figure:
    """The training error against the step: on the left plain nets, on the right residual ones."""
    drawn = Figure(figsize=(10, 4), layout="constrained")
    drawn.suptitle("Depth: the error on training pictures")
    panels = drawn.subplots(1, 2, sharey=True)
    for axes, kind in zip(panels, KINDS, strict=True):
        axes.set(title=f"{kind} nets", xlabel="step", ylabel="training error (%)")
        for name, (own, depth) in members.items():
            if own == kind:
                steps, errors = points(rows[name], "train", "error")
                axes.plot(steps, 100 * errors, marker=".", label=f"{depth} layers")
        axes.grid(alpha=0.3)
        axes.legend()
    return drawn
