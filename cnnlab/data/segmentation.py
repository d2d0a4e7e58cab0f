"""Pictures with label maps, of mixed sizes.

A batch has "image", "size" and "original" as in `detection.py` and besides what `pipeline.py` adds
  segmentation  uint8 (n, H, W), the class of each pixel of `image`, 255 where it is void or beyond the picture.
"""

import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from cnnlab.data.annotations import picture_size
from cnnlab.data.canvas import Resizing, on_canvas
from cnnlab.data.label_maps import VOID, ClassTable, read_labels
from cnnlab.data.pictures import CorruptPicture, LeftOut, read_picture
from cnnlab.data.shapes import CLASS_NAMES, Scene, ShapesSource

BACKGROUND = "background"


@dataclasses.dataclass(frozen=True)
class Labelled:
    """A picture and how its label map is made.

    Attributes:
      picture: its file.
      height, width: of the picture as it is stored, upright, in pixels.
      labels: makes the label map, of that size.
    """

    picture: Path
    height: int
    width: int
    labels: Callable[[], UInt8[np.ndarray, "h w"]]


def pairs(files: Sequence[tuple[Path, Path]], table: ClassTable) -> list[Labelled]:
    """Pictures and masks as files. Every mask is read once now, so that a wrong one is known before the training.

    Raises:
      UserError: see `label_maps.read_labels`; a picture and its mask of different sizes.
    """

    def one(pair: tuple[Path, Path]) -> Labelled:
        picture, mask = pair
        size = picture_size(picture)
        labels = read_labels(mask, table, size)  # a picture that cannot be read is left out when it is wanted
        return Labelled(picture, *(size or labels.shape), lambda: read_labels(mask, table))

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(one, files))


@dataclasses.dataclass(frozen=True)
class SegmentationSource:
    """Pictures with label maps, decoded and resized when they are asked for; unreadable ones are named and masked out.

    Attributes:
      pictures: by index.
      class_names: in the order of the labels.
      resizing: the rule.
    """

    pictures: list[Labelled]
    class_names: tuple[str, ...]
    resizing: Resizing
    _left_out: LeftOut = dataclasses.field(default_factory=LeftOut, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.pictures)

    def canvas(self, indices: Int[np.ndarray, " n"]) -> tuple[int, int]:
        """Height and width of the canvas for these pictures. All processes put their share of a batch on the same."""
        return self.resizing.canvas((self.pictures[i].height, self.pictures[i].width) for i in indices.tolist())

    def batch(self, indices: Int[np.ndarray, " n"], canvas: tuple[int, int] | None = None) -> dict[str, np.ndarray]:
        """The pictures at `indices` with their label maps; see the top of this file.

        Args:
          indices: which.
          canvas: height and width of `image`; None: `canvas(indices)`.
        """
        found = [self.pictures[i] for i in indices.tolist()]
        originals = [(one.height, one.width) for one in found]
        sizes = [self.resizing.size(*original) for original in originals]
        shown = [self._read(one, size) for one, size in zip(found, sizes, strict=True)]
        blank = [np.zeros((*size, 3), np.uint8) for size in sizes]
        canvas = canvas or self.resizing.canvas(originals)
        batch = on_canvas([b if s is None else s for s, b in zip(shown, blank, strict=True)], originals, canvas)
        labels = [resized_labels(one.labels(), size) for one, size in zip(found, sizes, strict=True)]
        batch["segmentation"] = labels_on_canvas(labels, canvas)
        if any(picture is None for picture in shown):
            batch["mask"] = np.array([picture is not None for picture in shown], np.float32)
        return batch

    def picture(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """A picture as it is stored, for figures; black where it cannot be read."""
        one = self.pictures[index]
        picture = self._read(one, (one.height, one.width))
        return np.zeros((one.height, one.width, 3), np.uint8) if picture is None else picture

    def labels(self, index: int) -> UInt8[np.ndarray, "h w"]:
        """A label map as it is stored."""
        return self.pictures[index].labels()

    def _read(self, one: Labelled, size: tuple[int, int]) -> np.ndarray | None:
        try:
            return read_picture(one.picture, (*size, 3))
        except CorruptPicture as error:
            self._left_out.say(str(error))
            return None


@dataclasses.dataclass(frozen=True)
class DrawnLabels:
    """Drawn shapes with their label maps: the background is class 0.

    Attributes:
      drawings: see `shapes.py`.
    """

    drawings: ShapesSource

    class_names = (BACKGROUND, *CLASS_NAMES)

    def __len__(self) -> int:
        return len(self.drawings)

    def canvas(self, indices: Int[np.ndarray, " n"]) -> tuple[int, int]:
        """See `ShapesSource.canvas`."""
        return self.drawings.canvas(indices)

    def batch(self, indices: Int[np.ndarray, " n"], canvas: tuple[int, int] | None = None) -> dict[str, np.ndarray]:
        """The drawings at `indices` with their label maps; see the top of this file. The canvas is always theirs."""
        scenes = [self.drawings.scene(index) for index in indices.tolist()]
        size = self.canvas(indices)
        batch = on_canvas([scene.picture for scene in scenes], [size] * len(scenes), size)
        return batch | {"segmentation": labels_on_canvas([labels_of(scene) for scene in scenes], size)}

    def picture(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """A drawing, for figures."""
        return self.drawings.picture(index)

    def labels(self, index: int) -> UInt8[np.ndarray, "h w"]:
        """Its label map."""
        return labels_of(self.drawings.scene(index))


def labels_of(scene: Scene) -> UInt8[np.ndarray, "h w"]:
    """The class of each pixel of a drawing: 0 the ground, and of shapes their place in `CLASS_NAMES`, from 1."""
    classes = [0, *(1 + CLASS_NAMES.index(thing.shape) for thing in scene.things)]
    return np.array(classes, np.uint8)[scene.instances]


def resized_labels(labels: UInt8[np.ndarray, "h w"], size: tuple[int, int]) -> UInt8[np.ndarray, "h2 w2"]:
    """A label map of another height and width: each pixel has the label of the one that its middle lies in."""
    if labels.shape == tuple(size):
        return labels
    return np.asarray(Image.fromarray(labels).resize(size[::-1], Image.Resampling.NEAREST))


def labels_on_canvas(labels: Sequence[np.ndarray], canvas: tuple[int, int]) -> UInt8[np.ndarray, "n h w"]:
    """Label maps in the upper left corner of canvases, the rest void."""
    found = np.full((len(labels), *canvas), VOID, np.uint8)
    for row, own in zip(found, labels, strict=True):
        row[: own.shape[0], : own.shape[1]] = own
    return found
