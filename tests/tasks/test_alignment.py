"""The alignment task: its loss written out, wrong pairs on other devices, chains by brute force, phrases and rows."""

import dataclasses
import functools
import itertools
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnlab import parallel
from cnnlab.data.captions import tokens_of
from cnnlab.data.shapes import draw
from cnnlab.data.text import build, words_of
from cnnlab.errors import UserError
from cnnlab.experiment import Task
from cnnlab.metrics.alignment import Vectors
from cnnlab.models.alignment import AlignmentNet, SentenceEncoder
from cnnlab.models.fast_rcnn import TwoLayers
from cnnlab.ops.batch_norm import BatchNorm
from cnnlab.ops.conv import Conv
from cnnlab.published import IMAGENET
from cnnlab.rngs import stream_key
from cnnlab.tasks.alignment import SentenceAlignment, bare, regions_of, shares_of

SAID = (
    ("a red circle", "one circle", "only a red circle"),
    ("two blue stars", "stars"),
    ("a cross above a square",),
    ("four squares", "squares", "only four squares"),
)
EACH, MOST = 3, 5  # sentences, words
VOCABULARY = build((words_of(one) for own in SAID for one in own), 1)
BOXES = np.array(
    [
        [[2, 2, 20, 12], [16, 8, 32, 30], [0, 0, 0, 0]],
        [[4, 4, 30, 20], [0, 0, 0, 0], [0, 0, 0, 0]],
        [[1, 1, 9, 9], [10, 10, 22, 22], [20, 4, 32, 16]],
        [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]],
    ],
    np.float32,
)


class Tiny(nn.Module):
    """Maps of every 8th pixel."""

    maps: tuple[str, ...] = ("a",)

    @nn.compact
    def __call__(self, x, *, train):
        return {"a": nn.relu(BatchNorm(axis_name=parallel.AXIS)(Conv(6, 8, 8)(x), train=train))}


@functools.cache
def task(**fields):
    sizes = {"joint": 6, "hidden": 5, "embedding": 4, "places": True}
    net = AlignmentNet(0, Tiny(), TwoLayers(8), (8,), None, "align", 2, vocabulary=len(VOCABULARY), **sizes)
    run = SentenceAlignment(net, optax.sgd(0.1), IMAGENET.normalise, VOCABULARY, sentences=EACH, beta=0.1)
    return dataclasses.replace(run, **fields)


def batch_of(count):
    return {
        "image": np.stack([draw("train", i, 32, 2).picture for i in range(count)]),
        "boxes": BOXES[:count],
        "position": np.arange(count, dtype=np.int32),
        "index": np.arange(count, dtype=np.int32),
        **tokens_of([[*map(words_of, own)] for own in SAID[:count]], VOCABULARY, MOST, EACH),
    }


@functools.cache
def fresh():
    return jax.jit(task().init)(stream_key(0, "init"), batch_of(1))


def in_eval(batch):
    return {**batch, "mask": np.ones(len(batch["image"]), np.float32)}


@functools.cache
def evaluated():
    """`eval_step`'s outputs of all pictures."""
    return jax.device_get(jax.jit(task().eval_step)(fresh(), in_eval(batch_of(4))))


def test_it_is_a_task():
    assert isinstance(task(), Task)


def score(regions, words, kind):
    """Equations 8 and 7 written out."""
    total = 0.0
    for word in words:
        products = [float(region @ word) for region in regions]
        total += max(products) if kind == "max" else sum(max(0, one) for one in products)
    return total


def taken(rows):
    """A batch of these pictures."""
    batch = {name: array[list(rows)] for name, array in batch_of(4).items()}
    return {**batch, "position": np.arange(len(rows), dtype=np.int32)}


@functools.cache
def vectors(rows):
    """Those of these pictures in training."""
    apply = functools.partial(task().model.apply, train=True, method=task().vectors, mutable=["batch_stats"])
    found, _ = jax.jit(apply)(fresh().variables, taken(rows))
    return tuple(np.asarray(one, np.float64) for one in found)


