"""Lesson: overfitting, and dropout against it. A large net learns 100 digits by heart.

Paper: the guide, part 2, on pooling and dropout layers; Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov,
"Dropout: a simple way to prevent neural networks from overfitting", 2014: half of the hidden units and a fifth of the
inputs are left out at random in each training step.
Command: python launch.py --experiment=lesson_overfitting
Expected: the error on the 100 digits reaches 0 % with and without dropout, and that on digits that were not learnt
stays well above it; with dropout it ends lower. How much lower differs from run to run, so there are several of each.
Measured: on the test digits 5.85, 11.14, 10.31, 10.86 and 10.86 % error without dropout, mean 9.80 %; with it 4.18,
10.86, 8.08, 9.47 and 11.14 %, mean 8.75 %: less in four of five pairs (59 s for all ten on two CPU cores, shared).
2026-11-21.
"""

import functools
from collections.abc import Callable, Mapping, Sequence

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from cnnlab import series
from cnnlab.data.digits import CLASS_NAMES, TEST_EXAMPLES, TRAIN_EXAMPLES, digits
from cnnlab.data.preprocess import pad_and_scale
from cnnlab.data.source import ArraySource
from cnnlab.errors import UserError
from cnnlab.experiment import Batch, Experiment
from cnnlab.lessons import Row, lesson_fields, on_digits, points
from cnnlab.models.ciresan import DeepBigSimpleNet
from cnnlab.optim import adam_cosine
from cnnlab.state import TrainState
from cnnlab.tasks.classification import Classification

NAME = "lesson_overfitting"
KINDS = {"none": "Without dropout", "dropout": "With dropout"}
HIGHEST = 40  # per cent up to which the figure goes
HE = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


def get_config() -> ConfigDict:
    """Plain values; each can be overridden as --config.field=value. Fields not named here: `lessons.py`."""
    config = lesson_fields()
    config.digits = 100  # to learn from, of the 1,438
    config.runs = 5  # of each kind, by seeds from config.seed on; each has other digits and other weights
    config.hidden = (256, 256, 256)  # units of the hidden layers
    config.dropout = 0.5  # the share of the hidden units that is left out in training, in the runs with dropout
    config.input_dropout = 0.2  # likewise of the pixels
    config.learning_rate = 2e-3  # of Adam at the first step; it falls to 0 along half a cosine
    config.batch_size = 80  # of all devices together, which must divide it
    config.steps = 800  # in each run
    config.log_every = 5  # steps between reports: of 80 of the 100 digits in each: a report sees each digit four times
    config.eval_every = 50  # steps between tests
    config.checkpoint_every = 400  # steps between checkpoints
    return config


def build(config: ConfigDict) -> series.Series | Experiment:
    """Runs without and with dropout, or the one that config.member names."""
    if config.runs < 1 or not 1 <= config.digits <= TRAIN_EXAMPLES:
        raise UserError(
            f"config.runs is {config.runs} and config.digits {config.digits}: "
            f"there must be at least one run, and 1 to {TRAIN_EXAMPLES} digits"
        )
    members = {f"{kind}_{number}": (kind, number) for kind in KINDS for number in range(config.runs)}
    return series.assemble(
        config,
        NAME,
        tuple(members),
        lambda member: one_run(config, *members[member]),
        lambda rows: {"overfitting": figure(rows, config.digits)},
    )


def one_run(config: ConfigDict, kind: str, number: int) -> Experiment:
    """One run. Runs of one number have the same digits, the same first weights and the same order of the digits."""
    config = config.copy_and_resolve_references()
    config.seed += number
    on = kind == "dropout"
    model = DeepBigSimpleNet(
        tuple(config.hidden),
        activation="relu",
        kernel_init=HE,
        input_dropout=config.input_dropout if on else 0.0,
        dropout=config.dropout if on else 0.0,
    )
    task = Watched(
        model=model,
        optimizer=adam_cosine(config.learning_rate, config.steps),
        # The digits' pixels then have a mean of about 0 and a variance of about 1.
        preprocess=functools.partial(pad_and_scale, size=8, low=-0.8, high=1.85),
        class_names=CLASS_NAMES,
    )
    return on_digits(config, NAME, task, size=8, train=functools.partial(few, config.digits, config.seed))


def few(count: int, seed: int) -> ArraySource:
    """Some of the training digits, drawn by a seed."""
    source = digits("train", 8)
    chosen = np.random.default_rng(seed).permutation(len(source))[:count]
    return ArraySource(source.batch(chosen), source.class_names)


class Watched(Classification):
    """Classification that reports of each training batch the error in evaluation mode too, before it is learnt from.

    The error in training mode is that of a net with units left out, which compares to nothing.
    """

    def train_step(
        self, state: TrainState, batch: Batch, rng: Key[Array, ""], reduce: Callable[[PyTree], PyTree]
    ) -> tuple[TrainState, dict[str, Array]]:
        """As `Classification.train_step`, with "clean_error" among the metrics."""
        wrong = jnp.argmax(self.logits(state, batch["image"]), -1) != batch["label"]
        state, metrics = super().train_step(state, batch, rng, reduce)
        return state, {**metrics, "clean_error": reduce(jnp.mean(wrong))}


def figure(rows: Mapping[str, Sequence[Row]], count: int) -> Figure:
    """The errors on the digits that are learnt and on the others, against the step: a panel without, one with dropout.

    Args:
      rows: by member, "none_0", "dropout_0" …
      count: how many digits are learnt.
    """
    drawn = Figure(figsize=(12, 5), layout="constrained")
    runs = len(rows) // len(KINDS)
    drawn.suptitle(
        f"A large net and {count} digits to learn: thin lines are {runs} runs, each on other digits; bold is their mean"
    )
    last = {}
    panels = drawn.subplots(1, len(KINDS), sharey=True)
    for axes, (kind, title) in zip(panels, KINDS.items(), strict=True):
        of_kind = [found for member, found in rows.items() if member.startswith(kind)]
        learnt = _lines(axes, of_kind, "train", "clean_error", "tab:blue", f"the {count} digits it learns")
        last[kind] = _lines(axes, of_kind, "test", "error", "tab:red", f"{TEST_EXAMPLES} digits it never saw")
        axes.set_title(f"{title}: {learnt.mean():.1f} % wrong of the learnt, {last[kind].mean():.1f} % of the others")
        axes.set(xlabel="step", ylim=(-1, HIGHEST))
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("error, %, nothing left out")
    better = int(np.sum(last["dropout"] < last["none"]))
    label = f"without dropout; {better} of {runs} runs end lower than theirs"
    panels[1].axhline(last["none"].mean(), color="tab:red", linestyle="--", label=label)
    for axes in panels:
        axes.legend(loc="upper right")
    return drawn


def _lines(
    axes: Axes, runs: Sequence[Sequence[Row]], split: str, metric: str, colour: str, label: str
) -> Float[np.ndarray, " runs"]:
    """The runs' errors in per cent, thin, and their mean, bold; the last of each run."""
    found = [points(rows, split, metric) for rows in runs]
    steps = found[0][0]
    values = 100 * np.stack([values for _, values in found])
    axes.plot(steps, values.T, color=colour, alpha=0.3, linewidth=0.8)
    axes.plot(steps, values.mean(0), color=colour, linewidth=2.5, label=label)
    return values[:, -1]
