"""Masks of roads in every way that they are stored, in bounded memory, and what is none."""

import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from cnnlab.data import road_masks
from cnnlab.data.large_pictures import open_large
from cnnlab.data.pictures import CorruptPicture
from cnnlab.data.road_masks import check_mask, read_roads, whole_roads
from cnnlab.errors import UserError

ROADS = np.random.default_rng(0).random((70, 53)) < 0.2
ROWS, COLUMNS = slice(13, 61), slice(7, 51)


def grey(kind, high):
    return Image.fromarray(ROADS.astype(kind) * kind(high))


def palette():
    image = Image.fromarray(ROADS.astype(np.uint8), "P")
    image.putpalette([0, 0, 0, 255, 255, 255])
    return image


def with_alpha(mode, alpha):
    white = Image.fromarray(np.uint8(255 * ROADS))
    return Image.merge(mode, [*[white] * (len(mode) - 1), Image.fromarray(np.full(ROADS.shape, alpha, np.uint8))])


KINDS = {
    "bits": lambda: Image.fromarray(ROADS),
    "8 bits of 0 and 1": lambda: grey(np.uint8, 1),
    "16 bits of 0 and 1": lambda: grey(np.uint16, 1),
    "16 bits of 0 and 255": lambda: grey(np.uint16, 255),
    "16 bits of 0 and 65535": lambda: grey(np.uint16, 65535),
    "32 bits of 0 and 1": lambda: grey(np.int32, 1),
    "32 bits of 0 and 255": lambda: grey(np.int32, 255),
    "colours": lambda: grey(np.uint8, 255).convert("RGB"),
    "colours of 0 and 1": lambda: grey(np.uint8, 1).convert("RGB"),
    "opaque": lambda: with_alpha("RGBA", 255),
    "grey and opaque": lambda: with_alpha("LA", 255),
    "palette": palette,
}
FORMATS = {"png": {}, "tif": {}, "lzw.tif": {"compression": "tiff_lzw"}, "strips.tif": {"tiffinfo": {278: 16}}}


@pytest.mark.parametrize(
    ("kind", "ending"), [(k, e) for k in KINDS for e in FORMATS if not (k.startswith("32") and e == "png")]
)
def test_roads_are_what_is_stored(tmp_path, monkeypatch, kind, ending):
    monkeypatch.setattr(road_masks, "BAND", 16)
    path = tmp_path / f"a.{ending}"
    KINDS[kind]().save(path, **FORMATS[ending])
    mask = open_large(path)
    check_mask(mask)
    found = read_roads(mask, ROWS, COLUMNS)
    assert found.dtype == bool
    np.testing.assert_array_equal(found, ROADS[ROWS, COLUMNS])
    np.testing.assert_array_equal(whole_roads(mask), ROADS)


def test_a_turned_mask_is_read_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.uint8(255 * ROADS)).transpose(Image.Transpose.ROTATE_90).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(whole_roads(open_large(tmp_path / "a.png")), ROADS)


def spoiled(kind, value):
    values = np.uint8(255 * ROADS).astype(kind)
    values[50, 9] = value
    return Image.fromarray(values)


def coloured():
    values = np.repeat(np.uint8(255 * ROADS)[..., None], 3, -1)
    values[50, 9] = 255, 0, 0
    return Image.fromarray(values)


def transparent(mode):
    return with_alpha(mode, 255 * ROADS)


NONE = {
    "grey": (lambda: spoiled(np.uint8, 7), "the value 7 in row 50, column 9; it must have 0"),
    "16 bits": (lambda: spoiled(np.uint16, 256), "the value 256 in row 50, column 9"),
    "negative": (lambda: spoiled(np.int32, -1), "the value -1 in row 50, column 9"),
    "colour": (coloured, "the colour 255 0 0 in row 50, column 9; it must be black where there is no road"),
    "white on nothing": (lambda: transparent("RGBA"), "parts of it are transparent"),
    "grey on nothing": (lambda: transparent("LA"), "parts of it are transparent"),
}


@pytest.mark.parametrize(
    ("kind", "ending"), [(k, e) for k in NONE for e in ("tif", "lzw.tif", "png") if (k, e) != ("negative", "png")]
)
def test_what_is_no_mask_is_said_in_a_line(tmp_path, monkeypatch, kind, ending):
    monkeypatch.setattr(road_masks, "BAND", 16)
    make, message = NONE[kind]
    path = tmp_path / f"a.{ending}"
    make().save(path, **FORMATS[ending])
    with pytest.raises(UserError, match=f"is not a mask of roads: .*{message}") as error:
        check_mask(open_large(path))
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=message):
        read_roads(open_large(path), ROWS, COLUMNS)


def test_a_colour_that_is_transparent(tmp_path):
    Image.fromarray(np.uint8(255 * ROADS)).save(tmp_path / "a.png", transparency=0)
    with pytest.raises(UserError, match="parts of it are transparent"):
        check_mask(open_large(tmp_path / "a.png"))


def png_of_48_bits(values):
    """Colours of 16 bits a channel, which Pillow does not write."""
    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows))]
    parts = [
        struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in [*chunks, (b"IEND", b"")]
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_colours_of_16_bits_would_lose_their_ones(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png_of_48_bits(np.repeat(ROADS[..., None], 3, -1)))
    assert np.asarray(Image.open(path)).max() == 0  # what Pillow makes of them
    with pytest.raises(UserError, match=r"a\.png is a mask of roads in colours of 16 bits a channel: save it grey"):
        check_mask(open_large(path))


def test_a_damaged_mask(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(ROADS).save(path)
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(CorruptPicture, match=r"a\.png is not a whole picture"):
        check_mask(open_large(path))


@pytest.mark.parametrize("channels", [1, 3])
def test_all_of_an_unpacked_mask_is_looked_at_in_little_memory(tmp_path, monkeypatch, channels):
    monkeypatch.setattr(road_masks, "BAND", 32)
    values = np.zeros((2000, 500, channels), np.uint8)
    values[1990, 400] = 7
    path = tmp_path / "a.tif"
    Image.fromarray(values.squeeze()).save(path, tiffinfo={278: 16})
    mask = open_large(path)
    tracemalloc.start()
    with pytest.raises(UserError, match="the value 7 in row 1990, column 400"):
        check_mask(mask)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < values.nbytes / 4