@pytest.mark.parametrize(("kind", "rows"), [("max", (0, 1, 2, 3)), ("sum", (0, 1, 2, 3)), ("max", (0, 1, 2, 1))])
def test_the_loss_written_out(kind, rows):
    """Also of a batch that has a picture twice: with its own sentences it is no wrong pair in either place."""
    run, state, batch = task(kind=kind, margin=0.4), fresh(), taken(rows)
    regions, there, words = vectors(rows)
    assert there.sum(1).tolist() == [(3, 2, 4, 1)[row] for row in rows]  # all of the picture is one
    pictures = [regions[i][there[i] > 0] for i in range(4)]
    said = [SAID[row] for row in rows]
    spoken = [(i, words[i, k, : len(words_of(one))]) for i in range(4) for k, one in enumerate(said[i])]
    total, lost = 0.0, np.zeros(4)
    for own, sentence in spoken:
        right = score(pictures[own], sentence, kind)
        others = [score(pictures[i], sentence, kind) for i in range(4) if rows[i] != rows[own]]
        total += sum(max(0, one - right + 0.4) for one in others)
        wrong = [score(pictures[own], other, kind) for i, other in spoken if rows[i] != rows[own]]
        total += sum(max(0, one - right + 0.4) for one in wrong)
        lost[own] += max(others) >= right
    loss, (metrics, _) = jax.jit(run.loss_fn)(state.params, state.model_state, batch, stream_key(0, "train"))
    assert 0 < float(loss) == pytest.approx(total / (4 * EACH), rel=1e-4)
    assert float(metrics["error"]) == pytest.approx(np.mean(lost / [len(own) for own in said]), abs=1e-6)


@functools.cache
def learning():
    """The task with wrong pairs and batch normalisation over all devices, two of three sentences drawn; its compiled
    step, and its first state. The optimizer's epsilon is far above rounding, which would else be made much of.
    """
    run = task(axis_name=parallel.AXIS, sentences=2, optimizer=optax.adam(1e-2, eps=1e-3))
    state = dataclasses.replace(fresh(), opt_state=run.init_optimizer(fresh().params, fresh().model_state))
    return run, jax.jit(functools.partial(run.train_step, reduce=parallel.identity)), state


def test_one_and_four_devices_agree():
    run, step, state = learning()
    batch, key = batch_of(4), stream_key(0, "train")
    whole, metrics = step(state, batch, key)
    shared = jax.tree.map(lambda x: jnp.asarray(x).reshape(4, 1, *x.shape[1:]), batch)
    step = functools.partial(run.train_step, reduce=lambda tree: jax.lax.pmean(tree, parallel.AXIS))
    four = jax.jit(jax.vmap(step, axis_name=parallel.AXIS, in_axes=(None, 0, None)))(state, shared, key)
    first = jax.tree.map(lambda x: x[0], four)
    pairs = zip(
        jax.tree.leaves((whole.variables, metrics)), jax.tree.leaves((first[0].variables, first[1])), strict=True
    )
    moved = zip(jax.tree.leaves(whole.params), jax.tree.leaves(state.params), strict=True)
    assert max(float(jnp.abs(one - other).max()) for one, other in moved) > 1e-3
    assert max(float(jnp.abs(one - other).max()) for one, other in pairs) < 2e-5


def test_devices_by_themselves_have_no_wrong_pairs():
    """Each has one picture, with which nothing is wrong: there is nothing to learn, and no NaN."""
    run, batch = task(), jax.tree.map(lambda x: x[:1], batch_of(1))
    loss, (metrics, _) = jax.jit(run.loss_fn)(fresh().params, fresh().model_state, batch, stream_key(0, "train"))
    assert float(loss) == float(metrics["error"]) == 0


