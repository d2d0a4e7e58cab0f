"""Augmentation: random changes of training examples, on the device, inside the train step; here crops and flips.

`augment(keys, batch) → batch`: every function takes a key for each example, so what happens to an example depends on
the step and on its place in the global batch, not on how many devices share the work. `keys_of` makes the keys,
`compose` makes one function of several, `functools.partial` fixes parameters. What a function changes besides "image"
and in which coordinates, `warp.py` says; distortions are in `distort.py`, changes of colour in `colour.py`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from cnnlab.data.draws import Batch, Number, Range, check_label, check_range, coin, fill_colour, split, uniforms
from cnnlab.data.source import ArraySource, Source
from cnnlab.data.warp import Matrices, move_marks, warp
from cnnlab.errors import UserError
from cnnlab.rngs import stream_key

BLOCK = 500  # pictures of `fixed` that are made at a time

Augment = Callable[[Key[Array, " n"], Batch], dict[str, Array]]
Pair = tuple[Float[Array, " n"], Float[Array, " n"]]


def keys_of(key: Key[Array, ""], position: Int[Array, " n"]) -> Key[Array, " n"]:
    """A key for each example: that of the step, and the example's place in the global batch."""
    return jax.vmap(lambda place: jax.random.fold_in(key, place))(position)


def compose(*functions: Augment) -> Augment:
    """One augmentation that does several in turn, each with keys of its own.

    >>> compose()(keys_of(jax.random.key(0), jnp.arange(1)), {"label": jnp.array([3])})["label"].tolist()
    [3]
    """

    def augment(keys: Key[Array, " n"], batch: Batch) -> dict[str, Array]:
        for function, own in zip(functions, split(keys, len(functions)), strict=True):
            batch = function(own, batch)
        return dict(batch)

    return augment


def _matrix(x: Pair, y: Pair) -> Matrices:
    """The map that scales x and y by the first of each pair and then adds the second."""
    zero = jnp.zeros_like(x[0])
    rows = [x[0], zero, x[1]], [zero, y[0], y[1]]
    return jnp.stack([jnp.stack(row, -1) for row in rows], 1).astype(jnp.float32)


def _check_fits(size: int, batch: Batch, padding: int = 0) -> None:
    height, width = batch["image"].shape[1:3]
    if size < 1 or padding < 0:
        raise UserError(f"size is {size} and padding {padding}; they must be at least 1 and 0")
    if padding >= size:
        raise UserError(f"a padding of {padding} is too much for crops of {size}×{size}: some would be of nothing else")
    if min(height, width) + 2 * padding < size:
        padded = f" padded by {padding}" if padding else ""
        raise UserError(f"a crop of {size}×{size} does not fit into pictures of {height}×{width}{padded}")


def random_crop(
    keys: Key[Array, " n"],
    batch: Batch,
    size: int,
    padding: int = 0,
    fill: tuple[int, ...] = (0,),
    fill_label: int = 255,
) -> dict[str, Array]:
    """A part of size×size of each picture, all places equally likely.

    Args:
      keys: one a picture.
      batch: pictures of any size.
      size: height and width of the part.
      padding: pixels put on each side first. The CIFAR recipe has 32 of 32 + 2·4.
      fill: their colour, one number or one a channel; the mean colour is what becomes 0 in the network's input.
      fill_label: their label in the segmentation.

    Raises:
      UserError: the part is larger than the padded picture; a parameter is out of range.
    """
    _check_fits(size, batch, padding)
    height, width, channels = batch["image"].shape[1:]
    room = jnp.array([height, width]) + 2 * padding - size
    start = jax.vmap(lambda key: jax.random.randint(key, (2,), 0, room + 1))(keys)

    def cut(arrays, around):
        if padding:
            n, _, _, *rest = arrays.shape
            padded = jnp.broadcast_to(around, (n, height + 2 * padding, width + 2 * padding, *rest))
            arrays = padded.at[:, padding : padding + height, padding : padding + width].set(arrays)

        def part(array, at):
            corner = (at[0], at[1]) + (0,) * (array.ndim - 2)
            return jax.lax.dynamic_slice(array, corner, (size, size, *array.shape[2:]))

        return jax.vmap(part)(arrays, start)

    one = jnp.ones(len(keys))
    shift = (padding - start).astype(jnp.float32)
    moved = move_marks(batch, _matrix((one, shift[:, 1]), (one, shift[:, 0])), (size, size))
    moved["image"] = cut(batch["image"], fill_colour(fill, channels))
    if "segmentation" in batch:
        check_label(fill_label, batch["segmentation"])
        moved["segmentation"] = cut(batch["segmentation"], jnp.asarray(fill_label, batch["segmentation"].dtype))
    return moved


