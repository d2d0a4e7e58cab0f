"""Aerial scenes drawn on the spot: roads over fields, meadows and woods, roofs, trees and their shadows; all true.

A scene is a function of its split and index alone; a pixel is about a square metre. The truth holds every road whole,
also where a tree covers it. The map is what a draughtsman would have left us: the truth, or with roads left out and all
of it displaced, as maps to train on are. What is wrong with a map changes nothing of its picture.
"""

import dataclasses
import functools
import math

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw

from cnnlab.errors import UserError

SPLITS = {"train": 0, "test": 1}
FINE = 2  # dots a pixel in which edges are drawn, so that they come out smooth
GROUNDS = ((96, 118, 72), (128, 134, 82), (160, 146, 108), (112, 104, 78), (74, 98, 62))  # grass, meadow, crops, soil
ASPHALT, ROOFS = (88, 160), ((150, 82, 66), (122, 96, 82), (176, 170, 160), (104, 108, 118), (86, 84, 84))
WOOD = (50, 74, 46)
Line = tuple[Float[np.ndarray, "_ 2"], float]


@dataclasses.dataclass(frozen=True, eq=False)
class AerialScene:
    """A scene.

    Attributes:
      picture: RGB.
      truth: the pixels of roads.
      map: those that a map marks as roads.
    """

    picture: UInt8[np.ndarray, "h w 3"]
    truth: Bool[np.ndarray, "h w"]
    map: Bool[np.ndarray, "h w"]


def draw(split: str, index: int, size: int = 256, omitted: float = 0.0, shift: int = 0) -> AerialScene:
    """A scene.

    Args:
      split: "train" or "test".
      index: from 0.
      size: height and width, in pixels.
      omitted: of each road of the map, the probability that it is left out.
      shift: pixels, by which the whole map is displaced at most, along x and along y: whole numbers, all as likely.
    """
    random = np.random.Generator(np.random.Philox(key=[SPLITS[split], index]))
    roads = road_lines(random, size)
    truth = painted(roads, size)
    picture = _ground(random, size)
    _pave(random, picture, roads)
    sun = random.uniform(0, 2 * math.pi)
    shade = np.array([math.cos(sun), math.sin(sun)])
    near = painted([(line, width + 14) for line, width in roads], size)
    _build(random, picture, roads, truth, shade)
    _plant(random, picture, near, shade)
    picture *= random.uniform(0.85, 1.12)  # the hour of the day
    picture += random.normal(0, 5, picture.shape).astype(np.float32)
    return AerialScene(
        np.clip(picture, 0, 255).astype(np.uint8), truth, _map_of(split, index, roads, size, omitted, shift)
    )


def _map_of(
    split: str, index: int, roads: list[Line], size: int, omitted: float, shift: int
) -> Bool[np.ndarray, "h w"]:
    """What a map says; drawn by keys of its own."""
    random = np.random.Generator(np.random.Philox(key=[SPLITS[split] + 2, index]))
    kept = [road for road, place in zip(roads, random.random(len(roads)), strict=True) if place >= omitted]
    moved = random.integers(-shift, shift + 1, 2)
    return painted([(line + moved, width) for line, width in kept], size)


def road_lines(random: np.random.Generator, size: int) -> list[Line]:
    """The roads of a scene: centre lines as points x y in pixels, some of them beyond its edges, and widths in pixels.

    One or two highways that bend, and in most scenes a quarter of parallel streets that cross others.
    """
    roads = []
    for _ in range(random.integers(1, 3)):
        middle, angle = random.uniform(0.2, 0.8, 2) * size, random.uniform(0, math.pi)
        roads.append((_bent(random, middle, angle, size), random.uniform(9, 14)))
    if random.random() < 0.8:
        turn, origin = random.uniform(0, math.pi / 2), random.uniform(0.3, 0.7, 2) * size
        width = random.uniform(6, 9)
        for angle in (turn, turn + math.pi / 2):
            across = np.array([-math.sin(angle), math.cos(angle)])
            places = np.cumsum(random.uniform(38, 80, random.integers(2, 5)))
            for place in places - places.mean():
                ends = np.sort(random.uniform(0.15, 0.8, 2)) * [-1, 1] * size
                along = np.array([math.cos(angle), math.sin(angle)])
                line = origin + place * across + np.stack([end * along for end in ends])
                roads.append((line, width + random.uniform(-0.5, 0.5)))
    return roads


def _bent(random: np.random.Generator, middle: Float[np.ndarray, "2"], angle: float, size: int) -> np.ndarray:
    """A line through a point that turns a little at every step, both ways, to a little beyond the scene's edges."""
    sides, step = [], 12.0
    count = int(1.5 * size / step)
    for way in (0, math.pi):
        turns = angle + way + np.cumsum(random.normal(0, 0.03) + random.normal(0, 0.03, count))
        side = middle + step * np.cumsum(np.stack([np.cos(turns), np.sin(turns)], 1), 0)
        outside = np.flatnonzero(((side < -20) | (side > size + 20)).any(1))
        sides.append(side[: outside[0] + 1] if len(outside) else side)
    return np.concatenate([sides[0][::-1], middle[None], sides[1]])


