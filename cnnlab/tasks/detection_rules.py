"""The numbers that the R-CNN family is trained and tested by."""

import dataclasses
import math

from cnnlab.errors import UserError


@dataclasses.dataclass(frozen=True)
class Rules:
    """The numbers of Fast and Faster R-CNN's papers.

    Attributes:
      anchors: of a picture that the RPN learns from in a step, at most half of them positive.
      anchor_high, anchor_low: IoU from which an anchor is positive, and under which negative.
      cross_boundary: anchors that reach over the picture's border are learnt from too; the paper leaves them out.
      train_before, test_before: anchors of each map, those with the highest scores, that become proposals.
      train_proposals, test_proposals: at most so many of them are left over.
      proposal_overlap: IoU above which the lower of two proposals is dropped.
      regions: of a picture that the head learns from in a step.
      positives: the share of them that lies on objects, at most.
      region_high: IoU from which a region is on an object.
      region_low: the least IoU of a region on the background; 0.1 in Fast R-CNN, to learn from hard ones.
      code: weights of the head's boxes; 10, 10, 5, 5 gives them about unit variance, as in the papers.
      beta: of the RPN's smooth L1.
      box_weight: λ, what the losses of boxes count beside those of classes.
      least: probability below which nothing is reported.
      overlap: IoU above which the less probable of two findings of a class is dropped.
      limit: findings in a picture.
    """

    anchors: int = 256
    anchor_high: float = 0.7
    anchor_low: float = 0.3
    cross_boundary: bool = False
    train_before: int = 12_000
    test_before: int = 6_000
    train_proposals: int = 2_000
    test_proposals: int = 300
    proposal_overlap: float = 0.7
    regions: int = 128
    positives: float = 0.25
    region_high: float = 0.5
    region_low: float = 0.0
    code: tuple[float, ...] = (10.0, 10.0, 5.0, 5.0)
    beta: float = 1 / 9
    box_weight: float = 1.0
    least: float = 0.05
    overlap: float = 0.3
    limit: int = 100

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if type(value) is int and value < 1:
                raise UserError(f"config.rules.{name} is {value}; it must be at least 1")
            if type(value) is float and not 0 <= value <= (1 if name != "box_weight" else math.inf):
                raise UserError(f"config.rules.{name} is {value}; it must be 0 or more, and a share at most 1")
        if len(self.code) != 4 or not min(self.code) > 0:
            raise UserError(f"config.rules.code is {tuple(self.code)}; it must be four numbers above 0")
        if self.anchor_low > self.anchor_high:
            raise UserError(f"config.rules.anchor_low is {self.anchor_low}, above anchor_high, {self.anchor_high}")
