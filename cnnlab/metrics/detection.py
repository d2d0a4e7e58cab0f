"""Detection scores: average precision as PASCAL VOC and as COCO have it, per class, and the worst mistakes."""

import dataclasses
import heapq
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from cnnlab.metrics.coco_scores import Judged, coco_scores, has_coco_tool
from cnnlab.metrics.localisation import PLACED

RIGHT, WRONG, NEITHER = 1, 0, -1  # verdicts on a finding
NEAR = 0.1  # IoU from which it is badly placed and not out of thin air (Hoiem et al. 2012, "Diagnosing error")
KINDS = {
    "missed": "objects that nothing was found on",
    "false": "findings where nothing of their class is",
    "misplaced": "findings beside an object, at an IoU of 0.1 to 0.5",
    "double": "second findings of an object",
}


def overlaps(one: Float[np.ndarray, "n 4"], other: Float[np.ndarray, "m 4"]) -> Float[np.ndarray, "n m"]:
    """Intersection over union of each pair of boxes x0 y0 x1 y1; 0 where neither has an area.

    >>> overlaps(np.array([[0.0, 0, 2, 2]]), np.array([[1.0, 0, 3, 2], [5, 5, 6, 6]])).round(3).tolist()
    [[0.333, 0.0]]
    """
    low, high = np.maximum(one[:, None, :2], other[:, :2]), np.minimum(one[:, None, 2:], other[:, 2:])
    common = np.clip(high - low, 0, None).prod(-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(-1) for boxes in (one, other)]
    union = areas[0][:, None] + areas[1] - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def judge(
    found: Float[np.ndarray, "d 4"],
    score: Float[np.ndarray, " d"],
    truth: Float[np.ndarray, "t 4"],
    ignored: Bool[np.ndarray, " t"],
    placed: float = PLACED,
    pairs: Float[np.ndarray, "d t"] | None = None,
) -> tuple[Int[np.ndarray, " d"], Float[np.ndarray, " d"], Int[np.ndarray, " d"]]:
    """VOC's verdicts on the findings of one class in one picture.

    Everingham et al. 2010 ("The PASCAL visual object classes challenge"), section 4.2: by falling score, each finding
    goes to the truth that it overlaps most; from an IoU of `placed` it is right, unless the truth had one before, and
    where the truth is ignored, neither right nor wrong. Of equal scores the first comes first.

    Args:
      found, score, truth, ignored: boxes, and what is known of them.
      placed: the IoU.
      pairs: that of each finding with each truth; None: the boxes'.

    Returns:
      Of each finding the verdict, its IoU with its truth, and which truth that is (−1: there is none).
    """
    verdict, best = np.full(len(found), WRONG), np.full(len(found), -1)
    overlap = np.zeros(len(found), np.float64)
    if len(truth) and len(found):
        pairs = overlaps(found.astype(np.float64), truth.astype(np.float64)) if pairs is None else pairs
        best, overlap = pairs.argmax(1), pairs.max(1)
    taken = np.zeros(len(truth), bool)
    for i in np.argsort(-score, kind="stable"):
        if overlap[i] >= placed:
            verdict[i] = NEITHER if ignored[best[i]] else WRONG if taken[best[i]] else RIGHT
            taken[best[i]] = True
    return verdict, overlap, best


def precision_recall(
    right: Bool[np.ndarray, " d"], truths: int
) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, " d"]]:
    """Precision and recall after each finding.

    Args:
      right: whether each is, by falling score; without those that are neither right nor wrong.
      truths: how many there are to find.
    """
    hits = np.cumsum(right)
    return hits / np.arange(1, len(right) + 1), hits / max(truths, 1)


def average_precision(right: Bool[np.ndarray, " d"], truths: int, points: int = 0) -> float:
    """The mean precision over recall, where precision is the highest at that recall or any greater.

    Args:
      right: whether each finding is, by falling score.
      truths: how many there are to find; of none it is NaN.
      points: 11: at the recalls 0, 0.1 … 1 (VOC until 2009); 0: the area under the curve (from 2010).

    >>> [round(average_precision(np.array([True, False, True]), 2, points), 4) for points in (0, 11)]
    [0.8333, 0.8485]
    """
    if not truths:
        return float("nan")
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(right) + 1)
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    if not points:
        return float(np.sum(envelope[:-1][right]) / truths)
    # In whole numbers: whether a recall of 3 in 10 reaches 0.3 is no matter of rounding.
    needed = np.searchsorted(hits * (points - 1), np.arange(points) * truths)
    return float(np.mean(envelope[needed]))


