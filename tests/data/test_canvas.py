"""Canvases for pictures of mixed sizes: the papers' rule by hand, buckets, pictures left as they are."""

import numpy as np
import pytest

from cnnlab.data.canvas import Resizing
from cnnlab.errors import UserError


@pytest.mark.parametrize(
    ("size", "resized"),
    [
        ((600, 1000), (600, 1000)),
        ((375, 500), (600, 800)),  # the shorter side decides
        ((500, 375), (800, 600)),
        ((300, 900), (333, 1000)),  # the longer side
        ((100, 100), (600, 600)),
        ((1, 5000), (1, 1000)),  # no side vanishes
        ((480, 641), (600, 801)),  # 801.25
    ],
)
def test_the_papers_rule(size, resized):
    assert Resizing(600, 1000).size(*size) == resized


def test_the_canvas_is_the_smallest_bucket_that_covers_all():
    rule = Resizing(600, 1000)
    assert rule.canvas([(375, 500)]) == (608, 800)
    assert rule.canvas([(500, 375)]) == (800, 608)
    assert rule.canvas([(375, 500), (500, 375)]) == (800, 800)
    assert rule.canvas([(100, 100)]) == (608, 608)
    assert rule.canvas([(100, 100), (400, 600)]) == (608, 1024)
    assert rule.canvas([(400, 600), (500, 375)]) == (1024, 1024)


def test_every_picture_fits_into_a_bucket():
    random = np.random.default_rng(0)
    for _ in range(300):
        shorter, longer, multiple = int(random.integers(0, 900)), 0, int(random.integers(1, 65))
        longer = shorter + int(random.integers(1, 900))
        rule, size = Resizing(shorter, longer, multiple), tuple(random.integers(1, 3000, 2).tolist())
        canvas = rule.canvas([size])
        resized = rule.size(*size)
        assert resized[0] <= canvas[0]
        assert resized[1] <= canvas[1]
        assert canvas[0] % multiple == canvas[1] % multiple == 0


def test_one_size_is_one_bucket():
    assert Resizing(128, 128).buckets() == [(128, 128)]


@pytest.mark.parametrize("wrong", [(-1, 10), (0, 0), (20, 10), (10, 20, 0)])
def test_a_rule_that_is_none(wrong):
    with pytest.raises(UserError, match="pictures are resized to sides of"):
        Resizing(*wrong)


def test_pictures_that_are_left_as_they_are():
    rule = Resizing(0, 480)
    assert [rule.size(*size) for size in ((360, 480), (10, 20), (480, 960))] == [(360, 480), (10, 20), (240, 480)]
    assert rule.canvas([(360, 480)]) == (384, 480)
    assert rule.canvas([(10, 20)]) == (128, 128)
    assert len(rule.buckets()) == 16
