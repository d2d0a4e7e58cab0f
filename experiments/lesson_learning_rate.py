"""Lesson: the learning rate. Plain descent on digits at rates from too low to too high.

Paper: the guide, part 1, "w = w_i − η dL/dW"; the net is that of LeCun, Bottou, Bengio, Haffner, "Gradient-based
learning applied to document recognition", 1998, in its modern form (ReLU, max pooling, softmax).
Command: python launch.py --experiment=lesson_learning_rate
Expected: the loss of the lowest rate creeps, that of the middle one falls, that of the next bounces and never falls
below guessing, and that of the highest is no longer finite after a few steps.
Measured: on the test digits, after 250 steps at rates of 0.001, 0.01, 0.1, 0.5 and 1, 42.90, 9.47, 3.06, 4.18 and
92.20 % error; at 3 the loss is no longer finite at step 7 (seed 0; 37 s for all on two CPU cores, shared). 2026-11-21.
"""

import functools
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from cnnlab import series
from cnnlab.data.digits import CLASS_NAMES
from cnnlab.data.preprocess import pad_and_scale
from cnnlab.errors import UserError
from cnnlab.experiment import Experiment
from cnnlab.lessons import Row, lesson_fields, on_digits, points, running_mean
from cnnlab.models.lenet import LeNet
from cnnlab.optim import momentum_sgd
from cnnlab.tasks.classification import Classification

NAME = "lesson_learning_rate"
SMOOTH = 5  # steps that a bold curve averages over
HIGHEST = 4.5  # loss up to which the figure goes


def get_config() -> ConfigDict:
    """Plain values; each can be overridden as --config.field=value. Fields not named here: `lessons.py`."""
    config = lesson_fields()
    config.rates = (0.001, 0.01, 0.1, 0.5, 1.0, 3.0)  # a run each
    config.momentum = 0.0  # the share of the last update that stays; 0: plain descent, as in the guide
    config.steps = 250  # in each run: about 11 passes over the training digits
    config.eval_every = 250  # steps between tests
    config.checkpoint_every = 250  # steps between checkpoints
    return config


def build(config: ConfigDict) -> series.Series | Experiment:
    """A run for each rate, or the one that config.member names."""
    if len(set(config.rates)) < len(config.rates) or not config.rates:
        raise UserError(f"config.rates is {tuple(config.rates)}; it must hold one rate or more, all different")
    members = {f"rate_{rate:g}": rate for rate in config.rates}
    draw = functools.partial(figure, members, config.steps)
    return series.assemble(
        config,
        NAME,
        tuple(members),
        lambda member: run_at(config, members[member]),
        lambda rows: {"learning_rate": draw(rows)},
        may_diverge=True,
    )


def run_at(config: ConfigDict, rate: float) -> Experiment:
    """The run at one rate; all begin with the same weights and see the same batches."""
    task = Classification(
        model=LeNet(variant="modern"),
        optimizer=momentum_sgd(rate, config.momentum),
        preprocess=functools.partial(pad_and_scale, size=32, low=-0.1, high=1.175),
        class_names=CLASS_NAMES,
    )
    return on_digits(config, NAME, task, size=28)


def figure(rates: Mapping[str, float], steps: int, rows: Mapping[str, Sequence[Row]]) -> Figure:
    """The loss of each run against the step, and its test error against its rate.

    Args:
      rates: by member.
      steps: of a whole run; one whose reports end before it has diverged.
      rows: by member.
    """
    drawn = Figure(figsize=(12, 5), layout="constrained")
    drawn.suptitle(
        "LeNet learns digits at several learning rates: too low a rate creeps, too high a one bounces or diverges"
    )
    loss, error = drawn.subplots(1, 2, width_ratios=(1.8, 1))
    loss.set(title="Training loss", xlabel="step", ylabel="cross-entropy of the step's batch")
    error.set(title="After the last step", xlabel="learning rate", ylabel="error on the test digits, %")
    colours = 0.85 * matplotlib.colormaps["turbo"](np.linspace(0.05, 0.9, len(rates)))[:, :3]
    for (member, rate), colour in zip(sorted(rates.items(), key=lambda item: item[1]), colours, strict=True):
        ended = _curve(loss, rows[member], steps, rate, colour)
        _, errors = points(rows[member], "test", "error")
        if ended and len(errors):
            error.plot(rate, 100 * errors[-1], "o", color=colour, markersize=9)
            error.annotate(
                f"{100 * errors[-1]:.1f} %", (rate, 100 * errors[-1]), (0, 8), textcoords="offset points", ha="center"
            )
        elif not ended:
            error.axvline(rate, color=colour, linestyle="--")
            error.annotate(
                "diverged", (rate, 50), (-4, 0), textcoords="offset points", color=colour, ha="right", rotation=90
            )
    guessing = np.log(len(CLASS_NAMES))
    loss.axhline(guessing, color="grey", linestyle=":", label=f"guessing: ln {len(CLASS_NAMES)} = {guessing:.2f}")
    loss.set_ylim(0, HIGHEST)
    loss.legend(loc="upper right", ncols=2, title="learning rate")
    error.set(xscale="log", ylim=(0, 105))
    error.margins(x=0.12)
    for axes in (loss, error):
        axes.grid(alpha=0.3)
    return drawn


def _curve(axes: Axes, rows: Sequence[Row], steps: int, rate: float, colour: np.ndarray) -> bool:
    """One run's loss, thin, and its running mean, bold; a cross where it diverged. Whether it came to its end."""
    at, losses = points(rows, "train", "loss")
    ended = len(at) > 0 and at[-1] == steps
    if ended:
        axes.plot(at, losses, color=colour, alpha=0.4, linewidth=0.8)
        mean = running_mean(losses, SMOOTH)
        axes.plot(at, mean, color=colour, linewidth=2, label=f"{rate:g}: {mean[-1]:.3g} at the end")
    else:
        where = f"no longer finite after step {at[-1]}" if len(at) else "never finite"
        axes.plot(at, losses, color=colour, linewidth=2, label=f"{rate:g}: {where}")
        if len(at):
            axes.plot(at[-1], min(losses[-1], 0.97 * HIGHEST), "X", color=colour, markersize=12, clip_on=False)
    return ended
