"""Why a class: the gradient of its score by the picture, and by a layer's maps.

The score of a class is its logit, the network's output before softmax: a probability also rises when the other classes'
scores fall. All is computed in evaluation mode, where the pictures of a batch know nothing of each other.
"""

import functools
from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from cnnlab.errors import UserError
from cnnlab.inspect.layers import class_number, maps_of, run, shapes
from cnnlab.inspect.subject import Subject
from cnnlab.ops.activations import backward_rule
from cnnlab.transfer import patterns

TOGETHER = 16  # pictures that `integrated_gradients` runs through the network at once


def class_scores(
    model: nn.Module, variables: PyTree, x: Float[Array, "n h w c"], labels: Int[Array, " n"]
) -> Float[Array, " n"]:
    """The logit of each picture's label.

    Args:
      model: the network.
      variables: its variables.
      x: its input.
      labels: a class for each picture, the true one or any other.
    """
    # Not jitted: what was traced before would keep its way back through the rectifiers.
    return jnp.take_along_axis(run(model, variables, x)[0], labels[:, None], 1)[:, 0]


@functools.partial(jax.jit, static_argnums=0)
def gradient(
    model: nn.Module, variables: PyTree, x: Float[Array, "n h w c"], labels: Int[Array, " n"]
) -> Float[Array, "n h w c"]:
    """∂ class score / ∂ input, in logits per unit of the network's input; arguments as of `class_scores`."""
    return jax.grad(lambda x: class_scores(model, variables, x, labels).sum())(x)


def saliency(
    model: nn.Module, variables: PyTree, x: Float[Array, "n h w c"], labels: Int[Array, " n"]
) -> Float[Array, "n h w"]:
    """The class's saliency map: at each pixel the largest |∂ class score / ∂ input| of its channels.

    Simonyan, Vedaldi, Zisserman 2013 ("Deep inside convolutional networks"), section 3.1. Arguments as of
    `class_scores`.
    """
    return jnp.abs(gradient(model, variables, x, labels)).max(-1)


@functools.partial(jax.jit, static_argnums=0)
def guided_backpropagation(
    model: nn.Module, variables: PyTree, x: Float[Array, "n h w c"], labels: Int[Array, " n"]
) -> Float[Array, "n h w c"]:
    """The gradient where each rectifier lets through, on the way back, only what is positive and where it was active.

    Springenberg, Dosovitskiy, Brox, Riedmiller 2014 ("Striving for simplicity"), section 3.4. A network without
    rectifiers, as LeNet-5 of 1998, has no other result than `gradient`. Arguments as of `class_scores`.
    """
    with backward_rule("guided"):
        return jax.grad(lambda x: class_scores(model, variables, x, labels).sum())(x)


@functools.partial(jax.jit, static_argnums=0)
def _path_gradient(
    model: nn.Module, variables: PyTree, x: Array, labels: Array, baseline: Array, shares: Float[Array, " m"]
) -> Float[Array, "n h w c"]:
    """The sum of the gradients at the places `shares` of the straight way from the baseline to the pictures."""
    points = baseline + shares[:, None, None, None, None] * (x - baseline)
    found = gradient(model, variables, points.reshape(-1, *x.shape[1:]), jnp.tile(labels, len(shares)))
    return found.reshape(points.shape).sum(0)