def _flip(batch: Batch, mirrored: Bool[Array, " n"], axis: int) -> dict[str, Array]:
    """The batch with some examples mirrored along axis 1 (upside down) or 2 (left to right).

    Where the batch has a "size", pictures are that high and wide, in the upper left corner of a canvas that is the same
    all over elsewhere.
    """
    height, width = batch["image"].shape[1:3]
    whole = (height, width)[axis - 1]
    length = batch["size"][:, axis - 1] if "size" in batch else jnp.full(len(mirrored), whole)
    sign, nothing = jnp.where(mirrored, -1.0, 1.0), jnp.zeros(len(mirrored))
    across, along = (sign, mirrored * length.astype(jnp.float32)), (jnp.abs(sign), nothing)
    rest = {name: array for name, array in batch.items() if name != "masks"}
    moved = move_marks(rest, _matrix(across, along) if axis == 2 else _matrix(along, across), (height, width))

    def flip(arrays):
        if "size" not in batch:
            return jnp.flip(arrays, axis)
        places, ends = jnp.arange(whole), length[:, None]
        taken = jnp.where(places < ends, ends - 1 - places, places)
        return jax.vmap(lambda array, at: jnp.take(array, at, axis - 1))(arrays, taken)

    for name in ("image", "segmentation"):
        if name in batch:
            chosen = mirrored.reshape(-1, *(1,) * (batch[name].ndim - 1))
            moved[name] = jnp.where(chosen, flip(batch[name]), batch[name])
    if "masks" in batch:  # windows of the objects' boxes, which go where the boxes go
        windows = batch["masks"]
        moved["masks"] = jnp.where(mirrored[:, None, None, None], jnp.flip(windows, axis + 1), windows)
    return moved


def horizontal_flip(keys: Key[Array, " n"], batch: Batch, probability: Number = 0.5) -> dict[str, Array]:
    """Each example or, with a probability, its mirror image: left and right exchanged.

    Raises:
      UserError: the probability is not one.
    """
    return _flip(batch, coin(keys, probability), 2)


def vertical_flip(keys: Key[Array, " n"], batch: Batch, probability: Number = 0.5) -> dict[str, Array]:
    """Each example or, with a probability, the same upside down.

    Raises:
      UserError: the probability is not one.
    """
    return _flip(batch, coin(keys, probability), 1)


def _cut_out(batch: Batch, corner: Pair, sides: Pair, size: int) -> dict[str, Array]:
    """The rectangle of each picture with this corner (x, y) and these sides (in x, in y), as size×size."""
    x, y = ((size / side, -start * size / side) for start, side in zip(corner, sides, strict=True))
    return warp(batch, _matrix(x, y), size=(size, size))


def random_resized_crop(
    keys: Key[Array, " n"],
    batch: Batch,
    size: int,
    area: Range = (0.08, 1.0),
    aspect: Range = (3 / 4, 4 / 3),
) -> dict[str, Array]:
    """A part of each picture of random area, shape and place, resampled to size×size.

    Szegedy et al. 2014 (GoogLeNet), section 6; the defaults are the paper's.

    Args:
      keys, batch: a key a picture; pictures of any size.
      size: height and width of the result, in pixels.
      area: range of the part's area, in areas of the picture: within 0.001 to 1.
      aspect: range of its width in heights, within 0.1 to 10.

    Ten pairs of area and aspect are drawn and the first that fits is taken; if none does, the first, cut to fit.

    Raises:
      UserError: a range is out of bounds.
    """
    check_range("area", area, 0.001, 1)
    check_range("aspect", aspect, 0.1, 10)
    if size < 1:
        raise UserError(f"size is {size}; it must be at least 1")
    height, width = batch["image"].shape[1:3]
    drawn = uniforms(keys, *[area] * 10, *[aspect] * 10, (0, 1), (0, 1))
    areas, aspects, place = drawn[:10] * (height * width), drawn[10:20], drawn[20:]
    across, along = jnp.sqrt(areas * aspects), jnp.sqrt(areas / aspects)
    # All of a square picture must not fail to fit by a rounding error.
    fits = (across <= width * (1 + 1e-6)) & (along <= height * (1 + 1e-6))
    first = jnp.argmax(fits, 0)[None]
    across = jnp.minimum(jnp.take_along_axis(across, first, 0)[0], width)
    along = jnp.minimum(jnp.take_along_axis(along, first, 0)[0], height)
    corner = place[0] * (width - across), place[1] * (height - along)
    return _cut_out(batch, corner, (across, along), size)


