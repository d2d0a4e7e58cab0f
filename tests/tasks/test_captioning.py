"""The captioning task: its loss by hand, what it learns by heart, searches and their scores, devices, rows."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.errors import ScopeParamShapeError

from cnnlab import parallel
from cnnlab.data.captions import tokens_of
from cnnlab.data.shapes import KINDS, draw, kinds_at_places
from cnnlab.data.text import END, PAD, START, build, words_of
from cnnlab.errors import UserError
from cnnlab.experiment import Task
from cnnlab.metrics import sentences as measures
from cnnlab.models.captioner import CaptionNet
from cnnlab.ops.batch_norm import BatchNorm
from cnnlab.ops.conv import Conv
from cnnlab.published import IMAGENET
from cnnlab.rngs import stream_key
from cnnlab.tasks.captioning import RUNNERS_UP, Captioning, named_right, naming_losses, sentence_losses

SAID = (
    ("a red circle", "one circle", "only a red circle", "there is one circle", "a circle and nothing else"),
    ("two blue stars", "stars", "only blue stars", "there are two stars", "two stars and nothing else"),
    ("a cross above a square", "a green cross", "a square", "one cross and one square", "two shapes"),
    ("four squares", "squares", "only squares", "there are four squares", "four shapes"),
)
MOST = 6  # words
VOCABULARY = build((words_of(one) for own in SAID for one in own), 1)


class Pictures:
    """Drawings, with sentences about others."""

    class_names = ()

    def __len__(self):
        return len(SAID)

    def picture(self, index):
        return draw("train", index, 32, 2).picture

    def sentences(self, index):
        return SAID[index]

    def batch(self, indices):
        images = np.stack([self.picture(int(i)) for i in indices])
        return {"image": images, **tokens_of([[*map(words_of, SAID[i])] for i in indices], VOCABULARY, MOST)}


SOURCE = Pictures()


class Tiny(nn.Module):
    """Maps of every 8th pixel."""

    maps: tuple[str, ...] = ("a",)

    @nn.compact
    def __call__(self, x, *, train):
        return {"a": nn.relu(BatchNorm(axis_name=parallel.AXIS)(Conv(8, 8, 8)(x), train=train))}


@functools.cache
def task():
    net = CaptionNet(Tiny(), len(VOCABULARY), hidden=32, flat=True)
    # An epsilon far above rounding: an update does not hang on gradients that are next to nothing.
    return Captioning(net, optax.adam(1e-2, eps=1e-3), IMAGENET.normalise, VOCABULARY, words=MOST)


def batch_of(count):
    return {**SOURCE.batch(np.arange(count)), "position": np.arange(count, dtype=np.int32)}


def with_gaps():
    """All pictures, but the first has three sentences, and the second one."""
    batch = batch_of(4)
    for i, there in enumerate((3, 1)):
        batch["tokens"][i, there:], batch["length"][i, there:] = PAD, 0
    return batch


@functools.cache
def fresh():
    return jax.jit(task().init)(stream_key(0, "init"), batch_of(1))


@functools.cache
def step_of(run):
    return jax.jit(functools.partial(run.train_step, reduce=parallel.identity))


@functools.cache
def learnt():
    """The drawings by heart, and the loss of the first and the last step."""
    state, losses = fresh(), []
    for n in range(80):
        state, metrics = step_of(task())(state, batch_of(4), jax.random.key(n))
        losses.append(float(metrics["loss"]))
    return state, losses[0], metrics


@functools.cache
def predict_of(run):
    return jax.jit(run.predict_step)


def outputs_of(run, state, batch):
    """What is said of the pictures, whatever stands in the batch."""
    return jax.device_get(predict_of(run)(state, {"image": batch["image"]}))


def scores_of(state, batch, tokens):
    """The log-probabilities of one sentence a picture: what a search found, with START before it."""
    tokens = np.concatenate([np.full((len(tokens), 1), START), tokens], 1)
    length = np.argmax(tokens == END, 1) + 1
    asked = {"tokens": tokens[:, None].astype(np.int32), "length": length[:, None].astype(np.int32)}
    outputs = jax.device_get(predict_of(task())(state, {"image": batch["image"], **asked}))
    assert (outputs["tokens"][:, 0] == tokens[:, 1:]).all()
    assert outputs["log_probability"].shape == (len(tokens), 1)
    return outputs["log_probability"][:, 0]


def test_it_is_a_task():
    assert isinstance(task(), Task)


def test_sentences_count_their_words_alone():
    logits = jnp.array([[[[0.0, 0, 2, 1], [3, 0, 0, 0], [9, 9, 9, 0]], [[1, 2, 3, 4]] * 3]])
    tokens = jnp.array([[[START, 3, END, PAD], [PAD] * 4]])
    loss, words = sentence_losses(logits, tokens, jnp.array([[3, 0]]))
    first = -1 + np.log(np.exp([0, 0, 2, 1]).sum()) + np.log(np.exp([3, 0, 0, 0]).sum())
    np.testing.assert_allclose(loss, [[first, 0]], rtol=1e-6)
    assert words.tolist() == [[2, 0]]


def test_each_thing_counts_in_naming():
    names = jnp.zeros((2, 1, 2, 2)).at[0, 0, 0, 1].set(2.0)
    kinds = jnp.array([[[[0, 2], [1, 0]]], [[[0, 0], [0, 0]]]], jnp.uint8)
    hit, even = np.log(1 + np.exp(-2.0)), np.log(2.0)
    np.testing.assert_allclose(naming_losses(names, kinds), [hit + 3 * even, 4 * even], rtol=1e-6)


def test_names_are_learnt_beside_the_sentences():
    net = CaptionNet(Tiny(), len(VOCABULARY), hidden=32, flat=True, kinds=KINDS)
    run = dataclasses.replace(task(), model=net, naming=0.5)
    kinds = np.stack([kinds_at_places(draw("train", i, 32, 2), 4) for i in range(4)])
    state, batch, found = jax.jit(run.init)(stream_key(0, "init"), batch_of(1)), {**batch_of(4), "kinds": kinds}, []
    for n in range(60):
        state, metrics = step_of(run)(state, batch, jax.random.key(n))
        assert float(metrics["loss"]) == pytest.approx(float(metrics["nats"] + 0.5 * metrics["naming"]), rel=1e-5)
        found.append((float(metrics["naming"]), float(metrics["nats"])))
    assert found[-1][0] < found[0][0] / 4
    assert found[-1][1] < found[0][1] / 3
    outputs = jax.device_get(
        jax.jit(run.eval_step)(state, {**batch, "mask": np.array([1.0, 1, 1, 0]), "index": np.arange(4)})
    )
    metrics = run.metrics()
    metrics.add(outputs)
    assert metrics.compute()["named"] == np.mean(outputs["named"][:3])
    assert "named" not in task().metrics().compute()


def test_named_right_are_pictures_of_which_nothing_is_missing_or_too_much():
    kinds = jnp.zeros((3, 1, 2, 2), jnp.uint8).at[:, 0, 0, 1].set(1)
    names = jnp.full((3, 1, 2, 2), -9.0).at[0, 0, :, 1].set(0.1).at[1, 0, 0, 1].set(9.0).at[1, 0, 1, 0].set(9.0)
    assert named_right(names, kinds).tolist() == [True, False, False]  # between two places; one too much; none


def logits_in_training(state, batch):
    x, how = IMAGENET.normalise(jnp.asarray(batch["image"])), {"train": True, "method": CaptionNet.logits}
    apply = jax.jit(functools.partial(task().model.apply, mutable=["batch_stats"], **how))
    (logits, _), _ = apply(state.variables, x, batch["tokens"][..., :-1])
    return np.asarray(logits)


def loss_of(batch):
    _, metrics = step_of(task())(fresh(), batch, stream_key(0, "train"))
    return float(metrics["loss"]), float(metrics["word_error"])


def test_the_loss_is_a_mean_over_words_and_then_pictures():
    batch = with_gaps()
    logits = logits_in_training(fresh(), batch)
    losses, errors = [], []
    for picture in range(4):
        nats, wrong = [], []
        for k in np.flatnonzero(batch["length"][picture]):
            for t in range(1, batch["length"][picture, k]):
                row, word = logits[picture, k, t - 1], batch["tokens"][picture, k, t]
                nats.append(np.log(np.exp(row).sum()) - row[word])
                wrong.append(row.argmax() != word)
        losses.append(np.mean(nats))
        errors.append(np.mean(wrong))
    assert loss_of(batch) == pytest.approx((np.mean(losses), np.mean(errors)), rel=1e-5)


def test_what_stands_beyond_the_sentences_changes_nothing():
    batch = with_gaps()
    other = {**batch, "tokens": batch["tokens"].copy()}
    for k in np.ndindex(other["length"].shape):
        other["tokens"][k][other["length"][k] :] = 5
    assert loss_of(other) == pytest.approx(loss_of(batch), rel=1e-6)


def test_a_picture_without_sentences_counts_nothing():
    often = jax.tree.map(lambda x: x[[0, 0, 0, 0]], batch_of(4))
    once = jax.tree.map(np.copy, often)
    once["tokens"][1:], once["length"][1:] = PAD, 0
    assert loss_of(once)[0] == pytest.approx(loss_of(often)[0] / 4, rel=1e-5)


def test_augmentation_is_for_training_and_has_a_key_for_each_place():
    seen = []

    def augment(keys, batch):
        seen.append(keys.shape)
        return {**batch, "image": batch["image"][:, :24]}  # what comes after sees it

    run, state, batch = dataclasses.replace(task(), augment=augment), fresh(), batch_of(4)
    with pytest.raises(ScopeParamShapeError):
        jax.eval_shape(run.loss_fn, state.params, state.model_state, batch, jax.random.key(0))
    assert seen == [(4,)]
    jax.eval_shape(run.predict_step, state, {"image": batch["image"]})
    assert len(seen) == 1


def test_it_learns_drawings_by_heart():
    state, before, metrics = learnt()
    assert float(metrics["loss"]) < before / 3
    assert 0 < float(metrics["word_error"]) < 0.5  # the drawings' sentences differ among themselves
    assert int(state.step) == 80
    rows = task().describe(outputs_of(task(), state, batch_of(4)))
    for i, row in enumerate(rows):
        assert row["caption"] in {" ".join(words_of(one)) for one in SOURCE.sentences(i)}
        assert -3 < row["log_probability"] < 0
        assert len({row["caption"], *(other["caption"] for other in row["others"])}) == 1 + RUNNERS_UP


def test_a_searchs_score_is_that_of_its_sentence():
    state, batch = learnt()[0], batch_of(4)
    found = outputs_of(task(), state, batch)
    scores = scores_of(state, batch, found["tokens"][:, 0])
    np.testing.assert_allclose(scores, found["log_probability"][:, 0], atol=1e-4)
    others = scores_of(state, batch, found["tokens"][::-1, 0])
    assert (others < scores - 1).all()  # each picture has its own


def test_beams_and_draws():
    state, batch = learnt()[0], batch_of(4)
    wide = outputs_of(task(), state, batch)
    assert wide["tokens"].shape == (4, 7, MOST + 1)
    assert (np.diff(wide["log_probability"], axis=1) <= 0).all()
    greedy = outputs_of(dataclasses.replace(task(), beam=1), state, batch)
    assert greedy["tokens"].shape == (4, 1, MOST + 1)
    assert (greedy["log_probability"][:, 0] <= wide["log_probability"][:, 0] + 1e-4).all()
    cold = outputs_of(dataclasses.replace(task(), temperature=1e-4), state, batch)
    assert (cold["tokens"] == greedy["tokens"]).all()
    np.testing.assert_allclose(cold["log_probability"], greedy["log_probability"], atol=1e-3)
    warm = outputs_of(dataclasses.replace(task(), temperature=50.0), state, batch)
    assert (warm["log_probability"] < greedy["log_probability"] - 5).all()
    assert len(task().describe(warm)[0]["others"]) == 0


def test_draws_are_each_examples_own():
    """They depend on its index alone: not on the batch that it stands in, as of another number of devices."""
    run = dataclasses.replace(task(), temperature=50.0)
    batch = {**batch_of(4), "mask": np.ones(4, np.float32), "index": np.arange(4)}
    said = jax.jit(lambda batch: run.eval_step(fresh(), batch)["tokens"])
    shares = [{name: array[part] for name, array in batch.items()} for part in (slice(0, 2), slice(2, 4))]
    assert np.concatenate([said(share) for share in shares]).tolist() == said(batch).tolist()
    alike = {**batch, "image": batch["image"][[0, 0, 0, 0]]}
    assert len(set(map(tuple, said(alike).tolist()))) > 1
    predicted = outputs_of(run, fresh(), {"image": batch["image"]})
    assert predicted["tokens"][:, 0].tolist() == said(batch).tolist()  # predict's are numbered in their order


@pytest.mark.parametrize("fields", [{"beam": 0}, {"temperature": -1.0}])
def test_searches_that_cannot_be(fields):
    with pytest.raises(UserError, match=r"config\.beam is .* and config\.temperature .*: at least 1, and 0"):
        dataclasses.replace(task(), **fields)


def test_one_and_four_devices_agree():
    """Four shares of a batch along an axis of the devices' name, as under pmap, batch normalisation over all."""
    run, state, batch, key = task(), fresh(), with_gaps(), stream_key(0, "train")
    whole, metrics = step_of(run)(state, batch, key)
    shared = jax.tree.map(lambda x: jnp.asarray(x).reshape(4, 1, *x.shape[1:]), batch)
    step = functools.partial(run.train_step, reduce=lambda tree: jax.lax.pmean(tree, parallel.AXIS))
    four = jax.jit(jax.vmap(step, axis_name=parallel.AXIS, in_axes=(None, 0, None)))(state, shared, key)
    first = jax.tree.map(lambda x: x[0], four)
    pairs = zip(
        jax.tree.leaves((whole.variables, metrics)), jax.tree.leaves((first[0].variables, first[1])), strict=True
    )
    assert max(float(jnp.abs(one - other).max()) for one, other in pairs) < 1e-5


