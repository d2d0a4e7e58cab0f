"""Masks of roads: files that are read as they are stored, part by part, and refused where they are no masks.

A mask has one channel, or several that are alike. 0 is no road; 1, 255 and, of 16 bits, 65535 is one.
Where a mask is transparent it says neither, so all of it must be opaque.
"""

import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Shaped, UInt8
from PIL import Image, ImageOps

from cnnlab.data.large_pictures import LargePicture
from cnnlab.data.pictures import CorruptPicture
from cnnlab.errors import UserError

VALUES = (0, 1, 255, 65535)  # of a mask's pixels; all but the first are roads
BAND = 1024  # rows that are looked at together
KEPT = 64  # decoded masks that stay in memory, a bit a pixel
ONE_CHANNEL = ("1", "L", "I", "I;16", "I;16L", "I;16B", "F")


def bands(height: int) -> Iterator[slice]:
    """The rows of a mask, `BAND` at a time.

    >>> list(bands(1500))
    [slice(0, 1024, None), slice(1024, 1500, None)]
    """
    return (slice(top, min(top + BAND, height)) for top in range(0, height, BAND))


def roads_of(values: Shaped[np.ndarray, "h w *c"], path: Path, top: int = 0, left: int = 0) -> Bool[np.ndarray, "h w"]:
    """Which pixels of a part of a mask are roads.

    Args:
      values: as they are stored, of one channel or of three.
      path: of the file, for the message.
      top, left: where the part begins, likewise.

    Raises:
      UserError: the channels differ, or a pixel has another value than `VALUES`.
    """
    if values.ndim == 3:
        coloured = (values != values[..., :1]).any(-1)
        if coloured.any():
            row, column = np.unravel_index(int(coloured.argmax()), coloured.shape)
            raise UserError(
                f"{path} is not a mask of roads: it has the colour {' '.join(map(str, values[row, column]))} in row "
                f"{top + row}, column {left + column}; it must be black where there is no road and white where there is"
            )
        values = values[..., 0]
    if values.dtype != bool:
        odd = np.ones(values.shape, bool)
        for value in VALUES:
            odd &= values != value
        if odd.any():
            row, column = np.unravel_index(int(odd.argmax()), odd.shape)
            raise UserError(
                f"{path} is not a mask of roads: it has the value {values[row, column]} in row {top + row}, column "
                f"{left + column}; it must have 0 where there is no road and 255 (or 1) where there is one (a JPEG "
                "blurs them)"
            )
    return values > 0


def _stored(image: Image.Image, path: Path) -> np.ndarray:
    """The values of a band of a mask."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getextrema()[3][0] < 255:
            raise UserError(
                f"{path} is not a mask of roads: parts of it are transparent, which says neither road nor none; save "
                "it without transparency, black where there is no road and white where there is one"
            )
    return np.asarray(image if image.mode in ONE_CHANNEL else image.convert("RGB"))


@functools.lru_cache(maxsize=KEPT)
def _decoded(mask: LargePicture) -> UInt8[np.ndarray, "h w8"]:
    """A mask that has to be decoded whole, eight pixels to a byte."""
    bits = np.empty((mask.height, -(-mask.width // 8)), np.uint8)
    try:
        with Image.open(mask.path) as image:
            # Pillow drops the lower 8 bits of such colours, and with them all that a mask of ones says.
            if any(";16" in str(tile[3]) for tile in image.tile) and image.mode not in ONE_CHANNEL:
                raise UserError(
                    f"{mask.path} is a mask of roads in colours of 16 bits a channel: save it grey, 0 where there is "
                    "no road and 255 where there is one"
                )
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            for rows in bands(mask.height):
                band = image.crop((0, rows.start, mask.width, rows.stop))
                bits[rows] = np.packbits(roads_of(_stored(band, mask.path), mask.path, rows.start), axis=1)
    except UserError:
        raise
    except Exception as error:  # a decoder may trip over damaged bytes in any way
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CorruptPicture(f"{mask.path} is not a whole picture ({reason})") from error
    return bits


def read_roads(mask: LargePicture, rows: slice, columns: slice) -> Bool[np.ndarray, "h w"]:
    """Which pixels of a part of a mask are roads; of unpacked TIFFs of 8 bits no more is read than their rows.

    Raises:
      CorruptPicture: it cannot be read.
      UserError: it is no mask; see `roads_of`. Of unpacked TIFFs only the part is looked at.
    """
    if mask.raw is not None:
        return roads_of(mask.raw.read(rows, columns), mask.path, rows.start, columns.start)
    return np.unpackbits(_decoded(mask)[rows], axis=1, count=mask.width)[:, columns].view(bool)


def whole_roads(mask: LargePicture) -> Bool[np.ndarray, "h w"]:
    """`read_roads` of all of a mask, which is read by bands."""
    found = np.empty((mask.height, mask.width), bool)
    for rows in bands(mask.height):
        found[rows] = read_roads(mask, rows, slice(0, mask.width))
    return found


def check_mask(mask: LargePicture) -> None:
    """Raises what `read_roads` does of any part of a mask, whatever its size in bounded memory where it is unpacked."""
    for rows in bands(mask.height):
        read_roads(mask, rows, slice(0, mask.width))
