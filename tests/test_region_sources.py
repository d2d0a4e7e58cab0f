"""Regions by a trained detector, snippets by a trained alignment: their pixels, what is kept, what is refused."""

import dataclasses
import functools
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cnnlab import configs, loop, parallel, region_sources, workdirs
from cnnlab.data.annotations import Findings
from cnnlab.data.captioned import Captions
from cnnlab.data.captions import CaptionSource, DrawnCaptions, checked
from cnnlab.data.described import Described
from cnnlab.data.pictures import CorruptPicture
from cnnlab.data.shapes import draw
from cnnlab.data.text import build
from cnnlab.errors import UserError
from cnnlab.experiment import Experiment
from cnnlab.region_sources import Finder, aligned_snippets, finder, read_square, with_regions
from cnnlab.state import TrainState
from cnnlab.tasks.alignment import SentenceAlignment
from cnnlab.tasks.classification import Classification
from cnnlab.tasks.detection import to_original
from tests.small import small_experiment
from tests.tasks.test_alignment import fresh, task

VOCABULARY = build([("a", "star")], 1)
STATE = TrainState(jnp.zeros((), jnp.int32), {"w": jnp.ones(2)}, {}, ())


class FindsBright(Classification):
    """The box around what is bright, where the picture keeps its proportions; then one that is no finding."""

    def predict_step(self, state, batch):
        bright = batch["image"][..., 0] > 128
        edges = []
        for axis in (1, 2):
            seen = bright.any(3 - axis)
            edges += [jnp.argmax(seen, 1), seen.shape[1] - jnp.argmax(seen[:, ::-1], 1)]
        box = jnp.stack([edges[2], edges[0], edges[3], edges[1]], 1)[:, None].astype(jnp.float32)
        down, across = (batch["size"] / batch["original"]).T
        there = jnp.where(bright.any((1, 2)) & (jnp.abs(down - across) < 0.1), 3, -1)[:, None]
        boxes = to_original(jnp.concatenate([box, jnp.zeros_like(box)], 1), batch)
        return {"boxes": boxes, "label": jnp.concatenate([there, jnp.full_like(there, -1)], 1)}


@functools.cache
def detector():
    experiment = small_experiment()
    finds = FindsBright(**vars(experiment.task))
    return Finder(dataclasses.replace(experiment, task=finds, config={"shorter": 32, "longer": 48}), STATE)


def bright(height, width, box):
    picture = np.zeros((height, width, 3), np.uint8)
    x0, y0, x1, y1 = box
    picture[y0:y1, x0:x1] = 255
    return picture


def test_what_is_found_is_in_pixels_of_the_picture():
    for height, width, box in ((64, 64, (16, 32, 48, 56)), (80, 160, (40, 20, 120, 70)), (16, 16, (4, 0, 8, 16))):
        found = detector().find(bright(height, width, box))
        assert found.shape == (1, 4)
        np.testing.assert_allclose(found[0], box, atol=max(height, width) / 32)
    assert detector().find(bright(64, 64, (0, 0, 0, 0))).shape == (0, 4)


def test_other_weights_have_another_key():
    other = dataclasses.replace(detector(), state=STATE.replace(params={"w": jnp.full(2, 2.0)}))
    assert detector().key() != other.key()
    assert detector().key() == dataclasses.replace(detector(), state=STATE.replace(step=jnp.ones((), int))).key()


def source_of(*paths):
    described = [Described(path, ("a star",), ("f:1",), 0) for path in paths]
    return CaptionSource([checked(one, 4, False, Findings(), None) for one in described], VOCABULARY, 32, 4)


def test_a_file_is_read_as_in_training(tmp_path, monkeypatch):
    monkeypatch.setattr(region_sources, "finder", lambda folder: detector())
    Image.fromarray(bright(64, 128, (32, 16, 96, 48))).save(tmp_path / "a.png")
    Image.fromarray(draw("train", 0, 200, 3).picture).save(tmp_path / "b.jpg")
    for name in ("a.png", "b.jpg"):
        fields, batch = read_square(tmp_path / name, 32), source_of(tmp_path / name).batch(np.array([0]))
        assert set(fields) == {"image", "size", "original"}
        for field, array in fields.items():
            assert array.dtype == batch[field].dtype
            assert np.array_equal(array, batch[field][0])
    fields = read_square(tmp_path / "a.png", 32, Path("x"), 3)
    assert fields["boxes"].shape == (3, 4)
    np.testing.assert_allclose(fields["boxes"], [[8, 8, 24, 24], [0] * 4, [0] * 4], atol=1)
    (tmp_path / "c.jpg").write_bytes(b"none")
    with pytest.raises(CorruptPicture, match=r"c\.jpg is not a whole picture"):
        read_square(tmp_path / "c.jpg", 32)


def test_data_with_regions_are_searched_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CNNLAB_CACHE", str(tmp_path / "cache"))
    folders = []
    monkeypatch.setattr(region_sources, "finder", lambda folder: folders.append(folder) or detector())
    Image.fromarray(bright(64, 128, (32, 16, 96, 48))).save(tmp_path / "a.png")
    Image.fromarray(bright(48, 48, (12, 0, 24, 48))).save(tmp_path / "b.png")
    train, test = (functools.partial(source_of, tmp_path / name) for name in ("a.png", "b.png"))
    data = with_regions(Captions(VOCABULARY, (), train, test), tmp_path / "run", 2)
    assert folders == []  # until the data are called for
    found = data.train().batch(np.array([0]))["boxes"]
    np.testing.assert_allclose(found, [[[8, 8, 24, 24], [0] * 4]], atol=1)
    np.testing.assert_allclose(data.test().batch(np.array([0]))["boxes"][0, 0], [8, 0, 16, 32], atol=1)
    assert folders == [tmp_path / "run"] * 2
    assert data.train().sentences(0) == ("a star",)
    assert "regions of train pictures" in capsys.readouterr().err

    def fails(self, picture):
        raise AssertionError("searched again")

    monkeypatch.setattr(Finder, "find", fails)
    assert np.array_equal(data.train().batch(np.array([0]))["boxes"], found)
    Image.fromarray(bright(64, 128, (0, 0, 4, 4))).save(tmp_path / "a.png")  # another picture
    with pytest.raises(AssertionError, match="searched again"):
        data.train()


