"""How signals and gradients fare on their way through a network: their spread, dead units, what vanishes or explodes.

In evaluation mode, so that every example is computed by itself: dropout drops nothing and batch normalisation uses its
moving averages. Figures of many examples are then the same however they are cut into batches.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict
from jaxtyping import Array, Float, Int, PyTree
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from cnnlab.inspect.layers import check_layers, run, shapes
from cnnlab.inspect.nonlinearities import nonlinearities
from cnnlab.inspect.subject import Subject
from cnnlab.transfer import patterns

Loss = Callable[[Float[Array, "n k"], Int[Array, " n"]], Float[Array, " n"]]

NUMBERS = 2**26  # of all layers' outputs that are computed at once: 256 MiB of them, and as much of gradients
STEEP = math.atanh(math.sqrt(0.9))  # where the slope of tanh, 1 at 0, has fallen to a tenth


def gradient_rms(
    model: nn.Module, variables: PyTree, x: Float[Array, "n ..."], labels: Int[Array, " n"], loss: Loss
) -> dict[str, Float[Array, ""]]:
    """By layer, in the order of the network: the root mean square of ∂(an example's loss) / ∂(the layer's output).

    The mean is over examples, places and units. Gradients that fall towards the first layer vanish, those that rise
    explode. (Under `jax.jit` the order is lost: it sorts a dict.)

    Args:
      model: the network.
      variables: its variables.
      x: its input.
      labels: the true classes.
      loss: per example, of logits and labels.

    >>> model, x = nn.Sequential([nn.Dense(1), nn.Dense(1)]), jnp.ones((2, 1))
    >>> layer = {"kernel": jnp.full((1, 1), 0.1), "bias": jnp.zeros(1)}
    >>> variables = {"params": {"layers_0": layer, "layers_1": layer}}
    >>> found = gradient_rms(model, variables, x, jnp.zeros(2, int), lambda y, labels: y[:, 0])
    >>> {name: round(float(rms), 4) for name, rms in found.items()}
    {'layers_0': 0.1, 'layers_1': 1.0}
    """
    by_output = layer_gradients(model, variables, x, labels, loss)[1]
    return {name: root_mean_square(gradient) for name, gradient in by_output.items()}


def layer_gradients(
    model: nn.Module,
    variables: PyTree,
    x: Float[Array, "n ..."],
    labels: Int[Array, " n"],
    loss: Loss,
    layers: Sequence[str] = (),
) -> tuple[dict[str, Array], dict[str, Array], PyTree]:
    """Layers' outputs; the gradient of each example's own loss by them; that of the sum of losses by the parameters.

    Args:
      model, variables, x, labels, loss: as in `gradient_rms`.
      layers: their paths; none: all.

    Raises:
      UserError: there is no such layer.
    """
    types = _types(model, variables, x)
    check_layers(layers, types)
    chosen = [name for name in types if name in (layers or types)]
    zeros = {name: jnp.zeros(types[name].shape, types[name].dtype) for name in chosen}

    def total(params: PyTree, added: dict[str, Array]) -> tuple[Array, dict[str, Array]]:
        logits, found = run(model, {**variables, "params": params}, x, added)
        return loss(logits, labels).sum(), found

    (by_params, by_output), found = jax.grad(total, (0, 1), has_aux=True)(variables["params"], zeros)
    return {name: found[name] for name in chosen}, {name: by_output[name] for name in chosen}, by_params


def _types(model: nn.Module, variables: PyTree, x: Array) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes and types of all layers' outputs, in the order of the network."""
    found: dict[str, jax.ShapeDtypeStruct] = {}

    def trace(variables: PyTree, x: Array) -> None:
        outputs = run(model, variables, x)[1]
        found.update((name, jax.ShapeDtypeStruct(y.shape, y.dtype)) for name, y in outputs.items())

    jax.eval_shape(trace, variables, x)
    return found


def root_mean_square(x: Float[Array, "*shape"], axes: Sequence[int] | None = None) -> Float[Array, "*kept"]:
    """√(mean x²) over `axes`, or over all; also of numbers whose squares are too small for float32.

    >>> round(float(root_mean_square(jnp.array([3e-30, -4e-30]))) / 1e-30, 4)  # √12.5
    3.5355
    """
    x = x.astype(jnp.float32)
    largest = jnp.max(jnp.abs(x), axes, keepdims=True)
    scale = jnp.where(largest > 0, largest, 1.0)
    return jnp.squeeze(scale, axes) * jnp.sqrt(jnp.mean(jnp.square(x / scale), axes))


