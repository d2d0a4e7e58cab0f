"""R-CNN: its classifier is fine-tuned on regions; then SVMs and regressions, fitted by `fit`, judge what they show."""

import dataclasses
import warnings
from collections.abc import Callable, Iterable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC

from cnnlab.metrics.detection import overlaps
from cnnlab.ops import boxes as box_ops
from cnnlab.state import TrainState
from cnnlab.tasks import detection_losses as losses
from cnnlab.tasks.detection import Detection

CODE = (1.0, 1.0, 1.0, 1.0)  # `Rules.code` with which the regressions' targets are those of the paper's appendix C
NORM = 20.0  # mean length that features are scaled to for the SVMs, as in the paper's own program
C = 1e-3  # of the SVMs, likewise
NEGATIVE = 0.3  # IoU with all objects of a class below which a proposal is a negative of its SVM (section 2.3)
PAIRED = 0.6  # IoU with an object from which a proposal is regressed to it (appendix C)
RIDGE = 1000.0  # λ of the regressions
HARD, EASY = -1.0, -1.2  # margins above which a negative is taken up, and below which it is dropped again
NEW = 2000  # negatives taken up after which the SVMs are fitted anew
FEW = 20  # proposals of a picture whose features' mean length is taken


@dataclasses.dataclass(frozen=True)
class RCNNDetection(Detection):
    """The task of R-CNN: the model is a `models.rcnn.RCNN`, and "proposals" come with the batch.

    In training, regions are drawn from each picture by the rules (section 2.3: a quarter on objects, IoU from 0.5, the
    rest below). Findings are by SVM; their score is the logistic function of the margin.

    Attributes:
      by_softmax: find by the softmax of fine-tuning instead, and leave regions where they are: the net before `fit`.
    """

    by_softmax: bool = False

    layers_step = None  # pooling regions and convolving them are not apart

    def losses(
        self, model: nn.Module, batch: Mapping[str, Array], keys: Key[Array, " n"]
    ) -> dict[str, Float[Array, " n"]]:
        """Each picture's cross-entropy over its regions, and the accuracy on objects; called with a bound model."""
        rules, truth = self.rules, (batch["boxes"], batch["label"], batch["ignored"])
        there = box_ops.area(batch["proposals"]) > 0

        def draw(key, regions, there, truth):
            regions, there = losses.with_truth(regions, there, truth)
            limits = (rules.regions, rules.positives, rules.region_high, rules.region_high, rules.region_low)
            drawn = losses.draw(key, regions, there, truth, *limits)
            return regions[drawn.index], drawn

        regions, drawn = jax.vmap(draw)(keys, batch["proposals"], there, truth)
        logits = model.classify(model.features(self.inputs(batch), regions, train=True))
        wrong = optax.softmax_cross_entropy_with_integer_labels(logits, drawn.label) * drawn.valid
        return {
            "classes": wrong.sum(1) / jnp.maximum(drawn.valid.sum(1), 1),
            "accuracy": jax.vmap(losses.accuracy_on_objects)(logits, drawn),
        }

    def find(self, model: nn.Module, batch: Mapping[str, Array]) -> dict[str, Array]:
        """What is found: "boxes", in pixels of resized pictures, "score" and "label"; called with a bound model."""
        regions = batch["proposals"]
        features = model.features(self.inputs(batch), regions, train=False)
        if self.by_softmax:
            scores = jax.nn.softmax(model.classify(features))[..., 1:]
            offsets = jnp.zeros((*scores.shape, 4))
        else:
            margins, offsets = model.judge(features)
            scores = jax.nn.sigmoid(margins)
        return self.select(scores, offsets, regions, box_ops.area(regions) > 0, batch)

    def features(self, state: TrainState, batch: Mapping[str, Array]) -> tuple[Array, Array]:
        """Those of a batch's objects and of its proposals."""

        def both(model: nn.Module) -> tuple[Array, Array]:
            x = self.inputs(batch)
            return model.features(x, batch["boxes"]), model.features(x, batch["proposals"])

        return self.model.apply(state.variables, method=both)


def fit(
    task: RCNNDetection, state: TrainState, batches: Callable[[], Iterable[Mapping[str, np.ndarray]]]
) -> TrainState:
    """The state with SVMs and regressions (section 2.3 and appendix C).

    Each class has a linear SVM: its objects against proposals that overlap none of them by 0.3 or more. Of these only
    the hard ones are kept, found picture by picture with the SVM of those before. And each has a ridge regression from
    features of proposals to the objects that they overlap by 0.6 or more. An object that is to be ignored is no
    example of either, and what overlaps it is no negative.

    Args:
      task: with the net.
      state: fine-tuned.
      batches: the training pictures from the first to the last, twice; a picture whose "mask" is 0 counts for nothing.
    """
    features = jax.jit(task.features)
    classes = len(task.class_names)
    positives, norms = [[] for _ in range(classes)], []
    for batch in batches():
        of_objects, of_proposals = (np.asarray(part) for part in features(state, _only_boxes(batch)))
        for i in np.flatnonzero(batch["mask"] > 0):
            taught = (batch["label"][i] >= 0) & ~batch["ignored"][i]
            for k, vector in zip(batch["label"][i][taught], of_objects[i][taught], strict=True):
                positives[k].append(vector)
            there = _have_area(batch["proposals"][i, : of_proposals.shape[1]])
            norms += np.linalg.norm(of_proposals[i][there], axis=-1).tolist()
    scale = max(float(np.mean(norms)), 1e-6) / NORM
    dimensions = of_objects.shape[-1]
    svms = [_SVM(np.array(own, np.float32).reshape(-1, dimensions) / scale) for own in positives]
    ridges = [_Ridge(dimensions) for _ in range(classes)]
    for batch in batches():
        vectors = np.asarray(features(state, batch)[1]) / scale
        for i in np.flatnonzero(batch["mask"] > 0):
            there = _have_area(batch["proposals"][i])
            truth = tuple(batch[name][i] for name in ("boxes", "label", "ignored"))
            _learn(svms, ridges, vectors[i][there], batch["proposals"][i][there], truth, task.rules.code)
    for svm in svms:
        svm.fit()
    judges = {
        "scale": np.float32(scale),
        "svm_kernel": np.stack([svm.weights for svm in svms], 1),
        "svm_bias": np.array([svm.bias for svm in svms]),
        "box_kernel": np.stack([ridge.solve()[0] for ridge in ridges], 1),
        "box_bias": np.stack([ridge.solve()[1] for ridge in ridges]),
    }
    judges = {name: jnp.asarray(value, jnp.float32) for name, value in judges.items()}
    return dataclasses.replace(state, model_state={**state.model_state, "judges": {"judges": judges}})


