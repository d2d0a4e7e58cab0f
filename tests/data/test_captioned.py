"""Sets of captioned pictures: which one a name means, their vocabularies, and what is wrong with them."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordWriter

from cnnlab.data import captioned, coco
from cnnlab.data.captioned import Rules, choose
from cnnlab.data.grammar import COUNTS, PLURALS, RELATIONS
from cnnlab.data.sentences import LONGEST, description, is_true
from cnnlab.data.shapes import COLOURS, SIZES
from cnnlab.data.text import build
from cnnlab.errors import UserError
from tests.data import test_coco, test_coco_captions, test_flickr, test_tfds_objects

MINI = Path(__file__).parents[3] / "shared" / "data" / "coco_mini"


def rules(**fields):
    return Rules(**({"size": 16, "minimum": 1} | fields))


def test_shapes(monkeypatch):
    monkeypatch.setattr(captioned, "DRAWN_TESTED", 150)
    data = choose("shapes", Rules(48, boxes=True, drawings=50), "x")
    assert set(data.vocabulary.words) >= {*COLOURS, *SIZES, *PLURALS, *PLURALS.values(), *sum(RELATIONS.values(), ())}
    assert set(data.vocabulary.words) >= {*COUNTS, "a", "an", "there", "is", "are", "only", "with", "among", "them"}
    assert data.vocabulary.unknown == 0
    assert len(data.vocabulary) == 50
    train, test = data.train(), data.test()
    assert (len(train), len(test)) == (50, 150)
    assert len({description(test.scene(i)) for i in range(150)}) < 150
    test = choose("shapes", Rules(48, boxes=True, distinct=True), "x", data.vocabulary).test()
    assert len({description(test.scene(i)) for i in range(150)}) == 150
    batch = test.batch(np.arange(30))
    assert batch["boxes"].shape == (30, 6, 4)
    for i in range(30):
        assert all(is_true(data.vocabulary.decode(tokens), test.scene(i)) for tokens in batch["tokens"][i])
    again = choose("shapes", Rules(48), "x", data.vocabulary)
    assert again.vocabulary is data.vocabulary
    assert "boxes" not in again.train().batch(np.array([0]))


def test_shapes_that_cannot_be():
    with pytest.raises(UserError, match=r"config\.words is 5, and sentences about shapes have up to 16"):
        choose("shapes", Rules(48, words=5), "x")
    with pytest.raises(UserError, match="16×16 with 6 shapes: it must be 32 or more, with 1 to 6"):
        choose("shapes", Rules(16), "x")
    with pytest.raises(UserError, match="48×48 with 7 shapes"):
        choose("shapes", Rules(48, shapes=7), "x")


def test_fewer_shapes(monkeypatch):
    monkeypatch.setattr(captioned, "DRAWN_TESTED", 8)
    data = choose("shapes", Rules(48, boxes=True, shapes=2), "x")
    batch = data.test().batch(np.arange(8))
    assert batch["boxes"].shape == (8, 2, 4)
    assert {len(data.test().scene(i).things) for i in range(8)} == {1, 2}
    with pytest.raises(UserError, match=r"config\.words is 0: .* 1 or more where config\.cut is set"):
        Rules(48, cut=True)


@pytest.mark.parametrize(("shapes", "tested", "least", "most"), [(1, 40, 20, 30), (2, 500, 400, 495)])
def test_few_shapes_have_few_descriptions(shapes, tested, least, most, monkeypatch):
    """Those that are tested are then as many as there are."""
    monkeypatch.setattr(captioned, "DRAWN_TESTED", tested)
    test = choose("shapes", Rules(32, distinct=True, shapes=shapes), "x", build([("a",)], 1)).test()
    assert least < len(test) <= most
    assert len({description(test.scene(i)) for i in range(len(test))}) == len(test)


def test_how_long_sentences_are_where_that_is_known(tmp_path):
    """A folder is not asked, as a run that goes on need not read it: sentences are then made as long as before."""
    known = build([("a",)], 1)
    assert choose("shapes", Rules(48), "x", known).longest == LONGEST
    data = coco_folder(tmp_path)
    assert choose(data, rules(), "x").longest == choose(data, rules(), "x", known).longest == 0


def coco_folder(folder, train=("a red circle",), test=("a blue star",)):
    for split, said in (("train2017", train), ("val2017", test)):
        captions = [test_coco_captions.caption(1, sentence, i) for i, sentence in enumerate(said)]
        test_coco_captions.build(folder, captions, split)
    return str(folder)


def test_a_coco_folder(tmp_path):
    data = choose(coco_folder(tmp_path), rules(), "x")
    assert data.vocabulary.words == ("a", "circle", "red")  # of the training sentences alone
    batch = data.test().batch(np.array([0]))
    assert batch["tokens"][0, 0].tolist() == [1, 4, 3, 3, 2]
    assert data.train().batch(np.array([0]))["image"].shape == (1, 16, 16, 3)
    assert (data.class_names, data.prepare) == ((), None)


def test_a_coco_folder_with_boxes(tmp_path):
    data = coco_folder(tmp_path)
    with pytest.raises(UserError, match=r"should hold instances_train"):
        choose(data, rules(boxes=True), "x")
    for split in ("train2017", "val2017"):
        test_coco.build(tmp_path, annotations=[test_coco.thing()], split=split, pictures=split)
    for split in ("train2017", "val2017"):  # one of the pictures that both files have
        path = tmp_path / "annotations" / f"captions_{split}.json"
        image = json.loads((tmp_path / "annotations" / f"instances_{split}.json").read_text())["images"][0]
        path.write_text(
            json.dumps({"images": [image], "annotations": [test_coco_captions.caption(image["id"], "a cat")]})
        )
    found = choose(data, rules(boxes=True), "x")
    assert found.class_names == ("cat", "dog")
    batch = found.train().batch(np.array([0]))
    assert batch["label"].tolist() == [[1]]
    assert batch["boxes"].shape == (1, 1, 4)
    test_coco_captions.build(tmp_path, [test_coco_captions.caption()], "train2017")
    with pytest.raises(UserError, match=r"annotation 7: .*1\.png is not in .*instances_train2017\.json, and boxes"):
        choose(data, rules(boxes=True), "x")


def test_lengths(tmp_path, capsys):
    data = coco_folder(tmp_path, ("a b c d", "a", "a b c"), ("a b",))
    found = choose(data, rules(), "x")
    assert found.train().batch(np.array([0]))["tokens"].shape == (1, 5, 6)
    assert found.test().batch(np.array([0]))["tokens"].shape == (1, 5, 4)
    assert choose(data, rules(words=9), "x").test().batch(np.array([0]))["tokens"].shape == (1, 5, 11)
    where = "captions_train2017.json, annotation 0: the sentence has 4 words, and config.words is 2"
    with pytest.raises(UserError, match=rf"{where}, as 2 sentences have more: 4 holds all, or config\.cut=true"):
        choose(data, rules(words=2), "x")
    assert capsys.readouterr().err == ""
    found = choose(data, rules(words=2, cut=True), "x")
    assert found.train().batch(np.array([0]))["length"].tolist() == [[4, 3, 4, 0, 0]]
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2  # once, though the file serves the vocabulary and the source
    assert f"{where}; cut off there" in said[0]


def test_a_picture_with_empty_sentences_alone(tmp_path, capsys):
    folder = coco_folder(tmp_path)
    test_coco_captions.build(
        tmp_path, [test_coco_captions.caption(1, ".", 3), test_coco_captions.caption(2, "a", 4)], images=(1, 2)
    )
    assert len(choose(folder, rules(), "x").train()) == 1
    said = capsys.readouterr().err.splitlines()
    assert [line.split(", ")[1] for line in said] == [
        'annotation 3: the sentence "." has no words and is left out',
        f"annotation 3: {tmp_path}/train2017/1.png is left out with it: it has no other sentence",
    ]
    test_coco_captions.build(tmp_path, [test_coco_captions.caption(1, ".", 3)])
    with pytest.raises(UserError, match="not one of the sentences has a word"):
        choose(folder, rules(), "x")


def test_a_flickr_folder(tmp_path):
    test_flickr.build(tmp_path)
    data = choose(str(tmp_path), rules(), "x")
    assert data.vocabulary.words == ("a", "circle", "red")
    train, test = data.train(), data.test()
    assert train.batch(np.array([0]))["length"].tolist() == [[5, 5, 0, 0, 0]]
    assert test.sentences(0) == ("A blue star",)
    with pytest.raises(UserError, match="has sentences and no boxes"):
        choose(str(tmp_path), rules(boxes=True), "x")


def test_words_that_are_rare(tmp_path):
    with pytest.raises(UserError, match=r"no word of the 1 training sentences stands there 5 times"):
        choose(coco_folder(tmp_path), Rules(16), "x")


def test_a_folder_whose_vocabulary_is_known_is_read_when_it_is_called_for(tmp_path):
    vocabulary = build([("a", "star")], 1)
    data = coco_folder(tmp_path)
    (tmp_path / "annotations" / "captions_train2017.json").write_text("{")
    found = choose(data, rules(), "x", vocabulary)
    assert found.test().batch(np.array([0]))["tokens"][0, 0].tolist() == [1, 4, 3, 5, 2]
    with pytest.raises(UserError, match="the JSON is broken"):
        found.train()
    gone = choose(str(tmp_path / "gone"), rules(), "x", vocabulary)
    for read in (gone.train, gone.test):
        with pytest.raises(UserError, match=re.escape(f'config.data is "{tmp_path / "gone"}": it must be "shapes"')):
            read()


@pytest.mark.parametrize("data", ["", "shape", "."])
def test_what_is_no_data(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r'it must be "shapes", coco_captions of TFDS, or a folder with annotations'):
        choose(data, rules(), "x")


def test_a_set_of_tfds_that_is_not_prepared(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    data = choose("coco_captions", rules(), "caption_coco")
    assert data.prepare is not None
    assert data.vocabulary.words == ()
    for read in (data.train, data.test):
        with pytest.raises(UserError, match=r"coco_captions is not in .*--experiment=caption_coco --mode=prepare"):
            read()


def tfds_set(place, texts):
    """The data set with TFDS's own features, a picture for each list of texts, in both splits."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.proto import tf_example_pb2

    folder = place / "coco_captions" / "2014" / "1.1.0"
    folder.mkdir(parents=True)
    things = {
        "area": np.int64,
        "bbox": tfds.features.BBoxFeature(),
        "id": np.int64,
        "is_crowd": np.bool_,
        "label": tfds.features.ClassLabel(names=coco.NAMES),
    }
    features = {
        "image": tfds.features.Image(),
        "image/filename": tfds.features.Text(),
        "image/id": np.int64,
        "objects": tfds.features.Sequence(things),
        "captions": tfds.features.Sequence({"text": np.str_, "id": np.int64}),
    }
    tfds.features.FeaturesDict(features).save_config(folder)
    infos = []
    for split in ("train", "val", "test", "restval"):
        template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
        infos.append({"name": split, "filepathTemplate": template, "numBytes": "9", "shardLengths": [str(len(texts))]})
        writer = ArrayRecordWriter(str(folder / f"coco_captions-{split}.array_record-00000-of-00001"), "group_size:1")
        for number, said in enumerate(texts):
            field = (example := tf_example_pb2.Example()).features.feature
            field["image"].bytes_list.value.append(test_tfds_objects.picture())
            field["image/filename"].bytes_list.value.append(b"a.jpg")
            field["image/id"].int64_list.value.append(100 + number)
            field["captions/text"].bytes_list.value.extend(text.encode() for text in said)
            field["captions/id"].int64_list.value.extend(range(len(said)))
            field["objects/bbox"].float_list.value.extend([0.5, 0.0, 1.0, 0.5])
            for name, value in (("area", 30), ("id", 1), ("is_crowd", 0), ("label", 16)):
                field[f"objects/{name}"].int64_list.value.append(value)
            writer.write(example.SerializeToString())
        writer.close()
    info = {"name": "coco_captions", "version": "1.1.0", "configName": "2014", "fileFormat": "array_record"}
    (folder / "dataset_info.json").write_text(json.dumps({**info, "moduleName": "none", "splits": infos}))


