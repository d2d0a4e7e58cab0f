"""Adversarial examples of a trained network: how much it takes to fool it, what they look like, who else is fooled."""

import dataclasses
from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float, Int, Key, PyTree, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from cnnlab.data.augment import keys_of
from cnnlab.errors import UserError
from cnnlab.inspect import attacks
from cnnlab.inspect.attacks import Pictures
from cnnlab.inspect.layers import class_number
from cnnlab.inspect.robustness import (
    BOUNDED,
    Attempt,
    Outcome,
    attacked,
    attempt,
    curve,
    outcome,
    probabilities,
    together,
)
from cnnlab.inspect.subject import Subject
from cnnlab.rngs import stream_key
from cnnlab.transfer import patterns

NORMS = {"linf": "greatest change of a pixel", "l2": "length of the change"}


@dataclasses.dataclass(frozen=True)
class Fooling:
    """What an attack made of the pictures that are shown.

    Attributes:
      name: the attack.
      epsilons: of each picture the least that fooled the network, or the greatest; None where the attack has no ε.
      pictures: as they became, from 0 to 1.
      probabilities: of the classes.
    """

    name: str
    epsilons: tuple[float | None, ...]
    pictures: Float[np.ndarray, "n h w c"]
    probabilities: Float[np.ndarray, "n k"]


def fooling(
    attempts: Sequence[Attempt],
    logits: Partial,
    shown: UInt8[np.ndarray, "n h w c"],
    labels: Int[np.ndarray, " n"],
    keys: Key[Array, " n"],
    size: int,
    target: int | None = None,
) -> Fooling:
    """One kind of attack on pictures, with the least ε that is enough to change a picture's class, or for the target.

    Args:
      attempts: of the same name, with rising ε.
      logits: the network, of pictures from 0 to 1.
      shown: pictures as they are stored.
      labels, keys, size: as in `robustness.attacked`.
      target: the class that the attack is for.
    """
    fooled = np.zeros(len(shown), bool)
    epsilons, changed, after = [None] * len(shown), np.zeros(shown.shape, np.float32), {}
    for each in attempts:
        place = 0
        for x, became, count in attacked(each, logits, shown, labels, keys, size):
            before, found = (np.asarray(probabilities(logits, array)) for array in (x, became))
            for i in range(count):
                if not fooled[place + i]:
                    epsilons[place + i], changed[place + i], after[place + i] = each.epsilon, became[i], found[i]
                    taken = found[i].argmax()
                    fooled[place + i] = taken == target if target is not None else taken != before[i].argmax()
            place += count
    return Fooling(attempts[0].name, tuple(epsilons), changed, np.stack([after[i] for i in range(len(shown))]))


def header(other: bool) -> str:
    """What stands above the columns of `line`; with `other`, there is one of the other network."""
    columns = f"{'attack':9}{'ε':>6}{'accuracy':>10}{'fooled':>9}{'distortion':>12}{'greatest':>10}{'of a pixel':>12}"
    return columns + f"{'the other':>11}" * other


def line(found: Outcome, labels: Int[np.ndarray, " n"], target: int | None = None) -> str:
    """An outcome as a line of a table.

    The accuracy; the share of pictures fooled, of those that could be; of the fooled ones the mean distortion, the
    greatest, and the greatest change of a pixel; the other network's accuracy, where there is one.
    """
    fooled = found.fooled(labels, target)
    able = found.before == labels if target is None else found.before != target
    sizes = ("–", "–", "–")
    if fooled.any():
        values = found.distortion[fooled].mean(), found.distortion[fooled].max(), found.greatest[fooled].max()
        sizes = tuple(f"{value:.4f}" for value in values)
    epsilon = "" if found.attempt.epsilon is None else f"{found.attempt.epsilon:g}"
    shares = f"{np.mean(found.after == labels):10.2%}{fooled.sum() / max(able.sum(), 1):9.2%}"
    other = "" if found.elsewhere is None else f"{np.mean(found.elsewhere == labels):11.2%}"
    return f"{found.attempt.name:9}{epsilon:>6}{shares}{sizes[0]:>12}{sizes[1]:>10}{sizes[2]:>12}{other}"


def curves(panels: Mapping[str, Sequence[Outcome]], labels: Int[np.ndarray, " n"], norm: str, heading: str) -> Figure:
    """Accuracy against ε, a panel a network that was attacked, a line an attack; dashed: of the other network.

    Args:
      panels: by title, what was measured, "none" among it.
      labels: of the pictures.
      norm: of ε.
      heading: above all.
    """
    drawn = Figure(figsize=(1 + 5.5 * len(panels), 4.6), layout="constrained")
    drawn.suptitle(heading)
    for i, (title, outcomes) in enumerate(panels.items()):
        label = f"ε: {NORMS[norm]}, pixels being from 0 to 1"
        axes = drawn.add_subplot(1, len(panels), i + 1, title=title, xlabel=label, ylabel="accuracy (%)")
        _draw_curves(axes, outcomes, labels)
    return drawn


