"""Lesson: replicated features. Copies of a weight with tied gradients stay equal: a convolution.

Paper: LeCun, Boser, Denker, Henderson, Howard, Hubbard, Jackel, "Backpropagation applied to handwritten zip code
recognition", 1989, section 3; Hinton's lectures: to keep w₁ = w₂, use ∂E/∂w₁ + ∂E/∂w₂ for both.
Command: python launch.py --experiment=lesson_replication
Expected: a net with weights of its own at every place begins with those of a convolution copied to every place. With
tied gradients the copies stay equal, exactly, and its loss is the convolution's but for rounding. Without, the copies
drift apart from the first step on. The error of that net need not be greater: these digits all lie in the middle, and
each place can learn its own part of them.
Measured: on the test digits after 300 steps 2.23 % error with the convolution and with tied copies, 1.39 % with untied
ones. Tied copies are 0 apart at every step, and their loss is within 1e-6 of the convolution's; untied ones end 0.74
apart (seed 0; 99 s for all three on two CPU cores, shared by many). 2026-11-22.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import optax
from jaxtyping import Array, Key, PyTree
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from cnnlab import series
from cnnlab.data.digits import CLASS_NAMES
from cnnlab.data.preprocess import pad_and_scale
from cnnlab.experiment import Batch, Experiment
from cnnlab.lessons import Row, check_maps, lesson_fields, on_digits, points, running_mean
from cnnlab.models.replicated import ReplicatedNet
from cnnlab.optim import momentum_sgd
from cnnlab.state import TrainState
from cnnlab.tasks.classification import Classification
from cnnlab.tied import apart, replicated, tied

NAME = "lesson_replication"
KINDS = {
    "convolution": "convolution",
    "tied": "a copy at every place, gradients tied",
    "untied": "a copy at every place, each on its own",
}
COLOURS = {"convolution": "tab:blue", "tied": "tab:orange", "untied": "tab:red"}
LAYERS = ("conv1", "conv2")
SMOOTH = 15  # steps that a curve averages over


def get_config() -> ConfigDict:
    """Plain values; each can be overridden as --config.field=value. Fields not named here: `lessons.py`."""
    config = lesson_fields()
    config.maps = (8, 16)  # of the two layers
    config.combine = "sum"  # of the gradients at all places, which the tied copies get; or "mean": a lower rate
    config.learning_rate = 0.05  # of descent
    config.momentum = 0.9  # the share of the last update that stays
    return config


def build(config: ConfigDict) -> series.Series | Experiment:
    """A run of each kind, or the one that config.member names."""
    check_maps(config.maps)
    return series.assemble(
        config,
        NAME,
        tuple(KINDS),
        lambda kind: one_run(config, kind),
        lambda rows: {"replication": figure(rows)},
    )


def one_run(config: ConfigDict, kind: str) -> Experiment:
    """The run of one net; all begin with the convolution's weights and see the same batches."""
    descent = momentum_sgd(config.learning_rate, config.momentum)
    task = Replicated(
        model=ReplicatedNet(len(CLASS_NAMES), tuple(config.maps), shared=kind == "convolution"),
        optimizer=optax.chain(tied(LAYERS, config.combine), descent) if kind == "tied" else descent,
        # The digits' pixels then have a mean of about 0 and a variance of about 1.
        preprocess=functools.partial(pad_and_scale, size=8, low=-0.8, high=1.85),
        class_names=CLASS_NAMES,
    )
    return on_digits(config, NAME, task, size=8)


@dataclasses.dataclass(frozen=True)
class Replicated(Classification):
    """Classification by a net whose copies of weights begin equal, and which reports how far apart they are."""

    def init(self, rng: Key[Array, ""], batch: Batch) -> TrainState:
        """As `Classification.init`, with the convolution's first weights at every place."""
        state = super().init(rng, batch)
        if self.model.shared:
            return state
        shared = self.model.clone(shared=True).init(rng, self.preprocess(batch["image"][:1]))
        return state.replace(params=replicated(shared["params"], state.params))

    def train_step(
        self, state: TrainState, batch: Batch, rng: Key[Array, ""], reduce: Callable[[PyTree], PyTree]
    ) -> tuple[TrainState, dict[str, Array]]:
        """As `Classification.train_step`, with "apart" among the metrics of a net that has copies: `tied.apart`."""
        state, metrics = super().train_step(state, batch, rng, reduce)
        return state, metrics if self.model.shared else {**metrics, "apart": apart(state.params, LAYERS)}


def figure(rows: Mapping[str, Sequence[Row]]) -> Figure:
    """Both losses, how far copies and losses are apart, and the errors.

    Args:
      rows: by kind.
    """
    drawn = Figure(figsize=(15, 5), layout="constrained")
    drawn.suptitle("Copies of the same weights at every place: with tied gradients they stay equal, a convolution")
    loss, difference, error = drawn.subplots(1, 3, width_ratios=(1.2, 1.2, 0.8))
    loss.set(title="What is learnt", xlabel="step", ylabel=f"training loss, mean of {SMOOTH} steps", yscale="log")
    for kind, label in KINDS.items():
        at, losses = points(rows[kind], "train", "loss")
        style = "--" if kind == "tied" else "-"  # lies on the convolution's
        loss.plot(at, running_mean(losses, SMOOTH), style, color=COLOURS[kind], linewidth=2, label=label)
    _differences(difference, rows)
    ends = {kind: 100 * points(rows[kind], "test", "error")[1][-1] for kind in KINDS}
    bars = error.bar(list(ends), list(ends.values()), color=[COLOURS[kind] for kind in ends])
    error.bar_label(bars, fmt="%.2f %%")
    error.set(title="After the last step", ylabel="error on the test digits, %")
    error.margins(y=0.15)
    for axes in (loss, difference, error):
        axes.grid(alpha=0.3)
    for axes in (loss, difference):
        axes.legend(fontsize=9)
    return drawn


def _differences(axes: Axes, rows: Mapping[str, Sequence[Row]]) -> None:
    """How far the copies are apart, and each net's loss from the convolution's; what is 0 throughout has no line."""
    reference = points(rows["convolution"], "train", "loss")[1]
    for kind in ("tied", "untied"):
        at, losses = points(rows[kind], "train", "loss")
        found = {
            "copies of a weight, the greatest difference": points(rows[kind], "train", "apart")[1],
            "loss, from the convolution's": np.abs(losses - reference),
        }
        for (what, values), style in zip(found.items(), ("-", ":"), strict=True):
            steps, values = at[: len(values)][values > 0], values[values > 0]
            label = f"{kind}: {what}" + ("" if len(values) else ": 0 at every step")
            axes.plot(steps, values, style, color=COLOURS[kind], linewidth=2, label=label)
    axes.set(title="How far apart", xlabel="step", yscale="log")
    low, high = axes.get_ylim()
    axes.set_ylim(low, 200 * high)  # room for the legend
