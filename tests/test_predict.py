"""Finding, predicting and making pictures."""

import dataclasses

import jax
import numpy as np
import pytest
from PIL import Image

from cnnlab import configs, loop
from cnnlab import predict as predicting
from cnnlab.data.digits import digits
from cnnlab.data.shapes import draw
from cnnlab.errors import UserError
from cnnlab.predict import find_pictures, predict, predict_and_say, sample_and_save
from experiments import gan_mnist
from tests.recipes import test_captions as caption_tests
from tests.recipes.test_captions import few_drawings  # noqa: F401  (the fixture keeps the data small)
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


class Killed(BaseException):
    """What ends the process."""


@pytest.mark.parametrize("place", ["annotate", "draw_predictions"])
def test_what_was_found_is_written_before_any_figure(tmp_path, monkeypatch, place):
    experiment = small_experiment()
    task = type(experiment.task)

    def killed(*_):
        raise Killed

    monkeypatch.setattr(task, "written", lambda self, name, row: {f"maps/{name}.png": b"map"}, raising=False)
    monkeypatch.setattr(task, "collected", lambda self, files, rows: {"all.json": b"{}"}, raising=False)
    monkeypatch.setattr(task, place, killed, raising=False)
    files = [tmp_path / f"{i}.png" for i in range(2)]
    for file in files:
        Image.fromarray(np.zeros((28, 28), np.uint8)).save(file)
    with pytest.raises(Killed):
        predicting.predict_and_save(experiment, loop.initial_state(experiment), tmp_path / "run", files)
    written = {str(file.relative_to(tmp_path / "run")) for file in (tmp_path / "run").rglob("*") if file.is_file()}
    assert {"predictions.jsonl", "maps/0.png", "maps/1.png", "all.json"} <= written


def adversaries(**fields):
    """Small nets on digits, and their initial state."""
    config = gan_mnist.get_config()
    config.update(data="digits", **fields)
    config.small.update(generator=(8,), discriminator=(4,), batch_size=4)
    experiment = gan_mnist.build(config)
    return experiment, loop.fresh_state(experiment)


def asked(**fields):
    options = configs.options_of("predict")
    options.update(fields)
    return options


def test_samples_are_written_one_by_one(tmp_path, capsys):
    experiment, state = adversaries()
    sample_and_save(experiment, state, tmp_path, asked(num_samples=6))  # a batch and a half
    files = sorted((tmp_path / "samples").iterdir())
    assert [file.name for file in files] == [f"0000{i}.png" for i in range(6)]
    expected = experiment.task.sample(state, jax.random.split(jax.random.key(0), 6))
    for file, sample in zip(files, expected, strict=True):
        np.testing.assert_allclose(np.asarray(Image.open(file)), 255 * sample[..., 0], atol=0.51)
    assert len({file.read_bytes() for file in files}) == 6
    assert (tmp_path / "figures" / "predictions.png").exists()
    assert f"written: 6 pictures in {tmp_path / 'samples'}" in capsys.readouterr().out
    (tmp_path / "samples" / "best.png").touch()  # a user's own
    sample_and_save(experiment, state, tmp_path, asked(num_samples=1))
    assert sorted(file.name for file in (tmp_path / "samples").iterdir()) == ["00000.png", "best.png"]


def test_samples_of_a_class(tmp_path):
    experiment, state = adversaries(conditional=True)
    keys = jax.random.split(jax.random.key(0), 6)
    for label, classes in (("", range(6)), ("7", [7] * 6)):  # the classes in turn, or the one that is asked for
        sample_and_save(experiment, state, tmp_path / label, asked(num_samples=6, label=label))
        expected = experiment.task.sample(state, keys, jax.numpy.array([*classes]))
        for i in range(6):
            with Image.open(tmp_path / label / "samples" / f"0000{i}.png") as found:
                np.testing.assert_allclose(np.asarray(found), 255 * expected[i, ..., 0], atol=0.51)


def test_samples_that_cannot_be_made(tmp_path):
    experiment, state = adversaries()
    with pytest.raises(UserError, match=r"config\.num_samples is 0; it must be positive"):
        sample_and_save(experiment, state, tmp_path, asked(num_samples=0))
    with pytest.raises(UserError, match=r"config\.label is '7', and gan_mnist makes pictures of no class"):
        sample_and_save(experiment, state, tmp_path, asked(label="7"))
    with pytest.raises(UserError, match=r"there is no class '12'.*numbers 0 to 9"):
        sample_and_save(*adversaries(conditional=True), tmp_path, asked(label="12"))
    with pytest.raises(UserError, match=r"config\.label is for nets that make pictures, and lenet_digits is none"):
        predict_and_say(small_experiment(), tmp_path, "latest", None, asked(label="7"))
    assert not any(tmp_path.iterdir())


def test_a_sentence_is_asked_for(tmp_path):
    experiment = caption_tests.caption_run()
    vocabulary = experiment.task.vocabulary
    for i in range(3):
        Image.fromarray(draw("test", i, 32).picture).save(tmp_path / f"{i}.png")
    assert predicting.asked(experiment, "") is experiment
    fields = predicting.asked(experiment, "A red circle!").read_picture(tmp_path / "0.png")
    assert vocabulary.decode(fields["tokens"][0]) == ("a", "red", "circle")
    assert fields["length"].tolist() == [5]
    for query, wrong in (
        ("?!", r"config\.query is '\?!', which has no words"),
        ("a dog and a zebra", r"never learnt, dog, zebra: it may have a, "),
    ):
        with pytest.raises(UserError, match=wrong):
            predicting.asked(experiment, query)
    with pytest.raises(UserError, match=r"config\.query is for nets that know sentences, and .* knows none"):
        predicting.asked(small_experiment(), "a red circle")


def test_pictures_are_ranked_by_a_sentence(tmp_path, capsys):
    experiment = caption_tests.caption_run()
    files = [tmp_path / f"{i}.png" for i in range(4)]
    for i, file in enumerate(files):
        Image.fromarray(draw("test", i, 32).picture).save(file)
    state = loop.initial_state(experiment)
    sentence = predicting.asked(experiment, "a red circle")
    _, _, rows = predict(sentence, state, files)
    scores = [row["log_probability"] for row in rows]
    predicting.predict_and_save(sentence, state, tmp_path / "w", files, ranked=True)
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said] == [str(files[i]) for i in np.argsort(scores)[::-1]]
    assert all("a red circle" in line for line in said)
