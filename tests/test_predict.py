"""Finding and predicting pictures."""

import dataclasses

import jax
import numpy as np
import pytest
from PIL import Image

from cnnlab import loop
from cnnlab.data.digits import digits
from cnnlab.errors import UserError
from cnnlab.predict import find_pictures, predict
from tests.small import small_experiment


def test_find_pictures(tmp_path):
    for name in ("b.png", "a.jpg", "notes.txt", "sub/c.PNG"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [p.name for p in find_pictures(str(tmp_path))] == ["a.jpg", "b.png", "c.PNG"]
    assert [p.name for p in find_pictures(str(tmp_path / "*.png"))] == ["b.png"]
    assert [p.name for p in find_pictures(str(tmp_path / "a.jpg"))] == ["a.jpg"]
    assert [p.name for p in find_pictures(str(tmp_path / "**" / "*.PNG"))] == ["c.PNG"]
    with pytest.raises(UserError, match="matches no picture"):
        find_pictures(str(tmp_path / "none" / "*"))


def test_predictions_do_not_depend_on_the_batch(tmp_path):
    arrays = digits("test").arrays
    files = []
    for i in range(7):
        files.append(tmp_path / f"{i}.png")
        Image.fromarray(arrays["image"][i, ..., 0]).save(files[-1])
    experiment = small_experiment()
    state = loop.initial_state(experiment)
    direct = jax.nn.softmax(experiment.task.logits(state, jax.numpy.asarray(arrays["image"][:7])))
    for size in (1, 3, 100):
        read, pictures, rows = predict(dataclasses.replace(experiment, eval_batch_size=size), state, files)
        assert read == files
        assert np.array_equal(np.stack(pictures), arrays["image"][:7])
        for row, probabilities in zip(rows, direct, strict=True):
            best = np.argsort(-probabilities)[:5]
            assert row["classes"] == [str(i) for i in best]
            assert np.allclose(row["probabilities"], probabilities[best], atol=1e-6)
