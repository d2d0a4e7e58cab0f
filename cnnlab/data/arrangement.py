"""How the things of a drawing lie to each other: left of, right of, above, below, and which hides part of which.

Each relation is judged in two ways. `lies` is what a person would grant. `clearly_lies` is narrower, so that nobody can
quarrel; only that is said in the sentences that are written about drawings.
"""

import functools
import math

import numpy as np
from jaxtyping import Bool

from cnnlab.data.shapes import CLASS_NAMES, REACH, TURN, Scene, Thing, inside

DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "above": (0, -1), "below": (0, 1)}
# Least distance of the centres along the direction, as a share of the picture's side; most of it across, as a share of
# that along, tan 60° and tan 27°; least part of the smaller thing that lies over the other one or under it.
GRANTED = (0.05, math.sqrt(3), 0.02)
CLEAR = (0.18, 0.5, 0.15)


def lies(scene: Scene, first: int, relation: str, second: int) -> bool:
    """Whether a thing lies to another as a relation says.

    Args:
      scene: the drawing.
      first, second: numbers of `scene.things`, from 0.
      relation: of `grammar.RELATIONS`.
    """
    return _holds(scene, first, relation, second, GRANTED)


def clearly_lies(scene: Scene, first: int, relation: str, second: int) -> bool:
    """`lies` with margins; and in the four directions neither hides the other nor do they overlap along them."""
    if not _holds(scene, first, relation, second, CLEAR):
        return False
    if relation not in DIRECTIONS:
        return True
    a, b = scene.things[first].box, scene.things[second].box
    gaps = {"left": b[0] - a[2], "right": a[0] - b[2], "above": b[1] - a[3], "below": a[1] - b[3]}
    return gaps[relation] >= 0 and not {(first, second), (second, first)} & hidden(scene).keys()


def _holds(scene: Scene, first: int, relation: str, second: int, margins: tuple[float, float, float]) -> bool:
    nearest, across, part = margins
    if first == second:
        return False
    if relation in ("on", "behind"):
        upper, lower = (first, second) if relation == "on" else (second, first)
        smaller = min(scene.things[upper].whole, scene.things[lower].whole)
        return hidden(scene).get((upper, lower), 0) >= part * smaller
    (x, y), (u, v) = scene.things[first].centre, scene.things[second].centre
    right, down = DIRECTIONS[relation]
    along, beside = (x - u) * right + (y - v) * down, abs((x - u) * down) + abs((y - v) * right)
    return along >= nearest * len(scene.picture) and beside <= across * along


@functools.lru_cache(maxsize=16)
def hidden(scene: Scene) -> dict[tuple[int, int], int]:
    """How many pixels of things are hidden by others that are seen above them: by (upper, lower), where there are any.

    Where one thing alone is seen to lie above another, these are all that the lower one lacks; else the lower one's
    outline is found again from what is seen of it.
    """
    found = {}
    for lower, thing in enumerate(scene.things):
        uppers = [other for other in _neighbours(scene, lower) if other > lower] if thing.area < thing.whole else []
        if len(uppers) == 1:
            found[uppers[0], lower] = thing.whole - thing.area
        elif uppers:
            counts = np.bincount(scene.instances[outline(scene, lower)], minlength=len(scene.things) + 1)
            found |= {(upper, lower): int(counts[upper + 1]) for upper in uppers}
    return found


def _neighbours(scene: Scene, number: int) -> set[int]:
    """The things whose pixels lie beside, above or below those of a thing."""
    x0, y0, x1, y1 = scene.things[number].box
    window = np.pad(scene.instances, 1)[y0 : y1 + 2, x0 : x1 + 2]
    own = window == number + 1
    around = np.zeros_like(own)
    around[1:] |= own[:-1]
    around[:-1] |= own[1:]
    around[:, 1:] |= own[:, :-1]
    around[:, :-1] |= own[:, 1:]
    return {int(k) - 1 for k in np.unique(window[around & ~own])} - {-1}


def outline(scene: Scene, number: int) -> Bool[np.ndarray, "h w"]:
    """All pixels of a thing, those that others hide too: of all turns the one that fits best what is seen."""
    thing, seen = scene.things[number], scene.instances == number + 1
    below = scene.instances < number + 1
    turns = np.linspace(-TURN, TURN, 1 if thing.shape == "circle" else 21)
    masks = [_mask(thing, turn, scene.instances.shape) for turn in turns.tolist()]
    return min(masks, key=lambda mask: np.count_nonzero(seen & ~mask) + np.count_nonzero(mask & below))


def _mask(thing: Thing, turn: float, shape: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    (x, y), radius = thing.centre, math.sqrt(thing.whole / unit_areas()[thing.shape])
    top, left = max(0, int(y - REACH * radius)), max(0, int(x - REACH * radius))
    side = math.ceil(2 * REACH * radius) + 2
    mask = np.zeros(shape, bool)
    window = mask[top : top + side, left : left + side]
    across = ((np.arange(window.shape[1]) + (left + 0.5 - x)) / radius)[None]
    down = ((np.arange(window.shape[0]) + (top + 0.5 - y)) / radius)[:, None]
    cos, sin = math.cos(turn), math.sin(turn)
    window[:] = inside(thing.shape, across * cos + down * sin, down * cos - across * sin)
    return mask


@functools.cache
def unit_areas() -> dict[str, float]:
    """The areas of the shapes of radius 1, from a fine grid."""
    places = np.linspace(-REACH, REACH, 401)
    u, v = places[None], places[:, None]
    step = places[1] - places[0]
    return {name: float(inside(name, u + 0 * v, v + 0 * u).sum() * step**2) for name in CLASS_NAMES}