@dataclasses.dataclass(frozen=True)
class ClassScore:
    """What was found of one class.

    Attributes:
      name: the class.
      truths: objects that count.
      score: of the findings that count, falling.
      right: whether each is.
      average_precision, eleven_points: VOC's, at an IoU of 0.5; NaN without truths.
    """

    name: str
    truths: int
    score: Float[np.ndarray, " d"]
    right: Bool[np.ndarray, " d"]

    @property
    def average_precision(self) -> float:
        return average_precision(self.right, self.truths)

    @property
    def eleven_points(self) -> float:
        return average_precision(self.right, self.truths, 11)


class DetectionMetrics:
    """Findings and truths of pictures, judged; pictures whose mask is 0 count for nothing.

    COCO's scores need pycocotools (`pip install -e '.[detection]'`); without, they are left out, and a line says so.

    Attributes:
      class_names: in the order of the labels.
      pictures: what was found and judged of each, by its index in the source.
      by_masks: COCO's scores are for masks and not for boxes.
    """

    def __init__(self, class_names: Sequence[str], keep_worst: int = 20, by_masks: bool = False):
        self.class_names = tuple(class_names)
        self.by_masks = by_masks
        self.pictures: dict[int, Judged] = {}
        self._keep = keep_worst
        self._coco: dict[str, float] | None = None

    def add(self, outputs: Mapping[str, np.ndarray]) -> None:
        """Adds one batch.

        Args:
          outputs: "mask" and "index" (n); "boxes" (n, d, 4), "score" (n, d) and "predicted" (n, d), the findings'
            class or −1 for padding; "true_boxes" (n, m, 4), "label" (n, m), −1 for padding, and "ignored" (n, m), and
            where it is known "area" (n, m), else it is the true boxes'. Boxes x0 y0 x1 y1 in pixels of stored pictures.
        """
        for i in np.flatnonzero(outputs["mask"] > 0):
            there, true = outputs["predicted"][i] >= 0, outputs["label"][i] >= 0
            truth = outputs["true_boxes"][i][true]
            area = outputs["area"][i][true] if "area" in outputs else (truth[:, 2:] - truth[:, :2]).prod(-1)
            findings = (outputs[name][i][there] for name in ("boxes", "score", "predicted"))
            one = Judged(*findings, truth, outputs["label"][i][true], outputs["ignored"][i][true], area)
            self.put(int(outputs["index"][i]), one)

    def put(self, index: int, one: Judged) -> None:
        """Adds a picture, by its index in the source."""
        self._coco = None
        self.pictures[index] = _judged(one)

    def classes(self) -> list[ClassScore]:
        """The score of each class, in the order of the labels."""
        pictures = [self.pictures[index] for index in sorted(self.pictures)]
        columns = ("score", "predicted", "verdict", "label", "ignored")
        score, predicted, verdict, label, ignored = (
            np.concatenate([getattr(one, name) for one in pictures] or [np.zeros(0)]) for name in columns
        )
        found = []
        for k, name in enumerate(self.class_names):
            mine = (predicted == k) & (verdict != NEITHER)
            order = np.argsort(-score[mine], kind="stable")
            truths = int(np.sum((label == k) & (ignored == 0)))
            found.append(ClassScore(name, truths, score[mine][order], (verdict[mine] == RIGHT)[order]))
        return found

    def compute(self) -> dict[str, float]:
        """ "AP50", "AP" and "AP75", from 0 to 1, and how many pictures `count`; NaN without any object.

        "AP50" is VOC's, the mean over the classes that have objects of the area under precision over recall at an IoU
        of 0.5. "AP", the mean over IoU of 0.5, 0.55 … 0.95, and "AP75" are COCO's.
        """
        known = [score.average_precision for score in self.classes() if score.truths]
        scores = {"AP50": float(np.mean(known)) if known else float("nan")}
        scores |= {name: value for name, value in self.coco().items() if name in ("AP", "AP75")}
        return {**scores, "count": len(self.pictures)}

    def coco(self) -> dict[str, float]:
        """COCO's twelve figures by name; see `coco_scores`. Empty without its tool."""
        if self._coco is None:
            self._coco = {}
            if has_coco_tool():
                self._coco = coco_scores(self.pictures, len(self.class_names), self.by_masks)
            else:
                print("COCO's scores are left out: they need pip install -e '.[detection]'", file=sys.stderr)
        return self._coco

    def table(self) -> str:
        """All scores as lines of text: each class by VOC's two rules, their means, and COCO's figures."""
        rows = [
            (score.name, score.average_precision, score.eleven_points, score.truths, len(score.right))
            for score in self.classes()
        ]
        known = np.array([row[1:3] for row in rows if row[3]]).reshape(-1, 2)
        if len(known):
            rows.append(("mean", *known.mean(0), sum(row[3] for row in rows), sum(row[4] for row in rows)))
        width = max(len(name) for name, *_ in [*rows, ("class",)])
        lines = [f"{'class':<{width}}  {'AP50':>7}  {'11 points':>9}  {'objects':>7}  {'findings':>8}"]
        shown = [(a, *(f"{x:.2%}" if d else "–" for x in (b, c)), d, e) for a, b, c, d, e in rows]
        lines += [f"{a:<{width}}  {b:>7}  {c:>9}  {d:7,}  {e:8,}" for a, b, c, d, e in shown]
        if self.coco():
            lines.append("COCO: " + "  ".join(f"{name} {value:.2%}" for name, value in self.coco().items()))
        return "\n".join(lines)

    def worst(self, kind: str) -> list[dict[str, Any]]:
        """The worst mistakes of one of `KINDS`: the largest missed objects, or the surest wrong findings.

        Returns:
          Rows of plain values: "kind", "index" of the picture, "number" of the finding or missed object in it, "label"
          of the class, "score" (of a missed object 0), "box" x0 y0 x1 y1, "overlap", the IoU with the nearest object
          (of a missed object: finding) of the class, and "other", the class of what a false finding lies on at an IoU
          of 0.5 or more, −1 where there is nothing.
        """
        found: list[tuple[float, int, int]] = []
        for index in sorted(self.pictures):
            which, badness = _mistakes(self.pictures[index], kind)
            found += [(bad, index, i) for bad, i in zip(badness.tolist(), which.tolist(), strict=True)]
        found = heapq.nlargest(self._keep, found, key=lambda item: item[0])
        return [_row(kind, index, self.pictures[index], i) for _, index, i in found]


