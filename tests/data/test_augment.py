"""Augmentation: what may come out, that all of it does equally often, and that it hangs on the keys alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.data.augment import (
    compose,
    cutout,
    horizontal_flip,
    keys_of,
    random_crop,
    random_resized_crop,
    scale_jitter,
    vertical_flip,
)
from cnnlab.data.shapes import ShapesSource
from cnnlab.errors import UserError
from cnnlab.inspect.augment import examples

KEY = jax.random.key(0)


def keys(count, key=KEY):
    return keys_of(key, jnp.arange(count))


def numbered(count, height, width, channels=1):
    """The same picture many times; each pixel's value is its number."""
    pixels = jnp.arange(height * width * channels, dtype=jnp.uint8).reshape(height, width, channels)
    return jnp.broadcast_to(pixels, (count, height, width, channels))


def images(function, keys, pictures, *args, **parameters):
    """What becomes of the pictures alone."""
    return np.asarray(function(keys, {"image": pictures}, *args, **parameters)["image"])


def marked(count, height=6, width=8):
    """Random pictures with all that can be marked on them, and what is none of augmentation's business."""
    random = np.random.default_rng(0)
    return {
        "image": jnp.asarray(random.integers(0, 256, (count, height, width, 3), np.uint8)),
        "segmentation": jnp.asarray(random.integers(0, 5, (count, height, width), np.uint8)),
        "boxes": jnp.tile(jnp.array([[1.0, 2, 4, 6], [0, 0, 0, 0]]), (count, 1, 1)),
        "points": jnp.tile(jnp.array([[1.0, 2], [7.5, 0.5]]), (count, 1, 1)),
        "label": jnp.arange(count) % 10,
    }


def test_keys_are_those_of_the_step_and_the_place():
    whole = keys(6)
    for first in (0, 2, 4):
        part = keys_of(KEY, jnp.arange(first, first + 2))
        assert (part == whole[first : first + 2]).all()
    assert len({tuple(row) for row in np.asarray(jax.random.key_data(whole)).tolist()}) == 6
    assert not (keys(6, jax.random.key(1)) == whole).any()


def test_crops_are_parts_of_the_picture_from_all_places_equally():
    crops = images(random_crop, keys(1200), numbered(1200, 4, 5), 3)
    assert (crops.shape, crops.dtype) == ((1200, 3, 3, 1), np.uint8)
    corners = crops[:, 0, 0, 0]
    # 4×5 pixels leave a 3×3 part two places down and three across.
    places, counts = np.unique(corners, return_counts=True)
    assert places.tolist() == [0, 1, 2, 5, 6, 7]
    # Six standard deviations of a count of 1200 / 6.
    assert np.abs(counts - 200).max() < 6 * np.sqrt(1200 * (1 / 6) * (5 / 6))
    offsets = 5 * np.arange(3)[:, None] + np.arange(3)
    np.testing.assert_array_equal(crops[..., 0], corners[:, None, None] + offsets)


def test_padding_has_its_colour_and_the_picture_moves_within():
    pictures = jnp.full((300, 4, 4, 3), 200, jnp.uint8)
    crops = images(random_crop, keys(300), pictures, 4, padding=2, fill=(1, 2, 3))
    inside = (crops == 200).all(-1)
    np.testing.assert_array_equal(crops[~inside], np.broadcast_to([1, 2, 3], (np.sum(~inside), 3)))
    # What is seen of the picture is a rectangle of 2 to 4 pixels each way: all 25 places come up.
    rows, columns = inside.any(2), inside.any(1)
    assert set(rows.sum(1)) == set(columns.sum(1)) == {2, 3, 4}
    np.testing.assert_array_equal(inside, rows[:, :, None] & columns[:, None, :])
    assert len({(*r, *c) for r, c in zip(rows.tolist(), columns.tolist(), strict=True)}) == 25


def test_a_crop_of_the_whole_picture_is_the_picture():
    pictures = numbered(2, 4, 4, 3)
    np.testing.assert_array_equal(images(random_crop, keys(2), pictures, 4), pictures)


def test_a_crop_larger_than_the_picture():
    with pytest.raises(UserError, match="a crop of 9×9 does not fit into pictures of 4×8 padded by 2"):
        images(random_crop, keys(1), numbered(1, 4, 8), 9, padding=2)


def test_half_of_the_pictures_are_mirrored_left_to_right():
    pictures = numbered(1000, 2, 3, 2)
    flipped = images(horizontal_flip, keys(1000), pictures)
    mirrored = (flipped == np.asarray(pictures)[:, :, ::-1]).all((1, 2, 3))
    same = (flipped == np.asarray(pictures)).all((1, 2, 3))
    assert (mirrored ^ same).all()
    assert abs(mirrored.sum() - 500) < 6 * np.sqrt(250)


