"""How things lie to each other, on drawings made by hand and against what the drawing itself hid."""

import dataclasses

import numpy as np
import pytest

from cnnlab.data import shapes
from cnnlab.data.arrangement import CLEAR, _neighbours, clearly_lies, hidden, lies, outline, unit_areas
from cnnlab.data.grammar import RELATIONS
from cnnlab.data.shapes import Scene, Thing

OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above", "on": "behind", "behind": "on"}


def scene_of(*squares, size=100):
    """Squares (x y half), each drawn over those before it."""
    instances, masks = np.zeros((size, size), np.uint8), []
    for number, (x, y, half) in enumerate(squares, 1):
        mask = np.zeros((size, size), bool)
        mask[y - half : y + half, x - half : x + half] = True
        instances[mask] = number
        masks.append(mask)
    things = []
    for number, ((x, y, _), mask) in enumerate(zip(squares, masks, strict=True), 1):
        rows, columns = np.nonzero(instances == number)
        box = (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
        things.append(Thing("square", "red", "small", (float(x), float(y)), box, len(rows), int(mask.sum())))
    return Scene(np.zeros((size, size, 3), np.uint8), instances, tuple(things))


def found(judge, scene, first, second):
    return {relation for relation in RELATIONS if judge(scene, first, relation, second)}


@pytest.mark.parametrize(
    ("x", "y", "granted", "clear"),
    [
        (20, 50, {"left"}, {"left"}),
        (80, 50, {"right"}, {"right"}),
        (50, 20, {"above"}, {"above"}),
        (50, 80, {"below"}, {"below"}),
        (20, 36, {"left"}, {"left"}),  # 25° above
        (20, 32, {"left", "above"}, set()),  # 31°
        (25, 25, {"left", "above"}, set()),
        (38, 20, {"above"}, {"above"}),
        (39, 50, {"left"}, set()),  # near, apart by a pixel
        (47, 20, {"above"}, {"above"}),
    ],
)
def test_directions(x, y, granted, clear):
    scene = scene_of((50, 50, 5), (x, y, 5))
    assert found(lies, scene, 1, 0) == granted
    assert found(clearly_lies, scene, 1, 0) == clear
    assert found(lies, scene, 0, 1) == {OPPOSITE[relation] for relation in granted}
    assert found(clearly_lies, scene, 0, 1) == {OPPOSITE[relation] for relation in clear}


def test_a_thing_lies_nowhere_to_itself():
    scene = scene_of((50, 50, 5), (52, 50, 5))
    assert not found(lies, scene, 0, 0)
    assert found(lies, scene, 0, 1) == {"behind"}  # too near for a direction


def test_large_things_that_overlap_along_a_direction_lie_not_clearly():
    scene = scene_of((40, 50, 20), (60, 50, 20))
    assert found(lies, scene, 0, 1) == {"left", "behind"}
    assert found(clearly_lies, scene, 0, 1) == {"behind"}


def test_on_top_and_behind():
    scene = scene_of((30, 50, 20), (58, 50, 10), (75, 50, 5))  # 2 of 20 columns of the second lie over the first
    assert hidden(scene) == {(1, 0): 2 * 20}
    assert found(lies, scene, 1, 0) >= {"on", "right"}
    assert "behind" in found(lies, scene, 0, 1)
    assert "on" not in found(clearly_lies, scene, 1, 0)  # a tenth of the smaller one is not much
    assert not found(lies, scene, 2, 1) & {"on", "behind"}


def test_things_whose_boxes_overlap_along_a_direction_lie_not_clearly():
    scene = scene_of((30, 50, 10), (60, 50, 10))
    first, second = scene.things
    assert found(clearly_lies, scene, 0, 1) == {"left"}
    wide = dataclasses.replace(first, box=(20, 40, 51, 60))
    assert found(clearly_lies, dataclasses.replace(scene, things=(wide, second)), 0, 1) == set()


def test_three_in_a_pile():
    scene = scene_of((30, 50, 20), (55, 50, 10), (58, 62, 6))
    assert hidden(scene) == {(1, 0): 5 * 20, (2, 1): 4 * 12}


def test_side_by_side_is_not_on_top():
    scene = scene_of((30, 50, 10), (50, 50, 10))
    assert hidden(scene) == {}
    assert found(lies, scene, 1, 0) == {"right"}


def test_areas_and_outlines():
    assert unit_areas()["circle"] == pytest.approx(np.pi, rel=0.01)
    assert unit_areas()["square"] == pytest.approx(2.88, rel=0.02)
    square = shapes.draw("train", 2).things[0]
    assert square.whole > 0


@pytest.fixture(scope="module")
def drawn():
    """Drawings and the whole mask of each thing on them."""
    place, made, drawings = shapes._place, [], []

    def recorded(random, words, instances, before):
        placed = place(random, words, instances, before)
        if placed is not None:
            mask = np.zeros(instances.shape, bool)
            mask[placed.window] = placed.mask
            made.append(mask)
        return placed

    shapes._place = recorded
    try:
        for i in range(150):
            made.clear()
            drawings.append((shapes.draw("test", i), list(made)))
    finally:
        shapes._place = place
    return drawings


def test_what_is_hidden_against_what_was_drawn(drawn):
    """Of two that are seen to touch: no more than truly lies under the upper one, no less than where that is seen."""
    said = 0
    for scene, masks in drawn:
        counted = hidden(scene)
        for lower in range(len(masks)):
            for upper in range(lower + 1, len(masks)):
                under = int((masks[lower] & masks[upper]).sum())
                seen = int((masks[lower] & (scene.instances == upper + 1)).sum())
                smaller = min(scene.things[lower].whole, scene.things[upper].whole)
                part = counted.get((upper, lower), 0) / smaller
                if part >= CLEAR[2]:
                    said += 1
                    assert under > 0.1 * smaller
                assert part <= under / smaller + 0.08
                if upper in _neighbours(scene, lower):
                    assert part >= seen / smaller - 0.05
    assert said > 80


def test_outlines_are_found_again(drawn):
    errors = []
    for scene, masks in drawn:
        for number, (thing, mask) in enumerate(zip(scene.things, masks, strict=True)):
            if thing.area < thing.whole:
                again = outline(scene, number)
                errors.append((again ^ mask).sum() / mask.sum())
    assert len(errors) > 80
    assert np.median(errors) < 0.06
    assert np.quantile(errors, 0.9) < 0.2
