"""Lesson: pooling and invariance. Digits that move in the picture, under no, average and max pooling.

Paper: Hinton's lectures on viewpoint and replicated features: convolution makes activities move along with the picture,
and pooling of four neighbours makes them stay, a little, with the maximum slightly better than the mean; Scherer,
Müller, Behnke, "Evaluation of pooling operations in convolutional architectures for object recognition", 2010.
Command: python launch.py --experiment=lesson_invariance
Expected: nets that have learnt digits in the middle lose accuracy as these move; with pooling they lose less at first,
and least with the maximum. The maps of the last stage move along exactly by 4 pixels, the product of two strides, in
all nets; by less, with pooling they move along better than with strides alone, and stay a little more as they are.
Measured: means of 3 runs of each, test digits classified rightly with no, average and max pooling: in the middle 97.5,
97.3 and 98.6 %, shifted by 1 pixel 82.9, 86.0 and 91.7 %, by 2 pixels 38.5, 44.9 and 56.4 %; equivariance error of the
last maps by 2 pixels 0.59, 0.34 and 0.41, by 4 pixels 0. The nine runs took 3.5 min on two CPU cores, shared by others.
2026-11-22.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from cnnlab import series
from cnnlab.data.digits import CLASS_NAMES
from cnnlab.data.preprocess import pad_and_scale
from cnnlab.errors import UserError
from cnnlab.experiment import Batch, Experiment
from cnnlab.inspect.equivariance import UNRELATED, Error, Movement, compare, moved, places_of, way_back
from cnnlab.inspect.layers import run
from cnnlab.lessons import Row, check_maps, lesson_fields, on_digits, points
from cnnlab.metrics.classification import ClassificationMetrics
from cnnlab.models.replicated import ReplicatedNet
from cnnlab.optim import adam_cosine
from cnnlab.state import TrainState
from cnnlab.summary import reaches
from cnnlab.tasks.classification import Classification

NAME = "lesson_invariance"
KINDS = {"none": "no pooling, strides of 2", "average": "average pooling", "max": "max pooling"}
COLOURS = {"none": "tab:red", "average": "tab:green", "max": "tab:blue"}
SIZE = 28  # of the network's input
LARGEST = SIZE - 2  # digits, which can then be moved by a pixel
LAYER = "pool2"  # the last with maps
BORDER = SIZE / 8  # pixels from the input's edge within which maps are not compared, as wide as the digits leave it
MEASURES = {"equivariance": "Do the last maps move along?", "invariance": "Do the last maps stay?"}


def get_config() -> ConfigDict:
    """Plain values; each can be overridden as --config.field=value. Fields not named here: `lessons.py`."""
    config = lesson_fields()
    config.runs = 3  # of each kind, by seeds from config.seed on
    config.maps = (16, 32)  # of the two convolutions
    config.digit = 14  # height and width of the digits, in pixels, in the middle of 28×28
    config.shifts = (1, 2, 3, 4, 5, 6)  # in pixels, by which the test digits are moved
    config.learning_rate = 3e-3  # of Adam at the first step; it falls to 0 along half a cosine
    return config


def build(config: ConfigDict) -> series.Series | Experiment:
    """Runs of each kind of pooling, or the one that config.member names."""
    check_maps(config.maps)
    margin = (SIZE - config.digit) // 2
    if config.runs < 1 or not 8 <= config.digit <= LARGEST:
        raise UserError(
            f"config.runs is {config.runs} and config.digit {config.digit}: "
            f"there must be at least one run, and digits of 8 to {LARGEST} pixels"
        )
    if not config.shifts or not all(shift in range(1, margin + 1) for shift in config.shifts):
        raise UserError(
            f"config.shifts is {tuple(config.shifts)}: it must hold one or more from 1 to {margin}, "
            f"which leave a digit of {config.digit} pixels in the picture of {SIZE}"
        )
    members = {f"{kind}_{number}": (kind, number) for kind in KINDS for number in range(config.runs)}
    return series.assemble(
        config,
        NAME,
        tuple(members),
        lambda member: one_run(config, *members[member]),
        lambda rows: {"invariance": figure(rows, sorted(set(config.shifts)))},
    )


def one_run(config: ConfigDict, pooling: str, number: int) -> Experiment:
    """One run. Runs of one number begin with the same weights and see the same batches."""
    config = config.copy_and_resolve_references()
    config.seed += number
    task = Shifted(
        model=ReplicatedNet(len(CLASS_NAMES), tuple(config.maps), pooling=pooling),
        optimizer=adam_cosine(config.learning_rate, config.steps),
        preprocess=functools.partial(pad_and_scale, size=SIZE, low=-0.3, high=2.8),
        class_names=CLASS_NAMES,
        shifts=tuple(sorted(set(config.shifts))),
    )
    return on_digits(config, NAME, task, size=config.digit)


@dataclasses.dataclass(frozen=True)
class Shifted(Classification):
    """Classification that is tested on shifted pictures too.

    Attributes:
      shifts: in pixels.
    """

    shifts: tuple[int, ...] = ()

    def eval_step(self, state: TrainState, batch: Batch) -> dict[str, Array]:
        """As `Classification.eval_step`, with what each shift does under "shifted"."""
        outputs = super().eval_step(state, batch)
        x = self.preprocess(batch["image"])
        before = run(self.model, state.variables, x)[1]
        places = {LAYER: places_of(reaches(self.model, x.shape)[LAYER], before[LAYER].shape, x.shape[1:3])}
        shifted = {}
        for shift in self.shifts:
            back = way_back(Movement("shift", shift), batch["index"], x.shape[1:3])
            logits, after = run(self.model, state.variables, moved(x, back)[0])
            found = compare(before, after, back, places, x.shape[1:3], BORDER)[LAYER]
            shifted[shift] = {"wrong": jnp.argmax(logits, -1) != batch["label"], **found}
        return {**outputs, "shifted": shifted}

    def metrics(self) -> ClassificationMetrics:
        """An empty sum."""
        return ShiftedMetrics(len(self.class_names))


class ShiftedMetrics(ClassificationMetrics):
    """Scores with "shift3_error", "shift3_equivariance" and "shift3_invariance" of a shift by 3 pixels, and so on."""

    def __init__(self, num_classes: int):
        super().__init__(num_classes)
        self._wrong: dict[int, int] = {}
        self._errors: dict[tuple[int, str], Error] = {}

    def add(self, outputs: Mapping[str, np.ndarray]) -> None:
        """Adds one batch of `Shifted.eval_step`."""
        super().add(outputs)
        for shift, found in outputs["shifted"].items():
            self._wrong[shift] = self._wrong.get(shift, 0) + int(np.sum(found["wrong"] & (outputs["mask"] > 0)))
            for name in MEASURES:
                self._errors.setdefault((shift, name), Error()).add(found[name], outputs["mask"])

    def compute(self) -> dict[str, float]:
        """The scores."""
        scores = super().compute()
        for shift, wrong in self._wrong.items():
            scores[f"shift{shift}_error"] = wrong / scores["count"]
            for name in MEASURES:
                scores[f"shift{shift}_{name}"] = self._errors[shift, name].compute()
        return scores


def figure(rows: Mapping[str, Sequence[Row]], shifts: Sequence[int]) -> Figure:
    """Accuracy, equivariance error and invariance error against the shift: thin lines the runs, bold their mean.

    Args:
      rows: by member, "none_0", "max_1" …
      shifts: in pixels.
    """
    runs = len(rows) // len(KINDS)
    drawn = Figure(figsize=(15, 5), layout="constrained")
    drawn.suptitle(
        "Nets that learnt digits in the middle of the picture are shown shifted ones"
        + (f": thin lines are {runs} runs of each, bold is their mean" if runs > 1 else "")
    )
    accuracy, *errors = drawn.subplots(1, 1 + len(MEASURES))
    for kind in KINDS:
        of_kind = [found for member, found in rows.items() if member.startswith(kind)]
        _lines(
            accuracy, kind, [0, *shifts], 100 - 100 * _last(of_kind, ["error", *(f"shift{s}_error" for s in shifts)])
        )
        for axes, name in zip(errors, MEASURES, strict=True):
            values = _last(of_kind, [f"shift{shift}_{name}" for shift in shifts])
            _lines(axes, kind, [0, *shifts], np.pad(values, ((0, 0), (1, 0))))
    accuracy.set(title="Accuracy", ylabel="test digits that are classified rightly, %")
    for axes, (name, title) in zip(errors, MEASURES.items(), strict=True):
        axes.set(title=f"{title}\n0: exactly; {UNRELATED:.2f}: as another picture's", ylabel=f"{name} error of {LAYER}")
    for axes in (accuracy, *errors):
        axes.set_xlabel("shift, pixels")
        axes.grid(alpha=0.3)
    accuracy.legend()
    return drawn


def _last(runs: Sequence[Sequence[Row]], metrics: Sequence[str]) -> Float[np.ndarray, "runs metrics"]:
    """The last test's metrics of each run; NaN where it has none."""
    return np.array([[(*points(rows, "test", name)[1][-1:], np.nan)[0] for name in metrics] for rows in runs])


def _lines(axes: Axes, kind: str, at: Sequence[int], values: Float[np.ndarray, "runs points"]) -> None:
    axes.plot(at, values.T, color=COLOURS[kind], alpha=0.35, linewidth=0.8)
    axes.plot(at, values.mean(0), "o-", color=COLOURS[kind], linewidth=2.5, label=KINDS[kind])
