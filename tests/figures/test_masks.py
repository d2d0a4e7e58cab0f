"""Figures of masks: tints, outlines, legends, and that all can be saved without a warning."""

import tracemalloc

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from cnnlab.data.outlines import polygons_of
from cnnlab.figures import boxes as box_figures
from cnnlab.figures import masks as mask_figures
from tests.figures.test_boxes import grey, save
from tests.metrics.test_masks import BOX, FAR, FULL, LEFT, SHAPE, Truths, added, filled, outputs, with_masks

NAMES = ("a", "b", "c")
RED, BLUE = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)


def row(*findings):
    """Of boxes, classes, scores and maps."""
    boxes, classes, scores, maps = ([finding[i] for finding in findings] for i in range(4))
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return {"boxes": boxes, "classes": classes, "scores": scores, "maps": np.reshape(maps, (-1, 2, 2)).astype(np.uint8)}


TWO = row((BOX, "b", 0.9, FULL), (FAR, "a", 0.6, LEFT))


def test_masks_tint_and_lie_over_each_other():
    picture = np.full((1, 4, 3), 100, np.uint8)
    masks = np.array([[[True, True, False, False]], [[False, True, True, False]]])
    found = mask_figures.overlay(picture, masks, [RED, BLUE])
    one = 0.55 * 100
    assert found[0, 0].tolist() == [round(one + 0.45 * 255), 55, 55]
    assert found[0, 1].tolist() == [round(0.55 * (one + 0.45 * 255)), round(0.55 * 55), round(0.55 * 55 + 0.45 * 255)]
    assert found[0, 2].tolist() == [55, 55, round(one + 0.45 * 255)]
    assert found[0, 3].tolist() == [100, 100, 100]
    assert (picture == 100).all()
    assert np.array_equal(mask_figures.overlay(picture, masks[:0], []), picture)


def test_every_value_is_tinted_as_real_numbers_are():
    picture = np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, -1)
    colour = np.array((0.1, 0.9, 0.25))
    found = mask_figures.overlay(picture, np.ones((1, 1, 256), bool), [tuple(colour.tolist())])
    wanted = (1 - mask_figures.STRENGTH) * picture + mask_figures.STRENGTH * 255 * colour
    assert np.abs(found - wanted).max() <= 0.501


def test_each_row_of_a_high_picture_is_tinted():
    picture, masks = np.zeros((3 * mask_figures.BAND + 5, 2, 3), np.uint8), np.zeros((1, 3 * mask_figures.BAND + 5, 2))
    masks[0, :, 0] = np.arange(len(picture)) % 3 > 0
    masks[0, mask_figures.BAND : 2 * mask_figures.BAND] = 0
    found = mask_figures.overlay(picture, masks.astype(bool), [RED])
    np.testing.assert_array_equal(found[..., 0], 115 * masks[0])


def test_a_large_picture_is_tinted_in_little_memory():
    picture, masks = np.full((4000, 250, 3), 100, np.uint8), np.zeros((3, 4000, 250), bool)
    masks[:, :1000] = True
    tracemalloc.start()
    mask_figures.overlay(picture, masks, [RED, BLUE, RED])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * 4000 * 250  # bytes: 3 are the result


def test_outlines_are_drawn_round_the_pixels_and_without_cuts():
    mask = np.zeros((12, 12), bool)
    mask[2:10, 3:11] = True
    mask[5:7, 5:8] = False
    axes = Figure().add_subplot()
    axes.imshow(np.zeros((12, 12, 3), np.uint8))
    mask_figures.draw_outlines(axes, polygons_of(mask), RED)
    rim, line = axes.collections
    assert isinstance(rim, LineCollection)
    assert line.get_color().tolist() == [[1, 0, 0, 1]]
    points = np.concatenate(line.get_segments())
    # Pixel (0, 0) is drawn around (0, 0): the mask's edges are at 2.5 and 10.5 across, 1.5 and 9.5 down.
    assert points.min(0).tolist() == [2.5, 1.5]
    assert points.max(0).tolist() == [10.5, 9.5]
    edges = {frozenset(map(tuple, segment.tolist())) for segment in line.get_segments()}
    assert len(edges) == 8 + 8  # an octagon around, and one around the hole
    assert axes.get_xlim() == (-0.5, 11.5)


