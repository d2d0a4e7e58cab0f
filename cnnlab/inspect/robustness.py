"""How well a network stands attacks: what each does to many pictures, and what another network makes of them."""

import dataclasses
import math
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float, Int, Key, UInt8

from cnnlab.errors import UserError, nearest
from cnnlab.inspect import attacks, smallest
from cnnlab.inspect.attacks import Attack, Logits, Pictures

BOUNDED = ("fgsm", "bim", "pgd")  # go as far as ε; the others look for the smallest change that does
ATTACKS = (*BOUNDED, "deepfool", "lbfgs")
PIXELS = 2_000_000  # numbers in the pictures that are attacked together, at most


@dataclasses.dataclass(frozen=True)
class Attempt:
    """One attack with its setting.

    Attributes:
      name: one of `ATTACKS`, or "none".
      epsilon: how far it goes, 0 for "none"; None for those that look for the smallest change.
      attack: `(logits, pictures from 0 to 1, labels, keys) → pictures from 0 to 1`.
    """

    name: str
    epsilon: float | None
    attack: Attack


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What an attack did to n pictures.

    Attributes:
      attempt: the attack.
      before: the classes that the network gave them.
      after: those that it gives what became of them.
      distortion: the root of the mean square of each picture's change, pixels being from 0 to 1: Szegedy et al. 2013,
        section 4.2.
      size: of the change, in the norm that was asked for.
      greatest: change of a pixel.
      elsewhere: what another network gives them, if there is one.
    """

    attempt: Attempt
    before: Int[np.ndarray, " n"]
    after: Int[np.ndarray, " n"]
    distortion: Float[np.ndarray, " n"]
    size: Float[np.ndarray, " n"]
    greatest: Float[np.ndarray, " n"]
    elsewhere: Int[np.ndarray, " n"] | None = None

    def fooled(self, labels: Int[np.ndarray, " n"], target: int | None = None) -> Bool[np.ndarray, " n"]:
        """Which pictures were classified rightly before and are not now; with a target, are now taken for it."""
        if target is not None:
            return (self.before != target) & (self.after == target)
        return (self.before == labels) & (self.after != labels)


def attempt(
    name: str, epsilon: float | None = None, norm: str = "linf", steps: int = 40, target: int | None = None
) -> Attempt:
    """An attack by its name, against the label of each picture or for a target.

    "lbfgs" without a target takes each picture's likeliest wrong class for one; "deepfool" never has a target.

    Args:
      name: one of `ATTACKS`, or "none", which changes nothing.
      epsilon, norm, steps: of those that go as far as ε.
      target: a class.

    Raises:
      UserError: there is no such attack.
    """
    known = ("none", *ATTACKS)
    if name not in known:
        raise UserError(f"there is no attack {name!r}{nearest(name, known) or ': it is one of ' + ', '.join(ATTACKS)}")
    bounded = {"epsilon": epsilon, "norm": norm, "targeted": target is not None}

    def attack(logits: Logits, x: Pictures, labels: Int[Array, " n"], keys: Key[Array, " n"]) -> Pictures:
        goal = labels if target is None else jnp.full_like(labels, target)
        match name:
            case "none":
                return x
            case "fgsm":
                return attacks.fgsm(logits, x, goal, **bounded)
            case "bim":
                return attacks.iterated_fgsm(logits, x, goal, steps=steps, **bounded)
            case "pgd":
                return attacks.pgd(logits, x, goal, keys, steps=steps, **bounded)
            case "deepfool":
                return smallest.deepfool(logits, x, labels)
        wrong = smallest.runner_up(logits, x, labels) if target is None else goal
        return smallest.lbfgs_attack(logits, x, wrong)

    distances = {"none": 0.0, **dict.fromkeys(BOUNDED, epsilon)}
    return Attempt(name, distances.get(name), attack)


@jax.jit
def probabilities(logits: Partial, x: Pictures) -> Float[Array, "n k"]:
    """The softmax of a network's outputs for pictures from 0 to 1."""
    return jax.nn.softmax(logits(x))


def together(count: int, shape: tuple[int, ...]) -> int:
    """How many of `count` pictures of a shape are attacked at a time."""
    return min(count, 100, max(1, PIXELS // math.prod(shape)))


def attacked(
    attempt: Attempt,
    logits: Partial,
    pictures: UInt8[np.ndarray, "n h w c"],
    labels: Int[np.ndarray, " n"],
    keys: Key[Array, " n"],
    size: int,
) -> Iterator[tuple[Pictures, Pictures, int]]:
    """Pictures from 0 to 1, what becomes of them, and how many of them count, `size` at a time.

    The last part is filled up with the last picture, as another number of pictures would be another program.

    Args:
      attempt: the attack.
      logits: the network that is attacked, of pictures from 0 to 1.
      pictures: as they are stored.
      labels: their classes.
      keys: one a picture.
      size: how many pictures at a time.
    """
    n = len(pictures)
    for start in range(0, n, size):
        here = np.minimum(np.arange(start, start + size), n - 1)
        x = jnp.asarray(pictures[here], jnp.float32) / 255
        yield x, attempt.attack(logits, x, jnp.asarray(labels[here]), keys[here]), min(size, n - start)


def outcome(
    attempt: Attempt,
    logits: Partial,
    pictures: UInt8[np.ndarray, "n h w c"],
    labels: Int[np.ndarray, " n"],
    keys: Key[Array, " n"],
    size: int,
    norm: str = "linf",
    other: Partial | None = None,
) -> Outcome:
    """What an attack does to pictures.

    Args:
      attempt, logits, pictures, labels, keys, size: as in `attacked`.
      norm: in which the changes' sizes are given.
      other: a network that is shown what became of them.
    """
    rows = []
    for x, changed, count in attacked(attempt, logits, pictures, labels, keys, size):
        seen = {
            "before": probabilities(logits, x).argmax(-1),
            "after": probabilities(logits, changed).argmax(-1),
            "distortion": attacks.size(changed - x, "l2") / math.sqrt(x[0].size),
            "size": attacks.size(changed - x, norm),
            "greatest": attacks.size(changed - x, "linf"),
        }
        if other is not None:
            seen["elsewhere"] = probabilities(other, changed).argmax(-1)
        rows.append({name: np.asarray(array)[:count] for name, array in seen.items()})
    return Outcome(attempt, **{name: np.concatenate([row[name] for row in rows]) for name in rows[0]})


def curve(
    outcomes: Sequence[Outcome], labels: Int[np.ndarray, " n"], furthest: float, elsewhere: bool = False
) -> tuple[list[float], list[float]]:
    """The accuracy under one kind of attack, as a fraction, against ε, from 0 to `furthest`.

    Args:
      outcomes: of one attack, for several ε; or one of an attack that looks for the smallest change, which counts from
        that change's size on.
      labels: the pictures' classes.
      furthest: the greatest ε.
      elsewhere: the other network's accuracy instead.
    """
    clean = outcomes[0].before == labels
    if outcomes[0].attempt.epsilon is None:
        found = outcomes[0]
        at = np.linspace(0, furthest, 101)
        right = [np.where(found.size <= most, found.after == labels, clean).mean() for most in at]
        return at.tolist(), [float(share) for share in right]
    after = [each.elsewhere if elsewhere else each.after for each in outcomes]
    return [each.attempt.epsilon for each in outcomes], [float((found == labels).mean()) for found in after]