def test_detectors_that_are_none(tmp_path):
    with pytest.raises(UserError) as error:
        finder(tmp_path / "none")
    assert str(error.value) == (
        f"config.detector is {tmp_path / 'none'}, which holds no detector: name the workdir of a trained one"
    )
    (tmp_path / "digits").mkdir()
    workdirs.claim(tmp_path / "digits", small_experiment())
    with pytest.raises(UserError, match=r"config\.detector is .*digits, which holds no detector: name the workdir"):
        finder(tmp_path / "digits")
    with pytest.raises(UserError, match=r"config\.alignment is .*digits, which holds no alignment: name the workdir"):
        aligned_snippets(tmp_path / "digits", 32, None)
    for name, wrong in (
        ("faster_rcnn_shapes", r"faster_rcnn_shapes holds no trained state: train first"),
        ("fast_rcnn_shapes", r"a run of fast_rcnn_shapes, which does not propose its regions itself: name one of"),
    ):
        module = configs.load(name)
        (tmp_path / name).mkdir()
        workdirs.claim(tmp_path / name, module.build(module.get_config()))
        with pytest.raises(UserError, match=wrong):
            finder(tmp_path / name)


PHRASES = {
    0: [("a red", 0), ("circle", 2), ("a red", 0)],
    1: [("circle", 2), ("star", 1)],
    2: [("a red", 2)],
    3: [("one", 1), ("two", 1), ("three", 1)],
    4: [("four", 1), ("five", 1), ("star", 1), ("six", 1)],
}


class Told(SentenceAlignment):
    """An alignment whose phrases are known."""

    def phrases(self, one, number):
        return [{"words": words, "region": region, "score": 0.0} for words, region in PHRASES[number]]


def drawn(split):
    """Three drawings of two shapes."""
    numbers = [i for i in range(20) if len(draw(split, i, 32, 2).things) == 2]
    return DrawnCaptions(split, np.array(numbers[:3]), task().vocabulary, 32, 2, boxes=True)


DRAWN = {split: drawn(split) for split in ("train", "test")}


def alignment(kind):
    run = kind(**vars(task()))
    sizes = {"batch_size": 2, "eval_batch_size": 2, "steps": 1, "log_every": 1, "eval_every": 1, "checkpoint_every": 1}
    train, test = (functools.partial(DRAWN.get, split) for split in ("train", "test"))
    return Experiment("x", {}, run, train, test, (32, 32, 3), lambda path: None, seed=0, **sizes)


def trained(monkeypatch, kind):
    """What `aligned_snippets` finds in a folder."""
    monkeypatch.setattr(configs, "run_of_task", lambda folder, of, field, what: alignment(kind))
    monkeypatch.setattr(loop, "restored_state", lambda experiment, folder: parallel.replicate(fresh()))
    return aligned_snippets(Path("x"), 8, None)


def test_snippets_have_each_phrase_of_a_region_once_and_five_at_most(monkeypatch, capsys):
    data = trained(monkeypatch, Told)
    assert data.vocabulary is task().vocabulary
    source = data.test()
    assert len(source.snippets) == 3 * 3
    assert [one.picture for one in source.snippets] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    first = source.snippets[:3]
    assert [one.words for one in first] == [
        (("a", "red"),),
        (("circle",), ("a", "red")),
        (("star",), ("one",), ("two",), ("three",), ("four",)),
    ]
    box = DRAWN["test"].batch(np.array([0]))["boxes"][0]
    expected = [(0, 0, 1, 1), tuple((box[1] / 32).tolist()), tuple((box[0] / 32).tolist())]
    np.testing.assert_allclose([one.box for one in first], expected, rtol=1e-6)
    assert source.words == 2
    assert (source.size, source.vocabulary) == (8, task().vocabulary)
    assert source.batch(np.array([1]))["tokens"].shape == (1, 5, 4)
    assert "x: phrases of test pictures 2/2" in capsys.readouterr().err
    assert data.test() is source  # not found twice
    whole = data.train().picture(0)
    assert np.array_equal(whole, DRAWN["train"].picture(0))


def test_snippets_are_the_alignments_own_phrases(monkeypatch):
    source = trained(monkeypatch, SentenceAlignment).train()
    for picture in range(3):
        tokens = DRAWN["train"].batch(np.array([picture]))["tokens"][0]
        own = [" ".join(task().vocabulary.decode(row)) for row in tokens]
        found = [words for one in source.snippets if one.picture == picture for words in one.words]
        assert found
        assert all(any(" ".join(words) in sentence for sentence in own) for words in found)
    assert source.words == max(len(words) for one in source.snippets for words in one.words)


def test_a_known_vocabulary_needs_no_folder(tmp_path):
    data = aligned_snippets(tmp_path / "gone", 8, VOCABULARY)
    assert data.vocabulary is VOCABULARY
    with pytest.raises(UserError, match=r"config\.alignment is .*gone, which holds no alignment"):
        data.test()
