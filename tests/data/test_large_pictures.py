"""Parts of large files: TIFFs of every layout give the same pixels as the whole picture does, and no more is read."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from cnnlab.data import large_pictures
from cnnlab.data.large_pictures import Decoded, open_large, raw_tiff
from cnnlab.data.pictures import CorruptPicture

PICTURE = np.random.default_rng(0).integers(0, 256, (70, 50, 3), np.uint8)
ROWS, COLUMNS = slice(13, 61), slice(7, 50)


def tiled_tiff(picture, tile):
    """A TIFF file of unpacked tiles, which Pillow does not write; the edge's tiles are filled up."""
    height, width, channels = picture.shape
    down, across = -(-height // tile), -(-width // tile)
    padded = np.pad(picture, ((0, down * tile - height), (0, across * tile - width), (0, 0)))
    tiles = [padded[i * tile :, j * tile :][:tile, :tile].tobytes() for i in range(down) for j in range(across)]
    size, count = tile * tile * channels, len(tiles)
    entries = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, channels, "bits"), (259, 3, 1, 1), (262, 3, 1, 2)]
    entries += [(277, 3, 1, channels), (284, 3, 1, 1), (322, 3, 1, tile), (323, 3, 1, tile)]
    entries += [(324, 4, count, "starts"), (325, 4, count, "sizes")]
    after = 8 + 2 + 12 * len(entries) + 4
    blocks = {"bits": struct.pack(f"<{channels}H", *[8] * channels)}
    data = after + len(blocks["bits"]) + 8 * count
    blocks["starts"] = struct.pack(f"<{count}I", *(data + size * i for i in range(count)))
    blocks["sizes"] = struct.pack(f"<{count}I", *[size] * count)
    place, places = after, {}
    for name, block in blocks.items():
        places[name], place = place, place + len(block)
    head = struct.pack("<2sHI", b"II", 42, 8) + struct.pack("<H", len(entries))
    for tag, kind, number, value in entries:
        head += struct.pack("<HHII", tag, kind, number, places.get(value, value))
    return head + struct.pack("<I", 0) + b"".join(blocks.values()) + b"".join(tiles)


def write(folder, name):
    path = folder / name
    if name == "tiles.tif":
        path.write_bytes(tiled_tiff(PICTURE, 16))
    elif name == "strips.tif":
        Image.fromarray(PICTURE).save(path, tiffinfo={278: 16})
    elif name == "packed.tif":
        Image.fromarray(PICTURE).save(path, compression="tiff_lzw")
    else:
        Image.fromarray(PICTURE).save(path)
    return path


@pytest.mark.parametrize("name", ["tiles.tif", "strips.tif", "packed.tif", "plain.png"])
def test_a_part_is_that_of_the_whole(tmp_path, name):
    path = write(tmp_path, name)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), PICTURE)
    large = open_large(path)
    assert (large.height, large.width) == (70, 50)
    assert (large.raw is not None) == (name in ("tiles.tif", "strips.tif"))
    np.testing.assert_array_equal(large.read(ROWS, COLUMNS, 3), PICTURE[ROWS, COLUMNS])
    grey = np.asarray(Image.fromarray(PICTURE).convert("L"))
    np.testing.assert_array_equal(large.read(ROWS, COLUMNS, 1)[..., 0], grey[ROWS, COLUMNS])


def test_a_grey_one_in_one_channel_and_in_three(tmp_path):
    path = tmp_path / "grey.tif"
    Image.fromarray(PICTURE[..., 0]).save(path)
    assert raw_tiff(path).channels == 1
    for channels in (1, 3):
        part = open_large(path).read(ROWS, COLUMNS, channels)
        np.testing.assert_array_equal(part, np.repeat(PICTURE[ROWS, COLUMNS, :1], channels, -1))


def test_of_an_unpacked_tiff_only_the_rows_that_are_wanted_are_read(tmp_path):
    path = write(tmp_path, "strips.tif")
    raw = raw_tiff(path)
    data = path.read_bytes()
    end = raw.starts[2] + 16 * 50 * 3 if raw.starts[2] > raw.starts[0] else None
    path.write_bytes(data[:end])  # the rest is gone
    np.testing.assert_array_equal(raw.read(slice(0, 48), slice(0, 50)), PICTURE[:48])
    with pytest.raises(CorruptPicture, match="it ends before row"):
        raw.read(slice(40, 70), slice(0, 50))


def test_the_last_used_pictures_stay_in_memory_within_the_limit(tmp_path, monkeypatch):
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for i, path in enumerate(paths):
        Image.fromarray(np.full((10, 10, 3), i, np.uint8)).save(path)
    opened, read = [], large_pictures.read_picture
    monkeypatch.setattr(
        large_pictures, "read_picture", lambda path, shape: opened.append(path.name) or read(path, shape)
    )
    kept = Decoded(limit=600)
    for i in (0, 1, 0, 2, 0, 1):  # two have room; 1 has to go for 2, and 2 for 1
        assert kept.read(paths[i], 3)[0, 0, 0] == i
    assert opened == ["0.png", "1.png", "2.png", "1.png"]


def test_what_is_no_picture(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(b"II*\0 and nothing more")
    with pytest.raises(CorruptPicture, match=r"a\.tif is not a whole picture"):
        open_large(path)
    path = write(tmp_path, "plain.png")
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(CorruptPicture, match=r"plain\.png is not a whole picture"):
        open_large(path).read(ROWS, COLUMNS, 3)
    assert Image.open(io.BytesIO(tiled_tiff(PICTURE, 16))).format == "TIFF"