def painted(roads: list[Line], size: int) -> Bool[np.ndarray, "size size"]:
    """The pixels of roads: those of which at least half is covered."""
    return _coverage(roads, size) >= 0.5


def _coverage(roads: list[Line], size: int) -> Float[np.ndarray, "size size"]:
    """The share of each pixel that roads cover."""
    fine = Image.new("L", (FINE * size, FINE * size))
    pen = ImageDraw.Draw(fine)
    for line, width in roads:
        points = [(float(x), float(y)) for x, y in line * FINE]
        pen.line(points, fill=255, width=max(1, round(width * FINE)), joint="curve")
    return _shares(fine, size)


def _shares(fine: Image.Image, size: int) -> Float[np.ndarray, "size size"]:
    return np.asarray(fine.reduce(FINE), np.float32)[:size, :size] / 255


def _blotches(random: np.random.Generator, size: int, cell: int) -> Float[np.ndarray, "size size"]:
    """Smooth noise of variance about 1, its blotches about `cell` pixels wide."""
    count = size // cell + 3
    coarse = Image.fromarray(random.normal(0, 1.3, (count, count)).astype(np.float32))
    side = count * cell
    return np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC))[cell : cell + size, cell : cell + size]


def _mix(picture: np.ndarray, share: np.ndarray, colour: np.ndarray) -> None:
    """Lays a colour over a picture where `share` is more than 0."""
    picture += share[..., None] * (colour - picture)


def _ground(random: np.random.Generator, size: int) -> Float[np.ndarray, "size size 3"]:
    """Fields of several kinds side by side, some of them ploughed in furrows, and woods between."""
    picture = np.empty((size, size, 3), np.float32)
    picture[:] = GROUNDS[random.integers(len(GROUNDS))]
    down, across = np.mgrid[:size, :size].astype(np.float32)
    for _ in range(random.integers(2, 6)):
        angle, colour = random.uniform(0, 2 * math.pi), np.array(GROUNDS[random.integers(len(GROUNDS))], np.float32)
        along = across * np.float32(math.cos(angle)) + down * np.float32(math.sin(angle))
        beyond = along > random.uniform(0.3, 0.8) * np.float32(along.max())
        picture[beyond] = colour + random.normal(0, 6, 3)
        if random.random() < 0.5:
            furrows = np.sin(along * random.uniform(0.5, 1.6) + random.uniform(0, 6)) * random.uniform(4, 12)
            picture[beyond] += furrows[beyond][:, None]
    picture += (6 * _blotches(random, size, 24) + 6 * _blotches(random, size, 4))[..., None]
    if random.random() < 0.6:
        wood = _blotches(random, size, 48) > random.uniform(0.6, 1.6)
        crowns = np.array(WOOD, np.float32) + (14 * _blotches(random, size, 5))[..., None]
        picture[wood] = crowns[wood]
    return picture


def _pave(random: np.random.Generator, picture: np.ndarray, roads: list[Line]) -> None:
    """Draws the roads, each with a grey of its own and its worn and patched places; wide ones have a light middle."""
    size = len(picture)
    worn = 5 * _blotches(random, size, 12) + 4 * _blotches(random, size, 3)
    for line, width in roads:
        grey = random.uniform(*ASPHALT) + np.array([0, 0, random.uniform(-10, 4)])
        _mix(picture, _coverage([(line, width + 3)], size) * 0.35, np.array(random.uniform(110, 170), np.float32))
        _mix(picture, _coverage([(line, width)], size), (grey + worn[..., None]).astype(np.float32))
        if width > 10:
            _mix(picture, _coverage([(line, 0.5)], size) * 0.7, np.array(225, np.float32))


