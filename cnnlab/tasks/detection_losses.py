"""What a detector learns from: anchors and regions with their truths, and the losses of Fast and Faster R-CNN.

All of one picture; `jax.vmap` makes them of a batch. A picture's loss does not depend on those beside it, so the mean
over pictures is the same however many devices share them.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Key

from cnnlab.ops import boxes as box_ops
from cnnlab.ops.matching import match, sample

Truth = tuple[Float[Array, "m 4"], Int[Array, " m"], Bool[Array, " m"]]  # boxes, labels (−1: padding), ignored


class Sampled(NamedTuple):
    """Regions that a picture's loss is of.

    Attributes:
      index: of each among those that it was drawn from.
      valid: whether there is one: a picture may have fewer.
      positive: whether it is on an object.
      label: 0 for the background, else the object's class + 1.
      target: the object's box, coded against the region; 0 on the background.
      matched: the object's number in the picture; on the background it means nothing.
    """

    index: Int[Array, " s"]
    valid: Bool[Array, " s"]
    positive: Bool[Array, " s"]
    label: Int[Array, " s"]
    target: Float[Array, "s 4"]
    matched: Int[Array, " s"]


def smooth_l1(x: Float[Array, "*n"], beta: float = 1.0) -> Float[Array, "*n"]:
    """½x²/β where |x| < β, |x| − ½β elsewhere (Girshick 2015, equation 3, has β = 1).

    >>> smooth_l1(jnp.array([0.0, 0.5, -3.0])).tolist()
    [0.0, 0.125, 2.5]
    """
    size = jnp.abs(x)
    return jnp.where(size < beta, 0.5 * jnp.square(x) / beta, size - 0.5 * beta)


def draw(
    key: Key[Array, ""],
    regions: Float[Array, "r 4"],
    there: Bool[Array, " r"],
    truth: Truth,
    count: int,
    share: float,
    high: float,
    low: float,
    lowest: float = 0.0,
    best_for_each_truth: bool = False,
    weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0),
) -> Sampled:
    """Positive and negative regions of a picture, drawn at random.

    Args:
      key: of the draw.
      regions: to draw from; of them those that are `there`.
      truth: the picture's objects.
      count: how many are drawn.
      share: at most so many of them are positive.
      high: the least IoU with an object that makes a region positive.
      low: below it, it is negative; between the two it is neither.
      lowest: the least IoU of a negative.
      best_for_each_truth: the regions of the largest IoU with an object are positive whatever that IoU is.
      weights: of the targets' code; see `boxes.encode`.

    A region whose object is to be ignored is neither.
    """
    boxes, labels, ignored = truth
    real = (labels >= 0) & box_ops.has_area(boxes)
    overlap = box_ops.iou(boxes, regions)
    chosen, kind = match(overlap, low, high, real, best_for_each_truth, there)
    largest = jnp.where(real[:, None], overlap, 0.0).max(0)
    index, valid, is_positive = sample(
        key, (kind == 1) & ~ignored[chosen], (kind == 0) & (largest >= lowest), count, share
    )
    own = chosen[index]
    target = box_ops.encode(boxes[own], regions[index], weights)
    return Sampled(
        index,
        valid,
        is_positive,
        jnp.where(is_positive, labels[own] + 1, 0),
        jnp.where(is_positive[:, None], target, 0.0),
        own,
    )


def rpn_loss(
    scores: Float[Array, " a"], offsets: Float[Array, "a 4"], drawn: Sampled, beta: float = 1 / 9
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Ren et al. 2015, equation 1, of one picture: of "an object or not", and of the boxes, a mean over the anchors."""
    total = jnp.maximum(drawn.valid.sum(), 1)
    wrong = optax.sigmoid_binary_cross_entropy(scores[drawn.index], drawn.positive.astype(jnp.float32))
    away = smooth_l1(offsets[drawn.index] - drawn.target, beta).sum(-1)
    return (wrong * drawn.valid).sum() / total, (away * drawn.positive).sum() / total


def head_loss(
    logits: Float[Array, "s k"], offsets: Float[Array, "s k 4"], drawn: Sampled
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Girshick 2015, equation 1, of one picture: of the classes and of the true class's boxes, a mean over regions."""
    total = jnp.maximum(drawn.valid.sum(), 1)
    wrong = optax.softmax_cross_entropy_with_integer_labels(logits, drawn.label)
    own = jnp.take_along_axis(offsets, drawn.label[:, None, None], 1)[:, 0]
    away = smooth_l1(own - drawn.target).sum(-1)
    return (wrong * drawn.valid).sum() / total, (away * drawn.positive).sum() / total


def with_truth(
    regions: Float[Array, "r 4"], there: Bool[Array, " r"], truth: Truth
) -> tuple[Float[Array, "r+m 4"], Bool[Array, " r+m"]]:
    """The regions and the objects' own boxes: something to learn from before the proposals are good."""
    boxes, labels, ignored = truth
    own = (labels >= 0) & ~ignored & box_ops.has_area(boxes)
    return jnp.concatenate([regions, boxes]), jnp.concatenate([there, own])


def accuracy_on_objects(logits: Float[Array, "s k"], drawn: Sampled) -> Float[Array, ""]:
    """The share of the positive regions that are given their class; 1 where there are none."""
    right = (jnp.argmax(logits, -1) == drawn.label) & drawn.positive
    return jnp.where(drawn.positive.any(), right.sum() / jnp.maximum(drawn.positive.sum(), 1), 1.0)


def stopped(tree):
    """`tree`, through which no gradient flows."""
    return jax.tree.map(jax.lax.stop_gradient, tree)
