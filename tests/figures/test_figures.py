"""Figures: how many panels, what stands on them, and that all can be saved without a warning."""

import io

import numpy as np
import pytest

from cnnlab import figures


def save(figure):
    """The figure as PNG; warnings are errors in these tests."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    assert buffer.getvalue().startswith(b"\x89PNG")


def row(step, split, **metrics):
    return {"step": step, "split": split, **metrics}


def test_curves_have_a_panel_a_metric_and_a_line_a_split():
    rows = [
        row(10, "train", loss=2.0, error=0.5),
        row(20, "train", loss=1.0, error=0.25),
        row(20, "test", loss=1.5, error=0.375, top5_error=0.125, count=100),
    ]
    figure = figures.curves(rows)
    panels = {axes.get_title(): axes for axes in figure.axes}
    assert list(panels) == ["error", "loss", "top5_error"]
    lines = {line.get_label(): line.get_xydata().tolist() for line in panels["loss"].lines}
    assert lines == {"train": [[10, 2], [20, 1]], "test": [[20, 1.5]]}
    assert [line.get_label() for line in panels["top5_error"].lines] == ["test"]
    save(figure)


@pytest.mark.parametrize(("losses", "scale"), [([2.0, 1.0], "log"), ([2.0, 0.0], "linear"), ([2.0, -1.0], "linear")])
def test_the_scale_is_logarithmic_where_it_can_be(losses, scale):
    figure = figures.curves([row(n, "train", loss=loss) for n, loss in enumerate(losses)])
    assert figure.axes[0].get_yscale() == scale
    save(figure)


@pytest.mark.parametrize(
    "values", [[float("nan")], [float("nan")] * 3, [1.0, float("nan"), 0.5], [float("inf"), 1.0]], ids=str
)
def test_curves_of_what_is_no_number(values):
    save(figures.curves([row(n, "train", loss=value) for n, value in enumerate(values)]))


def test_no_rows_are_no_panels():
    figure = figures.curves([])
    assert figure.axes == []
    save(figure)


def test_long_curves():
    save(figures.curves([row(n, "train", loss=1 / (n + 1)) for n in range(500)]))


@pytest.mark.parametrize("classes", [1, 2, 10, 30, 31, 100])
def test_confusion(classes):
    matrix = np.random.default_rng(0).integers(0, 3, (classes, classes))
    figure = figures.confusion(matrix, [f"class {i}" for i in range(classes)])
    wrong = matrix.sum() - np.trace(matrix)
    assert len(figure.axes) == 1
    assert figure.axes[0].get_title().startswith(f"{wrong} of {matrix.sum()} wrong")
    assert len(figure.axes[0].texts) == (np.count_nonzero(matrix) if classes <= 30 else 0)
    assert max(figure.get_size_inches()) <= 16
    save(figure)


def test_confusion_colours_shares_and_writes_counts():
    figure = figures.confusion(np.array([[3, 1], [0, 2]]), ["a", "b"])
    axes = figure.axes[0]
    assert axes.get_title() == "1 of 6 wrong (16.67%)"
    np.testing.assert_allclose(axes.images[0].get_array(), [[0.75, 0.25], [0, 1]])
    # (predicted, true): the count
    assert {text.get_position(): text.get_text() for text in axes.texts} == {(0, 0): "3", (1, 0): "1", (1, 1): "2"}
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]


def test_confusion_of_nothing():
    save(figures.confusion(np.zeros((3, 3), np.int64), ["a", "b", "c"]))


@pytest.mark.parametrize("channels", [1, 3])
def test_filter_tiles(channels):
    kernel = np.random.default_rng(0).normal(size=(5, 5, channels, 6)).astype(np.float32)
    figure = figures.filter_tiles(kernel, "C1: 6 filters")
    assert len(figure.axes) == 6
    assert "C1: 6 filters" in figure.get_suptitle()
    tile = np.asarray(figure.axes[4].images[0].get_array()).reshape(5, 5, channels)
    expected = (kernel[..., 4] - kernel.min()) / (kernel.max() - kernel.min())
    np.testing.assert_allclose(tile, expected, atol=1e-6)
    save(figure)


def test_filters_that_are_all_the_same():
    save(figures.filter_tiles(np.ones((3, 3, 1, 2), np.float32), "flat"))


@pytest.mark.parametrize("count", [1, 3, 5, 20])
@pytest.mark.parametrize("shape", [(4, 6, 1), (4, 6, 3)])
def test_contact_sheet(count, shape):
    pictures = [np.full(shape, 10 * i, np.uint8) for i in range(count)]
    figure = figures.contact_sheet(pictures, [f"picture {i}" for i in range(count)], "Some")
    assert [axes.get_title() for axes in figure.axes] == [f"picture {i}" for i in range(count)]
    assert np.asarray(figure.axes[-1].images[0].get_array()).max() == 10 * (count - 1)
    save(figure)


def test_grey_pictures_keep_their_greys():
    """A picture is not stretched from black to white on its own."""
    figure = figures.contact_sheet([np.full((2, 2, 1), 7, np.uint8), np.full((2, 2, 1), 0.5)], ["", ""], "Greys")
    assert [axes.images[0].get_clim() for axes in figure.axes] == [(0, 255), (0, 1)]


@pytest.mark.parametrize("k", [1, 3])
def test_neighbours_stand_beside_their_sample(k):
    samples = np.array([0.25, 0.5])[:, None, None, None] * np.ones((1, 4, 4, 1))
    neighbours = np.arange(2 * k).reshape(2, k, 1, 1, 1) / 100 * np.ones((1, 1, 4, 4, 1))
    figure = figures.neighbours_figure(samples, neighbours, np.arange(2.0 * k).reshape(2, k))
    assert len(figure.axes) == 2 * (k + 1)
    assert [axes.get_title() for axes in figure.axes[k + 1 : 2 * k + 2]] == [
        "sample 2",
        *(f"{k + i:.2f} away" for i in range(k)),
    ]
    values = [np.asarray(axes.images[0].get_array()).max() for axes in figure.axes[k + 1 : 2 * k + 2]]
    np.testing.assert_allclose(values, [0.5, *((k + i) / 100 for i in range(k))])
    columns = figure.axes[0].get_subplotspec().get_gridspec().ncols
    assert columns == k + 1
    assert ("training pictures" in figure.get_suptitle()) == (k > 1)
    save(figure)