def _build(
    random: np.random.Generator, picture: np.ndarray, roads: list[Line], truth: np.ndarray, shade: np.ndarray
) -> None:
    """Puts houses beside the roads, their two slopes lit differently, with the shadows that they cast."""
    size = len(truth)
    shadows, lit, dark = (Image.new("L", (FINE * size, FINE * size)) for _ in range(3))
    pens, colours = [ImageDraw.Draw(each) for each in (shadows, lit, dark)], Image.new("RGB", (FINE * size,) * 2)
    paint = ImageDraw.Draw(colours)
    for line, width in roads:
        for place in range(0, len(line) - 1):
            along = line[place + 1] - line[place]
            length = float(np.hypot(*along))
            along = along / max(length, 1e-6)
            across = np.array([-along[1], along[0]])
            tries = random.poisson(length / 28)
            for offset, side, back, wide, deep, kind in random.random((tries, 6)):
                half = np.array([4 + 7 * wide, 4 + 5 * deep])
                away = (width / 2 + half[1] + 3 + 14 * back) * (1 if side < 0.5 else -1)
                middle = line[place] + along * offset * length + across * away
                corners = [
                    middle + a * half[0] * along + b * half[1] * across for a, b in ((1, 1), (-1, 1), (-1, -1), (1, -1))
                ]
                if _hits(corners, middle, truth):
                    continue
                # A third of the roofs are as grey as a road.
                colour = (
                    np.array(ROOFS[int(kind * 3 * len(ROOFS) / 2)])
                    if kind < 2 / 3
                    else np.full(3, 88 + 216 * (kind - 2 / 3))
                )
                fill = tuple(int(value) for value in np.clip(colour, 0, 255))
                outline = [tuple(FINE * corner) for corner in corners]
                cast = FINE * 5 * shade
                pens[0].polygon([tuple(np.array(point) + cast) for point in outline], fill=255)
                paint.polygon(outline, fill=fill)
                pens[1].polygon(outline, fill=255)
                ridge = [(corners[0] + corners[3]) / 2, (corners[1] + corners[2]) / 2]
                pens[2].polygon([tuple(FINE * p) for p in (corners[0], corners[1], ridge[1], ridge[0])], fill=255)
    picture *= (1 - 0.45 * _shares(shadows, size))[..., None]
    share = _shares(lit, size)
    slopes = np.asarray(colours.reduce(FINE), np.float32) * (1 - 0.18 * _shares(dark, size))[..., None]
    # The colours' edges are mixed with black already, by that share.
    picture *= (1 - share)[..., None]
    picture += slopes


def _hits(corners: list[np.ndarray], middle: np.ndarray, truth: np.ndarray) -> bool:
    """Whether a house would stand on a road, by its corners, the middles of its sides and its own."""
    points = [*corners, *((a + b) / 2 for a, b in zip(corners, corners[1:] + corners[:1], strict=True)), middle]
    places = np.floor(np.array(points)).astype(int)
    inside = ((places >= 0) & (places < len(truth))).all(1)
    x, y = places[inside].T
    return bool(truth[y, x].any())


def _plant(random: np.random.Generator, picture: np.ndarray, near: np.ndarray, shade: np.ndarray) -> None:
    """Plants trees, half of them beside the roads, where their crowns and shadows cover a part of these."""
    size = len(near)
    crowns, shadows = (Image.new("L", (FINE * size, FINE * size)) for _ in range(2))
    pens = ImageDraw.Draw(crowns), ImageDraw.Draw(shadows)
    beside = np.argwhere(near)
    count = random.integers(size * size // 1600, size * size // 500)
    for place, by_road, y, x, wide in random.random((count, 5)):
        middle = np.array([x, y]) * size
        if by_road < 0.5:
            middle = beside[int(place * len(beside))][::-1] + np.array([x, y])
        radius = 2.0 + 3.5 * wide
        for pen, (cx, cy) in zip(pens, (middle, middle + 1.1 * radius * shade), strict=True):
            box = [FINE * (cx - radius), FINE * (cy - radius), FINE * (cx + radius), FINE * (cy + radius)]
            pen.ellipse(box, fill=255)
    picture *= (1 - 0.5 * _shares(shadows, size))[..., None]
    leaves = np.array(WOOD, np.float32) + (16 * _blotches(random, size, 3) + random.normal(8, 8))[..., None]
    _mix(picture, _shares(crowns, size), leaves)


@dataclasses.dataclass(frozen=True)
class AerialScenes:
    """Scenes by index, as pictures that patches are cut out of; see `road_patches.py`. Each is drawn once and kept.

    Attributes:
      split: "train" or "test".
      count: how many.
      side: height and width, in pixels.
      omitted: share of the roads that the maps leave out, from 0 to below 1.
      shift: pixels that the maps are displaced by at most.
    """

    split: str
    count: int
    side: int = 256
    omitted: float = 0.0
    shift: int = 0

    def __post_init__(self) -> None:
        if self.split not in SPLITS or self.count < 1 or self.side < 64 or not 0 <= self.omitted < 1 or self.shift < 0:
            raise UserError(
                f"{self.count} scenes of {self.side}×{self.side} for {self.split!r}, {self.omitted} of their roads "
                f"omitted, displaced by up to {self.shift} pixels: there must be 1 or more, of 64 or more, for 'train' "
                "or 'test', with 0 to below 1, and 0 or more"
            )

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        """What a scene is called in figures."""
        return f"scene {index}"

    def size(self, index: int) -> tuple[int, int]:
        """Height and width."""
        return self.side, self.side

    @functools.cached_property
    def _drawn(self) -> dict[int, AerialScene]:
        return {}

    def scene(self, index: int) -> AerialScene:
        """A scene with all that is true of it."""
        if index not in self._drawn:
            self._drawn[index] = draw(self.split, index, self.side, self.omitted, self.shift)
        return self._drawn[index]

    def read(
        self, index: int, rows: slice, columns: slice
    ) -> tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"]]:
        """A part of a scene and of its map."""
        scene = self.scene(index)
        return scene.picture[rows, columns], scene.map[rows, columns]

    def truth(self, index: int) -> Bool[np.ndarray, "h w"]:
        """The map of a scene."""
        return self.scene(index).map