def test_words_without_start_and_end():
    tokens, length = bare({"tokens": jnp.array([[[1, 5, 6, 2, 0], [0] * 5]]), "length": jnp.array([[4, 0]])})
    assert tokens.tolist() == [[[5, 6, 2], [0, 0, 0]]]
    assert length.tolist() == [[2, 0]]


def test_regions_are_all_of_the_picture_and_then_its_boxes():
    image = jnp.zeros((2, 20, 40, 3), jnp.uint8)
    boxes = jnp.array([[[4, 5, 14, 10], [0, 0, 0, 0]], [[0, 0, 40, 20], [20, 10, 30, 20]]])
    found, there = regions_of({"image": image, "boxes": boxes})
    assert found[0].tolist() == [[0, 0, 40, 20], [4, 5, 14, 10], [0, 0, 0, 0]]
    assert there.tolist() == [[True, True, False], [True, True, True]]
    shares = shares_of({"image": image, "boxes": boxes})
    np.testing.assert_allclose(shares[0], [[0, 0, 1, 1], [0.1, 0.25, 0.35, 0.5], [0, 0, 0, 0]], rtol=1e-6)
    assert shares[1, 2].tolist() == [0.5, 0.5, 0.75, 1]
    alone, there = regions_of({"image": image})
    assert alone.tolist() == [[[0, 0, 40, 20]]] * 2
    assert there.tolist() == [[True]] * 2


@pytest.mark.parametrize("beta", [0.0, 0.7, 5.0])
def test_places_are_the_best_chain(beta):
    random = np.random.default_rng(0)
    regions, words = random.normal(size=(2, 3, 4)).astype(np.float32), random.normal(size=(2, 2, 4, 4))
    there, length = np.array([[1, 1, 1], [1, 0, 1]], bool), np.array([[4, 2], [3, 0]])
    found = task(beta=beta).places(*map(jnp.asarray, (regions, there, words.astype(np.float32), length)))
    for i, k in np.ndindex(2, 2):

        def worth(chain, i=i, k=k):
            own = sum(words[i, k, t] @ regions[i, r] for t, r in enumerate(chain))
            return own + beta * sum(a == b for a, b in itertools.pairwise(chain))

        chains = itertools.product(np.flatnonzero(there[i]), repeat=length[i, k])
        assert tuple(found[i, k, : length[i, k]].tolist()) == max(chains, key=worth)


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"kind": "mean"}, r'config\.kind is "mean"; it must be "max" or "sum"'),
        ({"sentences": 0}, r"config\.sentences is 0 and config\.margin 1\.0: at least 1, and 0"),
        ({"margin": -1.0}, r"config\.sentences is 3 and config\.margin -1\.0: at least 1, and 0"),
    ],
)
def test_what_cannot_be(fields, wrong):
    with pytest.raises(UserError, match=wrong):
        dataclasses.replace(task(), **fields)


def test_single_sentences_are_compiled_as_runs_are():
    """One sentence in a loop; XLA cannot compile all operations there."""
    net = SentenceEncoder(9, 3, 4, 4)
    tokens, length = jnp.ones((1, 5), jnp.int32), jnp.array([5])
    variables = jax.jit(net.init)(jax.random.key(0), tokens, length)
    slope = jax.jit(jax.grad(lambda variables: net.apply(variables, tokens, length).sum()))
    found, plain = parallel.for_cpu(slope)(variables), slope(variables)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_it_learns_which_sentences_belong():
    _, step, state = learning()
    losses = []
    for n in range(80):
        state, metrics = step(state, batch_of(4), jax.random.key(n))
        losses.append(float(metrics["loss"]))
    assert losses[-1] < losses[0] / 3
    assert float(metrics["error"]) < 0.2


