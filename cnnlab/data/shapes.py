"""Pictures drawn on the spot: coloured shapes that overlap, on textured ground, with all that is true of them.

A drawing is a function of its split and index alone, and no drawing of one split is in another. What is drawn later
lies above; no shape is hidden by more than three quarters, and none by one of its own colour. Boxes are tight around
what is visible, masks are the drawn pixels.
"""

import dataclasses
import math

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from cnnlab.data.annotations import Annotation
from cnnlab.data.canvas import Resizing, on_canvas
from cnnlab.data.detection import mask_windows, padded
from cnnlab.errors import UserError

CLASS_NAMES = ("circle", "cross", "square", "star", "triangle")
COLOURS = {
    "red": (205, 35, 40),
    "green": (45, 150, 60),
    "blue": (45, 80, 205),
    "yellow": (230, 210, 50),
    "purple": (145, 60, 180),
    "orange": (240, 130, 30),
}
# Radii as shares of the picture's side; between the ranges is room, so that no one can quarrel over the word.
SIZES = {"small": (0.07, 0.10), "medium": (0.13, 0.17), "large": (0.21, 0.27)}
KINDS = (len(CLASS_NAMES), len(COLOURS), len(SIZES))  # what things are told apart by: shapes, colours, sizes
REACH = 1.2  # of a shape's farthest corner, in radii
VISIBLE = 0.25  # of a shape's pixels, at least
TRIES = 8  # places that are tried for a shape before it is left out
TURN = math.radians(20)  # at most, either way
SPLITS = {"train": 0, "test": 1}


@dataclasses.dataclass(frozen=True)
class Thing:
    """A drawn shape.

    Attributes:
      shape, colour, size: words of `CLASS_NAMES`, `COLOURS` and `SIZES`.
      centre: x y of the whole shape, in pixels.
      box: x0 y0 x1 y1, tight around what is visible.
      area: visible pixels.
      whole: pixels with those that others hide.
    """

    shape: str
    colour: str
    size: str
    centre: tuple[float, float]
    box: tuple[int, int, int, int]
    area: int
    whole: int


@dataclasses.dataclass(frozen=True, eq=False)
class Scene:
    """A drawing and what is on it.

    Attributes:
      picture: RGB.
      instances: of each pixel, which thing is seen there: 0 the ground, k the k-th thing.
      things: as they were drawn, each above those before it.
    """

    picture: UInt8[np.ndarray, "h w 3"]
    instances: UInt8[np.ndarray, "h w"]
    things: tuple[Thing, ...]

    def masks(self) -> Bool[np.ndarray, "k h w"]:
        """The visible pixels of each thing."""
        return self.instances == np.arange(1, len(self.things) + 1, dtype=np.uint8)[:, None, None]