@pytest.mark.parametrize("flip", [horizontal_flip, vertical_flip])
def test_a_picture_in_the_corner_of_a_canvas_is_mirrored_within_it(flip):
    """As it is on its own, and the canvas stays empty elsewhere."""
    sizes = [(4, 5), (6, 8), (1, 1), (6, 3)]
    batch = {**marked(4), "size": jnp.array(sizes)}
    rows, columns = jnp.arange(6)[:, None, None], jnp.arange(8)[:, None]
    within = jnp.stack([(rows < height) & (columns < width) for height, width in sizes])
    batch |= {"image": batch["image"] * within, "segmentation": batch["segmentation"] * within[..., 0]}
    batch["boxes"] = jnp.tile(jnp.array([[0.0, 0, 1, 1], [1, 0, 3, 1], [0, 0, 0, 0]]), (4, 1, 1))
    flipped = jax.device_get(jax.jit(lambda keys, batch: flip(keys, batch, 1))(keys(4), batch))
    before, axis = jax.device_get(batch), 1 if flip is horizontal_flip else 0
    for i, size in enumerate(sizes):
        height, width = size
        for name in ("image", "segmentation"):
            mirrored = np.flip(before[name][i, :height, :width], axis)
            np.testing.assert_array_equal(flipped[name][i, :height, :width], mirrored)
            assert not flipped[name][i, height:].any()
            assert not flipped[name][i, :, width:].any()
        place = 1 - axis  # of x and y
        np.testing.assert_allclose(flipped["points"][i, :, place], size[axis] - before["points"][i, :, place])
        np.testing.assert_array_equal(flipped["points"][i, :, axis], before["points"][i, :, axis])
    # The boxes are 0 0 1 1 and 1 0 3 1, in 4×5 pixels.
    expected = [[4, 0, 5, 1], [2, 0, 4, 1]] if flip is horizontal_flip else [[0, 3, 1, 4], [1, 3, 3, 4]]
    np.testing.assert_array_equal(flipped["boxes"][0], [*expected, [0, 0, 0, 0]])


def test_crop_and_flip_are_drawn_independently():
    both = compose(functools.partial(random_crop, size=2), horizontal_flip)
    results = images(both, keys(1600), numbered(1600, 3, 3))[..., 0]
    # The upper left pixel of the crop, mirrored or not: 4 places and 2 ways.
    kinds, counts = np.unique(results.reshape(-1, 4), axis=0, return_counts=True)
    expected = {tuple(row) for c in (0, 1, 3, 4) for row in ((c, c + 1, c + 3, c + 4), (c + 1, c, c + 4, c + 3))}
    assert {tuple(kind) for kind in kinds.tolist()} == expected
    assert np.abs(counts - 200).max() < 6 * np.sqrt(1600 * (1 / 8) * (7 / 8))


def test_a_crop_takes_all_that_is_marked_along():
    """The padded picture's coordinates are in its red channel and labels: what was seen there says where it was cut."""
    batch = marked(60)
    where = jnp.arange(48, dtype=jnp.uint8).reshape(6, 8)
    batch["image"] = jnp.tile(where[..., None], (60, 1, 1, 3))
    batch["segmentation"] = jnp.tile(where, (60, 1, 1))
    crops = jax.device_get(random_crop(keys(60), batch, 5, padding=1, fill=(99,), fill_label=99))
    np.testing.assert_array_equal(crops["segmentation"], crops["image"][..., 0])
    starts = set()
    for place in range(60):
        row, column = np.argwhere(crops["segmentation"][place] != 99)[0]
        top, left = np.array(divmod(int(crops["segmentation"][place, row, column]), 8)) - [row, column]
        starts.add((top, left))
        box = np.clip([1 - left, 2 - top, 4 - left, 6 - top], 0, 5)
        assert crops["boxes"][place].tolist() == [box.tolist() if box[0] < box[2] else [0] * 4, [0] * 4]
        assert crops["points"][place].tolist() == [[1 - left, 2 - top], [7.5 - left, 0.5 - top]]
    assert {top for top, _ in starts} == {-1, 0, 1, 2}
    assert {left for _, left in starts} == {-1, 0, 1, 2, 3, 4}
    np.testing.assert_array_equal(crops["label"], batch["label"])


def test_a_mirror_image_has_its_marks_mirrored():
    batch = marked(3)
    flipped = horizontal_flip(keys(3), batch, 1)
    for name in ("image", "segmentation"):
        np.testing.assert_array_equal(flipped[name], batch[name][:, :, ::-1])
    assert flipped["boxes"][0].tolist() == [[4, 2, 7, 6], [0, 0, 0, 0]]
    assert flipped["points"][0].tolist() == [[7, 2], [0.5, 0.5]]
    for name, array in horizontal_flip(keys(3), batch, 0).items():
        np.testing.assert_array_equal(array, batch[name])