@dataclasses.dataclass(frozen=True)
class LayerStatistics:
    """Of a layer's outputs on some examples; a unit is a feature map, or an output of a dense layer.

    Attributes:
      mean, std: over examples, places and units.
      inactive: by unit, the share of examples and places where it is not positive.
      follows: the function that comes next, see `nonlinearities`.
      saturated: before tanh and the sigmoid, the share of outputs where its slope is under a tenth of its steepest;
        elsewhere None.
      gradient: as in `gradient_rms`.
      parameters: the name of the layer's own beside its bias: "kernel", or "scale" of a normalisation; "" without any.
      weight: root mean square of these; None without any.
      weight_gradient: that of the gradient of the mean loss by them.
    """

    mean: float
    std: float
    inactive: Float[np.ndarray, " c"]
    follows: str
    saturated: float | None
    gradient: float
    parameters: str = ""
    weight: float | None = None
    weight_gradient: float | None = None

    @property
    def dead(self) -> int | None:
        """Of a layer before a ReLU: its units that are never positive, so that nothing of them goes on."""
        return int(np.sum(self.inactive == 1)) if self.follows == "relu" else None

    @property
    def ratio(self) -> float | None:
        """The weights' gradient in parts of the weights; times the learning rate, how fast plain descent moves them."""
        return self.weight_gradient / self.weight if self.weight else None


def statistics(
    model: nn.Module,
    variables: PyTree,
    batches: Iterable[tuple[Array, Array]],
    loss: Loss,
    layers: Sequence[str] = (),
) -> dict[str, LayerStatistics]:
    """The statistics of layers over all examples of all batches, in the order of the network.

    Args:
      model: the network.
      variables: its variables.
      batches: inputs (n, h, w, c) and labels (n); at least one batch.
      loss: per example, of logits and labels.
      layers: their paths; none: those that have parameters.

    Raises:
      UserError: there is no such layer.
    """
    follows: dict[str, tuple[str, float]] = {}

    @jax.jit
    def step(variables: PyTree, x: Array, labels: Array) -> tuple[dict[str, dict[str, Array]], PyTree]:
        outputs, by_output, by_params = layer_gradients(model, variables, x, labels, loss, list(follows))
        measured = {name: _measures(outputs[name], by_output[name], *follows[name]) for name in follows}
        return measured, by_params

    parts, by_params, examples = [], None, 0
    for x, labels in batches:
        if not parts:
            follows.update(_chosen(model, variables, x, layers))
        part, more = step(variables, x, labels)
        parts.append(jax.device_get(part))
        by_params = more if by_params is None else jax.tree.map(jnp.add, by_params, more)
        examples += len(x)
    weights = _weights(variables["params"], jax.tree.map(lambda total: total / examples, by_params))
    return {
        name: _over_all([part[name] for part in parts], function, *weights.get(name, ()))
        for name, (function, _) in follows.items()
    }


def _chosen(model: nn.Module, variables: PyTree, x: Array, layers: Sequence[str]) -> dict[str, tuple[str, float]]:
    follows = nonlinearities(model, variables, x)
    check_layers(layers, follows)
    wanted = layers or {"/".join(path[:-1]) for path in flatten_dict(variables["params"])}
    return {name: function for name, function in follows.items() if name in wanted}


def _measures(output: Array, gradient: Array, function: str, factor: float) -> dict[str, Array]:
    """Of one layer on one batch: "mean", "variance" and "gradient" by example, the others added up over them."""
    inner, outer = tuple(range(1, output.ndim)), tuple(range(output.ndim - 1))
    output = output.astype(jnp.float32)
    # The sigmoid is (1 + tanh(x / 2)) / 2.
    slope = abs(factor) / (2 if function == "logistic" else 1)
    return {
        "mean": jnp.mean(output, inner),
        "variance": jnp.var(output, inner),
        "gradient": root_mean_square(gradient, inner),
        "inactive": jnp.sum(output <= 0, outer),
        "saturated": jnp.sum(jnp.abs(output) * slope > STEEP),
        "values": jnp.array(output.size),
    }


def _over_all(parts: Sequence[Mapping[str, np.ndarray]], function: str, *weights: str | float) -> LayerStatistics:
    mean, variance, gradient = (
        np.concatenate([part[name] for part in parts], dtype=np.float64) for name in ("mean", "variance", "gradient")
    )
    inactive, saturated, values = (
        sum(part[name].astype(np.int64) for part in parts) for name in ("inactive", "saturated", "values")
    )
    return LayerStatistics(
        float(mean.mean()),
        math.sqrt(variance.mean() + mean.var()),
        inactive * len(inactive) / values,
        function,
        float(saturated / values) if function in ("tanh", "logistic") else None,
        math.sqrt(np.square(gradient).mean()),
        *weights,
    )


def _weights(params: PyTree, by_params: PyTree) -> dict[str, tuple[str, float, float]]:
    """By layer, the name of its own parameters but for biases, their root mean square, and that of their gradient."""
    slopes, found = flatten_dict(by_params), {}
    for path, leaf in flatten_dict(params).items():
        if path[-1] != "bias":
            sizes = (float(root_mean_square(array)) for array in (leaf, slopes[path]))
            found["/".join(path[:-1])] = (path[-1], *sizes)
    return found


