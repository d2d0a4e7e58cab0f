"""COCO's average precision, by the field's own program, pycocotools."""

import contextlib
import dataclasses
import functools
import importlib.util
import io
from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

NAMES = (
    "AP",
    "AP50",
    "AP75",
    "AP_small",
    "AP_medium",
    "AP_large",
    "AR1",
    "AR10",
    "AR100",
    "AR_small",
    "AR_medium",
    "AR_large",
)


@dataclasses.dataclass(frozen=True, eq=False)
class Judged:
    """What was found in one picture and what is there, in pixels of the stored picture; verdicts where they are made.

    Attributes:
      boxes, score, predicted: the findings.
      true, label, ignored, area: the objects.
      verdict, overlap: of each finding; see `detection.judge`.
      matched: of each object, whether a finding is right on it.
      pairs: the IoU of each finding with each object that is judged by; None: the boxes'.
      maps: of each finding its mask within its box, 255 a probability of 1; None where there are none.
      shape: height and width of the picture, for the masks.
      found_masks, true_masks: the findings' and objects' as pycocotools packs them; see `masks.py`.
    """

    boxes: Float[np.ndarray, "d 4"]
    score: Float[np.ndarray, " d"]
    predicted: Int[np.ndarray, " d"]
    true: Float[np.ndarray, "t 4"]
    label: Int[np.ndarray, " t"]
    ignored: Bool[np.ndarray, " t"]
    area: Float[np.ndarray, " t"]
    verdict: Int[np.ndarray, " d"] | None = None
    overlap: Float[np.ndarray, " d"] | None = None
    matched: Bool[np.ndarray, " t"] | None = None
    pairs: Float[np.ndarray, "d t"] | None = None
    maps: UInt8[np.ndarray, "d s s"] | None = None
    shape: tuple[int, int] | None = None
    found_masks: tuple[dict, ...] = ()
    true_masks: tuple[dict, ...] = ()


@functools.cache
def has_coco_tool() -> bool:
    """Whether pycocotools is installed."""
    return importlib.util.find_spec("pycocotools") is not None


def coco_scores(pictures: Mapping[int, Judged], classes: int, masks: bool = False) -> dict[str, float]:
    """COCO's twelve figures, by `NAMES`; those that the objects say nothing of, of a size, say, are left out.

    They are for boxes, or for masks, which all pictures must have then.

    "AP" is the mean over IoU from 0.5 to 0.95 and over the classes, at most 100 findings a picture; small are objects
    of less than 32² pixels, large ones of more than 96². Ignored objects are crowds to it, which any number of findings
    may lie in; "AR" is the recall at so many findings.
    """
    from pycocotools import mask as tool  # an optional dependency
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def sizes(one: Judged) -> dict[str, int]:
        return dict(zip(("height", "width"), one.shape, strict=True)) if masks else {}

    def described(content: list[dict]) -> COCO:
        made = COCO()
        made.dataset = {
            "images": [{"id": index, **sizes(one)} for index, one in pictures.items()],
            "categories": [{"id": k} for k in range(classes)],
            "annotations": [{**thing, "id": number} for number, thing in enumerate(content, 1)],  # 0 is no match to it
        }
        made.createIndex()
        return made

    def things(index, boxes, label, area, packed):
        corners = boxes.astype(np.float64)
        sized = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1).tolist()
        rows = zip(sized, label.tolist(), area.tolist(), strict=True)
        found = [{"image_id": index, "bbox": box, "category_id": k, "area": a} for box, k, a in rows]
        return [{**t, "segmentation": mask} for t, mask in zip(found, packed, strict=True)] if masks else found

    truths, findings = [], []
    for index, one in pictures.items():
        true = things(index, one.true, one.label, one.area, one.true_masks)
        truths += [{**thing, "iscrowd": int(crowd)} for thing, crowd in zip(true, one.ignored, strict=True)]
        area = tool.area(list(one.found_masks)) if masks else (one.boxes[:, 2:] - one.boxes[:, :2]).prod(-1)
        found = things(index, one.boxes, one.predicted, np.asarray(area), one.found_masks)
        findings += [{**t, "iscrowd": 0, "score": s} for t, s in zip(found, one.score.tolist(), strict=True)]
    if not any(not truth["iscrowd"] for truth in truths):
        return {}
    with contextlib.redirect_stdout(io.StringIO()):  # it reports each of its stages
        evaluation = COCOeval(described(truths), described(findings), "segm" if masks else "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    scores = dict(zip(NAMES, map(float, evaluation.stats), strict=True))
    return {name: value for name, value in scores.items() if value >= 0}  # −1: nothing to judge by
