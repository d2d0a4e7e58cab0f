"""What a network makes of a picture that is moved: accuracy, and each layer's equivariance and invariance error.

The network's input is shifted, turned and enlarged about its centre, and continued by its outermost pixels. The errors
are defined in `equivariance.py`. A picture made smaller is not smoothed first.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from cnnlab.data.draws import Number
from cnnlab.errors import UserError
from cnnlab.inspect.equivariance import Error, Movement, Places, compare, moved, places_of, way_back
from cnnlab.inspect.invariance_figures import (
    MEASURES,
    OUTPUT,
    Found,
    accuracy_figure,
    curves_figure,
    format_table,
    heat_figure,
)
from cnnlab.inspect.layers import check_layers, run, shapes
from cnnlab.inspect.statistics import NUMBERS
from cnnlab.inspect.subject import Subject
from cnnlab.summary import reaches
from cnnlab.transfer import patterns

CURVES = 10  # layers up to which each has a curve of its own


def numbers(field: str, text: str, lowest: Number, highest: Number) -> list[float]:
    """Numbers of a config field, parted by commas, sorted; empty where the field is.

    >>> numbers("config.invariance.angles", "30, 10", -180, 180)
    [10.0, 30.0]

    Raises:
      UserError: one is no number, or out of its range.
    """
    try:
        found = sorted({float(word) for word in patterns(text)})
    except ValueError:
        found = [math.nan]
    if not all(lowest <= number <= highest for number in found):
        raise UserError(f'{field} is "{text}"; it must be numbers from {lowest:g} to {highest:g}, with commas between')
    return found


def automatic_shifts(side: int) -> list[float]:
    """Whole pixels from 1 to a quarter of the input's side, each about half as much again as the one before.

    >>> automatic_shifts(32)
    [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0]
    """
    return np.unique(np.round(np.geomspace(1, max(side / 4, 1), 9))).tolist()


def movements(settings: ConfigDict, size: tuple[int, int]) -> list[Movement]:
    """What the options ask for, after a movement of each kind that leaves the input as it is.

    Args:
      settings: config.invariance.
      size: height and width of the input.

    Raises:
      UserError: a number is out of its range; there is nothing to do.
    """
    field, side = "config.invariance", min(size)
    text = settings.shifts
    found = {
        "shift": automatic_shifts(side) if text == "auto" else numbers(f"{field}.shifts", text, 0, side),
        "rotation": numbers(f"{field}.angles", settings.angles, 0, 180),
        "scale": numbers(f"{field}.scales", settings.scales, 0.1, 10),
    }
    if not any(found.values()):
        raise UserError(f"{field}.shifts, .angles and .scales are all empty: one must name a movement")
    rests = {"shift": 0.0, "rotation": 0.0, "scale": 1.0}
    return [
        Movement(kind, amount)
        for kind, amounts in found.items()
        if amounts
        for amount in sorted({rests[kind], *amounts})
    ]


def layer_places(subject: Subject, layers: Sequence[str]) -> dict[str, Places | None]:
    """By layer where its places lie, in the order of the network: of those named, or of those at its top.

    Raises:
      UserError: there is no such layer.
    """
    found = shapes(subject.model, subject.variables, subject.x)
    check_layers(layers, found)
    chosen = layers or [name for name in found if "/" not in name]
    reached = reaches(subject.model, subject.x.shape)
    size = subject.x.shape[1:3]
    return {name: places_of(reached.get(name, ()), found[name], size) for name in found if name in chosen}


def measure(
    subject: Subject,
    batches: Iterator[tuple[Float[Array, "n h w c"], Int[np.ndarray, " n"], int]],
    wanted: Sequence[Movement],
    places: Mapping[str, Places | None],
    border: float,
) -> list[Found]:
    """What each movement does, on all examples of all batches.

    Args:
      subject: whose network it is.
      batches: the network's input, the true classes, and how many of the batch count, the first ones.
      wanted: the movements.
      places: by layer, of those that are measured.
      border: pixels of the input; see `equivariance.py`.
    """
    model, places = subject.model, {**places, OUTPUT: None}

    def answers(variables, x):
        logits, found = run(model, variables, x)
        return {OUTPUT: logits, **{layer: found[layer] for layer in places if layer != OUTPUT}}

    @jax.jit
    def step(variables, before, x, back):
        after = answers(variables, moved(x, back)[0])
        return jnp.argmax(after[OUTPUT], -1), compare(before, after, back, places, x.shape[1:3], border)

    first, done = jax.jit(answers), 0
    right = np.zeros(len(wanted))
    errors: list[dict[tuple[str, str], Error]] = [{} for _ in wanted]
    for x, labels, count in batches:
        before, order = first(subject.variables, x), done + jnp.arange(len(x))
        for i, movement in enumerate(wanted):
            back = way_back(movement, order, x.shape[1:3])
            predicted, found = jax.device_get(step(subject.variables, before, x, back))
            right[i] += np.sum((predicted == labels)[:count])
            for layer, by_measure in found.items():
                for name, sums in by_measure.items():
                    errors[i].setdefault((name, layer), Error()).add(sums, np.arange(len(x)) < count)
        done += count
    return [
        Found(
            float(right[i] / done),
            {
                name: {layer: errors[i][name, layer].compute() for layer in places if (name, layer) in errors[i]}
                for name in MEASURES
            },
        )
        for i in range(len(wanted))
    ]


def draw(subject: Subject, options: ConfigDict) -> dict[str, Figure]:
    """Accuracy and the layers' errors against the size of each movement, on config.examples of the test set.

    Of pictures of the user's own the classes are the predicted ones, and accuracy is the share that keep theirs. The
    layers are those at the top of the network, or config.layers. Prints a table.

    Raises:
      UserError: there is no such layer; a number of config.invariance is out of its range; there are not two examples.
    """
    settings, size = options.invariance, subject.x.shape[1:3]
    if not 0 <= settings.border < 0.5:
        raise UserError(f"config.invariance.border is {settings.border}; it must be from 0 to under 0.5")
    wanted = movements(settings, size)
    places = layer_places(subject, patterns(options.layers))
    examples = len(subject.files) or min(options.examples, len(subject.experiment.test_data()))
    if examples < 2:
        raise UserError("config.inspect=invariance compares changes with how pictures differ: it needs two or more")
    kind = "pictures" if subject.files else "test examples"
    heading = f"{subject.experiment.name}: {examples:,} {kind}, the input of {size[0]}×{size[1]} moved"
    print(heading, flush=True)
    measured = measure(subject, _batches(subject, options.examples), wanted, places, settings.border * min(size))
    found = dict(zip(wanted, measured, strict=True))
    print(format_table(found), flush=True)
    said = "pictures that keep their class, %" if subject.files else "accuracy, %"
    figure = curves_figure if len(places) <= CURVES else heat_figure
    return {"invariance": accuracy_figure(found, heading, said), "equivariance": figure(found, heading)}


def _batches(subject: Subject, most: int) -> Iterator[tuple[Float[Array, "n h w c"], Int[np.ndarray, " n"], int]]:
    """Batches of one size for `measure`, small enough for every layer's outputs; the last is filled up."""
    found = shapes(subject.model, subject.variables, subject.x)
    per_example = sum(math.prod(shape[1:]) for shape in found.values())
    size = max(1, min(subject.experiment.eval_batch_size, NUMBERS // (2 * per_example)))
    given = [{"image": subject.pictures, "label": subject.labels}] if subject.files else subject.examples(most)
    total = len(subject.files) or min(most, len(subject.experiment.test_data()))
    size = min(size, total)
    for batch in given:
        for start in range(0, len(batch["label"]), size):
            part = np.arange(start, min(start + size, len(batch["label"])))
            filled = np.concatenate([part, np.repeat(part[-1:], size - len(part))])
            x = subject.experiment.task.preprocess(jnp.asarray(batch["image"][filled]))
            yield x, batch["label"][filled], len(part)