def scale_jitter(
    keys: Key[Array, " n"], batch: Batch, size: int = 224, shorter: Range = (256, 512)
) -> dict[str, Array]:
    """A size×size part of each picture after scaling it to a random size, all places equally likely.

    Simonyan, Zisserman 2014 (VGG), section 3.1; the defaults are the paper's. Both are done in one resampling.

    Args:
      keys, batch: a key a picture; pictures of any size.
      size: height and width of the part, in pixels.
      shorter: range of the scaled picture's shorter side, in pixels.

    Raises:
      UserError: the part is larger than the smallest scaled picture.
    """
    if size < 1:
        raise UserError(f"size is {size}; it must be at least 1")
    check_range("shorter", shorter, size)
    height, width = batch["image"].shape[1:3]
    scaled, across, down = uniforms(keys, shorter, (0, 1), (0, 1))
    side = size * min(height, width) / scaled
    return _cut_out(batch, (across * (width - side), down * (height - side)), (side, side), size)


def cutout(
    keys: Key[Array, " n"], batch: Batch, size: int, fill: tuple[int, ...] = (0,), probability: Number = 1.0
) -> dict[str, Array]:
    """Covers a square of each picture, all centres equally likely; at the edge, less of it is seen.

    DeVries, Taylor 2017 ("Improved regularization of convolutional neural networks with cutout"), section 3. Only
    "image" is changed.

    Args:
      keys, batch: a key a picture; "image".
      size: of the square, in pixels; the paper has 16 for CIFAR-10, 8 for CIFAR-100.
      fill: its colour, one number or one a channel; the paper's is the mean.
      probability: of a picture to get one.

    Raises:
      UserError: the square is larger than the picture; a parameter is out of range.
    """
    _check_fits(size, batch)
    image = batch["image"]
    height, width, channels = image.shape[1:]
    of_place, of_coin = split(keys, 2)
    centre = jax.vmap(lambda key: jax.random.randint(key, (2,), 0, jnp.array([height, width])))(of_place)
    first = centre - size // 2

    def within(start, length):
        places = jnp.arange(length)
        return (places >= start[:, None]) & (places < start[:, None] + size)

    covered = within(first[:, 0], height)[:, :, None] & within(first[:, 1], width)[:, None, :]
    covered &= coin(of_coin, probability)[:, None, None]
    return {**batch, "image": jnp.where(covered[..., None], fill_colour(fill, channels), image)}


def fixed(source: Source, augment: Augment, seed: int = 0) -> ArraySource:
    """What a batch function makes of each example of a source, kept in memory: the same in every run and at any time.

    Args:
      source: read whole.
      augment: `(keys, batch) → batch`, as those of this file. An example's key is that of its index.
      seed: of the keys.
    """
    key = stream_key(seed, "fixed")

    @jax.jit
    def make(index: Array, batch: Batch) -> dict[str, Array]:
        return augment(keys_of(key, index), batch)

    parts = []
    for start in range(0, len(source), BLOCK):
        # The last block is filled up, so that one compiled program serves all.
        index = np.minimum(np.arange(start, start + BLOCK), len(source) - 1)
        made = jax.device_get(make(index.astype(np.int32), source.batch(index)))
        parts.append({name: array[: len(source) - start] for name, array in made.items()})
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return ArraySource(whole, source.class_names)