def _only_boxes(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The batch with few proposals: where the objects are what is looked at."""
    return {**batch, "proposals": batch["proposals"][:, :FEW]}


def _have_area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2:] > boxes[:, :2]).all(-1)


def _learn(
    svms,
    ridges,
    vectors: np.ndarray,
    regions: np.ndarray,
    truth: tuple[np.ndarray, np.ndarray, np.ndarray],
    code: tuple[float, ...],
) -> None:
    """Takes up what one picture's proposals teach.

    Args:
      svms, ridges: of each class.
      vectors, regions: the proposals' features, and where they lie.
      truth: the picture's boxes, labels (−1: padding), and which are to be ignored.
      code: weights of the regressions' targets; see `boxes.encode`.
    """
    boxes, label, ignored = truth
    shared = overlaps(regions.astype(np.float64), boxes.astype(np.float64))
    for k, svm in enumerate(svms):
        svm.meet(vectors[shared[:, label == k].max(1, initial=0.0) < NEGATIVE])  # what is ignored is no negative either
    taught = (label >= 0) & ~ignored
    if not taught.any():
        return
    boxes, label, shared = boxes[taught], label[taught], shared[:, taught]
    chosen, best = shared.argmax(1), shared.max(1)
    for k, ridge in enumerate(ridges):
        mine = (best >= PAIRED) & (label[chosen] == k)
        if mine.any():
            targets = box_ops.encode(jnp.asarray(boxes[chosen[mine]]), jnp.asarray(regions[mine]), code)
            ridge.add(vectors[mine], np.asarray(targets))


class _SVM:
    """One class's SVM, and the negatives that it found hard."""

    def __init__(self, positives: np.ndarray):
        self.positives = positives
        self.negatives = np.zeros((0, positives.shape[1]), np.float32)
        self.weights, self.bias = np.zeros(positives.shape[1]), -100.0  # a class without objects is never found
        self._new: list[np.ndarray] = []

    def meet(self, vectors: np.ndarray) -> None:
        """Takes up those of a picture's negatives that are hard; all of them before there is an SVM."""
        if not len(self.positives):
            return
        fitted = bool(len(self.negatives))
        self._new.append(vectors[vectors @ self.weights + self.bias > HARD] if fitted else vectors)
        if sum(map(len, self._new)) >= NEW:
            self.fit()

    def fit(self) -> None:
        """Fits the SVM to the positives and all negatives taken up, then drops those that are easy for it."""
        self.negatives = np.concatenate([self.negatives, *self._new])
        self._new = []
        if not len(self.positives) or not len(self.negatives):
            return
        vectors = np.concatenate([self.positives, self.negatives])
        label = np.repeat([1, -1], [len(self.positives), len(self.negatives)])
        svm = LinearSVC(C=C, loss="hinge", class_weight={1: 2.0}, intercept_scaling=10.0, random_state=0, max_iter=5000)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the next fit goes on from nearly the same examples
            svm.fit(vectors, label)
        self.weights, self.bias = svm.coef_[0], float(svm.intercept_[0])
        self.negatives = self.negatives[self.negatives @ self.weights + self.bias > EASY]


class _Ridge:
    """A ridge regression of four targets, from sums: the examples are not kept."""

    def __init__(self, dimensions: int):
        self.count, self.x, self.t = 0, np.zeros(dimensions), np.zeros(4)
        self.xx, self.xt = np.zeros((dimensions, dimensions)), np.zeros((dimensions, 4))

    def add(self, vectors: np.ndarray, targets: np.ndarray) -> None:
        """Takes up examples."""
        vectors, targets = vectors.astype(np.float64), targets.astype(np.float64)
        self.count += len(vectors)
        self.x, self.t = self.x + vectors.sum(0), self.t + targets.sum(0)
        self.xx, self.xt = self.xx + vectors.T @ vectors, self.xt + vectors.T @ targets

    def solve(self) -> tuple[np.ndarray, np.ndarray]:
        """The matrix and the bias, which is not held small; zeros without examples."""
        if not self.count:
            return np.zeros_like(self.xt), np.zeros(4)
        x, t = self.x / self.count, self.t / self.count
        spread = self.xx - self.count * np.outer(x, x) + RIDGE * np.eye(len(x))
        weights = np.linalg.solve(spread, self.xt - self.count * np.outer(x, t))
        return weights, t - x @ weights