def format_table(found: Mapping[str, LayerStatistics]) -> str:
    """The statistics as plain text in aligned columns; "" where a layer has no such figure."""

    def cells(layer: LayerStatistics) -> tuple[str, ...]:
        relu = layer.follows == "relu"
        return (
            f"{len(layer.inactive):,}",
            layer.follows,
            f"{layer.mean:.3g}",
            f"{layer.std:.3g}",
            f"{layer.inactive.mean():.1%}" if relu else "",
            f"{layer.dead:,}" if relu else "",
            "" if layer.saturated is None else f"{layer.saturated:.1%}",
            f"{layer.gradient:.2e}",
            *("" if x is None else f"{x:.2e}" for x in (layer.weight, layer.weight_gradient, layer.ratio)),
        )

    head = ("layer", "units", "before", "mean", "std", "inactive", "dead", "saturated")
    head = (*head, "gradient", "weights", "their gradient", "ratio")
    lines = [head, *((name, *cells(layer)) for name, layer in found.items())]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:{'<' if i in (0, 2) else '>'}{widths[i]}}" for i, cell in enumerate(line)).rstrip()
        for line in lines
    )


def figure(found: Mapping[str, LayerStatistics], heading: str) -> Figure:
    """Four panels over the layers in order: the outputs' spread, units without use, gradients, gradients by weights."""
    names, layers = list(found), list(found.values())
    drawn = Figure(figsize=(min(max(7.0, 0.2 * len(names) + 2), 24), 10.5), layout="constrained")
    drawn.suptitle(heading)
    spread, use, gradient, ratio = panels = drawn.subplots(4, 1, sharex=True)
    spread.set_title("Outputs, standard deviation", loc="left")
    use.set_title("Without effect, in %", loc="left")
    gradient.set_title("Gradient of an example's loss by the outputs, root mean square", loc="left")
    ratio.set_title("Gradient of the mean loss by the weights, in parts of the weights", loc="left")
    # Convolutions, normalisations and pooling differ in scale: a line each, or the line would go up and down.
    for kind in dict.fromkeys(layer.parameters for layer in layers):
        label = f"layers with a {kind}" if kind else "layers without parameters"
        own = [layer if layer.parameters == kind else None for layer in layers]
        _line(spread, [layer and layer.std for layer in own], label)
        _line(gradient, [layer and layer.gradient for layer in own], label)
        if kind:
            _line(ratio, [layer and layer.ratio for layer in own], label)
    if any(layer.follows == "relu" for layer in layers):
        dead = [layer.dead and 100 * layer.dead / len(layer.inactive) for layer in layers]
        use.bar(
            range(len(names)),
            [share or 0 for share in dead],
            0.5,
            color="tab:red",
            label="dead units: never positive" if any(dead) else "dead units: none",
        )
        inactive = [100 * layer.inactive.mean() if layer.follows == "relu" else None for layer in layers]
        _line(use, inactive, "outputs that a ReLU makes 0")
    if any(layer.saturated is not None for layer in layers):
        saturated = [None if layer.saturated is None else 100 * layer.saturated for layer in layers]
        _line(use, saturated, "outputs where tanh or the sigmoid has under a tenth of its slope")
    use.set_ylim(-3, 103)
    for axes in panels:
        if axes is not use and any(value > 0 for line in axes.lines for value in line.get_ydata()):
            axes.set_yscale("log")
        axes.grid(alpha=0.3, which="both")
        if len(axes.get_legend_handles_labels()[0]) > (axes is not use):
            axes.legend(fontsize=8)
    shown = range(0, len(names), math.ceil(len(names) / 100))
    ratio.set_xticks(shown, [names[i] for i in shown], rotation=90, fontsize=8)
    return drawn


def _line(axes: Axes, values: Sequence[float | None], label: str) -> None:
    """Points joined over the places where there is none."""
    places = [i for i, value in enumerate(values) if value is not None]
    axes.plot(places, [values[i] for i in places], ".-", label=label)


def draw(subject: Subject, options: ConfigDict) -> dict[str, Figure]:
    """The statistics of the layers that have parameters, or of config.layers, on config.examples of the training set.

    The loss is the task's; the examples are not augmented. Prints a table.
    """
    experiment, layers = subject.experiment, patterns(options.layers)
    batches = _batches(subject, options.examples)
    found = statistics(subject.model, subject.variables, batches, experiment.task.loss, layers)
    examples = min(options.examples, len(experiment.train_data()))
    heading = f"{experiment.name}, {examples:,} training examples, in evaluation mode"
    print(f"{heading}\n{format_table(found)}", flush=True)
    return {"statistics": figure(found, heading)}


def _batches(subject: Subject, most: int) -> Iterator[tuple[Array, Array]]:
    """Examples of the training set as the network's input, in parts that leave memory for every layer's gradient."""
    preprocess = subject.experiment.task.preprocess
    picture = jax.ShapeDtypeStruct((1, *subject.experiment.picture_shape), jnp.uint8)
    found = shapes(subject.model, subject.variables, jax.eval_shape(preprocess, picture))
    size = max(1, NUMBERS // sum(map(math.prod, found.values())))
    for batch in subject.examples(most, train=True):
        for start in range(0, len(batch["label"]), size):
            part = slice(start, start + size)
            yield preprocess(jnp.asarray(batch["image"][part])), jnp.asarray(batch["label"][part])