def test_masks_of_findings_in_pixels_of_the_picture():
    found = mask_figures.masks_of(TWO["maps"], TWO["boxes"], SHAPE)
    assert np.array_equal(found, [filled(*BOX), filled(40, 10, 45, 20)])
    assert mask_figures.masks_of(TWO["maps"][:0], np.zeros((0, 4), np.float32), SHAPE).shape == (0, *SHAPE)


@pytest.mark.parametrize("size", [(40, 60), (600, 500)])
def test_a_picture_with_its_masks_boxes_and_legend(size):
    figure = mask_figures.masks_figure(grey(*size), TWO, NAMES)
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == ["a 60%", "b 90%"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]
    shown = axes.get_images()[0].get_array()
    assert (shown[20, 20] != 120).any()
    assert (shown[15, 47] == 120).all()
    drawn, scale = save(figure), max(1, -(-box_figures.LEAST // max(size)))
    room = drawn.shape[0] - scale * size[0]
    assert drawn.shape[1] == scale * size[1]
    assert 20 < room < 100
    # Pixel for pixel above the legend: the middle of the mask and the ground beside it.
    assert np.abs(drawn[int(scale * 26.5), int(scale * 26.5)].astype(int) - shown[26, 26]).max() <= 2
    assert (drawn[scale * size[0] - 3, 3] == 120).all()
    assert (drawn[scale * size[0] + 4 :] == 255).mean() > 0.5


def test_a_picture_without_findings_has_no_legend():
    figure = mask_figures.masks_figure(grey(60, 100), row(), NAMES)
    assert figure.legends == []
    assert save(figure).shape == (300, 500, 3)


@pytest.mark.parametrize("count", [1, 5])
def test_a_sheet_has_one_legend_of_all_classes_that_occur(count):
    rows = [TWO] * (count - 1) + [row((BOX, "c", 0.7, LEFT))]
    figure = mask_figures.masks_sheet([grey(*SHAPE)] * count, ["x"] * count, rows, NAMES, "Found")
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == (["c"] if count == 1 else ["a", "b", "c"])
    assert [len(axes.collections) for axes in figure.axes] == [4] * (count - 1) + [2]
    save(figure)


def test_mistakes_have_the_outlines_of_what_is_shown():
    # b: the right half of an object was found as its left; a is missed, and a finding of b lies on it.
    findings = [(BOX, 0.9, 1), (FAR, 0.8, 1)]
    truths = Truths([filled(20, 10, 30, 30), filled(*FAR)])
    metrics = added(truths, with_masks(outputs((0, findings, [(BOX, 1, False), (FAR, 0, False)])), [[LEFT, FULL]]))
    figure = mask_figures.mistakes_figure(metrics, lambda index: grey(*SHAPE), truths.masks)
    heads = [part.get_suptitle().partition(":")[0] for part in figure.subfigs]
    assert heads == ["missed", "false"]
    # The object at 40 10 50 20 of 40×60 pixels is shown from pixel 12 on; its outline lies on its box there.
    missed = next(axes for axes in figure.subfigs[0].axes if axes.get_title().startswith("a"))
    edges = np.concatenate([line.get_segments() for line in missed.collections[-1:]]).reshape(-1, 2)
    assert [*edges.min(0), *edges.max(0)] == [40 - 12 - 0.5, 10 - 0.5, 50 - 12 - 0.5, 20 - 0.5]
    drawn = {
        (head, axes.get_title()): len(axes.collections) // 2
        for head, part in zip(heads, figure.subfigs, strict=True)
        for axes in part.axes
    }
    assert drawn == {
        ("missed", "b\nnothing near, picture 0"): 2,
        ("missed", "a\nnothing near, picture 0"): 2,
        ("false", "b 90%\nIoU 0.00, picture 0"): 2,
        ("false", "b 80%\non a a, picture 0"): 2,
    }
    save(figure)
