"""The localisation task by hand, with a network whose scores and boxes are parameters."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnlab.data.augment import horizontal_flip
from cnnlab.data.one_object import one_object
from cnnlab.data.shapes import ShapesSource
from cnnlab.experiment import Task
from cnnlab.tasks.localisation import Localisation, euclidean, from_shares, of_classes, to_shares

NAMES = ("ant", "bee", "cat")
KEY = jax.random.key(0)

# Canvases are 20 high and 40 wide, boxes 0 0 20 10, 10 0 30 20 and 0 0 40 20 in shares:
CORNER, MIDDLE, ALL = (0.25, 0.25, 0.5, 0.5), (0.5, 0.5, 0.5, 1.0), (0.5, 0.5, 1.0, 1.0)


class Given(nn.Module):
    """The same scores and boxes for every picture, both trainable; boxes by rows of class, or one."""

    scores: tuple
    boxes: tuple

    @nn.compact
    def __call__(self, x, *, train=False):
        scores = self.param("scores", lambda key: jnp.array(self.scores, jnp.float32))
        boxes = self.param("boxes", lambda key: jnp.array(self.boxes, jnp.float32))
        return jnp.tile(scores, (len(x), 1)), jnp.tile(boxes, (len(x), 1, 1))


def task_of(scores=(2.0, 1.0, 0.0), boxes=(CORNER, MIDDLE, ALL), **options):
    options = {"optimizer": optax.sgd(1.0), "box_weight": 10.0, "class_names": NAMES[: len(scores)], **options}
    return Localisation(Given(scores, boxes), preprocess=lambda image: image / 255.0, **options)


def batch_of(boxes, labels, size=(20, 40), original=(20, 40), **fields):
    n = len(labels)
    common = {
        "image": np.full((n, 20, 40, 3), 255, np.uint8),
        "size": np.tile(np.array(size, np.int32), (n, 1)),
        "original": np.tile(np.array(original, np.int32), (n, 1)),
        "boxes": np.array(boxes, np.float32).reshape(n, 1, 4),
        "label": np.array(labels, np.int32),
        "position": np.arange(n, dtype=np.int32),
        "mask": np.ones(n, np.float32),
        "index": np.arange(n, dtype=np.int32),
    }
    return {name: jnp.asarray(value) for name, value in {**common, **fields}.items()}


def identity(tree):
    return tree


LOG = np.log(np.exp([2.0, 1.0, 0.0]).sum())
BATCH = batch_of([(0, 0, 20, 10), (10, 0, 30, 10)], [0, 1])


def test_shares_and_pixels():
    boxes = jnp.array([[0.0, 0.0, 20.0, 10.0], [10.0, 0.0, 30.0, 20.0], [0.0, 0.0, 40.0, 20.0]])
    np.testing.assert_allclose(to_shares(boxes, (20, 40)), [CORNER, MIDDLE, ALL])
    np.testing.assert_allclose(from_shares(jnp.array([CORNER, MIDDLE, ALL]), (20, 40)), boxes)
    # Of a negative width there is no area, wherever it is.
    turned = from_shares(jnp.array([0.5, 0.5, -0.5, 0.5]), (20, 40))
    assert turned.tolist() == [20, 5, 20, 15]


def test_the_euclidean_loss():
    # Of the shares' differences 0.1, -0.2, 0 and 0.4.
    found, truth = jnp.array([[0.6, 0.3, 0.5, 0.9]]), jnp.array([[0.5, 0.5, 0.5, 0.5]])
    np.testing.assert_allclose(euclidean(found, truth), [0.5 * (0.01 + 0.04 + 0.16)], rtol=1e-5)


def test_boxes_of_classes():
    boxes = jnp.arange(12.0).reshape(1, 3, 4)
    assert of_classes(boxes, jnp.array([[2, 0]]))[0].tolist() == [[8, 9, 10, 11], [0, 1, 2, 3]]
    assert of_classes(boxes[:, :1], jnp.array([[2, 0]]))[0].tolist() == [[0, 1, 2, 3]] * 2


@pytest.mark.parametrize(
    ("boxes", "off"),
    [
        # Per class: the first picture's is right; of the second's, MIDDLE, the height is 1 instead of 0.5 and the
        # centre's y 0.5 instead of 0.25.
        ((CORNER, MIDDLE, ALL), (0.0, 0.5**2 + 0.25**2)),
        # One for all: of the second picture's box the centre's x is 0.25 too small.
        ((CORNER,), (0.0, 0.25**2)),
    ],
)
def test_the_loss_by_hand(boxes, off):
    task = task_of(boxes=boxes)
    state = task.init(KEY, BATCH)
    wanted = np.array([LOG - 2 + 10 * off[0] / 2, LOG - 1 + 10 * off[1] / 2])
    np.testing.assert_allclose(task.eval_step(state, BATCH)["loss"], wanted, rtol=1e-5)
    loss, (metrics, _) = task.loss_fn(state.params, {}, BATCH, KEY)
    assert float(loss) == pytest.approx(wanted.mean(), rel=1e-5)
    assert float(metrics["error"]) == 0.5
    # 20×10 in 20×20; or 20×10 and 20×10, of which 10×10 is common.
    assert float(metrics["mean_iou"]) == pytest.approx((1 + (0.5 if len(boxes) == 3 else 1 / 3)) / 2)


def test_only_the_true_classes_boxes_learn():
    task = task_of()
    batch = batch_of([(10, 0, 30, 10)], [1])
    after, metrics = task.train_step(task.init(KEY, batch), batch, KEY, identity)
    moved = np.asarray(after.params["boxes"]) - np.array([CORNER, MIDDLE, ALL])
    # A step of 1 against the gradient 10 · (box − truth), of a batch of one.
    np.testing.assert_allclose(moved, [[0] * 4, [0, -2.5, 0, -5.0], [0] * 4], atol=1e-5)
    assert set(metrics) == {"loss", "error", "mean_iou"}


def test_two_halves_make_the_same_update_as_the_whole():
    task = task_of()
    state = task.init(KEY, BATCH)
    whole, _ = task.train_step(state, BATCH, KEY, identity)
    halves = [task.train_step(state, {k: v[i : i + 1] for k, v in BATCH.items()}, KEY, identity)[0] for i in (0, 1)]
    mean = jax.tree.map(lambda a, b: (a + b) / 2, halves[0].params, halves[1].params)
    for a, b in zip(jax.tree.leaves(whole.params), jax.tree.leaves(mean), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_mirrored_pictures_have_mirrored_boxes():
    seen = []

    def augment(keys, batch):
        batch = horizontal_flip(keys, batch, 1.0)
        seen.append(batch["boxes"])
        return batch

    task = task_of(boxes=((0.75, 0.25, 0.5, 0.5),), augment=augment)  # 20 0 40 10, CORNER mirrored
    batch = batch_of([(0, 0, 20, 10)], [0])
    state = task.init(KEY, batch)
    loss, _ = task.loss_fn(state.params, {}, batch, KEY)
    assert seen[0].tolist() == [[[20, 0, 40, 10]]]
    assert float(loss) == pytest.approx(LOG - 2, rel=1e-5)
    assert float(task.eval_step(state, batch)["loss"][0]) > LOG - 1


def test_frozen_layers_stay():
    class Two(nn.Module):
        @nn.compact
        def __call__(self, x, *, train=False):
            scores = nn.Dense(3, name="scores")(x.mean((1, 2)))
            return scores, nn.Dense(4, name="boxes")(x.mean((1, 2)))[:, None]

    task = dataclasses.replace(task_of(), model=Two(), frozen=("scores",))
    state = task.init(KEY, BATCH)
    after, _ = task.train_step(state, BATCH, KEY, identity)
    np.testing.assert_array_equal(after.params["scores"]["kernel"], state.params["scores"]["kernel"])
    assert np.abs(after.params["boxes"]["kernel"] - state.params["boxes"]["kernel"]).max() > 0


def test_beyond_the_pictures_edges_the_input_is_0():
    x = task_of().inputs(batch_of([(0, 0, 1, 1)], [0], size=(5, 10)))
    assert (x[0, :5, :10] == 1).all()
    assert float(x.sum()) == 5 * 10 * 3


def test_evaluation_by_hand():
    # The picture fills the upper left quarter of the canvas; it is stored at twice that height and three times the
    # width. The boxes found are cut off at its edges: CORNER, 0 0 20 10, is all of it.
    task = task_of(scores=(0.0, 1.0, 2.0))
    batch = batch_of([(0, 0, 10, 10)], [0], size=(10, 20), original=(20, 60))
    found = jax.device_get(task.eval_step(task.init(KEY, batch), batch))
    assert found["classes"].tolist() == [[2, 1, 0]]
    np.testing.assert_allclose(found["probability"][0], np.exp(np.array([2, 1, 0]) - LOG), rtol=1e-5)
    # ALL becomes 0 0 20 10, MIDDLE 10 0 20 10, beside the truth.
    np.testing.assert_allclose(found["overlap"][0], [0.5, 0.0, 0.5])
    np.testing.assert_allclose(found["own_overlap"], [0.5])
    assert found["box"].tolist() == [[0, 0, 60, 20]]
    assert found["true_box"].tolist() == [[0, 0, 30, 20]]
    assert found["label"].tolist() == [0]
    metrics = task.metrics()
    metrics.add(found)
    scores = metrics.compute()
    assert (scores["localisation_error"], scores["top5_localisation_error"], scores["box_error"]) == (1, 0, 0)


def test_prediction_names_classes_and_boxes_in_the_stored_pictures_pixels():
    task = task_of(scores=(0.0, 1.0, 2.0), boxes=(CORNER,))
    batch = batch_of([(0, 0, 1, 1)], [0], size=(20, 40), original=(40, 120))
    fields = {name: batch[name] for name in ("image", "size", "original")}
    rows = task.describe(jax.device_get(task.predict_step(task.init(KEY, batch), fields)))
    assert rows[0]["classes"] == ["cat", "bee", "ant"]
    assert rows[0]["boxes"] == [[0, 0, 60, 20]] * 3
    assert sum(rows[0]["scores"]) == pytest.approx(1)
    assert task.say(rows[0]) == "cat 66.5% at 0 0 60 20  bee 24.5%  ant 9.0%"
    picture = {name: np.asarray(value[0]) for name, value in fields.items()}
    drawn = task.annotate(picture, rows[0])
    assert [text.get_text() for text in drawn.axes[0].texts] == ["cat 67%"]
    # On the picture as it was read, 40 wide, the box is 20 wide.
    assert drawn.axes[0].patches[0].get_width() == 20
    sheet = task.draw_predictions([picture] * 2, ["a.png", "b.png"], rows * 2)
    assert [axes.get_title() for axes in sheet.axes] == ["a.png", "b.png"]


def test_no_more_guesses_than_five():
    task = task_of(tuple(range(7)), (CORNER,), class_names=tuple("abcdefg"))
    outputs = task.predict_step(task.init(KEY, BATCH), BATCH)
    assert outputs["classes"].tolist() == [[6, 5, 4, 3, 2]] * 2
    assert isinstance(task, Task)


def test_the_figures_of_an_evaluation():
    source = one_object(ShapesSource("test", 3, 40, 1), 40)
    names = source.class_names
    task = dataclasses.replace(task_of((2.0, 1, 0, 0, 0), (MIDDLE,)), class_names=names)
    batch = {name: jnp.asarray(value) for name, value in source.batch(np.arange(3)).items()}
    batch |= {"mask": jnp.ones(3), "index": jnp.arange(3)}
    state, metrics = task.init(KEY, batch), task.metrics()
    assert task.draw(state, metrics, source) == {}
    metrics.add(jax.device_get(task.eval_step(state, batch)))
    drawn = task.draw(state, metrics, source)
    assert set(drawn) == {"confusion", "overlaps", "boxes", "worst_mistakes"}
    patches = drawn["boxes"].axes[0].patches
    true = source.batch(np.arange(1))["boxes"][0, 0]
    # Each box is drawn twice, with its dark rim: first the box found, then the true one.
    corners = [(p.get_x() + 0.5, p.get_y() + 0.5, p.get_width(), p.get_height()) for p in patches]
    assert corners[0] == corners[1] == (10, 0, 20, 40)
    assert corners[2] == corners[3] == (*true[:2], *(true[2:] - true[:2]))
    assert patches[0].get_linestyle() == "-"
    assert patches[2].get_linestyle() != "-"
