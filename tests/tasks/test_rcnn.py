"""R-CNN's fits: SVMs that find hard negatives, regressions against scikit-learn's, and the findings that they make."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from sklearn.linear_model import Ridge

from cnnlab.models.rcnn import RCNN
from cnnlab.ops import boxes as box_ops
from cnnlab.state import TrainState
from cnnlab.tasks import rcnn
from cnnlab.tasks.detection import Rules
from cnnlab.tasks.rcnn import RCNNDetection, fit


def test_a_ridge_is_scikit_learns():
    random = np.random.default_rng(0)
    x, t = random.normal(size=(60, 5)) * 20, random.normal(size=(60, 4)) + 3
    ridge = rcnn._Ridge(5)
    for part in (slice(0, 10), slice(10, 60)):
        ridge.add(x[part], t[part])
    weights, bias = ridge.solve()
    expected = Ridge(alpha=rcnn.RIDGE).fit(x, t)
    assert np.allclose(weights, expected.coef_.T, atol=1e-8)
    assert np.allclose(bias, expected.intercept_)
    assert not np.any(rcnn._Ridge(5).solve()[0])


def test_an_svm_keeps_the_hard_negatives(monkeypatch):
    monkeypatch.setattr(rcnn, "NEW", 50)
    random = np.random.default_rng(0)
    svm = rcnn._SVM((random.normal(size=(40, 2)) + [20, 0]).astype(np.float32))
    easy = (random.normal(size=(60, 2)) - [40, 0]).astype(np.float32)
    svm.meet(easy)
    assert len(svm.negatives) < 60, "those far away are dropped when it is fitted"
    hard = (random.normal(size=(60, 2)) + [10, 0]).astype(np.float32)
    assert (hard @ svm.weights + svm.bias > -1).mean() > 0.5
    svm.meet(hard)
    svm.fit()
    assert (hard @ svm.weights + svm.bias < 0).mean() > 0.9
    assert (svm.positives @ svm.weights + svm.bias > 0).mean() > 0.9


def test_a_class_without_objects_is_never_found():
    svm = rcnn._SVM(np.zeros((0, 2), np.float32))
    svm.meet(np.ones((5000, 2), np.float32))
    svm.fit()
    assert (svm.weights.tolist(), svm.bias) == ([0, 0], -100)


class Mean(nn.Module):
    """The mean colour of a region, and that of its left half: enough to tell red from green, and where it ends."""

    maps: tuple[str, ...] = ("means",)

    @nn.compact
    def __call__(self, x, *, train=False):
        halves = [x[:, :, :4], x[:, :, 4:]]
        return {"means": jnp.concatenate([half.mean((1, 2)) for half in halves], -1)}


def pictures(count, seed):
    """Grey pictures with a red or a green square; the proposals are grids of boxes as large as it."""
    random = np.random.default_rng(seed)
    image = np.full((count, 32, 32, 3), 128, np.uint8)
    boxes, label = np.zeros((count, 1, 4), np.float32), random.integers(0, 2, (count, 1)).astype(np.int32)
    for i, (x, y) in enumerate(random.integers(0, 5, (count, 2)) * 5):
        image[i, y : y + 12, x : x + 12] = (250, 0, 0) if label[i, 0] == 0 else (0, 250, 0)
        boxes[i] = x, y, x + 12, y + 12
    places = np.array([(x, y, x + 12, y + 12) for x in range(0, 21, 3) for y in range(0, 21, 4)], np.float32)
    size = np.full((count, 2), 32, np.int32)
    return {
        "image": image,
        "size": size,
        "original": size,
        "boxes": boxes,
        "label": label,
        "ignored": np.zeros((count, 1), bool),
        "proposals": np.tile(places, (count, 1, 1)),
        "mask": np.ones(count, np.float32),
        "index": np.arange(count, dtype=np.int32),
    }


def fitted(train, code=rcnn.CODE):
    """The task, and its state fitted to pictures that come in two batches."""
    rules = Rules(least=0.5, overlap=0.3, code=code)
    model = RCNN(2, Mean(), size=8, context=0)
    task = RCNNDetection(model, optax.sgd(0.1), lambda x: x / 127.5 - 1, ("red", "green"), rules)
    state = task.init(jax.random.key(0), {"image": jnp.asarray(train["image"])})
    half = len(train["image"]) // 2
    halves = [{name: array[part] for name, array in train.items()} for part in (slice(half), slice(half, None))]
    return task, fit(task, state, lambda: halves)


def test_what_is_fitted_finds_the_squares():
    task, state = fitted(pictures(60, 0))
    test = pictures(20, 1)
    assert isinstance(state, TrainState)
    outputs = task.predict_step(state, {name: jnp.asarray(array) for name, array in test.items()})
    assert (outputs["label"][:, 0] == test["label"][:, 0]).mean() > 0.9
    found = box_ops.iou(outputs["boxes"][:, :1], jnp.asarray(test["boxes"]))
    assert float((found > 0.5).mean()) > 0.9


def test_regressions_learn_the_code_in_which_they_are_read():
    train, weights = pictures(20, 0), (10.0, 10.0, 5.0, 5.0)
    plain, weighted = (fitted(train, code)[1].model_state["judges"]["judges"] for code in (rcnn.CODE, weights))
    for name in ("box_kernel", "box_bias"):
        expected = np.asarray(plain[name]) * weights
        assert np.abs(expected).max() > 0
        np.testing.assert_allclose(weighted[name], expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_ignored_objects_are_no_positives(monkeypatch):
    counts = []

    class Counted(rcnn._SVM):
        def __init__(self, positives):
            super().__init__(positives)
            counts.append(len(positives))

    monkeypatch.setattr(rcnn, "_SVM", Counted)
    train = pictures(20, 0)
    train["ignored"][6:] = True
    fitted(train)
    assert counts == np.bincount(train["label"][:6, 0], minlength=2).tolist()


class Met:
    """In the place of an SVM: the negatives that it is given."""

    def __init__(self):
        self.vectors = []

    def meet(self, vectors):
        self.vectors += vectors.tolist()


def test_ignored_objects_are_no_targets_and_what_overlaps_them_is_no_negative():
    places = np.array([(0, 0, 10, 10), (20, 20, 30, 30), (50, 50, 60, 60)], np.float32)
    vectors, svm, ridge = np.array([[1.0], [2.0], [3.0]], np.float32), Met(), rcnn._Ridge(1)
    boxes, label = np.concatenate([places[:2], np.zeros((1, 4), np.float32)]), np.array([0, 0, -1], np.int32)
    rcnn._learn([svm], [ridge], vectors, places, (boxes, label, np.array([False, True, False])), rcnn.CODE)
    assert svm.vectors == [[3.0]]
    assert (ridge.count, ridge.x.tolist()) == (1, [1.0])
    rcnn._learn([svm], [ridge], vectors, places, (boxes, label, np.array([True, True, False])), rcnn.CODE)
    assert svm.vectors == [[3.0], [3.0]]
    assert ridge.count == 1
