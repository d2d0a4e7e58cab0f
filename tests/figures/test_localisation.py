"""Figures of localisation: what stands on them and where."""

import io

import numpy as np

from cnnlab.figures import localisation as localisation_figures


def row(index, label, likeliest, overlap):
    return {
        "index": index,
        "label": label,
        "classes": np.array([likeliest, 0]),
        "probability": np.array([0.75, 0.1]),
        "overlap": np.array([overlap, 0.0]),
        "box": np.array([2.0, 3, 12, 13]),
        "true_box": np.array([4.0, 5, 12, 13]),
    }


def test_each_picture_says_what_is_right_and_what_not():
    asked = []

    def picture(index):
        asked.append(index)
        return np.full((30, 40, 3), 90, np.uint8)

    rows = [row(5, 1, 1, 0.456), row(7, 0, 1, 0.9)]
    figure = localisation_figures.places_sheet(rows, picture, ("ant", "bee"), "Pictures")
    assert asked == [5, 7]
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["bee 75%, IoU 0.46", "bee 75%, in truth ant, IoU 0.90"]
    assert figure.get_suptitle().startswith("Pictures; the true box is white and dashed")
    figure.savefig(io.BytesIO(), format="png")


def test_overlaps_fall_by_class_and_together():
    overlap, label = np.array([0.75, 0.25, 0.5, 0.0]), np.array([0, 0, 2, 2])
    figure = localisation_figures.overlaps_figure(overlap, label, ("ant", "bee", "cat"))
    axes = figure.axes[0]
    assert axes.get_title() == "50.0% of 4 boxes in the right place, mean IoU 0.375"
    lines = {line.get_label(): line.get_xydata() for line in axes.lines}
    assert list(lines) == ["ant", "cat", "all", "right from 0.5"]
    assert lines["all"].tolist() == [[0, 1], [0, 1], [0.25, 0.75], [0.5, 0.5], [0.75, 0.25], [1, 0]]
    assert lines["ant"].tolist() == [[0, 1], [0.25, 1], [0.75, 0.5], [1, 0]]
    figure.savefig(io.BytesIO(), format="png")


def test_many_classes_are_one_line():
    names = tuple(f"class {k}" for k in range(20))
    figure = localisation_figures.overlaps_figure(np.full(20, 0.6), np.arange(20), names)
    assert [line.get_label() for line in figure.axes[0].lines] == ["all", "right from 0.5"]
