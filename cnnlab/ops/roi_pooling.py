"""Regions of interest (RoIs) pooled to one size: by maxima (Girshick 2015), by RoIAlign (He et al. 2017), on pyramids.

RoIs are boxes x0 y0 x1 y1 in pixels of the picture, r of each of n pictures; `scale` is a map's size over its
picture's, 1/16 for a stride of 16. A RoI may reach over the picture's border. One that pads a list, 0 0 0 0, is pooled
like any other, from the map's upper left corner: what comes of it is to be ignored. Gradients go to the maps, not to
the RoIs.

On CPUs a loop adds each bin's gradient to the few places that it comes from; XLA's own scatter, which does the same on
accelerators, takes many times as long there. Beside torchvision 0.28's C++ on two cores of an AMD EPYC that were busy
with other work, in turn, medians of 11: RoIAlign of 512 RoIs to 7×7 from 50×50×256 5.6 ms against 112, with the
gradient 44 against 568; maxima of 2 × 128 RoIs from 38×63×512 36 ms against 150, with the gradient 95 against 177.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from cnnlab.errors import UserError
from cnnlab.ops.boxes import area
from cnnlab.ops.forms import tuned

Size = tuple[int, int]


def roi_max_pool(
    features: Float[Array, "n h w c"], rois: Float[Array, "n r 4"], size: Size, scale: float
) -> Float[Array, "n r p q c"]:
    """The maximum of each of p×q bins of each RoI (Girshick 2015, section 2.1).

    A RoI covers whole places of the map: corners are rounded (a half away from 0), and both belong to it. Bin i of p
    reaches from ⌊i h / p⌋ up to but not including ⌈(i + 1) h / p⌉, so neighbours may share a row or column. What lies
    outside the map is left out; a bin without a place is 0, and so is all of a RoI that is not a number. The gradient
    goes to each maximum, of equals to the first by row and column.

    These are the bins of Caffe and torchvision, but that they compute them in float32: for 7 bins of 57, 114, 121 …
    places their last one reaches one further.

    Args:
      features: maps of the pictures.
      rois: of each picture.
      size: rows p and columns q of bins.
      scale: of the maps.

    >>> features = jnp.arange(16.0).reshape(1, 4, 4, 1)
    >>> roi_max_pool(features, jnp.array([[[0.0, 0.0, 2.0, 3.0]]]), (2, 2), 1.0)[0, 0, :, :, 0].tolist()
    [[5.0, 6.0], [13.0, 14.0]]
    """
    n, height, width, c = features.shape
    if not rois.size:
        return jnp.zeros((*rois.shape[:2], *size, c), features.dtype)
    x0, y0, x1, y1 = jnp.moveaxis(lax.stop_gradient(rois.reshape(-1, 4)) * scale, -1, 0)
    rows, columns = _bins(y0, y1, size[0], height), _bins(x0, x1, size[1], width)
    picture = jnp.repeat(jnp.arange(n), rois.shape[1]) * height * width
    pooled = _max_pool(features.reshape(-1, c), picture, rows, columns, width)
    return pooled.reshape(*rois.shape[:2], *size, c)


def roi_align(
    features: Float[Array, "n h w c"],
    rois: Float[Array, "n r 4"],
    size: Size,
    scale: float,
    sampling: int = 2,
    aligned: bool = False,
) -> Float[Array, "n r p q c"]:
    """The mean of sampling × sampling points of each of p×q bins of each RoI (He et al. 2017, section 3).

    The points lie evenly in their bin, and take their values from the four nearest places by bilinear interpolation;
    nothing is rounded. As in torchvision, the values of the outermost places reach 1 beyond them, and what lies further
    out is 0.

    Args:
      features, rois, size, scale: see `roi_max_pool`.
      sampling: points of a bin down and across. (torchvision's −1, as many as fit, has no fixed shape.)
      aligned: a place's value is that of its middle, as it should be. False is the paper's first form, half a place
        further to the lower right, in which no RoI is smaller than 1×1; torchvision's published detectors have it.

    >>> features = jnp.arange(16.0).reshape(1, 4, 4, 1)
    >>> roi_align(features, jnp.array([[[0.0, 0.0, 2.0, 2.0]]]), (2, 1), 1.0)[0, 0, :, :, 0].tolist()
    [[3.0], [7.0]]
    """
    return multilevel_roi_align((features,), rois, size, (scale,), sampling, aligned)


def multilevel_roi_align(
    maps: Sequence[Float[Array, "n _ _ c"]],
    rois: Float[Array, "n r 4"],
    size: Size,
    scales: Sequence[float],
    sampling: int = 2,
    aligned: bool = False,
) -> Float[Array, "n r p q c"]:
    """`roi_align` on a feature pyramid, each RoI from the map of its size alone; see `pyramid_level`.

    Args:
      maps: of the pictures, the finest first.
      rois, size, sampling, aligned: see `roi_align`.
      scales: of each map, each half of the one before it.
    """
    if sampling < 1:
        raise UserError(f"RoIAlign takes a whole number of points of each bin, 1 or more, not {sampling}")
    n, r, _ = rois.shape
    c, dtype = maps[0].shape[-1], maps[0].dtype
    if not rois.size:
        return jnp.zeros((n, r, *size, c), dtype)
    level = pyramid_level(rois, scales).reshape(-1)
    heights, widths = np.array([x.shape[1:3] for x in maps]).T
    # All places of a picture in a row, map by map; last some that the four nearest of a map of one row reach into.
    rest = jnp.zeros((n, widths.max() + 2, c), dtype)
    places = jnp.concatenate([*(x.reshape(n, -1, c) for x in maps), rest], 1)
    begins = np.cumsum([0, *heights * widths])[:-1]
    x0, y0, x1, y1 = jnp.moveaxis(lax.stop_gradient(rois.reshape(-1, 4)), -1, 0) * jnp.array(scales, rois.dtype)[level]
    top, down = _points(y0, y1, size[0], jnp.array(heights)[level], sampling, aligned)
    left, right = _points(x0, x1, size[1], jnp.array(widths)[level], sampling, aligned)
    begin = jnp.repeat(jnp.arange(n), r) * places.shape[1] + jnp.array(begins)[level]
    width = jnp.array(widths)[level]
    # Of each bin the pairs of neighbours in a row: for each point two, each with two weights.
    top = top[:, :, None, :, None, None] + jnp.arange(2)
    index = begin[:, None, None, None, None, None] + top * width[:, None, None, None, None, None]
    index = index + left[:, None, :, None, :, None]
    weights = down[:, :, None, :, None, :, None] * right[:, None, :, None, :, None, :]
    pairs = 2 * sampling**2
    index, weights = index.reshape(-1, pairs), weights.reshape(-1, pairs, 2)
    combine = _combine_on_cpus if tuned() else _combine
    # Sums, the gradient's too, are made in single precision at least.
    places = places.reshape(-1, c).astype(jnp.promote_types(dtype, jnp.float32))
    return combine(places, index, weights).astype(dtype).reshape(n, r, *size, c)


def pyramid_level(rois: Float[Array, "*b 4"], scales: Sequence[float]) -> Int[Array, "*b"]:
    """The number of the map, from 0 for the finest, that each RoI is pooled from (Lin et al. 2016, equation 1).

    One of 224² pixels, the size that backbones are trained on, belongs to the map of scale 1/16, where their last stage
    but one ends; one of half the side to the map of twice the scale. What is too large or too small for all belongs to
    the last or the first.

    >>> pyramid_level(jnp.array([[0.0, 0, 224, 224], [0, 0, 223, 224], [0, 0, 9, 9]]), (1 / 4, 1 / 8, 1 / 16)).tolist()
    [2, 1, 0]
    """
    if any(scale != scales[0] / 2**i for i, scale in enumerate(scales)):
        raise UserError(f"in a feature pyramid each map has half the scale of the one before it, not {tuple(scales)}")
    finest = round(-np.log2(scales[0]))
    # The small number is torchvision's: for sides that are just not 224 · 2^k by rounding.
    level = jnp.floor(4 + jnp.log2(jnp.sqrt(area(rois)) / 224) + 1e-6)
    return jnp.clip(level - finest, 0, len(scales) - 1).astype(jnp.int32)


def _bins(low: Array, high: Array, bins: int, length: int) -> tuple[Array, Array]:
    """Where the bins of each RoI begin and end on an axis: (k, bins) each."""
    far = 2**20  # whole numbers without overflow; what is not a number lies far outside
    unknown = jnp.isnan(low) | jnp.isnan(high)
    low, high = (jnp.where(unknown, far, jnp.clip(x, -far, far)) for x in (low, high))
    low, high = (jnp.trunc(x) + jnp.sign(x) * (jnp.abs(x - jnp.trunc(x)) >= 0.5) for x in (low, high))
    low, high = low.astype(jnp.int32)[:, None], high.astype(jnp.int32)[:, None]
    extent, i = jnp.maximum(high - low + 1, 1), jnp.arange(bins)
    begin, end = low + i * extent // bins, low - (-(i + 1) * extent // bins)
    return jnp.clip(begin, 0, length), jnp.clip(end, 0, length)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _max_pool(places: Array, picture: Array, rows: tuple, columns: tuple, width: int) -> Array:
    """The maximum of each bin (k, p, q, c) of the places of all pictures in a row (n·h·w, c).

    `picture` is where each RoI's begins there; `rows` and `columns` are where its bins begin and end.
    """
    return _maxima(places, picture, rows, columns, width)[0]


def _max_pool_forward(places: Array, picture: Array, rows: tuple, columns: tuple, width: int) -> tuple[Array, tuple]:
    best, where = _maxima(places, picture, rows, columns, width)
    return best, (where, picture, rows, columns, jnp.zeros((0, len(places))))


def _max_pool_backward(width: int, kept: tuple, g: Array) -> tuple:
    where, picture, rows, columns, count = kept
    c, dtype = g.shape[-1], g.dtype
    flat, where = g.reshape(-1, c), where.reshape(-1, c)
    nothing = jnp.zeros((count.shape[1], c), jnp.promote_types(dtype, jnp.float32))

    def add_bin(k, total):
        own, its = (lax.dynamic_slice(x, (k, 0), (1, c)) for x in (flat, where))
        first, across, turns = _bin(k, picture, rows, columns, width)

        def add(t, total):
            at = first + t // across * width + t % across
            here = lax.dynamic_slice(total, (at, 0), (1, c))
            return lax.dynamic_update_slice(total, here + jnp.where(its == at, own, 0), (at, 0))

        return lax.fori_loop(0, turns, add, total)

    if tuned():
        total = lax.fori_loop(0, len(flat), add_bin, nothing)
    else:
        beyond = jnp.where(where < 0, len(nothing), where)
        total = nothing.at[beyond, jnp.arange(c)].add(flat, mode="drop")
    return total.astype(dtype), None, None, None


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def _maxima(places: Array, picture: Array, rows: tuple, columns: tuple, width: int) -> tuple[Array, Array]:
    """The maximum of each bin, and its place: of equals the first, −1 where there is none."""
    shape, c = (len(picture), rows[0].shape[1], columns[0].shape[1]), places.shape[1]
    lowest = lambda *shape: (jnp.full((*shape, c), -jnp.inf, places.dtype), jnp.full((*shape, c), -1, jnp.int32))

    def known(best, where):
        return jnp.where(where < 0, 0, best), where

    def larger(carry, values, at):
        best, where = carry
        more = values > best
        return jnp.where(more, values, best), jnp.where(more, at, where)

    def one_bin(k):
        first, across, turns = _bin(k, picture, rows, columns, width)

        def turn(t, carry):
            at = first + t // across * width + t % across
            return larger(carry, lax.dynamic_slice(places, (at, 0), (1, c))[0], at)

        return known(*lax.fori_loop(0, turns, turn, lowest()))

    def all_bins():
        """For accelerators: each turn looks at one place of every bin; smaller bins see their last ones again."""
        (top, bottom), (left, right) = rows, columns
        down, across = jnp.max(bottom - top, initial=0), jnp.max(right - left, initial=0)

        def turn(t, carry):
            row = jnp.minimum(top + t // across, bottom - 1)
            column = jnp.minimum(left + t % across, right - 1)
            at = picture[:, None, None] + row[:, :, None] * width + column[:, None]
            there = (bottom > top)[:, :, None] & (right > left)[:, None]
            values = jnp.where(there[..., None], places[jnp.where(there, at, 0)], -jnp.inf)
            return larger(carry, values, at[..., None])

        return known(*lax.fori_loop(0, down * across, turn, lowest(*shape)))

    best, where = lax.map(one_bin, jnp.arange(np.prod(shape))) if tuned() else all_bins()
    return best.reshape(*shape, c), where.reshape(*shape, c)


def _bin(k: Array, picture: Array, rows: tuple, columns: tuple, width: int) -> tuple[Array, Array, Array]:
    """The first place of the k-th of all bins, how many it has across, and how many in all."""
    p, q = rows[0].shape[1], columns[0].shape[1]
    roi, i, j = k // (p * q), k // q % p, k % q
    (top, bottom), (left, right) = (x[roi, i] for x in rows), (x[roi, j] for x in columns)
    across = jnp.maximum(right - left, 0)
    return picture[roi] + top * width + left, across, jnp.maximum(bottom - top, 0) * across


def _points(low: Array, high: Array, bins: int, length: Array, sampling: int, aligned: bool) -> tuple[Array, Array]:
    """The points of each bin on an axis: the first of their two nearest places (k, bins, sampling), and the shares of
    both in the bin's mean (k, bins, sampling, 2).
    """
    if aligned:
        low, high = low - 0.5, high - 0.5
    extent = high - low if aligned else jnp.maximum(high - low, 1)
    low, step, length = (x[:, None, None] for x in (low, extent / bins, length))
    i, j = jnp.arange(bins)[:, None], jnp.arange(sampling)
    point = low + i * step + (j + 0.5) * step / sampling
    near = (point >= -1) & (point <= length)
    point = jnp.clip(jnp.where(near, point, 0), 0, length - 1)
    first = jnp.clip(jnp.floor(point).astype(jnp.int32), 0, jnp.maximum(length - 2, 0))
    second = point - first
    return first, jnp.where(near[..., None], jnp.stack([1 - second, second], -1), 0) / sampling


def _combine(places: Array, index: Array, weights: Array) -> Array:
    """For each row of indices (k, m) the sum of places[i] and places[i + 1], weighted by (k, m, 2)."""
    total = 0
    for pair in range(index.shape[1]):
        for i in (0, 1):
            total = total + places[index[:, pair] + i] * weights[:, pair, i, None]
    return total


@jax.custom_vjp
def _combine_on_cpus(places: Array, index: Array, weights: Array) -> Array:
    return _combine(places, index, weights)


def _combine_forward(places: Array, index: Array, weights: Array) -> tuple[Array, tuple]:
    return _combine(places, index, weights), (index, weights, jnp.zeros((0, len(places))))


def _combine_backward(kept: tuple, g: Array) -> tuple:
    index, weights, count = kept
    c = g.shape[1]

    def add(k, total):
        own = lax.dynamic_slice(g, (k, 0), (1, c))
        for pair in range(index.shape[1]):
            at = (index[k, pair], 0)
            here = lax.dynamic_slice(total, at, (2, c))
            total = lax.dynamic_update_slice(total, here + weights[k, pair][:, None] * own, at)
        return total

    return lax.fori_loop(0, len(g), add, jnp.zeros((count.shape[1], c), g.dtype)), None, None


_combine_on_cpus.defvjp(_combine_forward, _combine_backward)