def _draw_curves(axes: Axes, outcomes: Sequence[Outcome], labels: Int[np.ndarray, " n"]) -> None:
    clean = [each for each in outcomes if each.attempt.name == "none"]
    bounded = [each.attempt.epsilon for each in outcomes if each.attempt.epsilon]
    furthest = max(bounded or [float(each.size.max()) for each in outcomes]) or 1.0
    for number, name in enumerate(dict.fromkeys(each.attempt.name for each in outcomes if each not in clean)):
        found = [each for each in outcomes if each.attempt.name == name]
        if name not in BOUNDED:
            x, y = curve(found, labels, furthest)
            axes.plot(x, 100 * np.array(y), f"C{number}", label=f"{name}, least in L2")
            continue
        x, y = curve(clean + found, labels, furthest)
        axes.plot(x, 100 * np.array(y), f"C{number}.-", label=name)
        if found[0].elsewhere is not None:
            x, y = curve(clean + found, labels, furthest, elsewhere=True)
            axes.plot(x, 100 * np.array(y), f"C{number}.--", label=f"{name}, the other network")
    axes.set(ylim=(-2, 102), xlim=(0, 1.02 * furthest))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def sheet(
    pictures: UInt8[np.ndarray, "n h w c"],
    titles: Sequence[str],
    before: Float[np.ndarray, "n k"],
    foolings: Sequence[Fooling],
    class_names: Sequence[str],
) -> Figure:
    """A row a picture: as it is, then for each attack the change, made greater or less around grey, and the result.

    Under a result stands the class that it is taken for, red where that is no longer the one that it was.

    Args:
      pictures: as they are stored.
      titles: of the pictures.
      before: their class probabilities.
      foolings: what became of them.
      class_names: in the order of the labels.
    """
    rows, columns = len(pictures), 1 + 2 * len(foolings)
    drawn = Figure(figsize=(max(1.5 * columns, 5), 1.95 * rows + 0.6), layout="constrained")
    drawn.suptitle("Adversarial examples: the change, × what makes it visible (grey: none),\nthen the picture with it")

    def taken(row: Float[np.ndarray, " k"]) -> str:
        return f"taken for {class_names[row.argmax()]}\n({row.max():.1%})"

    for row, (picture, title) in enumerate(zip(pictures, titles, strict=True)):
        original = picture.astype(np.float32) / 255
        _show(drawn.add_subplot(rows, columns, row * columns + 1), original, f"{title}: {taken(before[row])}")
        for column, each in enumerate(foolings):
            place = row * columns + 2 + 2 * column
            change, epsilon = each.pictures[row] - original, each.epsilons[row]
            greatest = float(np.abs(change).max())
            factor = 0.5 / greatest if greatest > 1e-6 else 1.0
            above = each.name if epsilon is None else f"{each.name}, ε {epsilon:g}"
            below = f"× {factor:.3g}" if greatest > 1e-6 else "no change"
            _show(drawn.add_subplot(rows, columns, place), 0.5 + factor * change, f"{above}\n{below}")
            after = each.probabilities[row]
            colour = "tab:red" if after.argmax() != before[row].argmax() else "black"
            _show(drawn.add_subplot(rows, columns, place + 1), each.pictures[row], taken(after), colour)
    return drawn


def _show(axes: Axes, picture: Float[np.ndarray, "h w c"], title: str, colour: str = "black") -> None:
    shown = np.clip(picture, 0, 1)
    axes.imshow(shown.squeeze(-1) if shown.shape[-1] == 1 else shown, cmap="gray", vmin=0, vmax=1)
    axes.set_title(title, fontsize=8, color=colour)
    axes.axis("off")