def test_upside_down():
    batch = marked(3)
    flipped = vertical_flip(keys(3), batch, 1)
    for name in ("image", "segmentation"):
        np.testing.assert_array_equal(flipped[name], batch[name][:, ::-1])
    assert flipped["boxes"][0].tolist() == [[1, 0, 4, 4], [0, 0, 0, 0]]
    assert flipped["points"][0].tolist() == [[1, 4], [7.5, 5.5]]
    turned = images(vertical_flip, keys(1000), numbered(1000, 2, 2), 0.2)[:, 0, 0, 0] == 2
    assert abs(turned.sum() - 200) < 6 * np.sqrt(160)


def windows(function, height, width, size, count=1000, **parameters):
    """Left, top, width and height of what each example shows, by where the picture's corners go."""
    corners = jnp.tile(jnp.array([[0.0, 0.0], [width, height]]), (count, 1, 1))
    batch = {"image": jnp.zeros((count, height, width, 1), jnp.uint8), "points": corners}
    result = function(keys(count), batch, size=size, **parameters)
    assert result["image"].shape == (count, size, size, 1)
    (x0, y0), (x1, y1) = np.moveaxis(np.asarray(result["points"]), 0, -1)
    across, along = size * width / (x1 - x0), size * height / (y1 - y0)
    return -x0 * across / size, -y0 * along / size, across, along


def test_resized_crops_are_of_the_papers_areas_and_shapes():
    left, top, across, along = windows(random_resized_crop, 30, 40, 10)
    area, aspect = across * along / 1200, across / along
    assert (left.min() > -1e-3, top.min() > -1e-3) == (True, True)
    assert ((left + across).max() < 40 + 1e-3, (top + along).max() < 30 + 1e-3) == (True, True)
    assert 0.0799 < area.min() < 0.1
    assert 0.95 < area.max() <= 1.001
    assert 0.749 < aspect.min() < 0.76
    assert 1.3 < aspect.max() < 1.334
    # Small ones, which fit anywhere, are anywhere: a quarter of the places in each quarter of the room.
    small = area < 0.5
    east, south = (left / (40 - across))[small] > 0.5, (top / (30 - along))[small] > 0.5
    for quarter in (east & south, east & ~south, ~east & south, ~east & ~south):
        assert abs(quarter.mean() - 0.25) < 6 * np.sqrt(0.19 / small.sum())


def test_a_resized_crop_that_cannot_fit_is_cut_to_fit():
    left, top, across, along = windows(random_resized_crop, 10, 40, 10, 20, area=(1, 1), aspect=(1, 1))
    np.testing.assert_allclose([across, along, top], [[20] * 20, [10] * 20, [0] * 20], atol=1e-3)
    assert 0 <= left.min() < left.max() <= 20


def test_a_resized_crop_of_all_of_a_square_is_the_picture():
    pictures = marked(3, 7, 7)["image"]
    same = images(random_resized_crop, keys(3), pictures, 7, area=(1, 1), aspect=(1, 1))
    np.testing.assert_array_equal(same, pictures)


def test_scale_jitter_is_a_part_of_the_scaled_picture():
    left, top, across, along = windows(scale_jitter, 30, 40, 20, shorter=(30, 60))
    np.testing.assert_allclose(across, along, rtol=1e-4)
    scale = 20 / across
    np.testing.assert_allclose([scale.min(), scale.max(), scale.mean()], [1, 2, 1.5], atol=0.04)
    assert abs((left / (40 - across)).mean() - 0.5) < 6 / np.sqrt(12 * 1000)
    assert abs((top / (30 - along)).mean() - 0.5) < 6 / np.sqrt(12 * 1000)
    assert (left + across).max() < 40.01
    pictures = marked(2, 6, 6)["image"]
    np.testing.assert_array_equal(images(scale_jitter, keys(2), pictures, 6, shorter=(6, 6)), pictures)


def test_cutout_covers_a_square_and_nothing_else():
    batch = {**marked(2000), "image": jnp.full((2000, 6, 8, 3), 9, jnp.uint8)}
    result = cutout(keys(2000), batch, 3, (1, 2, 3))
    covered = (np.asarray(result["image"]) == [1, 2, 3]).all(-1)
    assert (np.asarray(result["image"])[~covered] == 9).all()
    # Rows and columns make a rectangle of 2 to 3 each way: 6 × 8 places of its centre, all equally likely.
    rows, columns = covered.any(2), covered.any(1)
    np.testing.assert_array_equal(covered, rows[:, :, None] & columns[:, None, :])
    assert set(rows.sum(1)) == set(columns.sum(1)) == {2, 3}
    _, counts = np.unique(covered.reshape(2000, -1), axis=0, return_counts=True)
    assert len(counts) == 48
    assert np.abs(counts - 2000 / 48).max() < 6 * np.sqrt(2000 / 48)
    for name in ("segmentation", "boxes", "points", "label"):
        assert result[name] is batch[name]
    some = images(cutout, keys(1000), batch["image"][:1000], 3, probability=0.3) == 0
    assert abs(some.any((1, 2, 3)).sum() - 300) < 6 * np.sqrt(210)