def test_a_prepared_set_of_tfds(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    tfds_set(tmp_path, [["A dog.", "a brown dog é"], ["a cat"]])
    data = choose("coco_captions", rules(boxes=True), "caption_coco")
    assert data.vocabulary.words == ("a", "dog", "brown", "cat", "é")
    assert data.class_names == coco.NAMES
    test = data.test()
    batch = test.batch(np.array([1, 0]))
    assert batch["tokens"].shape == (2, 5, captioned.RECORDS_WORDS + 2)
    assert [data.vocabulary.decode(tokens) for tokens in batch["tokens"][:, 0]] == [("a", "cat"), ("a", "dog")]
    assert batch["length"].tolist() == [[4, 0, 0, 0, 0], [4, 6, 0, 0, 0]]
    np.testing.assert_allclose(batch["boxes"][:, 0], [[0, 8, 8, 16]] * 2, atol=1e-4)
    assert batch["label"][:, :2].tolist() == [[16, -1]] * 2
    assert (test.number(1), test.sentences(0)) == (101, ("A dog.", "a brown dog é"))
    with pytest.raises(UserError, match=r"picture 0, sentence 2: the sentence has 4 words, and config\.words is 3"):
        choose("coco_captions", rules(words=3), "caption_coco")


@pytest.mark.skipif(not MINI.is_dir(), reason="there are no real photographs beside the checkout")
def test_real_photographs(capsys):
    data = choose(str(MINI), Rules(32, boxes=True), "x")
    train, test = data.train(), data.test()
    assert (len(train), len(test)) == (50, 51)
    for source in (train, test):
        batch = source.batch(np.arange(len(source)))
        assert "mask" not in batch
        assert batch["length"].min() > 5
        assert all(len(source.sentences(i)) == 5 for i in range(len(source)))
        assert (batch["boxes"][..., 2:] <= 32).all()
    assert data.vocabulary.words[0] == "a"
    assert 80 < len(data.vocabulary) < 150
