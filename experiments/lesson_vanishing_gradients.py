"""Lesson: vanishing gradients. Sigmoids against rectifiers, by depth.

Paper: the guide, part 2, on ReLU layers; Glorot, Bengio, "Understanding the difficulty of training deep feedforward
neural networks", 2010; Glorot, Bordes, Bengio, "Deep sparse rectifier neural networks", 2011.
Command: python launch.py --experiment=lesson_vanishing_gradients
Expected: through sigmoids the gradient shrinks by about the same factor in each layer on its way to the input, so that
the deepest net does not begin to learn; through rectifiers it keeps its size, and all depths learn.
Measured: on the test digits, with 2, 5 and 10 hidden layers, 3.06, 91.09 and 90.81 % error through sigmoids, 2.51, 2.51
and 3.06 % through rectifiers (seed 0; 35 s for all six on two CPU cores, shared). 2026-11-21.
"""

import functools
from collections.abc import Callable, Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from cnnlab import loop, series
from cnnlab.data.digits import CLASS_NAMES
from cnnlab.data.preprocess import pad_and_scale
from cnnlab.errors import UserError
from cnnlab.experiment import Experiment
from cnnlab.inspect.statistics import gradient_rms
from cnnlab.lessons import Row, lesson_fields, on_digits, points, running_mean
from cnnlab.models.ciresan import DeepBigSimpleNet
from cnnlab.optim import momentum_sgd
from cnnlab.tasks.classification import Classification

NAME = "lesson_vanishing_gradients"
FUNCTIONS = ("sigmoid", "relu")
COLOURS = {"sigmoid": "Reds", "relu": "Blues"}
SMOOTH = 15  # steps that a curve averages over
# N(0, 2 / inputs), which keeps gradients through rectifiers. Both functions begin with the same weights. For sigmoids
# this is on the large side, and so in their favour: Glorot's smaller weights would shrink gradients further.
HE = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


def get_config() -> ConfigDict:
    """Plain values; each can be overridden as --config.field=value. Fields not named here: `lessons.py`."""
    config = lesson_fields()
    config.depths = (2, 5, 10)  # hidden layers of the nets, each with sigmoids and with rectifiers
    config.units = 100  # of each hidden layer
    config.learning_rate = ConfigDict()  # of descent with momentum 0.9; by function, as each has a best one
    config.learning_rate.sigmoid = 0.1  # of nets of sigmoids
    config.learning_rate.relu = 0.01  # of nets of rectifiers; at the sigmoids' rate the deeper ones diverge
    return config


def build(config: ConfigDict) -> series.Series | Experiment:
    """A run for each function and depth, or the one that config.member names."""
    if len(set(config.depths)) < len(config.depths) or not config.depths or min(config.depths) < 1:
        raise UserError(
            f"config.depths is {tuple(config.depths)}; it must hold one depth or more, from 1 on, different"
        )
    members = {f"{function}_{depth}": (function, depth) for function in FUNCTIONS for depth in config.depths}

    def run_of(member: str) -> Experiment:
        return one_run(config, *members[member])

    def draw(rows: Mapping[str, Sequence[Row]]) -> dict[str, Figure]:
        gradients = {member: initial_gradients(run_of(member)) for member in members}
        return {"vanishing_gradients": figure(members, gradients, rows)}

    return series.assemble(config, NAME, tuple(members), run_of, draw)


def one_run(config: ConfigDict, function: str, depth: int) -> Experiment:
    """The run of one net. Nets of one depth begin with the same weights, whatever their function."""
    task = Classification(
        model=DeepBigSimpleNet((config.units,) * depth, activation=function, kernel_init=HE),
        optimizer=momentum_sgd(config.learning_rate[function]),
        # The digits' pixels then have a mean of about 0 and a variance of about 1.
        preprocess=functools.partial(pad_and_scale, size=8, low=-0.8, high=1.85),
        class_names=CLASS_NAMES,
    )
    return on_digits(config, NAME, task, size=8)


def initial_gradients(experiment: Experiment, examples: int = 256) -> list[float]:
    """Root mean square of ∂(an example's loss) / ∂(a layer's output) before the first step, from the first layer on."""
    batch = experiment.train_data().batch(np.arange(examples))
    x = experiment.task.preprocess(jnp.asarray(batch["image"]))
    variables = loop.fresh_state(experiment).variables
    found = gradient_rms(experiment.task.model, variables, x, jnp.asarray(batch["label"]), experiment.task.loss)
    return [float(rms) for rms in jax.device_get(list(found.values()))]


def figure(
    nets: Mapping[str, tuple[str, int]], gradients: Mapping[str, Sequence[float]], rows: Mapping[str, Sequence[Row]]
) -> Figure:
    """The gradient by layer before training, and the loss of each run against the step.

    Args:
      nets: function and depth by member.
      gradients: by member, of each layer from the first to the output.
      rows: by member.
    """
    drawn = Figure(figsize=(12, 5), layout="constrained")
    drawn.suptitle("Sigmoids (red) and rectifiers (blue) in fully connected nets that begin with the same weights")
    start, loss = drawn.subplots(1, 2)
    start.set(title="The gradient on its way back, before the first step", yscale="log")
    start.set(xlabel="layer, from the input on; the last is the output", ylabel="gradient by a layer's output, RMS")
    loss.set(title="What is learnt", xlabel="step", ylabel=f"training loss, mean of {SMOOTH} steps")
    colour = _colours(nets)
    for member, (function, depth) in nets.items():
        label = f"{function}, {depth} hidden layer{'s' if depth > 1 else ''}"
        style = {"color": colour(member), "linewidth": 2}
        start.plot(range(1, len(gradients[member]) + 1), gradients[member], marker="o", label=label, **style)
        at, losses = points(rows[member], "train", "loss")
        loss.plot(at, running_mean(losses, SMOOTH), label=label, **style)
    guessing = np.log(len(CLASS_NAMES))
    loss.axhline(guessing, color="grey", linestyle=":")
    loss.text(at[-1], 0.98 * guessing, f"guessing: ln {len(CLASS_NAMES)} = {guessing:.2f}", ha="right", va="top")
    loss.set_ylim(0, 1.25 * guessing)
    for axes in (start, loss):
        axes.grid(alpha=0.3)
    start.legend(loc="lower right")
    return drawn


def _colours(nets: Mapping[str, tuple[str, int]]) -> Callable[[str], tuple[float, ...]]:
    """A colour for each net: red or blue, the darker the deeper."""
    depths = sorted({depth for _, depth in nets.values()})
    shades = dict(zip(depths, np.linspace(0.4, 0.95, len(depths)), strict=True))
    return lambda member: matplotlib.colormaps[COLOURS[nets[member][0]]](shades[nets[member][1]])
