"""Patches, windows and tiles: all of a picture, mirrored beyond its edges, turned with its map."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.data.augment import keys_of
from cnnlab.data.road_patches import Assembly, PatchSource, Tiling, WindowSource, check_sizes, cut, reflected, turned
from cnnlab.errors import UserError

SMALL = Tiling(24, 8, 4, 3)


class Numbered:
    """Pictures whose pixels say where they are: red the row, green the column; the map is the rows that 3 divides."""

    def __init__(self, *sizes):
        self.sizes = sizes

    def __len__(self):
        return len(self.sizes)

    def name(self, index):
        return f"picture {index}"

    def size(self, index):
        return self.sizes[index]

    def read(self, index, rows, columns):
        height, width = self.sizes[index]
        y, x = np.mgrid[:height, :width]
        picture = np.stack([y, x, np.full_like(y, index)], -1).astype(np.uint8)
        return picture[rows, columns], (y % 3 == 0)[rows, columns]

    def truth(self, index):
        height, width = self.sizes[index]
        return np.broadcast_to(np.arange(height)[:, None] % 3 == 0, (height, width))


@pytest.mark.parametrize(("start", "count", "length"), [(-5, 20, 7), (3, 4, 9), (-9, 30, 2), (-3, 7, 1), (5, 40, 6)])
def test_mirrored_places_are_numpys(start, count, length):
    before, after = max(-start, 0), max(start + count - length, 0)
    whole = np.pad(np.arange(length), (before, after), "reflect" if length > 1 else "edge")
    assert reflected(start, count, length).tolist() == whole[start + before :][:count].tolist()


def test_a_window_over_the_edge_is_mirrored_and_its_map_with_it():
    picture, roads = cut(Numbered((30, 40)), 0, -3, 36, 10, 8)
    assert picture[:, 0, 0].tolist() == [3, 2, 1, 0, 1, 2, 3, 4, 5, 6]
    assert picture[0, :, 1].tolist() == [36, 37, 38, 39, 38, 37, 36, 35]
    np.testing.assert_array_equal(roads, picture[..., 0] % 3 == 0)


@pytest.mark.parametrize("size", [(24, 24), (25, 57), (64, 31), (100, 77)])
def test_windows_of_any_picture_are_put_together_as_a_loop_over_tiles_does(size):
    maps = Numbered(size)
    source = WindowSource(maps, SMALL)
    # A "net" that says of each tile's middle what it sees in its upper left corner, besides what is there.
    net = lambda tiles: (tiles[:, 8:16, 8:16, 0] + tiles[:, :1, :1, 1]) / 255
    whole = Assembly(*size, SMALL)
    done = []
    for i, (_, top, left) in enumerate(source.places):
        windows = jnp.asarray(source.batch(np.array([i]))["image"])
        done.append(whole.add(top, left, np.asarray(SMALL.lay(net(SMALL.cut(windows).astype(jnp.float32))))[0]))
    assert done == [False] * (len(done) - 1) + [True]
    ends = [top for _, top, _ in source.places][-1] + SMALL.span, [left for *_, left in source.places][-1] + SMALL.span
    sums, counts = np.zeros(ends), np.zeros(ends)
    tops, lefts = sorted({p[1] for p in source.places}), sorted({p[2] for p in source.places})
    for y in (top + 4 * i for top in tops for i in range(3)):
        for x in (left + 4 * i for left in lefts for i in range(3)):
            tile = cut(maps, 0, y - 8, x - 8, 24, 24)[0].astype(float)
            sums[y : y + 8, x : x + 8] += (tile[8:16, 8:16, 0] + tile[0, 0, 1]) / 255
            counts[y : y + 8, x : x + 8] += 1
    assert counts[: size[0], : size[1]].min() >= 1
    assert counts[8 : size[0] - 8, 8 : size[1] - 8].min(initial=4) == 4  # each labelled (8 / 4)² times
    expected = (sums / np.maximum(counts, 1))[: size[0], : size[1]]
    np.testing.assert_allclose(whole.probability(), expected, atol=1e-5)


def test_patches_are_a_function_of_their_index_and_differ_between_visits():
    source = PatchSource(Numbered((70, 60), (90, 64)), Tiling(), 5, visits=3)
    batch = source.batch(np.array([1, 4, 3]))
    assert len(source) == 6
    assert batch["image"].shape == (3, 5, 92, 92, 3)
    assert batch["image"][:, 0, 0, 0, 2].tolist() == [1, 0, 1]  # which picture
    again = source.batch(np.array([4]))
    np.testing.assert_array_equal(again["image"][0], batch["image"][1])
    np.testing.assert_array_equal(batch["segmentation"] == 1, batch["image"][..., 0] % 3 == 0)
    assert not (source.batch(np.array([0]))["image"][0] == again["image"][0]).all()


def test_patches_are_turned_with_their_maps():
    side, size = 92, 64
    image = np.zeros((4, side, side, 3), np.uint8)
    image[:, 40:52] = 255  # a road through the middle, 12 wide
    batch = {"image": jnp.asarray(image), "segmentation": jnp.asarray(image[..., 0] // 255)}
    keys = keys_of(jax.random.key(0), jnp.arange(4))
    found = jax.device_get(jax.jit(lambda k, b: turned(k, b, size))(keys, batch))
    assert found["image"].shape == (4, size, size, 3)
    assert set(np.unique(found["segmentation"])) == {0, 1}  # nothing comes in from outside
    np.testing.assert_array_equal(found["image"][..., 0] > 127, found["segmentation"] == 1)
    y, x = np.mgrid[:size, :size] + 0.5 - size / 2
    angles = []
    for road in found["segmentation"] == 1:
        assert abs(y[road].mean()) < 0.5
        assert abs(x[road].mean()) < 0.5  # it goes through the middle still
        angles.append(np.degrees(0.5 * np.arctan2(2 * (x * y)[road].mean(), (x * x - y * y)[road].mean())))
        assert road.sum() / 12 >= size - 1
    assert np.ptp(angles) > 20


def test_what_does_not_fit():
    with pytest.raises(UserError, match="picture 1 is 40×70 pixels, and a tile is 64×64"):
        check_sizes(Numbered((64, 64), (70, 40)), Tiling())
    with pytest.raises(UserError, match=r"config\.step is 5: it must divide the 16 pixels"):
        Tiling(step=5)
    with pytest.raises(UserError, match="cannot label their middle 15×15"):
        Tiling(64, 15, 5)
