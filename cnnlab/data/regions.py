"""Regions of captioned pictures: those that a detector finds, and pieces of sentences that belong to regions."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

from cnnlab.data.canvas import placed
from cnnlab.data.captions import tokens_of
from cnnlab.data.source import Source
from cnnlab.data.text import Vocabulary

Box = tuple[float, float, float, float]


@dataclasses.dataclass(frozen=True, eq=False)
class WithRegions:
    """A source of captioned pictures whose "boxes" are regions that were found in them, padded with 0 0 0 0.

    Attributes:
      source: see `captions.py`.
      regions: of each picture, x0 y0 x1 y1 in pixels of the stored one, the surest first.
      most: of a picture, which the rest is cut off at: the paper has 19.
    """

    source: Source
    regions: Sequence[Float[np.ndarray, "_ 4"]]
    most: int

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.source.class_names

    def __len__(self) -> int:
        return len(self.source)

    def batch(self, indices: Int[np.ndarray, " n"]) -> dict[str, np.ndarray]:
        """The pictures at `indices`, their sentences and regions."""
        batch = self.source.batch(indices)
        factors = batch["size"] / batch["original"]
        found = [placed(self.regions[int(i)], factor, self.most) for i, factor in zip(indices, factors, strict=True)]
        return {**batch, "boxes": np.stack(found)}

    def __getattr__(self, name: str) -> Any:
        """What else the source has: pictures and sentences for figures."""
        if name == "source":  # not there yet, as while it is unpickled
            raise AttributeError(name)
        return getattr(self.source, name)


@dataclasses.dataclass(frozen=True)
class Snippet:
    """A region and what is said of it.

    Attributes:
      picture: its index in the source.
      box: x0 y0 x1 y1, in shares of the picture's width and height.
      words: of each phrase that belongs to it.
    """

    picture: int
    box: Box
    words: tuple[tuple[str, ...], ...]


@dataclasses.dataclass(frozen=True, eq=False)
class SnippetSource:
    """Regions cut out of their pictures, with what is said of them: batches as those of `captions.py`.

    Attributes:
      source: of the pictures.
      snippets: by index.
      vocabulary: of the tokens.
      size: regions are stretched to size×size.
      words: a phrase at most; L is 2 more.
      class_names: none, as there are no boxes.
    """

    source: Source
    snippets: Sequence[Snippet]
    vocabulary: Vocabulary
    size: int
    words: int
    class_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.snippets)

    def picture(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """A region as it is stored, for figures."""
        one = self.snippets[index]
        return cut(self.source.picture(one.picture), one.box)

    def sentences(self, index: int) -> tuple[str, ...]:
        """What is said of a region."""
        return tuple(" ".join(words) for words in self.snippets[index].words)

    def batch(self, indices: Int[np.ndarray, " n"]) -> dict[str, np.ndarray]:
        """The regions at `indices` and what is said of them."""
        regions = [self.picture(i) for i in indices.tolist()]
        words = [self.snippets[i].words for i in indices.tolist()]
        return {
            "image": np.stack([stretched(region, self.size, self.size) for region in regions]),
            "size": np.full((len(regions), 2), self.size, np.int32),
            "original": np.array([region.shape[:2] for region in regions], np.int32),
            **tokens_of(words, self.vocabulary, self.words),
        }


def cut(
    picture: UInt8[np.ndarray, "h w 3"], box: Sequence[float] | Float[np.ndarray, "4"]
) -> UInt8[np.ndarray, "h2 w2 3"]:
    """A part of a picture, of whole pixels and one at least.

    >>> cut(np.zeros((10, 20, 3), np.uint8), (0.5, 0.0, 1.0, 0.25)).shape
    (3, 10, 3)
    """
    shape = np.array(picture.shape[1::-1])
    edges = np.round(np.array(box).reshape(2, 2) * shape, 3)  # shares of float32 lie beside a pixel's edge by a hair
    left, top = np.clip(np.floor(edges[0]).astype(int), 0, shape - 1)
    right, bottom = np.maximum(np.ceil(edges[1]).astype(int), (left + 1, top + 1))
    return picture[top:bottom, left:right]


def stretched(picture: UInt8[np.ndarray, "h w 3"], height: int, width: int) -> UInt8[np.ndarray, "{height} {width} 3"]:
    """A picture of any size as height×width."""
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))
