"""What movements of the input do to a network, as it is drawn and written."""

import math

import numpy as np
import pytest

from cnnlab.inspect.equivariance import Movement
from cnnlab.inspect.invariance_figures import Found, accuracy_figure, curves_figure, format_table, heat_figure


def some_found(layers):
    def found(size):
        errors = dict.fromkeys(layers, 0.1 * size)
        return Found(1 - 0.1 * size, {"equivariance": errors, "invariance": {**errors, "logits": 0.2 * size}})

    return {Movement(kind, size): found(size) for kind in ("shift", "scale") for size in (1.0, 2.0)}


def test_what_the_figures_show():
    found = some_found(["a", "b"])
    above, _, below, _ = accuracy_figure(found, "net", "accuracy, %").axes
    assert above.lines[0].get_ydata().tolist() == [90, 80]
    assert below.lines[0].get_ydata().tolist() == [0.2, 0.4]
    lines = curves_figure(found, "net").axes[0].lines
    assert [line.get_label() for line in lines[:2]] == ["a", "b"]
    assert lines[0].get_ydata().tolist() == pytest.approx([0.1, 0.2])
    found[Movement("scale", 2.0)].errors["equivariance"]["b"] = math.nan  # no place is left
    axes = heat_figure(found, "net").axes
    assert np.allclose(axes[0].images[0].get_array(), [[0.1, 0.2], [0.1, 0.2]])
    assert [text.get_text() for text in axes[1].texts] == ["0.1", "0.2", "0.1"]
    assert [label.get_text() for label in axes[0].get_yticklabels()] == ["a", "b"]
    assert "  b                  0.100     nan\ninvariance error" in format_table(found)
