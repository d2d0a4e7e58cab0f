"""Which boxes a detector learns from: each matched with a true one, then as many drawn as a step takes."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key


def match(
    iou: Float[Array, "*b m a"],
    low: float,
    high: float,
    valid_truth: Bool[Array, "*b m"],
    best_for_each_truth: bool = False,
    valid: Bool[Array, "*b a"] | None = None,
) -> tuple[Int[Array, "*b a"], Int[Array, "*b a"]]:
    """The truth of each anchor, and what it is an example of (Ren et al. 2015, section 3.1.2).

    Args:
      iou: of each truth with each anchor: `boxes.iou(truths, anchors)`.
      low, high: with an IoU of at least `high` with any truth an anchor is positive, with less than `low` with all of
        them negative.
      valid_truth: which truths there are; the others match nothing.
      best_for_each_truth: the anchors of the highest IoU with a truth are positive even where that is below `high`: all
        of them where several have it, as in torchvision. A truth that no anchor overlaps makes none positive.
      valid: which anchors may be matched (those that do not cross the border, say); the others are neither, and are not
        the best for a truth. By default all.

    Returns:
      The truth with which each anchor has its highest IoU, of equals the first, 0 where there are no truths; and the
      label of each anchor: 1 positive, 0 negative, −1 neither.

    >>> iou = jnp.array([[0.8, 0.4, 0.1, 0.0], [0.0, 0.5, 0.2, 0.6]])
    >>> [a.tolist() for a in match(iou, 0.3, 0.7, jnp.array([True, True]), True)]
    [[0, 1, 1, 1], [1, -1, 0, 1]]
    """
    iou = jnp.where(valid_truth[..., None], iou, -1)
    if valid is not None:
        iou = jnp.where(valid[..., None, :], iou, -1)
    if not iou.shape[-2]:
        iou = jnp.full((*iou.shape[:-2], 1, iou.shape[-1]), -1, iou.dtype)
    best = iou.max(-2)
    positive = best >= high
    if best_for_each_truth:
        most = iou.max(-1, keepdims=True, initial=-1)
        positive |= ((iou == most) & (most > 0)).any(-2)
    label = jnp.where(positive, 1, jnp.where(best < low, 0, -1))
    if valid is not None:
        label = jnp.where(valid, label, -1)
    return jnp.argmax(iou, -2), label


def sample(
    key: Key[Array, "*b"], positive: Bool[Array, "*b a"], negative: Bool[Array, "*b a"], count: int, share: float
) -> tuple[Int[Array, "*b count"], Bool[Array, "*b count"], Bool[Array, "*b count"]]:
    """Anchors or regions drawn at random without repeats: positive ones first, the rest filled up with negative ones.

    Fast and Faster R-CNN: of 64 regions of a picture at most a quarter are positive, of 256 anchors at most half.

    Args:
      key: one for each picture, so that its draw does not depend on those beside it.
      positive, negative: what to draw from; what is both is positive.
      count: how many are wanted.
      share: at most ⌊share · count⌋ are positive.

    Returns:
      Indices, which of them are valid (fewer where there are not enough negative ones), and which are positive; of
      those that are not valid the index is 0.

    >>> positive, negative = jnp.array([False, True, False, False]), jnp.array([True, False, False, True])
    >>> index, valid, is_positive = sample(jax.random.key(0), positive, negative, 4, 0.5)
    >>> sorted(index[1:3].tolist()), index[0].item(), valid.tolist(), is_positive.tolist()
    ([0, 3], 1, [True, True, True, False], [True, False, False, False])
    """
    draw = lambda key: jax.random.uniform(key, positive.shape[-1:])
    for _ in range(key.ndim):
        draw = jax.vmap(draw)
    order = draw(key)
    most = math.floor(share * count + 1e-6)  # 0.29 · 100 is 28.999…96 to a computer
    chosen, there = _first(jnp.where(positive, order, -1), most)
    filled, filling = _first(jnp.where(negative & ~positive, order, -1), count)
    # Row i is the i-th positive one or, when they are used up, goes on with the negative ones.
    positives = there.sum(-1, keepdims=True)
    row = jnp.arange(count)
    is_positive = row < positives
    rest = jnp.maximum(row - positives, 0)
    valid = is_positive | jnp.take_along_axis(filling, rest, -1)
    chosen = jnp.pad(chosen, [(0, 0)] * (chosen.ndim - 1) + [(0, count - most)])
    index = jnp.where(is_positive, chosen, jnp.take_along_axis(filled, rest, -1))
    return jnp.where(valid, index, 0), valid, is_positive


def _first(order: Float[Array, "*b a"], count: int) -> tuple[Array, Array]:
    """The indices of the `count` highest of what is not negative, and which of them there are."""
    found, index = jax.lax.top_k(order, min(count, order.shape[-1]))
    missing = [(0, 0)] * (order.ndim - 1) + [(0, count - found.shape[-1])]
    return jnp.pad(index, missing), jnp.pad(found >= 0, missing)
