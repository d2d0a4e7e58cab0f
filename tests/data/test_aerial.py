"""Aerial scenes: the same every time, true to what is drawn, maps wrong as asked and pictures not."""

import itertools

import numpy as np
import pytest

from cnnlab.data.aerial import AerialScenes, draw, painted
from cnnlab.errors import UserError


def test_a_scene_is_a_function_of_split_and_index():
    one, again, other, test = draw("train", 3), draw("train", 3), draw("train", 4), draw("test", 3)
    np.testing.assert_array_equal(one.picture, again.picture)
    np.testing.assert_array_equal(one.truth, again.truth)
    assert one.picture.shape == (256, 256, 3)
    for scene in (other, test):
        assert (scene.truth != one.truth).any()


def test_painted_roads_are_the_pixels_near_their_lines():
    line = np.array([[-10.0, 20.0], [30.0, 40.0], [90.0, 41.0]])
    roads, width = painted([(line, 8.0)], 64), 8
    y, x = np.mgrid[:64, :64] + 0.5
    points = np.stack([x, y], -1)
    nearest = np.full((64, 64), np.inf)
    for a, b in itertools.pairwise(line):
        share = np.clip(((points - a) @ (b - a)) / ((b - a) @ (b - a)), 0, 1)
        nearest = np.minimum(nearest, np.linalg.norm(points - a - share[..., None] * (b - a), axis=-1))
    assert roads[nearest < width / 2 - 1].all()
    assert not roads[nearest > width / 2 + 1].any()


def test_noise_is_of_the_map_alone():
    clean = draw("train", 2)
    np.testing.assert_array_equal(clean.map, clean.truth)
    noisy = draw("train", 2, omitted=0.5, shift=6)
    np.testing.assert_array_equal(noisy.picture, clean.picture)
    np.testing.assert_array_equal(noisy.truth, clean.truth)
    assert (noisy.map != clean.truth).any()


def test_displaced_maps_are_the_truth_moved_by_whole_pixels():
    found = set()
    for index in range(6):
        scene = draw("train", index, shift=5)
        moves = [(i, j) for i in range(-5, 6) for j in range(-5, 6)]
        inner = slice(5, -5), slice(5, -5)
        wrong = [(np.roll(scene.truth, move, (0, 1)) ^ scene.map)[inner].mean() for move in moves]
        assert min(wrong) < 0.002
        found.add(moves[int(np.argmin(wrong))])
    assert len(found) > 3


def test_the_share_of_roads_that_is_left_out():
    left = []
    for index in range(40):
        scene = draw("train", index, 64, omitted=0.3)
        assert not (scene.map & ~scene.truth).any()
        left.append((scene.truth.sum(), scene.map.sum()))
    truth, kept = np.sum(left, 0)
    assert 0.55 < kept / truth < 0.85
    with_all = AerialScenes("test", 4, 64)
    assert all((with_all.scene(i).map == with_all.scene(i).truth).all() for i in range(4))


def test_roads_can_be_seen():
    scene = draw("train", 2)
    road, ground = (scene.picture[mask].astype(float) for mask in (scene.truth, ~scene.truth))
    colour = lambda pixels: np.ptp(pixels, axis=1).mean()
    assert colour(road) < 0.7 * colour(ground)  # greyer
    assert 0.02 < scene.truth.mean() < 0.5


def test_a_part_is_cut_out_of_the_whole():
    scenes = AerialScenes("train", 2, 80, omitted=0.4)
    picture, roads = scenes.read(1, slice(10, 30), slice(50, 80))
    np.testing.assert_array_equal(picture, scenes.scene(1).picture[10:30, 50:80])
    np.testing.assert_array_equal(roads, scenes.scene(1).map[10:30, 50:80])
    assert (len(scenes), scenes.size(1), scenes.name(1)) == (2, (80, 80), "scene 1")


@pytest.mark.parametrize("wrong", [{"omitted": 1.0}, {"omitted": -0.1}, {"shift": -1}, {"side": 60}, {"count": 0}])
def test_what_is_out_of_range(wrong):
    with pytest.raises(UserError, match="there must be 1 or more, of 64 or more"):
        AerialScenes(**{"split": "train", "count": 2, "side": 64, **wrong})
