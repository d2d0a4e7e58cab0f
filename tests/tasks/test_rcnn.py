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


def test_what_is_fitted_finds_the_squares():
    rules = Rules(least=0.5, overlap=0.3, code=rcnn.CODE)
    model = RCNN(2, Mean(), size=8, context=0)
    task = RCNNDetection(model, optax.sgd(0.1), lambda x: x / 127.5 - 1, ("red", "green"), rules)
    train, test = pictures(60, 0), pictures(20, 1)
    state = task.init(jax.random.key(0), {"image": jnp.asarray(train["image"])})
    halves = [{name: array[part] for name, array in train.items()} for part in (slice(0, 30), slice(30, 60))]
    state = fit(task, state, lambda: halves)
    assert isinstance(state, TrainState)
    outputs = task.predict_step(state, {name: jnp.asarray(array) for name, array in test.items()})
    assert (outputs["label"][:, 0] == test["label"][:, 0]).mean() > 0.9
    found = box_ops.iou(outputs["boxes"][:, :1], jnp.asarray(test["boxes"]))
    assert float((found > 0.5).mean()) > 0.9