def draw(subject: Subject, options: ConfigDict) -> dict[str, Figure]:
    """Attacks on many test pictures, or on the user's own; prints what they did, and draws it and some of the pictures.

    Raises:
      UserError: an option is out of its range, or the other workdir's network does not fit.
    """
    settings = options.adversarial
    target = class_number(settings.target, subject.class_names) if settings.target else None
    attempts = _attempts(settings, target, subject.experiment.picture_shape)
    networks = {subject.experiment.name: subject}
    if settings.transfer_to:
        other = _other(subject, settings.transfer_to)
        networks = {"this network": subject, f"{settings.transfer_to} ({other.experiment.name})": other}
    pictures, labels = _examples(subject, options.examples, target)
    keys = keys_of(stream_key(subject.experiment.seed, "adversarial"), jnp.arange(len(labels)))
    functions, panels = [_logits_of(each) for each in networks.values()], {}
    size = together(len(labels), pictures[0].shape)
    for logits, name in zip(functions, networks, strict=True):
        other = next((each for each in functions if each is not logits), None)
        wanted = "" if target is None else f", to be taken for {subject.class_names[target]}"
        print(f"{len(labels):,} pictures against {name}{wanted}\n{header(other is not None)}", flush=True)
        found = panels[f"against {name}"] = []
        for each in attempts:
            found.append(outcome(each, logits, pictures, labels, keys, size, settings.norm, other))
            print(line(found[-1], labels, target), flush=True)
    heading = f"Accuracy under attack, {len(labels):,} pictures" + "; dashed: of the other network" * (len(panels) > 1)
    drawn = curves(panels, labels, settings.norm, heading)
    return {"adversarial": drawn, "adversarial_pictures": _sheet_of(subject, attempts, functions[0], size, target)}


def _attempts(settings: ConfigDict, target: int | None, shape: tuple[int, ...]) -> list[Attempt]:
    """The attacks that are asked for, each with every ε if it has one, after "none"."""
    field = "config.adversarial"
    attacks.check_norm(settings.norm, f"{field}.norm")
    attacks.check_steps(settings.steps, f"{field}.steps")
    names = patterns(settings.attacks)
    try:
        epsilons = sorted({float(word) for word in patterns(settings.epsilons)})
    except ValueError:
        epsilons = []
    for name, given in (("attacks", names), ("epsilons", epsilons)):
        if not given:
            right = "fgsm,pgd" if name == "attacks" else "0.1,0.25"
            raise UserError(f"{field}.{name} is {settings[name]!r}; write it as in {right}")
    for epsilon in epsilons:
        attacks.check_epsilon(epsilon, settings.norm, shape, f"{field}.epsilons")
    found = [attempt("none")]
    for name in dict.fromkeys(names):
        for epsilon in epsilons if name in BOUNDED else [None]:
            found.append(attempt(name, epsilon, settings.norm, settings.steps, target))
    return found


def _other(subject: Subject, workdir: str) -> Subject:
    """The network of another workdir; a `UserError` unless it has the same pictures and classes."""
    field = f"config.adversarial.transfer_to={workdir}"
    try:
        other = subject.open_run(workdir)
    except UserError as error:
        raise UserError(f"{field}: {error}") from error
    for name, ours, theirs in (
        ("pictures of shape", subject.experiment.picture_shape, other.experiment.picture_shape),
        ("the classes", subject.class_names, other.class_names),
    ):
        if ours != theirs:
            ours, theirs = (", ".join(map(str, each[:10])) + ", …" * (len(each) > 10) for each in (ours, theirs))
            raise UserError(f"{field}: it has {name} {theirs}; this network, {ours}")
    return other


def _examples(
    subject: Subject, most: int, target: int | None
) -> tuple[UInt8[np.ndarray, "n h w c"], Int[np.ndarray, " n"]]:
    """What is attacked: the user's pictures, or some of the test set; what is of the target's class is left out."""
    batches = [{"image": subject.pictures, "label": subject.labels}] if subject.files else subject.examples(most)
    parts = [(batch["image"], batch["label"]) for batch in batches]
    pictures, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    kept = labels != target if target is not None else np.full(len(labels), True)
    if not kept.any():
        raise UserError(f"config.adversarial.target: all pictures are of class {subject.class_names[target]} already")
    return pictures[kept], labels[kept]


def _logits_of(subject: Subject) -> Partial:
    """A subject's network as a function of stored pictures divided by 255, its variables being an argument of it."""
    task = subject.experiment.task

    def logits(variables: PyTree, x: Pictures) -> Float[Array, "n k"]:
        return task.model.apply(variables, task.preprocess(255 * x), train=False)

    return Partial(logits, subject.variables)


def _sheet_of(subject: Subject, attempts: Sequence[Attempt], logits: Partial, size: int, target: int | None) -> Figure:
    labels = np.asarray(subject.labels)
    keys = keys_of(stream_key(subject.experiment.seed, "adversarial"), jnp.arange(len(labels)))
    found = {}
    for name in dict.fromkeys(each.name for each in attempts):
        alike = [each for each in attempts if each.name == name]
        found[name] = fooling(alike, logits, subject.pictures, labels, keys, size, target)
    before = found.pop("none").probabilities
    return sheet(subject.pictures, subject.titles, before, list(found.values()), subject.class_names)