def test_evaluation(monkeypatch):
    monkeypatch.setattr(measures, "has_meteor", lambda: False)  # java takes seconds
    state = learnt()[0]
    batch = {**with_gaps(), "mask": np.ones(4, np.float32), "index": np.arange(4)}
    outputs = jax.device_get(jax.jit(task().eval_step)(state, batch))
    assert outputs["words"].tolist() == (batch["length"] - (batch["length"] > 0)).sum(1).tolist()
    scores = scores_of(state, batch, batch["tokens"][:, 0, 1:])
    assert outputs["loss"][1] == pytest.approx(-scores[1], rel=1e-4)  # which has one sentence
    assert (outputs["tokens"] == outputs_of(task(), state, batch)["tokens"][:, 0]).all()
    metrics = task().metrics()
    metrics.source = SOURCE
    metrics.add(outputs)
    scores = metrics.compute()
    assert scores["loss"] == pytest.approx(outputs["loss"].sum() / outputs["words"].sum())
    assert (scores["count"], scores["BLEU-1"]) == (4, pytest.approx(1.0))
    assert set(task().draw(state, metrics, SOURCE)) == {"captions"}
    assert task().draw(state, task().metrics(), SOURCE) == {}


def test_rows():
    words = [("a", "red", "circle"), ("a",), ()]
    known = build([words[0]], 1)
    run = dataclasses.replace(task(), vocabulary=known)
    tokens = np.stack([known.encode(own, 6)[1:] for own in words])
    tokens[tokens == PAD] = END  # as searches fill up
    outputs = {"tokens": tokens[None], "log_probability": np.array([[-0.5, -1.25, -2.0]], np.float32)}
    (row,) = run.describe(outputs)
    assert row == {
        "caption": "a red circle",
        "log_probability": -0.5,
        "others": [{"caption": "a", "log_probability": -1.25}, {"caption": "", "log_probability": -2.0}],
    }
    assert run.say(row) == "a red circle (-0.50)"
    picture = {"image": np.zeros((32, 32, 3), np.uint8), "size": np.array([32, 32]), "original": np.array([8, 10])}
    figure = run.draw_predictions([picture] * 2, ["a.png", "b.png"], [row] * 2)
    assert [text.get_text() for text in figure.axes[1].texts] == ["a red circle", "b.png"]
