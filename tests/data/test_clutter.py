"""Cluttered digits: where the digit lies, what the pieces are, that the key alone decides, bad numbers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.data.augment import fixed, keys_of
from cnnlab.data.clutter import clutter, digit_bank
from cnnlab.data.digits import digits
from cnnlab.data.source import ArraySource
from cnnlab.errors import UserError

KEYS = keys_of(jax.random.key(3), jnp.arange(8))
BANK = np.random.default_rng(1).integers(1, 100, (5, 10, 10, 1), dtype=np.uint8)
BATCH = {
    "image": jnp.asarray(np.random.default_rng(0).integers(1, 256, (8, 10, 10, 1), dtype=np.uint8)),
    "label": jnp.arange(8),
}


def test_a_digit_is_copied_into_its_frame():
    found = jax.jit(functools.partial(clutter, size=30, pieces=0))(KEYS, BATCH, BANK)
    assert found["image"].shape == (8, 30, 30, 1)
    assert found["image"].dtype == jnp.uint8
    assert found["boxes"].shape == (8, 1, 4)
    for picture, digit, box in zip(found["image"], BATCH["image"], np.asarray(found["boxes"])[:, 0], strict=True):
        x0, y0, x1, y1 = box.astype(int)
        assert (x0, y0, x1, y1) == tuple(box)
        np.testing.assert_array_equal(picture[y0:y1, x0:x1], digit)
        assert int(picture.astype(jnp.int32).sum()) == int(digit.astype(jnp.int32).sum())
    assert found["label"].tolist() == list(range(8))


def test_pieces_are_cut_from_the_bank_and_added():
    numbered = np.arange(1, 201, dtype=np.uint8).reshape(2, 10, 10, 1)  # each pixel says where it is from
    keys = keys_of(jax.random.key(0), jnp.arange(600))
    black = {"image": jnp.zeros((600, 10, 10, 1), jnp.uint8)}
    found = np.asarray(jax.jit(functools.partial(clutter, size=14, pieces=1, piece=4))(keys, black, numbered)["image"])
    sources, places = set(), set()
    for picture in found[..., 0]:
        i, j = np.nonzero(picture.any(1))[0][0], np.nonzero(picture.any(0))[0][0]
        k, row, column = np.unravel_index(picture[i, j] - 1, (2, 10, 10))
        expected = np.zeros((14, 14), np.uint8)
        expected[i : i + 4, j : j + 4] = numbered[k, row : row + 4, column : column + 4, 0]
        np.testing.assert_array_equal(picture, expected)
        sources.add((int(k), int(row), int(column)))
        places.add((int(i), int(j)))
    assert [{each[axis] for each in sources} for axis in (0, 1, 2)] == [{0, 1}, set(range(7)), set(range(7))]
    assert [{each[axis] for each in places} for axis in (0, 1)] == [set(range(11))] * 2
    dark = {"image": jnp.zeros((8, 10, 10, 1), jnp.uint8)}
    full = np.full((2, 10, 10, 1), 200, np.uint8)
    crowded = np.asarray(jax.jit(functools.partial(clutter, size=12, pieces=9, piece=8))(KEYS, dark, full)["image"])
    assert crowded.max() == 255  # and not 400 less 256
    assert set(np.unique(crowded)) <= {0, 200, 255}


def test_scales_and_places():
    keys = keys_of(jax.random.key(0), jnp.arange(400))
    many = {"image": jnp.full((400, 10, 10, 1), 100, jnp.uint8)}
    found = clutter(keys, many, BANK, size=30, pieces=0, scale=(0.5, 2.0))
    box = np.asarray(found["boxes"])[:, 0]
    side = box[:, 2] - box[:, 0]
    assert np.all(box[:, :2] >= 0)
    assert np.all(box[:, 2:] <= 30 + 1e-4)
    assert 5 <= side.min() < 5.3
    assert 19.7 < side.max() <= 20
    for axis in (0, 1):  # from edge to edge
        assert box[:, axis].min() == 0
        assert box[:, 2 + axis].max() > 29
    # Ink grows with the area; in a small digit it depends on where between pixels it lies.
    ink = np.asarray(found["image"]).astype(float).sum((1, 2, 3))
    np.testing.assert_allclose(ink, 100 * side**2, rtol=0.1)
    np.testing.assert_allclose((ink / side**2).mean(), 100, rtol=0.01)


def test_the_same_whoever_computes_it():
    make = jax.jit(functools.partial(clutter, bank=BANK, size=30, scale=(0.8, 1.2)))
    whole = make(KEYS, BATCH)
    shares = [make(KEYS[i : i + 2], {name: array[i : i + 2] for name, array in BATCH.items()}) for i in range(0, 8, 2)]
    for name, array in whole.items():
        np.testing.assert_array_equal(array, np.concatenate([share[name] for share in shares]))


def test_a_fixed_set_is_the_same_again(monkeypatch):
    monkeypatch.setattr("cnnlab.data.augment.BLOCK", 3)
    source = ArraySource({name: np.asarray(array) for name, array in BATCH.items()}, ("a", "b"))
    augment = functools.partial(clutter, bank=BANK, size=30)
    first, again, other = fixed(source, augment), fixed(source, augment), fixed(source, augment, seed=1)
    assert len(first) == 8
    assert first.class_names == ("a", "b")
    assert first.arrays["label"].tolist() == list(range(8))
    assert set(first.arrays) == {"image", "label", "boxes"}
    np.testing.assert_array_equal(first.arrays["image"], again.arrays["image"])
    assert (first.arrays["image"] != other.arrays["image"]).any()
    monkeypatch.setattr("cnnlab.data.augment.BLOCK", 5)
    np.testing.assert_array_equal(first.arrays["image"], fixed(source, augment).arrays["image"])


def test_a_bank_is_spread_over_the_source():
    source = digits("train")
    assert digit_bank(source, 10).shape == (10, 28, 28, 1)
    np.testing.assert_array_equal(digit_bank(source, 10)[-1], source.arrays["image"][-1])
    assert len(digit_bank(source, 5000)) == len(source)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"size": 9}, "digits of 10×10 enlarged by up to 1 are 10×10: they do not fit on pictures of 9×9"),
        ({"scale": (1.0, 3.5)}, "35×35: they do not fit on pictures of 30×30"),
        ({"scale": (0.1, 1.0)}, "scale is .* from 0.5 up"),
        ({"scale": (1.2, 1.0)}, "scale is"),
        ({"pieces": -1}, "it must be 0 or more, of 1×1 to 10×10"),
        ({"piece": 11}, "it must be 0 or more, of 1×1 to 10×10"),
    ],
)
def test_numbers_that_do_not_fit(wrong, says):
    with pytest.raises(UserError, match=says):
        clutter(KEYS, BATCH, BANK, **{"size": 30, **wrong})


def test_colour_is_refused():
    with pytest.raises(UserError, match="square grey pictures, and these are 10×10×3"):
        clutter(KEYS, {"image": jnp.zeros((8, 10, 10, 3), jnp.uint8)}, BANK)