def inside(shape: str, u: Float[np.ndarray, "h w"], v: Float[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Whether points lie within a shape of radius 1 around 0; u to the right, v down.

    >>> inside("cross", np.array([[0.9, 0.9]]), np.array([[0.1, 0.9]])).tolist()
    [[True, False]]
    """
    if shape == "circle":
        return u * u + v * v <= 1
    if shape == "square":
        return np.maximum(np.abs(u), np.abs(v)) <= REACH / math.sqrt(2)
    if shape == "cross":
        a, b = np.abs(u), np.abs(v)
        return (np.minimum(a, b) <= 0.35) & (np.maximum(a, b) <= 1)
    # Within how many of the lines that bound it: a triangle within all three, a star within all or all but one of five.
    sides, distance = (3, 0.5) if shape == "triangle" else (5, math.cos(math.radians(72)))
    angles = math.pi / 2 + 2 * math.pi * np.arange(sides) / sides
    normals = [(math.cos(a), math.sin(a) if shape == "triangle" else -math.sin(a)) for a in angles]
    within = [u * x + v * y <= REACH * distance for x, y in normals]
    return np.sum(within, 0, dtype=np.uint8) >= (3 if shape == "triangle" else 4)


def kind(thing: Thing) -> int:
    """The number of its shape, colour and size together, of `KINDS`."""
    words = CLASS_NAMES.index(thing.shape), [*COLOURS].index(thing.colour), [*SIZES].index(thing.size)
    return int(np.ravel_multi_index(words, KINDS))


def kinds_at_places(scene: Scene, places: int) -> UInt8[np.ndarray, "p p k"]:
    """How many things of each kind have their centre in each of places×places squares of a drawing.

    >>> found = kinds_at_places(draw("train", 0), 6)
    >>> found.shape, int(found.sum()) == len(draw("train", 0).things)
    ((6, 6, 90), True)
    """
    found = np.zeros((places, places, math.prod(KINDS)), np.uint8)
    for thing in scene.things:
        column, row = (min(max(int(at * places / len(scene.picture)), 0), places - 1) for at in thing.centre)
        found[row, column, kind(thing)] += 1
    return found


def draw(split: str, index: int, size: int = 128, most: int = 6) -> Scene:
    """A drawing of one to `most` shapes.

    Args:
      split: "train" or "test".
      index: from 0.
      size: height and width, in pixels.
      most: shapes that are tried; those that would hide another, or find no place, are left out.
    """
    random = np.random.Generator(np.random.Philox(key=[SPLITS[split], index]))
    picture = _ground(random, size)
    instances = np.zeros((size, size), np.uint8)
    drawn: list[_Placed] = []
    for _ in range(random.integers(1, most + 1)):
        words = (_one(random, CLASS_NAMES), _one(random, tuple(COLOURS)), _one(random, tuple(SIZES)))
        placed = _place(random, words, instances, drawn)
        if placed is not None:
            drawn.append(placed)
            colour = np.array(COLOURS[words[1]]) + random.integers(-12, 13, 3)
            picture[placed.window][placed.mask] = np.clip(colour, 0, 255)
    picture += random.integers(-9, 10, picture.shape, np.int8)
    np.clip(picture, 0, 255, out=picture)
    things = tuple(_thing(k, placed, instances) for k, placed in enumerate(drawn, 1))
    return Scene(picture.astype(np.uint8), instances, things)


@dataclasses.dataclass
class _Placed:
    words: tuple[str, str, str]
    centre: tuple[float, float]
    window: tuple[slice, slice]
    mask: np.ndarray
    whole: int
    visible: int


def _one(random: np.random.Generator, words: tuple[str, ...]) -> str:
    return words[random.integers(len(words))]


def _place(
    random: np.random.Generator, words: tuple[str, str, str], instances: np.ndarray, drawn: list[_Placed]
) -> _Placed | None:
    """Finds a shape's place, where it leaves enough of the others, and marks its pixels there; None: it finds none."""
    size = len(instances)
    for _ in range(TRIES):
        radius = size * random.uniform(*SIZES[words[2]])
        x, y = random.uniform(REACH * radius, size - REACH * radius, 2)
        turn = random.uniform(-TURN, TURN)
        first_x, first_y = int(x - REACH * radius), int(y - REACH * radius)
        side = math.ceil(2 * REACH * radius) + 1
        window = slice(first_y, first_y + side), slice(first_x, first_x + side)
        seen = instances[window]
        across = ((np.arange(seen.shape[1], dtype=np.float32) + (first_x + 0.5 - x)) / radius)[None]
        down = ((np.arange(seen.shape[0], dtype=np.float32) + (first_y + 0.5 - y)) / radius)[:, None]
        cos, sin = math.cos(turn), math.sin(turn)
        mask = inside(words[0], across * cos + down * sin, down * cos - across * sin)
        hidden = np.bincount(seen[mask], minlength=len(drawn) + 1)[1:].tolist()
        if all(_leaves(one, lost, words[1]) for one, lost in zip(drawn, hidden, strict=True)):
            for one, lost in zip(drawn, hidden, strict=True):
                one.visible -= lost
            seen[mask] = len(drawn) + 1
            whole = int(np.count_nonzero(mask))
            return _Placed(words, (float(x), float(y)), window, mask, whole, whole)
    return None


def _leaves(one: _Placed, lost: int, colour: str) -> bool:
    """Whether enough of a shape is still seen, and the edge too, when another of some colour hides pixels of it."""
    return not lost or (one.visible - lost >= VISIBLE * one.whole and one.words[1] != colour)


def _thing(number: int, placed: _Placed, instances: np.ndarray) -> Thing:
    seen = instances[placed.window] == number
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    top, left = placed.window[0].start, placed.window[1].start
    box = (left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1)
    return Thing(*placed.words, placed.centre, tuple(map(int, box)), placed.visible, placed.whole)


def _ground(random: np.random.Generator, size: int) -> Int[np.ndarray, "size size 3"]:
    """A dull colour with a gradient, with stripes, or in blotches."""
    grey = random.integers(70, 181)
    colour = grey + random.integers(-20, 21, 3)
    strength = random.uniform(12, 40) * random.uniform(0.6, 1, 3)
    kind = random.integers(3)
    if kind == 2:
        coarse = random.uniform(-1, 1, (size // 8 + 1, size // 8 + 1)).astype(np.float32)
        pattern = np.repeat(np.repeat(coarse, 8, 0), 8, 1)[:size, :size]
    else:
        angle = random.uniform(0, 2 * math.pi)
        places = np.linspace(-1, 1, size, dtype=np.float32)
        pattern = (places * math.cos(angle))[None] + (places * math.sin(angle))[:, None]
        if kind == 1:
            pattern = np.sin(pattern * random.uniform(8, 40))
    shade = np.multiply(pattern[..., None], strength.astype(np.float32), dtype=np.float32)
    shade += colour.astype(np.float32)
    return shade.astype(np.int16)


@dataclasses.dataclass(frozen=True)
class ShapesSource:
    """Drawings by index, each drawn anew when it is asked for: batches as in `detection.py`, all of one size.

    Attributes:
      split: "train" or "test".
      count: how many.
      size: height and width, in pixels.
      most: shapes a picture, the padding too.
      mask_window: W of the masks' windows; 0: batches have no masks.
    """

    split: str
    count: int
    size: int = 128
    most: int = 6
    mask_window: int = 0

    def __post_init__(self) -> None:
        if self.split not in SPLITS or self.count < 1 or self.size < 32 or not 1 <= self.most <= 100:
            raise UserError(
                f"{self.count} drawings of {self.size}×{self.size} with up to {self.most} shapes for {self.split!r}: "
                "there must be 1 or more, of 32 or more, with 1 to 100, for 'train' or 'test'"
            )

    @property
    def class_names(self) -> tuple[str, ...]:
        return CLASS_NAMES

    def __len__(self) -> int:
        return self.count

    def scene(self, index: int) -> Scene:
        """A drawing with all that is true of it."""
        return draw(self.split, index, self.size, self.most)

    def picture(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """A drawing, for figures."""
        return self.scene(index).picture

    def masks(self, index: int) -> Bool[np.ndarray, "k h w"]:
        """The visible pixels of each shape, for tests and figures."""
        return self.scene(index).masks()

    def canvas(self, indices: Int[np.ndarray, " n"]) -> tuple[int, int]:
        """Height and width of all drawings; see `DetectionSource.canvas`."""
        return self.size, self.size

    def batch(self, indices: Int[np.ndarray, " n"], canvas: tuple[int, int] | None = None) -> dict[str, np.ndarray]:
        """The drawings at `indices` with their boxes; see the top of `detection.py`. The canvas is always theirs."""
        scenes = [self.scene(index) for index in indices.tolist()]
        sizes = [(self.size, self.size)] * len(scenes)
        batch = on_canvas([scene.picture for scene in scenes], sizes, Resizing(self.size, self.size).canvas(sizes))
        annotations = [annotation_of(scene, i) for scene, i in zip(scenes, indices.tolist(), strict=True)]
        if self.mask_window:
            masks = (scene.masks() for scene in scenes)
            batch["masks"] = mask_windows(masks, annotations, self.most, self.mask_window)
        return batch | padded(annotations, batch["size"], self.most)


def annotation_of(scene: Scene, number: int) -> Annotation:
    """A scene's boxes, as the readers of data sets give them."""
    count = len(scene.things)
    return Annotation(
        b"",
        *scene.picture.shape[:2],
        np.array([thing.box for thing in scene.things], np.float32),
        np.array([CLASS_NAMES.index(thing.shape) for thing in scene.things], np.int32),
        np.zeros(count, bool),
        np.array([thing.area for thing in scene.things], np.float32),
        number,
    )
