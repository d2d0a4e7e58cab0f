"""Captions of regions: each region's square is described by itself, what is refused, what is drawn."""

import dataclasses

import jax
import numpy as np
import pytest
from PIL import Image

from cnnlab import region_captions
from cnnlab.errors import UserError
from cnnlab.predict import predict
from cnnlab.region_captions import RegionCaptioning, of_regions
from tests.recipes.test_captions import caption_run, few_drawings  # noqa: F401  (the fixture keeps the data small)
from tests.small import small_experiment

BOXES = np.array([[8.0, 4.0, 24.0, 20.0], [0.0, 0.0, 48.0, 30.0]], np.float32)  # pixels of a picture of 48×30


class Found:
    """A detector that finds the same in every picture."""

    def find(self, picture):
        assert picture.shape == (30, 48, 3)
        return BOXES


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setattr(region_captions, "finder", lambda folder: Found())
    experiment = caption_run(detector="somewhere", most_regions=3)
    return experiment, jax.jit(experiment.task.init)(jax.random.key(0), {"image": np.zeros((1, 32, 32, 3), np.uint8)})


def picture_file(folder):
    pixels = np.random.default_rng(0).integers(0, 255, (30, 48, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "a.png")
    return folder / "a.png", pixels


def test_each_region_is_described_by_itself(run, tmp_path):
    experiment, state = run
    path, pixels = picture_file(tmp_path)
    Image.fromarray(pixels[4:20, 8:24]).save(tmp_path / "region.png")
    _, _, rows = predict(of_regions(experiment), state, [path])
    assert [phrase["region"] for phrase in rows[0]["phrases"]] == [0, 1]
    np.testing.assert_allclose(rows[0]["boxes"], BOXES / np.array([48, 30, 48, 30]), atol=1e-6)
    for file, phrase in zip((tmp_path / "region.png", path), rows[0]["phrases"], strict=True):
        _, _, (whole,) = predict(experiment, state, [file])
        assert phrase["words"] == whole["caption"]
        assert phrase["score"] == pytest.approx(whole["log_probability"], abs=1e-4)


def test_it_is_said_and_drawn(run, tmp_path):
    experiment, state = run
    asked = of_regions(experiment)
    _, pictures, rows = predict(asked, state, [picture_file(tmp_path)[0]])
    said = asked.task.say(rows[0])
    assert said.count(" | ") == 1
    assert f"({rows[0]['phrases'][1]['score']:.2f})" in said
    assert asked.task.say({"phrases": [], "boxes": []}) == "nothing found"
    assert asked.task.annotate(pictures[0], rows[0]).axes
    assert len(asked.task.draw_predictions(pictures * 2, ["a", "b"], rows * 2).axes) == 2


def test_what_is_refused(run):
    experiment, _ = run
    with pytest.raises(UserError, match=r"config\.regions is for nets that describe pictures, and .* is none"):
        of_regions(small_experiment())
    bare = dataclasses.replace(experiment, config={**experiment.config, "detector": ""})
    with pytest.raises(UserError, match=r"config\.regions needs --config\.detector=WORKDIR"):
        of_regions(bare)
    assert isinstance(of_regions(experiment).task, RegionCaptioning)