def _judged(one: Judged) -> Judged:
    """The same with verdicts."""
    pairs = _pairs(one)
    verdict, overlap = np.full(len(one.score), WRONG), np.zeros(len(one.score))
    matched = np.zeros(len(one.label), bool)
    for k in np.unique(one.predicted):
        mine, true = np.flatnonzero(one.predicted == k), np.flatnonzero(one.label == k)
        what = (one.boxes[mine], one.score[mine], one.true[true], one.ignored[true])
        verdict[mine], overlap[mine], best = judge(*what, pairs=pairs[np.ix_(mine, true)])
        matched[true[best[verdict[mine] == RIGHT]]] = True
    return dataclasses.replace(one, verdict=verdict, overlap=overlap, matched=matched)


def _pairs(one: Judged) -> Float[np.ndarray, "d t"]:
    """The IoU of each finding with each object."""
    return overlaps(one.boxes.astype(np.float64), one.true.astype(np.float64)) if one.pairs is None else one.pairs


def _mistakes(one: Judged, kind: str) -> tuple[Int[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Which objects or findings of a picture are mistakes of a kind, and how bad each is."""
    if kind == "missed":
        which = np.flatnonzero(~one.matched & ~one.ignored)
        return which, (one.true[which, 2:] - one.true[which, :2]).prod(-1)
    low, high = {"false": (0.0, NEAR), "misplaced": (NEAR, PLACED), "double": (PLACED, np.inf)}[kind]
    which = np.flatnonzero((one.verdict == WRONG) & (one.overlap >= low) & (one.overlap < high))
    return which, one.score[which]


def _row(kind: str, index: int, one: Judged, i: int) -> dict[str, Any]:
    """A mistake as plain values; see `DetectionMetrics.worst`."""
    missed = kind == "missed"
    box, label = (one.true, one.label) if missed else (one.boxes, one.predicted)
    pairs = _pairs(one)[:, i] if missed else _pairs(one)[i]
    same = (one.predicted if missed else one.label) == label[i]
    others = np.where(same, 0.0, pairs)
    on_other = not missed and others.max(initial=0.0) >= PLACED
    return {
        "kind": kind,
        "index": index,
        "number": i,
        "label": int(label[i]),
        "score": 0.0 if missed else float(one.score[i]),
        "box": [float(x) for x in box[i]],
        "overlap": float(np.max(pairs, where=same, initial=0.0)),
        "other": int(one.label[others.argmax()]) if on_other else -1,
    }
