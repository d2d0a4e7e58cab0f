"""Road maps scored as by Mnih and Hinton (2010, section 5): precision and recall that forgive a few pixels.

Relaxed precision is the share of the pixels found that lie within `slack` pixels of a true one, relaxed recall that of
the true pixels that lie within `slack` of a found one; distances are Euclidean, between the pixels' centres. Both are
functions of the threshold over which a pixel counts as found. The break-even point is where they are alike.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from cnnlab.data.road_patches import Assembly

LEVELS = 1000  # thresholds: 0, 1/1000, … 1
KEEP = 6  # pictures whose maps are kept for figures


def offsets(slack: float) -> Iterator[tuple[int, int]]:
    """The whole steps down and right that are no longer than `slack`.

    >>> sorted(offsets(1.0))
    [(-1, 0), (0, -1), (0, 0), (0, 1), (1, 0)]
    """
    reach = math.floor(slack)
    steps = range(-reach, reach + 1)
    return ((i, j) for i in steps for j in steps if i * i + j * j <= slack * slack)


def highest_within(values: np.ndarray, slack: float) -> np.ndarray:
    """The highest value within `slack` pixels of each pixel (h, w); of a mask, whether it lies so near.

    >>> highest_within(np.array([[0, 0, 5, 0, 0]]), 1.0).tolist()
    [[0, 5, 5, 5, 0]]
    """
    height, width = values.shape
    found = values.copy()
    for i, j in offsets(slack):
        if abs(i) < height and abs(j) < width:
            here = found[max(i, 0) : height + min(i, 0), max(j, 0) : width + min(j, 0)]
            there = values[max(-i, 0) : height + min(-i, 0), max(-j, 0) : width + min(-j, 0)]
            np.maximum(here, there, out=here)
    return found


@dataclasses.dataclass(frozen=True, eq=False)
class Curve:
    """Relaxed precision and recall by threshold, from counts of pixels that add up over pictures.

    Attributes:
      found: pixels whose probability is of each level, from 0 to `LEVELS`.
      near_truth: those of them that lie near a true one.
      true: true pixels by the highest level that lies near them.
    """

    found: Int[np.ndarray, " levels"]
    near_truth: Int[np.ndarray, " levels"]
    true: Int[np.ndarray, " levels"]

    def __add__(self, other: "Curve") -> "Curve":
        return Curve(self.found + other.found, self.near_truth + other.near_truth, self.true + other.true)

    @property
    def precision(self) -> Float[np.ndarray, " levels"]:
        """Where nothing is found, nothing is wrong: 1."""
        found, right = _from(self.found), _from(self.near_truth)
        return np.divide(right, found, out=np.ones(len(found)), where=found > 0)

    @property
    def recall(self) -> Float[np.ndarray, " levels"]:
        """NaN where there is no road."""
        true = _from(self.true)
        return np.divide(true, true[0], out=np.full(len(true), np.nan), where=true[0] > 0)

    def break_even(self) -> tuple[float, float]:
        """The greatest share that precision and recall both reach, and the threshold there; NaN without a road.

        On a curve this fine it is the point where they are alike, and on a coarse one it promises nothing that lies
        between its points.
        """
        both = np.minimum(self.precision, self.recall)
        if np.isnan(both).all():
            return math.nan, math.nan
        best = int(np.nanargmax(both))
        return float(both[best]), best / LEVELS

    def at(self, threshold: float) -> tuple[float, float]:
        """Precision and recall at a threshold from 0 to 1."""
        level = math.ceil(threshold * LEVELS - 1e-9)
        return float(self.precision[level]), float(self.recall[level])


def _from(counts: Int[np.ndarray, " levels"]) -> Int[np.ndarray, " levels"]:
    """How many there are of each level or a higher one."""
    return np.cumsum(counts[::-1])[::-1]


def nothing() -> Curve:
    """The counts of no picture."""
    return Curve(*np.zeros((3, LEVELS + 1), np.int64))


def curve_of(probability: Float[np.ndarray, "h w"], truth: Bool[np.ndarray, "h w"], slack: float = 3.0) -> Curve:
    """The counts of one picture.

    Args:
      probability: of a road, from 0 to 1.
      truth: which pixels are roads.
      slack: in pixels; 3 in the papers.
    """
    levels = np.floor(probability * LEVELS + 1e-6).astype(np.int16)
    near = highest_within(truth, slack)
    counted = (levels.ravel(), levels[near], highest_within(levels, slack)[truth])
    return Curve(*(np.bincount(each, minlength=LEVELS + 1) for each in counted))


@dataclasses.dataclass(frozen=True, eq=False)
class Labelled:
    """A picture's road map, as `RoadMetrics` keeps it.

    Attributes:
      index: of the picture.
      probability: of a road, 0 to 255.
      break_even: of the picture alone.
    """

    index: int
    probability: UInt8[np.ndarray, "h w"]
    break_even: float


class RoadMetrics:
    """Windows put together to whole maps, and these scored.

    Attributes:
      source: the `WindowSource` that is tested on; set by `loop.metrics_of`.
      slack: in pixels.
      threshold: over which a pixel is said to be of a road, for the scores at a threshold.
      curve: of all pictures so far.
      count: pictures.
      first: the first pictures' maps.
    """

    def __init__(self, slack: float, threshold: float):
        self.source: Any = None
        self.slack, self.threshold = slack, threshold
        self.curve, self.count = nothing(), 0
        self.first: list[Labelled] = []
        self._open: dict[int, Assembly] = {}
        self._loss = 0.0

    def add(self, outputs: Mapping[str, np.ndarray]) -> None:
        """Adds a batch of windows.

        Args:
          outputs: "mask" and "index" (n), and "sums" (n, span, span), the probabilities added up where tiles overlap.
        """
        for i in np.flatnonzero(outputs["mask"] > 0):
            index, top, left = self.source.places[outputs["index"][i]]
            if index not in self._open:
                self._open[index] = Assembly(*self.source.maps.size(index), self.source.tiling)
            if self._open[index].add(top, left, outputs["sums"][i]):
                self._finish(index, self._open.pop(index).probability())

    def _finish(self, index: int, probability: Float[np.ndarray, "h w"]) -> None:
        truth = self.source.truth(index)
        own = curve_of(probability, truth, self.slack)
        self.curve += own
        self.count += 1
        said = np.where(truth, probability, 1 - probability)
        self._loss -= float(np.log(np.maximum(said, 1e-7)).mean())
        if len(self.first) < KEEP:
            self.first.append(Labelled(index, np.round(255 * probability).astype(np.uint8), own.break_even()[0]))

    def compute(self) -> dict[str, float]:
        """The scores, from 0 to 1: "break_even" and the threshold there, "precision" and "recall" at the task's; a
        pixel's mean cross-entropy as "loss", how many pictures `count`.

        Without a road in any picture there is no recall: it and "at_threshold" are left out, and "break_even", which
        chooses the best checkpoint, is 0.0, so that all are alike.
        """
        value, threshold = self.curve.break_even()
        precision, recall = self.curve.at(self.threshold)
        scores = {"break_even": value, "at_threshold": threshold, "precision": precision, "recall": recall}
        if math.isnan(value):
            scores = {"break_even": 0.0, "precision": precision}
        return {**scores, "loss": self._loss / self.count if self.count else math.nan, "count": self.count}
