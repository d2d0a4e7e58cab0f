"""Experiments on sentences: the vocabulary is part of a run, what is refused, which pictures and regions are seen."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from cnnlab import configs, workdirs
from cnnlab.data import captioned, sentences
from cnnlab.data.captioned import Captions
from cnnlab.data.captions import DrawnCaptions
from cnnlab.data.shapes import KINDS
from cnnlab.data.text import build
from cnnlab.errors import UserError
from cnnlab.recipes import captions as caption_recipes
from cnnlab.recipes.captions import (
    aligning,
    alignment_fields,
    assemble,
    caption_fields,
    captioner_fields,
    captioning,
    check_vocabulary,
    vocabulary_fields,
)
from cnnlab.tasks.captioning import Captioning
from tests.data.test_captioned import coco_folder
from tests.small import small_experiment
from tests.tasks import test_alignment, test_captioning

KNOWN = build([("a", "red", "circle"), ("a", "star")], 1)


@pytest.fixture(autouse=True)
def few_drawings(monkeypatch):
    monkeypatch.setattr(captioned, "DRAWN_TESTED", 3)
    monkeypatch.setattr(captioned, "DRAWN_READ", 20)


def caption_config(**fields):
    config = caption_fields()
    config.update(captioner_fields())
    config.update({"size": 32, "drawings": 5, "hidden": 8, "minimum": 1, **fields})
    return config


def caption_run(**fields):
    config = caption_config(**fields)
    return assemble(config, "x", captioning(config, test_captioning.Tiny(), flat=True), "-BLEU-4")


def alignment_run(**fields):
    config = caption_fields()
    config.update(alignment_fields())
    config.update({"size": 32, "drawings": 5, "hidden": 5, "joint": 6, "minimum": 1, **fields})
    net = test_alignment.task().model.clone(vocabulary=0)
    return assemble(config, "x", aligning(config, net, "devices"), "-recall", regions=True)


def test_the_vocabulary_is_recorded_with_the_run(tmp_path):
    run = caption_run()
    known = run.task.vocabulary
    assert len(known.words) > 20
    assert run.config["vocabulary"] == {
        "words": list(known.words),
        "counts": list(known.counts),
        "unknown": 0,
        "sentences": 100,
        "minimum": 1,
    }
    assert run.task.model.vocabulary == len(known)
    workdirs.claim(tmp_path, run)
    found = workdirs.read(tmp_path)
    # Other drawings would give another vocabulary: it is that of the run.
    config = configs.update(caption_config(minimum=5), found["config"])
    again = assemble(config, "x", captioning(config, test_captioning.Tiny(), flat=True), "-BLEU-4")
    assert again.task.vocabulary == known
    assert again.train_data().vocabulary == known
    assert workdirs.differences(again, found) == []


def test_the_configuration_is_not_changed():
    config = caption_config()
    assemble(config, "x", captioning(config, test_captioning.Tiny(), flat=True), "-BLEU-4")
    assert config.vocabulary.words == ()


def test_a_folder_that_was_read_before_need_not_be_there(tmp_path):
    run = caption_run(data=coco_folder(tmp_path / "coco"))
    assert run.task.vocabulary.words == ("a", "circle", "red")
    gone = caption_run(data=str(tmp_path / "gone"), vocabulary=vocabulary_fields(run.task.vocabulary))
    assert gone.task.vocabulary == run.task.vocabulary
    assert gone.task.words == run.task.words == caption_recipes.LONGEST
    with pytest.raises(UserError, match=r"config\.data is"):
        gone.train_data()
    with pytest.raises(UserError, match=r"config\.data is"):
        caption_run(data=str(tmp_path / "gone"))


def test_fields_reach_the_run():
    run = caption_run(
        beam=3, temperature=0.5, words=18, cell="gru", dropout=0.25, deep_output=7, batch_size=6, eval_batch_size=4
    )
    task = run.task
    assert isinstance(task, Captioning)
    assert (task.beam, task.temperature, task.words) == (3, 0.5, 18)
    assert (task.model.cell, task.model.dropout, task.model.hidden, task.model.flat) == ("gru", 0.25, 8, True)
    assert task.model.deep_output == 7
    assert (run.batch_size, run.eval_batch_size, run.best, run.picture_shape) == (6, 4, "-BLEU-4", (32, 32, 3))
    assert caption_run().task.words == sentences.LONGEST == 16  # no reference is longer
    assert run.train_data().batch(np.array([0]))["tokens"].shape == (1, 5, 18)
    aligned = alignment_run(kind="sum", margin=0.5, beta=2.0, sentences=2, places=False).task
    assert (aligned.kind, aligned.margin, aligned.beta, aligned.sentences) == ("sum", 0.5, 2.0, 2)
    assert (aligned.axis_name, aligned.model.joint, aligned.model.embedding) == ("devices", 6, 5)
    assert (aligned.model.vocabulary, aligned.model.places) == (len(aligned.vocabulary), False)


@pytest.mark.parametrize("field", ["batch_size", "eval_batch_size"])
def test_batches_that_devices_cannot_share(field, monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 4)
    with pytest.raises(UserError, match=rf"config\.{field} is 50, which 4 devices cannot share evenly: use 48 or 52"):
        caption_run(**{field: 50})


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"beam": 0}, r"config\.beam is 0"),
        ({"deep_output": -1}, r"config\.hidden is 8 and config\.deep_output -1: at least 1 and 0"),
        ({"drawings": 0}, r"config\.drawings is 0; it must be 1 or more"),
        ({"test_on": "all"}, r'config\.test_on is "all"; it must be "test" or "train"'),
        ({"data": "nowhere"}, r'config\.data is "nowhere"'),
        ({"optimizer": "lion"}, r'config\.optimizer is "lion"'),
        ({"words": 5}, r"config\.words is 5, and sentences about shapes have up to 16"),
        ({"alignment": "nowhere"}, r"config\.alignment is nowhere, which holds no alignment"),
    ],
)
def test_what_is_refused(fields, wrong):
    with pytest.raises(UserError, match=wrong):
        caption_run(**fields)


def naming_run(**fields):
    config = caption_config(**fields)
    make = captioning(config, test_captioning.Tiny(), flat=True, naming=0.5)
    return assemble(config, "x", make, "-BLEU-4", places=4)


def test_names_are_of_whole_drawings():
    run = naming_run()
    assert (run.task.naming, run.task.model.kinds) == (0.5, KINDS)
    assert run.train_data().batch(np.array([0, 1]))["kinds"].shape == (2, 4, 4, 90)
    assert (caption_run().task.naming, caption_run().task.model.kinds) == (0.0, ())
    for fields in ({"data": "nowhere"}, {"alignment": "nowhere"}):
        with pytest.raises(UserError, match=r"config\.naming needs to know what there is where"):
            naming_run(**fields)


def test_scores_of_no_kind():
    with pytest.raises(UserError, match=r'config\.kind is "mean"; it must be "max" or "sum"'):
        alignment_run(kind="mean")


def test_which_pictures_are_tested():
    assert len(caption_run().test_data()) == 3
    run = caption_run(test_on="train")
    assert (len(run.test_data()), run.test_data().split) == (5, "train")


def test_regions_are_the_datas_or_a_detectors(tmp_path, monkeypatch):
    assert "boxes" not in caption_run(detector="runs/d").train_data().batch(np.array([0]))
    plain = alignment_run()
    assert plain.train_data().batch(np.array([0]))["boxes"].shape == (1, 6, 4)
    assert alignment_run(shapes=2).train_data().batch(np.array([0]))["boxes"].shape == (1, 2, 4)
    with pytest.raises(UserError, match=r"where the regions of .* are is not known: add --config\.detector=WORKDIR"):
        plain.read_picture(tmp_path / "a.png")
    calls = []

    def with_regions(data, folder, most):
        calls.append((folder, most, data.train().boxes))
        return dataclasses.replace(data, prepare=lambda: None)

    def read(path, size, detector=None, most=0):
        return {"asked": (size, detector, most)}

    monkeypatch.setattr(caption_recipes, "with_regions", with_regions)
    monkeypatch.setattr(caption_recipes, "read_square", read)
    run = alignment_run(detector="~/d", most_regions=4)
    folder = Path.home() / "d"
    assert calls == [(folder, 4, False)]  # the data's own boxes are not asked for
    assert run.prepare is not None
    assert run.read_picture(tmp_path) == {"asked": (32, folder, 4)}
    assert caption_run(detector="~/d").read_picture(tmp_path) == {"asked": (32, None, 0)}


def test_pictures_are_read_stretched(tmp_path):
    Image.fromarray(np.full((10, 40, 3), 7, np.uint8)).save(tmp_path / "a.png")
    fields = caption_run().read_picture(tmp_path / "a.png")
    assert fields["image"].shape == (32, 32, 3)
    assert (fields["size"].tolist(), fields["original"].tolist()) == ([32, 32], [10, 40])


def test_snippets_take_the_place_of_the_data(monkeypatch):
    source, calls = DrawnCaptions("train", np.arange(2), KNOWN, 32), []

    def snippets(folder, size, vocabulary):
        calls.append((folder, size, vocabulary))
        return Captions(vocabulary or KNOWN, (), lambda: source, lambda: source)

    monkeypatch.setattr(caption_recipes, "aligned_snippets", snippets)
    run = caption_run(alignment="~/a", data="nowhere")
    assert run.task.vocabulary == KNOWN
    assert run.train_data() is source
    again = caption_run(alignment="~/a", vocabulary=vocabulary_fields(KNOWN))
    assert calls == [(Path.home() / "a", 32, None), (Path.home() / "a", 32, KNOWN)]
    assert again.task.vocabulary == KNOWN


def claimed(folder, words):
    """A folder of a run with a vocabulary."""
    folder.mkdir()
    fields = vocabulary_fields(build([words], 1)).to_dict()
    workdirs.claim(
        folder, dataclasses.replace(small_experiment(), config=json.loads(json.dumps({"vocabulary": fields})))
    )
    return str(folder)


def test_weights_of_other_sentences(tmp_path):
    same, other = claimed(tmp_path / "same", ("a", "b")), claimed(tmp_path / "other", ("a", "c", "d"))
    longer = claimed(tmp_path / "longer", ("a", "b", "c"))
    ours = build([("a", "b")], 1)
    check_vocabulary(same, ours)
    check_vocabulary("", ours)
    check_vocabulary(str(tmp_path / "weights.npz"), ours)
    with pytest.raises(UserError) as error:
        check_vocabulary(other, ours)
    assert str(error.value).startswith(
        f"the weights of {other} are of a vocabulary of 3 words, and the data's has 2: "
        'word 1 is "c" there and "b" here; begin with a run on the same sentences, or '
    )
    with pytest.raises(UserError, match="of a vocabulary of 3 words, and the data's has 2; begin with"):
        check_vocabulary(longer, ours)
    digits = tmp_path / "digits"
    digits.mkdir()
    workdirs.claim(digits, small_experiment())
    check_vocabulary(str(digits), ours)  # of no sentences
    with pytest.raises(UserError, match=r"the weights of .*other are of a vocabulary of 3 words"):
        caption_run(init_from=other)
    assert caption_run(init_from=other, init_layers="backbone").init_layers == ("backbone",)
    assert caption_run(init_from=other, replace_head=True).replace_head
