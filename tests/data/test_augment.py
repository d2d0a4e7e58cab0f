"""Augmentation: what may come out, that all of it does equally often, and that it hangs on the keys alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.data.augment import crop_and_flip, keys_of, random_crop, random_flip
from cnnlab.errors import UserError

KEY = jax.random.key(0)


def keys(count, key=KEY):
    return keys_of(key, jnp.arange(count))


def numbered(count, height, width, channels=1):
    """The same picture many times; each pixel's value is its number."""
    pixels = jnp.arange(height * width * channels, dtype=jnp.uint8).reshape(height, width, channels)
    return jnp.broadcast_to(pixels, (count, height, width, channels))


def test_keys_are_those_of_the_step_and_the_place():
    whole = keys(6)
    for first in (0, 2, 4):
        part = keys_of(KEY, jnp.arange(first, first + 2))
        assert (part == whole[first : first + 2]).all()
    assert len({tuple(row) for row in np.asarray(jax.random.key_data(whole)).tolist()}) == 6
    assert not (keys(6, jax.random.key(1)) == whole).any()


def test_crops_are_parts_of_the_picture_from_all_places_equally():
    crops = np.asarray(random_crop(keys(1200), numbered(1200, 4, 5), 3))
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
    crops = np.asarray(random_crop(keys(300), pictures, 4, padding=2, fill=(1, 2, 3)))
    inside = (crops == 200).all(-1)
    np.testing.assert_array_equal(crops[~inside], np.broadcast_to([1, 2, 3], (np.sum(~inside), 3)))
    # What is seen of the picture is a rectangle of 2 to 4 pixels each way: all 25 places come up.
    rows, columns = inside.any(2), inside.any(1)
    assert set(rows.sum(1)) == set(columns.sum(1)) == {2, 3, 4}
    np.testing.assert_array_equal(inside, rows[:, :, None] & columns[:, None, :])
    assert len({(*r, *c) for r, c in zip(rows.tolist(), columns.tolist(), strict=True)}) == 25


def test_a_crop_of_the_whole_picture_is_the_picture():
    pictures = numbered(2, 4, 4, 3)
    np.testing.assert_array_equal(random_crop(keys(2), pictures, 4), pictures)


def test_a_crop_larger_than_the_picture():
    with pytest.raises(UserError, match="a crop of 9×9 does not fit into pictures of 4×8 padded by 2"):
        random_crop(keys(1), numbered(1, 4, 8), 9, padding=2)


def test_half_of_the_pictures_are_mirrored_left_to_right():
    pictures = numbered(1000, 2, 3, 2)
    flipped = np.asarray(random_flip(keys(1000), pictures))
    mirrored = (flipped == np.asarray(pictures)[:, :, ::-1]).all((1, 2, 3))
    same = (flipped == np.asarray(pictures)).all((1, 2, 3))
    assert (mirrored ^ same).all()
    assert abs(mirrored.sum() - 500) < 6 * np.sqrt(250)


def test_crop_and_flip_are_drawn_independently():
    results = np.asarray(crop_and_flip(keys(1600), numbered(1600, 3, 3), 2))[..., 0]
    # The upper left pixel of the crop, mirrored or not: 4 places and 2 ways.
    kinds, counts = np.unique(results.reshape(-1, 4), axis=0, return_counts=True)
    expected = {tuple(row) for c in (0, 1, 3, 4) for row in ((c, c + 1, c + 3, c + 4), (c + 1, c, c + 4, c + 3))}
    assert {tuple(kind) for kind in kinds.tolist()} == expected
    assert np.abs(counts - 200).max() < 6 * np.sqrt(1600 * (1 / 8) * (7 / 8))


def test_a_picture_fares_the_same_in_any_company():
    pictures = jnp.asarray(np.random.default_rng(0).integers(0, 256, (6, 9, 9, 3), np.uint8))
    whole = crop_and_flip(keys(6), pictures, 8, 2, (5, 6, 7))
    for place in range(6):
        alone = crop_and_flip(keys(6)[place : place + 1], pictures[place : place + 1], 8, 2, (5, 6, 7))
        np.testing.assert_array_equal(alone[0], whole[place])