def test_composed_functions_go_in_turn_with_keys_of_their_own():
    seen = []

    def add(keys, batch, amount):
        seen.append(np.asarray(jax.random.key_data(keys)))
        return {**batch, "image": batch["image"] * 2 + amount}

    both = compose(functools.partial(add, amount=1), functools.partial(add, amount=2))
    result = both(keys(3), {"image": numbered(3, 1, 2), "label": jnp.arange(3)})
    assert result["image"][0, 0, :, 0].tolist() == [4, 8]
    assert len({tuple(key) for key in np.concatenate([*seen, jax.random.key_data(keys(3))]).tolist()}) == 9


ALL = examples(marked(1, 16, 18))


@pytest.mark.parametrize("name", ALL)
def test_an_example_fares_the_same_in_any_company(name):
    """Whole, or in the shares of two devices; and no function loses or changes what is not its own."""
    batch = marked(4, 16, 18)
    augment = jax.jit(ALL[name])
    whole = augment(keys(4), batch)
    assert whole.keys() == batch.keys()
    assert whole["image"].dtype == jnp.uint8
    np.testing.assert_array_equal(whole["label"], batch["label"])
    assert (whole["image"].shape != batch["image"].shape) or (whole["image"] != batch["image"]).any()
    for share in (slice(0, 2), slice(2, 4)):
        part = augment(keys(4)[share], {key: array[share] for key, array in batch.items()})
        for key, array in part.items():
            np.testing.assert_allclose(array, whole[key][share], atol=1e-4)
    other = augment(keys(4, jax.random.key(1)), batch)
    fixed = name in ("horizontal flip", "vertical flip", "grayscale")
    assert fixed == (np.asarray(other["image"]) == whole["image"]).all()


@pytest.mark.parametrize(
    ("function", "parameters", "message"),
    [
        (horizontal_flip, {"probability": -0.1}, "probability is -0.1; it must be from 0 to 1"),
        (random_crop, {"size": 0}, "size is 0 and padding 0; they must be at least 1 and 0"),
        (random_crop, {"size": 2, "padding": 1, "fill": (1, 2)}, r"fill is \(1, 2\); it must be one number, from 0"),
        (random_crop, {"size": 5}, "a crop of 5×5 does not fit into pictures of 4×8$"),
        (cutout, {"size": 5}, "a crop of 5×5 does not fit"),
        (random_resized_crop, {"size": 0}, "size is 0; it must be at least 1"),
        (random_resized_crop, {"size": 4, "area": (0, 1)}, r"area is \(0, 1\); .* from 0.001 up and up to 1"),
        (random_resized_crop, {"size": 4, "aspect": (2, 1)}, r"aspect is \(2, 1\); .* low and high"),
        (scale_jitter, {"size": 4, "shorter": (3, 8)}, r"shorter is \(3, 8\); it must be .*, from 4 up$"),
    ],
)
def test_wrong_parameters(function, parameters, message):
    with pytest.raises(UserError, match=message):
        function(keys(1), {"image": numbered(1, 4, 8)}, **parameters)


@pytest.mark.parametrize("flip", [horizontal_flip, vertical_flip])
def test_masks_of_objects_are_mirrored_with_their_boxes(flip):
    """What a window says of a place of its box, the mirrored window says of the mirrored place."""
    source = ShapesSource("test", 8, 64, 4, mask_window=6)
    batch = {name: jnp.asarray(array) for name, array in source.batch(np.arange(8)).items()}
    flipped = jax.device_get(flip(keys(8), batch, 0.5))
    axis = 2 if flip is horizontal_flip else 1
    mirrored = [not np.array_equal(flipped["image"][i], batch["image"][i]) for i in range(8)]
    assert 0 < sum(mirrored) < 8
    for i in range(8):
        expected = np.flip(batch["masks"][i], axis) if mirrored[i] else batch["masks"][i]
        assert np.array_equal(flipped["masks"][i], expected)


@pytest.mark.parametrize(
    "function", [lambda k, b: random_crop(k, b, 32), lambda k, b: scale_jitter(k, b, 32, (40, 50))]
)
def test_masks_of_objects_cannot_be_moved_otherwise(function):
    batch = {**marked(2, 64, 64), "masks": jnp.zeros((2, 3, 4, 4), jnp.uint8)}
    with pytest.raises(
        UserError, match="objects' masks are mirrored with their pictures, and cannot be moved otherwise"
    ):
        function(keys(2), batch)
