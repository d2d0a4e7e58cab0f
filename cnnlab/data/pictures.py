"""Picture files to uint8 arrays of one size, decoding no more pixels than are used."""

import io
import sys
from pathlib import Path

import numpy as np
import simplejpeg
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from cnnlab.errors import UserError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm"})


class CorruptPicture(UserError):
    """A file that is not a whole picture."""


class LeftOut:
    """Pictures that cannot be read: each is told on stderr the first time that it is met, with how many there are."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def say(self, what: str) -> None:
        """Tells one.

        Args:
          what: which, and what is wrong with it.
        """
        if what not in self._told:
            self._told.add(what)
            print(f"left out: {what} ({len(self._told)} so far)", file=sys.stderr)


def read_picture(
    path: Path, shape: tuple[int, ...], invert: bool = False, crop: bool = False
) -> UInt8[np.ndarray, "*squares h w c"]:
    """A picture file, resized to (height, width, channels).

    Args:
      path: of a PNG, JPEG or other picture, grey or colour, any size. Transparent parts become white.
      shape: of the result; 1 channel is grey, 3 are red, green and blue. With a 3 in front, (3, size, size, channels):
        three squares of the picture whose side is its shorter one, scaled to size×size: the left, the centre and the
        right one of a wide picture, the top, the centre and the bottom one of a tall one, for GoogLeNet's test.
      invert: exchange black and white: for dark ink on paper where the network learnt white ink on black.
      crop: keep the proportions: the picture is scaled until it just covers the shape, and what lies outside is cut off
        equally on both sides (AlexNet's paper, section 2: the shorter side to 256, then the central 256×256). Else it
        is stretched.

    Raises:
      CorruptPicture: the file cannot be decoded.
    """
    try:
        return decode_picture(path.read_bytes(), shape, invert, crop)
    except CorruptPicture as error:
        raise CorruptPicture(f"{path} is not a whole picture ({error})") from error
    except OSError as error:
        raise CorruptPicture(f"{path} cannot be read ({error.strerror})") from error


def decode_picture(
    data: bytes, shape: tuple[int, ...], invert: bool = False, crop: bool = False
) -> UInt8[np.ndarray, "*squares h w c"]:
    """`read_picture` from the file's bytes; the error does not name the file."""
    *squares, height, width, channels = shape
    try:
        image = _open(data, (height, width, channels))
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        if image.mode in ("I;16", "I;16B", "I;16L", "I"):
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        image = image.convert("L" if channels == 1 else "RGB")
        if invert:
            image = ImageOps.invert(image)
        if squares:
            parts = [_fit(image, (width, height), place) for place in (0.0, 0.5, 1.0)]
        else:
            parts = [_fit(image, (width, height)) if crop else image.resize((width, height), Image.Resampling.BILINEAR)]
    except UnidentifiedImageError as error:
        raise CorruptPicture("of no format that is known") from error
    except Exception as error:  # a decoder may trip over damaged bytes in any way
        raise CorruptPicture(" ".join(str(error).split()) or type(error).__name__) from error
    return np.stack([np.asarray(part) for part in parts]).reshape(shape)


def _fit(image: Image.Image, size: tuple[int, int], place: float = 0.5) -> Image.Image:
    """Scaled until it just covers `size`; of what lies outside, the share `place` is cut off at the left or the top."""
    return ImageOps.fit(image, size, Image.Resampling.BILINEAR, centering=(place, place))


def _open(data: bytes, shape: tuple[int, int, int]) -> Image.Image:
    if not simplejpeg.is_jpeg(data):
        image = Image.open(io.BytesIO(data))
        image.load()
        return ImageOps.exif_transpose(image)
    header = Image.open(io.BytesIO(data))  # reads no pixels; simplejpeg knows neither CMYK nor the camera's orientation
    if header.mode == "CMYK":
        return ImageOps.exif_transpose(header).convert("RGB")
    # At an eighth to a whole of its size, whichever is the least that is not smaller than what is wanted.
    grey = shape[2] == 1
    smallest = {"min_height": shape[0], "min_width": shape[1]}
    if header.getexif().get(0x0112, 1) > 4:  # turned by 90°: height and width change places
        smallest = {"min_height": shape[1], "min_width": shape[0]}
    array = simplejpeg.decode_jpeg(data, "GRAY" if grey else "RGB", **smallest)
    image = Image.fromarray(array.squeeze(-1) if grey else array)
    image.getexif().update(header.getexif())
    return ImageOps.exif_transpose(image)