def test_evaluation():
    outputs, batch = evaluated(), batch_of(4)
    assert outputs["boxes"][2, 1:].tolist() == (BOXES[2] / 32).tolist()
    assert outputs["length"].tolist() == [[3, 2, 4], [3, 1, 0], [5, 0, 0], [2, 1, 3]]
    metrics = task().metrics()
    metrics.add(outputs)
    scores = metrics.compute()
    assert scores["count"] == 4
    assert 0 <= scores["recall"] <= 1
    (index, first), *_ = metrics.first(4)
    assert index == 0
    assert [VOCABULARY.decode(own) for own in first.tokens] == [words_of(one) for one in SAID[0]]
    expected = task().places(*(jnp.asarray(outputs[name]) for name in ("regions", "there", "words", "length")))
    assert (outputs["place"] == expected).all()

    class Pictures:
        class_names = ()

        def __len__(self):
            return 4

        def batch(self, indices):
            return {}

        def picture(self, index):
            return batch["image"][index]

    figure = task().draw(fresh(), metrics, Pictures())["alignment"]
    assert len(figure.axes) == 4
    assert task().draw(fresh(), task().metrics(), Pictures()) == {}


def test_phrases_cover_the_sentence_in_order():
    metrics = task().metrics()
    metrics.add(evaluated())
    for index, one in metrics.first(4):
        for k, sentence in enumerate(SAID[index]):
            phrases = task().phrases(one, k)
            assert " ".join(phrase["words"] for phrase in phrases) == sentence
            regions = [phrase["region"] for phrase in phrases]
            assert all(a != b for a, b in itertools.pairwise(regions))
            assert max(regions) < len(one.regions) == len(one.boxes)


def test_phrases_by_hand():
    numbers = tuple(map(VOCABULARY.number, ("a", "red", "circle", "a", "green")))
    words = np.array([[1, 0], [3, 0], [0, 2], [0, 4], [5, 0]], np.float32)
    one = Vectors(
        np.array([[1, 0], [0, 2]], np.float32), np.zeros((2, 4), np.float32), (words,), (numbers,), ((0, 0, 1, 1, 0),)
    )
    assert task().phrases(one, 0) == [
        {"words": "a red", "region": 0, "score": 2.0},
        {"words": "circle a", "region": 1, "score": 6.0},
        {"words": "<unk>", "region": 0, "score": 5.0},
    ]


def test_predictions_are_scores_of_a_sentence():
    asked = jax.tree.map(lambda x: x[:3], batch_of(4))
    asked = {name: asked[name] for name in ("image", "boxes")}
    query = VOCABULARY.encode(("a", "red", "circle"), 5)
    asked |= {"tokens": np.tile(query, (3, 1, 1)), "length": np.full((3, 1), 5, np.int32)}
    outputs = jax.device_get(jax.jit(task().predict_step)(fresh(), asked))
    rows = task().describe(outputs)
    for i, row in enumerate(rows):
        regions = outputs["regions"][i][outputs["there"][i]]
        assert row["score"] == pytest.approx(score(regions, outputs["words"][i, 0], "max"), rel=1e-4)
        assert " ".join(phrase["words"] for phrase in row["phrases"]) == "a red circle"
        assert len(row["boxes"]) == len(regions)
        assert row["boxes"][0] == [0, 0, 1, 1]
        # Where a phrase belongs is told of regions that there are.
        products = outputs["words"][i, 0] @ regions.T
        means = [phrase["score"] * len(phrase["words"].split()) for phrase in row["phrases"]]
        places = np.concatenate([[phrase["region"]] * len(phrase["words"].split()) for phrase in row["phrases"]])
        assert sum(means) == pytest.approx(float(products[np.arange(3), places].sum()), rel=1e-4)
    assert json.loads(json.dumps(rows)) == rows
    row = {"score": 1.5, "phrases": [{"words": "a red"}, {"words": "circle"}]}
    assert task().say(row) == "1.50  a red | circle"
    picture = {"image": batch_of(1)["image"][0], "size": np.array([32, 32])}
    assert len(task().draw_predictions([picture] * 3, ["a", "b", "c"], rows).axes) == 3
