"""Masks of regions (He et al. 2017, section 3): what is learnt of a region, the loss, and masks put into pictures.

An object's mask comes as a window, its box resampled to W×W, of values from 0 to 255, the share that each part of the
window is covered; so it takes the same room in pictures of any size. Boxes are x0 y0 x1 y1, edges, see `boxes.py`.
"""

import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, UInt8

from cnnlab.ops.boxes import has_area

COVERED = 255  # of a window's value where all is covered


def mask_targets(
    windows: UInt8[Array, "*r w w"], boxes: Float[Array, "*r 4"], regions: Float[Array, "*r 4"], size: int = 28
) -> Bool[Array, "*r size size"]:
    """What a region's map is to show: at the middle of each of size×size bins, whether the object is seen there.

    It is seen where at least half is covered, by bilinear interpolation; outside the object's box, nowhere.

    Args:
      windows: the objects' masks.
      boxes: the objects' boxes, in the coordinates of the regions. One without area has nothing to show.
      regions: one for each object.
      size: of the map.

    >>> left = jnp.array([[[255, 0], [255, 0]]], jnp.uint8)
    >>> box, region = jnp.array([[0.0, 0.0, 4.0, 4.0]]), jnp.array([[0.0, 0.0, 8.0, 2.0]])
    >>> mask_targets(left, box, region, 4).astype(int)[0].tolist()
    [[1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]]
    """
    there = has_area(boxes)[..., None]
    boxes = jnp.where(there, boxes, jnp.array([0.0, 0.0, 1.0, 1.0]))
    across, down = (_shares(boxes[..., i::2], regions[..., i::2], windows.shape[-1], size) for i in (0, 1))
    # Accelerators would round the products to fewer digits.
    exact = lax.Precision.HIGHEST
    values = jnp.einsum("...iv,...vu->...iu", down, windows.astype(jnp.float32), precision=exact)
    values = jnp.einsum("...iu,...ju->...ij", values, across, precision=exact)
    return (values >= COVERED / 2) & there[..., None]


def _shares(edges: Float[Array, "*r 2"], region: Float[Array, "*r 2"], length: int, size: int) -> Array:
    """Of each bin's middle the shares that the window's rows (or columns) have in its value (…, size, length)."""
    low, high = (edges[..., i, None] for i in (0, 1))
    first, last = (region[..., i, None] for i in (0, 1))
    middle = first + (jnp.arange(size) + 0.5) / size * (last - first)
    place = jnp.clip((middle - low) / (high - low) * length - 0.5, 0, length - 1)
    shares = jnp.maximum(1 - jnp.abs(place[..., None] - jnp.arange(length)), 0)
    return jnp.where(((middle >= low) & (middle < high))[..., None], shares, 0)


def mask_loss(
    logits: Float[Array, "r s s"], targets: Bool[Array, "r s s"], positive: Bool[Array, " r"]
) -> Float[Array, ""]:
    """Binary cross-entropy, the mean over the pixels of the positive regions; 0 where there are none.

    Args:
      logits: of each region the map of its object's class alone, so that classes do not compete.
      targets: see `mask_targets`.
      positive: the regions that lie on objects.

    >>> mask_loss(jnp.array([[[0.0]], [[9.0]]]), jnp.array([[[True]], [[False]]]), jnp.array([True, False])).round(3)
    Array(0.693, dtype=float32)
    """
    wrong = optax.sigmoid_binary_cross_entropy(logits.astype(jnp.float32), targets.astype(jnp.float32)).mean((1, 2))
    return (wrong * positive).sum() / jnp.maximum(positive.sum(), 1)


def paste(
    mask: Float[np.ndarray, "s s"], box: Float[np.ndarray, "4"], shape: tuple[int, int]
) -> Bool[np.ndarray, "h w"]:
    """The pixels of a picture whose middles lie within a box and have a probability above a half there.

    Between the middles of the mask's bins probabilities are interpolated, from the outermost to the box's edge they
    stay.

    Args:
      mask: probabilities within the box.
      box: in pixels of the picture; it may reach over its edges.
      shape: height and width of the picture.

    >>> paste(np.array([[0.9, 0.1]] * 2), np.array([1.0, 0.0, 5.0, 2.0]), (3, 6)).astype(int).tolist()
    [[0, 1, 1, 0, 0, 0], [0, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]]
    """
    pasted = np.zeros(shape, bool)
    x0, y0, x1, y1 = map(float, box)
    if not (x1 > x0 and y1 > y0):
        return pasted
    parts = []
    for low, high, length in ((y0, y1, shape[0]), (x0, x1, shape[1])):
        first, last = (int(np.clip(np.ceil(edge - 0.5), 0, length)) for edge in (low, high))
        middles = np.arange(first, last) + 0.5
        place = np.clip((middles - low) / (high - low) * len(mask) - 0.5, 0, len(mask) - 1)
        shares = np.maximum(1 - np.abs(place[:, None] - np.arange(len(mask))), 0)
        parts.append((slice(first, last), shares))
    (rows, down), (columns, across) = parts
    pasted[rows, columns] = down @ mask @ across.T > 0.5
    return pasted


def masks_of(
    maps: UInt8[np.ndarray, "d s s"], boxes: Float[np.ndarray, "d 4"], shape: tuple[int, int]
) -> Bool[np.ndarray, "d h w"]:
    """Findings' masks in a picture of some height and width, from their maps (255 is a probability of 1) and boxes."""
    pasted = [paste(one / COVERED, box, shape) for one, box in zip(maps, boxes, strict=True)]
    return np.array(pasted, bool).reshape(-1, *shape)
