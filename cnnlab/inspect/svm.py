"""What a discriminator's features are worth: a linear support vector machine on all its layers.

Radford, Metz, Chintala 2015, section 5.1: the feature maps of every layer, max-pooled to 4×4, side by side, and a
linear L2-SVM on them. It asks what was learnt without any label, and is set beside the same machine on raw pixels, and
a network of the discriminator's layers that learns from the same labels (section 5.2).
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PyTree
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from cnnlab.errors import UserError
from cnnlab.inspect.layers import maps_of, run
from cnnlab.inspect.subject import Subject
from cnnlab.inspect.supervised import supervised_error
from cnnlab.models.adversaries import Adversaries
from cnnlab.transfer import patterns

GRID = 4
CS = (0.001, 0.01, 0.1, 1.0, 10.0)
MEMORY = 10  # steps from which L-BFGS knows the curvature
STEPS = 1000  # at most
ENOUGH = 1e-4  # the gradient's length, as a share of that at the start, at which a machine is taken for trained


def pooled_features(
    model: nn.Module, variables: PyTree, x: Float[Array, "n ..."], layers: Sequence[str] = ()
) -> Float[Array, "n d"]:
    """The feature maps of layers in evaluation mode, each max-pooled to a grid of 4×4, flattened, one after the other.

    Args:
      model: the network: of `Adversaries`, one of its discriminators, with its own part of the variables.
      variables: its variables.
      x: its input.
      layers: whose outputs are feature maps; none: all at the top of the network with maps of more than a pixel. Of
        a convolution and its normalisation, which tell a linear machine nearly the same, one is enough. Of a network
        without any, its hidden fully connected layers, as they are.

    Raises:
      UserError: there is no such layer, or none with feature maps.
    """
    found = run(model, variables, x)[1]
    names = maps_of({name: output.shape for name, output in found.items()}, layers)
    hidden = [name for name, output in found.items() if output.ndim == 2 and "/" not in name][:-1]
    if not names and not layers and hidden:
        return jnp.concatenate([found[name] for name in hidden], 1)
    if not names:
        raise UserError(f"no layer at the top of the network gives feature maps to pool: there are {', '.join(found)}")
    return jnp.concatenate([to_grid(found[name]).reshape(len(x), -1) for name in names], 1)


def to_grid(maps: Float[Array, "n h w c"], size: int = GRID) -> Float[Array, "n gh gw c"]:
    """The maxima of size×size even parts of each map; a side that is shorter stays as it is.

    Part i of a side of s pixels reaches from ⌊i s / size⌋ up to but not including ⌈(i + 1) s / size⌉.

    >>> to_grid(jnp.arange(9.0).reshape(1, 9, 1, 1))[0, :, 0, 0].tolist()
    [2.0, 4.0, 6.0, 8.0]
    """
    for axis in (1, 2):
        length = maps.shape[axis]
        parts = min(size, length)
        edges = [(i * length // parts, -(-(i + 1) * length // parts)) for i in range(parts)]
        maps = jnp.stack([jax.lax.slice_in_dim(maps, *edge, axis=axis).max(axis) for edge in edges], axis)
    return maps


def collect(
    features: Callable[[Array], Float[Array, "n ..."]], batches: Iterable[tuple[Array, np.ndarray]], most: int
) -> tuple[Float[np.ndarray, "m ..."], Int[np.ndarray, " m"]]:
    """The features of up to `most` examples, and their labels; beside them no more memory than one batch takes.

    Args:
      features: of a batch, `pooled_features` behind `jax.jit`, say; `lambda x: x.reshape(len(x), -1)`: raw pixels.
      batches: input and labels; no more are asked for than are needed.
      most: how many examples. 10,000 features of 50,000 examples are 2 GB; `svm_error` takes as much again.

    Raises:
      UserError: there are no examples, or `most` allows none.

    >>> batches = [(jnp.full((2, 1, 1), i), np.full(2, i)) for i in range(3)]
    >>> found, labels = collect(lambda x: x.reshape(len(x), -1), batches, 3)
    >>> found[:, 0].tolist(), labels.tolist()
    ([0.0, 0.0, 1.0], [0, 0, 1])
    """
    rows, labels, filled = None, np.empty(max(most, 0), np.int64), 0
    for x, own in batches:
        part = min(len(own), most - filled)
        if part <= 0:
            break
        found = np.asarray(features(x))
        if rows is None:
            rows = np.empty((most, *found.shape[1:]), np.float32)
        rows[filled : filled + part], labels[filled : filled + part] = found[:part], own[:part]
        filled += part
        if filled == most:
            break
    if rows is None:
        raise UserError(f"there are no examples to learn from: at most {most} are asked for")
    return rows[:filled], labels[:filled]


def svm_error(
    train: Float[np.ndarray, "n d"],
    train_labels: Int[np.ndarray, " n"],
    test: Float[np.ndarray, "m d"],
    test_labels: Int[np.ndarray, " m"],
) -> float:
    """The test error, as a fraction, of a linear L2-SVM: one class against the rest, the greatest margin wins.

    What an error costs beside the weights' length is what `choose_c` finds.

    Args:
      train, train_labels: what is learnt from.
      test, test_labels: what is tested on.

    >>> x, labels = np.array([[0.0], [0.1], [1.0], [1.1]], np.float32), np.array([0, 0, 1, 1])
    >>> svm_error(x, labels, x, np.array([0, 0, 1, 0]))
    0.25
    """
    x, classes = jnp.asarray(train, jnp.float32), np.unique(train_labels)
    machine = fit(x, _targets(train_labels, classes), choose_c(train, train_labels))
    return _error(machine, jnp.asarray(test, jnp.float32), test_labels, classes)


def choose_c(
    train: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"], cs: Sequence[float] = CS, held_out: float = 0.2
) -> float:
    """Of some c the one whose machine, trained on the rest, errs least on a part of the examples that is held out.

    The first where several do; which part is held out is always the same.

    Args:
      train, labels: the training set.
      cs: what to choose from.
      held_out: the share that is held out.

    Raises:
      UserError: a share or so few examples that nothing is held out, or all is.
    """
    out = np.random.default_rng(0).permutation(len(train)) < round(held_out * len(train))
    if out.all() or not out.any():
        raise UserError(f"{out.sum()} of {len(train)} examples are held out to choose c: there must be some, not all")
    x, classes = jnp.asarray(train, jnp.float32), np.unique(labels)
    targets = np.where(out, 0, _targets(labels, classes))  # what has no target costs nothing
    errors = [_error(fit(x, targets, c), jnp.asarray(train[out], jnp.float32), labels[out], classes) for c in cs]
    return float(cs[int(np.argmin(errors))])


class Machine(NamedTuple):
    """A linear machine: a class's score of x is weights · ((x − mean) / spread, 1).

    Attributes:
      weights: of each class, the last the bias.
      mean: of the features.
      spread: the root of the mean of |x − mean|², a single number, so that c means the same for features of any scale
        while large features stay large beside small ones.
    """

    weights: Float[Array, "k d1"]
    mean: Float[Array, " d"]
    spread: Float[Array, ""]

    def scores(self, x: Float[Array, "n d"]) -> Float[Array, "k n"]:
        """Of each class for each example."""
        return _scores(self.weights, x, self.mean, self.spread)


def fit(x: Float[Array, "n d"], targets: Float[Array | np.ndarray, "k n"], c: float) -> Machine:
    """The machines that make ½ |w|² + c Σ max(0, 1 − target · score)² least, one a row of targets, 1 or −1.

    What has the target 0 has no influence. scikit-learn's LinearSVC has the same minimum, the bias's share of |w|²
    included, but takes up to 24 bytes for each number of the features, as float64 and then as a sparse list; here there
    is no copy, and L-BFGS takes about two matrix products a step. On 10,000 digits of MNIST, c = 1, both erred 9.3 % of
    the time, after 2 s of computing here and 11 s there.

    Args:
      x: features. They are centred and scaled within.
      targets: see above.
      c: what errors cost.

    Raises:
      UserError: features that are not finite.
    """
    mean, spread = _mean_and_spread(x)
    targets, cost = jnp.asarray(targets, jnp.float32), jnp.float32(c)
    if not np.isfinite(spread):
        raise UserError("the features are not finite: nothing can be learnt from them")
    weights = jnp.zeros((len(targets), x.shape[1] + 1))
    state, first = _solver().init(weights), 0.0
    for step in range(STEPS):
        weights, state, gradient = _step(weights, state, x, mean, spread, targets, cost)
        first = float(gradient) if step == 0 else first
        if float(gradient) <= ENOUGH * first:
            break
    return Machine(weights, mean, spread)


def _scores(weights: Array, x: Array, mean: Array, spread: Array) -> Float[Array, "k n"]:
    # Features stay as they are: a centred copy would take their memory again.
    own = weights[:, :-1] / spread
    return jnp.dot(own, x.T, precision="highest") - jnp.dot(own, mean, precision="highest")[:, None] + weights[:, -1:]


def _cost(weights: Array, x: Array, mean: Array, spread: Array, targets: Array, c: Array) -> Float[Array, ""]:
    short = jnp.maximum(0, 1 - targets * _scores(weights, x, mean, spread))
    return jnp.square(weights).sum() / 2 + c * jnp.square(short).sum()


def _solver() -> optax.GradientTransformationExtraArgs:
    return optax.lbfgs(memory_size=MEMORY)


@jax.jit
def _mean_and_spread(x: Float[Array, "n d"]) -> tuple[Float[Array, " d"], Float[Array, ""]]:
    spread = jnp.sqrt(jnp.var(x, 0).sum())
    return x.mean(0), jnp.where(spread > 0, spread, 1)


@jax.jit
def _step(
    weights: Array, state: optax.OptState, x: Array, mean: Array, spread: Array, targets: Array, c: Array
) -> tuple[Array, optax.OptState, Float[Array, ""]]:
    """The weights after a step of L-BFGS, its state, and the length of the gradient before the step."""
    given = {"x": x, "mean": mean, "spread": spread, "targets": targets, "c": c}
    value, gradient = optax.value_and_grad_from_state(_cost)(weights, **given, state=state)
    updates, state = _solver().update(gradient, state, weights, value=value, grad=gradient, value_fn=_cost, **given)
    return optax.apply_updates(weights, updates), state, jnp.sqrt(jnp.square(gradient).sum())


def _targets(labels: Int[np.ndarray, " n"], classes: Int[np.ndarray, " k"]) -> Float[np.ndarray, "k n"]:
    return np.where(classes[:, None] == labels, 1.0, -1.0)


def _error(machine: Machine, x: Float[Array, "n d"], labels: Int[np.ndarray, " n"], classes: np.ndarray) -> float:
    return float(np.mean(classes[np.asarray(machine.scores(x)).argmax(0)] != labels))


def draw(subject: Subject, options: ConfigDict) -> dict[str, Figure]:
    """The test error of SVMs on the features of a network, or of an adversarial net's discriminator, and on raw pixels;
    and of a discriminator's layers trained as a classifier from scratch.

    All learn from config.examples labelled training pictures, and are tested on as many of the test set.
    """
    task = subject.experiment.task
    model, variables = subject.model, subject.variables
    adversaries = isinstance(model, Adversaries)
    if adversaries:
        if len(model.discriminators) > 1 or task.class_names:
            raise UserError("config.inspect=svm is for discriminators that see a picture alone, no class and no other")
        model, variables = model.discriminators[0], {kind: tree["discriminators_0"] for kind, tree in variables.items()}
    layers = patterns(options.layers)
    pooled = jax.jit(lambda variables, x: pooled_features(model, variables, x, layers))
    ways = {
        "SVM on raw pixels": (lambda x: x.reshape(len(x), -1), svm_error),
        "SVM on its features": (functools.partial(pooled, variables), svm_error),
    }
    if adversaries:
        classifier = model.clone(outputs=len(subject.experiment.train_data().class_names))
        ways["its layers, supervised"] = (lambda x: x, functools.partial(supervised_error, classifier))
    pictures = [list(subject.examples(options.examples, train=part)) for part in (True, False)]  # read once for all
    errors = {}
    for name, (features, error_of) in ways.items():
        train, test = (collect(features, _inputs(subject, batches), options.examples) for batches in pictures)
        errors[name] = error_of(*train, *test)
        print(f"{name:22} {train[0][0].size:8,} numbers  error {errors[name]:.2%}", flush=True)
    drawn = Figure(figsize=(6, 2.2), layout="constrained")
    title = f"{len(train[1]):,} labelled examples learnt from, {len(test[1]):,} tested"
    axes = drawn.add_subplot(xlabel="test error (%)", title=title)
    axes.barh(list(errors), [100 * error for error in errors.values()])
    axes.invert_yaxis()
    return {"svm": drawn}


def _inputs(subject: Subject, batches: Iterable[Mapping[str, np.ndarray]]) -> Iterator[tuple[Array, np.ndarray]]:
    """The network's input and the labels, batch by batch."""
    preprocess = subject.experiment.task.preprocess
    return ((preprocess(jnp.asarray(batch["image"])), batch["label"]) for batch in batches)
