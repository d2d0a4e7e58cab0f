"""Large picture files, read part by part: TIFFs whose pixels lie in the file as they are, others decoded and kept.

PNGs, JPEGs and packed TIFFs have to be decoded whole; the last few stay in memory, within a limit. Unpacked TIFFs may
be of any size, others of at most `LARGEST` pixels.
"""

import dataclasses
import threading
import warnings
from collections import OrderedDict
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from cnnlab.data.annotations import picture_size
from cnnlab.data.pictures import CorruptPicture, read_picture

LIMIT = 1 << 29  # bytes of decoded pictures that are kept
LARGEST = 178_956_970  # pixels of a picture that is decoded whole; Pillow refuses more, too
# Pillow warns from half of that on, in two lines, of what is no mistake here. Filters are of the whole process: within
# `warnings.catch_warnings` threads that read at the same time would undo each other's.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
# Tags of TIFF.
BITS, COMPRESSION, COLOURS, STRIPS, CHANNELS, ROWS, PLANAR = 258, 259, 262, 273, 277, 278, 284
TILE_WIDTH, TILE_HEIGHT, TILES, ORIENTATION = 322, 323, 324, 274


@dataclasses.dataclass(frozen=True)
class RawTiff:
    """Where the pixels of an unpacked TIFF lie: in chunks, which are strips or tiles.

    Attributes:
      path: the file.
      height, width, channels: of the picture; 8 bits a channel.
      chunk: height and width of a chunk.
      starts: of each chunk its place in the file, row by row.
    """

    path: Path
    height: int
    width: int
    channels: int
    chunk: tuple[int, int]
    starts: tuple[int, ...]

    def end(self) -> int:
        """The bytes that the file must have."""
        high, wide = self.chunk
        across = -(-self.width // wide)
        heights = (min(high, self.height - i // across * high) for i in range(len(self.starts)))
        return max(start + rows * wide * self.channels for start, rows in zip(self.starts, heights, strict=True))

    def read(self, rows: slice, columns: slice) -> UInt8[np.ndarray, "h w c"]:
        """A part of the picture; of the file no more is read than the rows of chunks that hold it.

        Raises:
          CorruptPicture: the file ends too early.
        """
        high, wide = self.chunk
        across = -(-self.width // wide)
        found = np.empty((rows.stop - rows.start, columns.stop - columns.start, self.channels), np.uint8)
        with self.path.open("rb") as file:
            for i in range(rows.start // high, -(-rows.stop // high)):
                top, bottom = max(rows.start, i * high), min(rows.stop, (i + 1) * high)
                for j in range(columns.start // wide, -(-columns.stop // wide)):
                    left, right = max(columns.start, j * wide), min(columns.stop, (j + 1) * wide)
                    file.seek(self.starts[i * across + j] + (top - i * high) * wide * self.channels)
                    data = file.read((bottom - top) * wide * self.channels)
                    if len(data) < (bottom - top) * wide * self.channels:
                        raise CorruptPicture(f"{self.path} is not a whole picture (it ends before row {bottom})")
                    part = np.frombuffer(data, np.uint8).reshape(-1, wide, self.channels)
                    place = (
                        slice(top - rows.start, bottom - rows.start),
                        slice(left - columns.start, right - columns.start),
                    )
                    found[place] = part[:, left - j * wide : right - j * wide]
        return found


def raw_tiff(path: Path) -> RawTiff | None:
    """The layout of a file, from its header; None: it is no TIFF, or one that has to be decoded or is damaged."""
    try:
        with TiffImageFile(path) as image:  # `Image.open` would refuse large ones, though no pixel is read
            tags = dict(image.tag_v2)
            width, height = image.size
            turned = image.getexif().get(ORIENTATION, 1) in range(2, 9)
    except Exception:  # a decoder may trip over damaged bytes in any way
        return None
    channels = tags.get(CHANNELS, 1)
    plain = (
        not turned
        and tags.get(COMPRESSION) == 1
        and set(tags.get(BITS, (1,))) == {8}
        and tags.get(PLANAR, 1) == 1
        and (tags.get(COLOURS), channels) in ((1, 1), (2, 3))
    )
    if not plain:
        return None
    if TILES in tags:
        chunk, starts = (tags[TILE_HEIGHT], tags[TILE_WIDTH]), tuple(tags[TILES])
    else:
        chunk, starts = (tags.get(ROWS, height), width), tuple(tags[STRIPS])
    # Of damaged files too few chunks are listed; of sparse ones some lie nowhere, which is written as 0.
    if not all(isinstance(number, int) and number > 0 for number in (*chunk, *starts)):
        return None
    whole = len(starts) == -(-height // chunk[0]) * -(-width // chunk[1])
    return RawTiff(path, height, width, channels, chunk, starts) if whole else None


class Decoded:
    """Pictures decoded whole, the last used of which stay in memory, up to `LIMIT` bytes; threads may share it."""

    def __init__(self, limit: int = LIMIT):
        self._limit, self._kept, self._lock = limit, OrderedDict(), threading.Lock()

    def read(self, path: Path, channels: int) -> UInt8[np.ndarray, "h w c"]:
        """A whole picture, upright.

        Raises:
          CorruptPicture: it cannot be decoded.
        """
        key = (path, channels)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        size = picture_size(path) or (1, 1)  # without a size, reading it says what is wrong
        picture = read_picture(path, (*size, channels))
        with self._lock:
            self._kept[key] = picture
            while len(self._kept) > 1 and sum(kept.nbytes for kept in self._kept.values()) > self._limit:
                self._kept.popitem(last=False)
        return picture


DECODED = Decoded()  # for all sources of a process together


@dataclasses.dataclass(frozen=True)
class LargePicture:
    """A picture file that is read part by part.

    Attributes:
      path: of the file.
      height, width: of the picture, upright.
      raw: where its pixels lie; None: it is decoded whole.
    """

    path: Path
    height: int
    width: int
    raw: RawTiff | None

    def read(self, rows: slice, columns: slice, channels: int) -> UInt8[np.ndarray, "h w c"]:
        """A part of it, in 1 channel, grey, or in 3.

        Raises:
          CorruptPicture: it cannot be read.
        """
        if self.raw is None:
            return DECODED.read(self.path, channels)[rows, columns]
        part = self.raw.read(rows, columns)
        if channels < self.raw.channels:
            return np.asarray(Image.fromarray(part).convert("L"))[..., None]
        return np.repeat(part, 3, -1) if channels > self.raw.channels else part


def open_large(path: Path) -> LargePicture:
    """A picture file, of which only the header is read.

    Raises:
      CorruptPicture: it is no picture; it is an unpacked TIFF and ends too early, or another one of more than `LARGEST`
        pixels.
    """
    raw = raw_tiff(path)
    if raw is not None:
        if (length := path.stat().st_size) < raw.end():
            raise CorruptPicture(f"{path} is not a whole picture (it has {length} bytes of {raw.end()})")
        return LargePicture(path, raw.height, raw.width, raw)
    size = picture_size(path)
    if _too_large(path, size):
        raise CorruptPicture(
            f"{path} has more than {LARGEST // 10**6} megapixels, too many to decode it whole: save it as an unpacked "
            "TIFF, 8 bits a channel, which is read part by part"
        )
    if size is None:
        read_picture(path, (1, 1, 3))  # says what is wrong with it
        raise CorruptPicture(f"{path} is not a whole picture (it has no size)")
    return LargePicture(path, *size, None)


def _too_large(path: Path, size: tuple[int, int] | None) -> bool:
    """Whether a picture has more than `LARGEST` pixels; Pillow tells no size of such a one."""
    if size is not None:
        return size[0] * size[1] > LARGEST
    try:
        Image.open(path).close()
    except Image.DecompressionBombError:
        return True
    except Exception:  # another fault, which its reader tells
        return False
    return False