def integrated_gradients(
    model: nn.Module,
    variables: PyTree,
    x: Float[Array, "n h w c"],
    labels: Int[Array, " n"],
    baseline: Float[Array, "1 h w c"],
    steps: int = 50,
) -> Float[Array, "n h w c"]:
    """What each input number adds to the class score on the straight way from a baseline to the picture, in logits.

    (x − baseline) · ∫₀¹ ∂ score / ∂ input at baseline + a (x − baseline) da: Sundararajan, Taly, Yan 2017 ("Axiomatic
    attribution for deep networks"), equation 1. Its sum over a picture is the score less that of the baseline
    (completeness), up to the error of the integral, which is taken as the mean at the middles of `steps` equal parts;
    the paper takes the ends, and finds 20 to 300 enough.

    Args:
      model, variables, x, labels: as of `class_scores`.
      baseline: an input that shows nothing; the paper's is black.
      steps: parts of the way.
    """
    shares = (jnp.arange(steps) + 0.5) / steps
    size = max(1, TOGETHER // len(x))
    parts = (shares[start : start + size] for start in range(0, steps, size))
    total = sum(_path_gradient(model, variables, x, labels, baseline, part) for part in parts)
    return (x - baseline) * total / steps


@functools.partial(jax.jit, static_argnums=(0, 4))
def grad_cam(
    model: nn.Module, variables: PyTree, x: Float[Array, "n h w c"], labels: Int[Array, " n"], layer: str
) -> Float[Array, "n h w"]:
    """Where a layer's maps speak for the class: relu(Σ weight · map), enlarged to the input's size.

    A map's weight is the mean over its places of ∂ class score / ∂ map: Selvaraju et al. 2016 ("Grad-CAM"), equations
    1 and 2. Places count as means, so that large maps do not weigh more.

    Args:
      model, variables, x, labels: as of `class_scores`.
      layer: its path; it gives maps (n, h, w, c). They are taken as the layer gives them: of a convolution before its
        rectifier, of a pooling layer or a residual block after it.

    Raises:
      UserError: there is no such layer, or it gives no maps.
    """
    (shape,) = maps_of(shapes(model, variables, x), (layer,)).values()

    def score(added: Array) -> tuple[Array, Array]:
        logits, found = run(model, variables, x, {layer: added})
        return jnp.take_along_axis(logits, labels[:, None], 1).sum(), found[layer]

    slopes, maps = jax.grad(score, has_aux=True)(jnp.zeros(shape))
    weights = slopes.mean((1, 2), keepdims=True)
    cam = jnp.maximum((weights * maps).sum(-1), 0)
    return jax.image.resize(cam, x.shape[:3], "linear")


def figure(
    pictures: Float[np.ndarray, "n h w c"],
    titles: Sequence[str],
    saliency: Float[np.ndarray, "n h w"],
    guided: Float[np.ndarray, "n h w c"],
    integrated: Float[np.ndarray, "n h w c"],
    differences: Float[np.ndarray, " n"],
    cams: Mapping[str, Float[np.ndarray, "n h w"]],
) -> Figure:
    """A row a picture: itself, then what each method says of one class, every map on a scale of its own.

    Args:
      pictures: for the eye, 0 to 1.
      titles: of each, with the class that is explained.
      saliency, guided, integrated: of the functions above.
      differences: the scores less those of the baseline: what `integrated` must add up to.
      cams: of `grad_cam`, by layer.
    """
    names = [
        "saliency",
        "guided backpropagation",
        "integrated gradients from black",
        *(f"Grad-CAM, {layer}" for layer in cams),
    ]
    rows, columns = len(pictures), 1 + len(names)
    drawn = Figure(figsize=(1.9 * columns, 2.2 * rows + 0.6), layout="constrained")
    drawn.suptitle("What the class score depends on: gradients by the input and, in Grad-CAM, by a layer's maps")
    for row, picture in enumerate(pictures):
        axes = [drawn.add_subplot(rows, columns, row * columns + column + 1) for column in range(columns)]
        _show(axes[0], picture, "")
        axes[0].set_title(titles[row], fontsize=8)
        _show(axes[1], saliency[row], "0 to {:.2g}", _top(saliency[row]), "inferno")
        top = _top(guided[row])
        _show(axes[2], 0.5 + guided[row] / (2 * top), f"grey is 0, ends ±{top:.2g}")
        signed = integrated[row].sum(-1)
        told = "red for it, to {:.2g}" + f"\nsum {signed.sum():.2f} of {differences[row]:.2f}"
        _show(axes[3], signed, told, _top(signed), "RdBu_r", symmetric=True)
        for place, cam in zip(axes[4:], cams.values(), strict=True):
            _show(place, picture, "")
            below = "0 to {:.2g}" if cam[row].any() else "nothing above 0"
            _show(place, cam[row], below, _top(cam[row]), "turbo", alpha=0.5)
        for place, name in zip(axes[1:], names, strict=True):
            place.set_title(name if row == 0 else "", fontsize=8)
    return drawn


def _top(values: Float[np.ndarray, "..."]) -> float:
    return max(float(np.abs(values).max()), 1e-12)


def _show(
    axes: Axes,
    image: Float[np.ndarray, "..."],
    below: str,
    top: float = 1.0,
    cmap: str = "gray",
    symmetric: bool = False,
    alpha: float = 1.0,
) -> None:
    """An image from 0 or −top to top, without ticks, with a line below that may name the top."""
    grey = image.ndim == 3 and image.shape[-1] == 1
    low = -top if symmetric else 0
    axes.imshow(image[..., 0] if grey else image, cmap=cmap, vmin=low, vmax=top, alpha=alpha)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel(below.format(top), fontsize=7)


def draw(subject: Subject, options: ConfigDict) -> dict[str, Figure]:
    """The pictures explained: each picture's own class, or each of config.labels; Grad-CAM of config.layers.

    Without layers: the last whose maps are larger than one pixel.

    Raises:
      UserError: there is no such class or layer; config.gradients.steps is not positive.
    """
    if options.gradients.steps < 1:
        raise UserError(f"config.gradients.steps is {options.gradients.steps}; it must be positive")
    model, variables, x = subject.model, subject.variables, subject.x
    maps = maps_of(shapes(model, variables, x), patterns(options.layers))
    layers = list(maps) if options.layers else list(maps)[-1:]
    asked = [class_number(name, subject.class_names) for name in patterns(options.labels)]
    which = np.repeat(np.arange(len(x)), max(1, len(asked)))  # a row a picture and class
    labels = jnp.asarray(np.tile(asked, len(x)) if asked else subject.labels)
    x = x[which]
    black = subject.experiment.task.preprocess(jnp.zeros((1, *subject.pictures.shape[1:]), jnp.uint8))
    of = (model, variables, x, labels)
    logits_of = jax.jit(lambda variables, x: run(model, variables, x)[0])
    logits, blank = (logits_of(variables, inputs) for inputs in (x, jnp.repeat(black, len(x), 0)))
    found = (
        saliency(*of),
        guided_backpropagation(*of),
        integrated_gradients(*of, black, options.gradients.steps),
        jnp.take_along_axis(logits - blank, labels[:, None], 1)[:, 0],
        {layer: grad_cam(*of, layer) for layer in layers},
    )
    names = [title if subject.files else f"true: {title}" for title in subject.titles]
    rows = zip(which, np.asarray(logits), labels.tolist(), strict=True)
    titles = [f"{names[picture]}\n{_told(subject.class_names, row, label)}" for picture, row, label in rows]
    return {"gradients": figure(subject.shown(x), titles, *jax.device_get(found))}


def _told(class_names: Sequence[str], logits: Float[np.ndarray, " k"], label: int) -> str:
    """A picture's predicted class, and the score of the class that is explained."""
    best = logits.argmax()
    probability = 1 / np.exp(logits - logits[best]).sum()
    return f"predicted: {class_names[best]} ({probability:.1%})\nscore of {class_names[label]}: {logits[label]:.2f}"
