"""Parts of large files: TIFFs of every layout give the same pixels as the whole picture does, and no more is read."""

import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from cnnlab.data import large_pictures
from cnnlab.data.annotations import picture_size
from cnnlab.data.large_pictures import LARGEST, Decoded, open_large, raw_tiff
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


def striped_tiff(height, width, starts=(8 + 2 + 12 * 9 + 4,), **more):
    """The header of a grey TIFF, of one strip unless said otherwise; `more` overrides its rows a strip and packing."""
    rows, packing = more.get("rows", height), more.get("packing", 1)
    entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, packing), (262, 3, 1, 1)]
    place = starts[0] if len(starts) == 1 else 8 + 2 + 12 * 9 + 4
    entries += [(273, 4, len(starts), place), (277, 3, 1, 1), (278, 4, 1, rows), (279, 4, 1, height * width)]
    head = struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + b"".join(struct.pack("<HHII", *each) for each in entries)
    return head + struct.pack("<I", 0) + (struct.pack(f"<{len(starts)}I", *starts) if len(starts) > 1 else b"")


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


@pytest.mark.parametrize("height", [9_000, 20_000])  # Pillow warns of the first and refuses the second
def test_of_an_unpacked_tiff_of_any_size_a_window_is_read(tmp_path, height):
    path, head = tmp_path / "vast.tif", striped_tiff(height, 11_000)
    with path.open("wb") as file:  # sparse: no more than a few blocks are stored
        file.write(head)
        for row in range(20):
            file.seek(len(head) + (height - 20 + row) * 11_000 + 10_950)
            file.write(PICTURE[row, :, 0].tobytes())
    large = open_large(path)
    assert (large.height, large.width) == (height, 11_000)
    found = large.read(slice(height - 25, height), slice(10_945, 11_000), 3)
    np.testing.assert_array_equal(found, np.repeat(np.pad(PICTURE[:20, :, :1], ((5, 0), (5, 0), (0, 0))), 3, -1))
    assert picture_size(path) == (height, 11_000)


def test_of_colours_the_grey_of_a_part_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(large_pictures, "read_picture", lambda *_: pytest.fail("it was decoded whole"))
    grey = open_large(write(tmp_path, "strips.tif")).read(ROWS, COLUMNS, 1)
    np.testing.assert_array_equal(grey[..., 0], np.asarray(Image.fromarray(PICTURE).convert("L"))[ROWS, COLUMNS])


@pytest.mark.parametrize("name", ["vast.png", "vast.tif"])
def test_what_is_too_large_to_be_decoded_whole_is_said_so(tmp_path, name):
    height, width = 20_000, 11_000
    assert height * width > LARGEST
    size = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [struct.pack(">I", 13) + size + struct.pack(">I", zlib.crc32(size)), struct.pack(">I", 9) + b"IDAT"]
    png = b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + bytes(13)
    (tmp_path / name).write_bytes(png if name.endswith("png") else striped_tiff(height, width, packing=5) + bytes(99))
    with pytest.raises(CorruptPicture) as error:
        open_large(tmp_path / name)
    wanted = f"{tmp_path / name} has more than 178 megapixels, too many to decode it whole: save it as an unpacked TIFF"
    assert str(error.value) == f"{wanted}, 8 bits a channel, which is read part by part"


def test_no_warning_of_pillows_reaches_the_user(tmp_path):
    program = """
import sys
from pathlib import Path
from PIL import Image
from cnnlab.data.large_pictures import open_large
Image.MAX_IMAGE_PIXELS = 2000  # the pictures have 3500
for name in sys.argv[1:]:
    print(open_large(Path(name)).read(slice(0, 70), slice(0, 50), 3).sum())
"""
    paths = [write(tmp_path, name) for name in ("strips.tif", "packed.tif", "plain.png")]
    done = subprocess.run([sys.executable, "-c", program, *map(str, paths)], capture_output=True, text=True)
    assert (done.stdout.split(), done.stderr) == ([str(PICTURE.sum())] * 3, "")


PIXELS = PICTURE[..., 0].tobytes()


@pytest.mark.parametrize(
    "content",
    [
        striped_tiff(70, 50, rows=16) + PIXELS,  # four strips too few
        striped_tiff(70, 50, starts=(130, 930, 0, 2530, 3330), rows=16) + PIXELS,  # one lies nowhere
        striped_tiff(70, 50, starts=(0,)) + PIXELS,
        tiled_tiff(PICTURE, 16).replace(struct.pack("<HHI", 324, 4, 20), struct.pack("<HHI", 324, 4, 19)),
        tiled_tiff(PICTURE, 16).replace(struct.pack("<I", 312), bytes(4)),
        striped_tiff(70, 50, rows=0) + PIXELS,
        tiled_tiff(PICTURE, 16).replace(struct.pack("<HHII", 322, 3, 1, 16), struct.pack("<HHII", 322, 3, 1, 0)),
    ],
    ids=["few strips", "sparse strips", "sparse", "few tiles", "sparse tiles", "no rows", "no columns"],
)
def test_what_lies_nowhere_is_judged_by_pillow(tmp_path, content):
    path = tmp_path / "odd.tif"
    path.write_bytes(content)
    assert raw_tiff(path) is None
    try:
        with Image.open(io.BytesIO(content)) as image:
            whole = np.asarray(image.convert("RGB"))
    except Exception:
        with pytest.raises(CorruptPicture, match=r"odd\.tif is not a whole picture"):
            open_large(path).read(ROWS, COLUMNS, 3)
    else:
        np.testing.assert_array_equal(open_large(path).read(ROWS, COLUMNS, 3), whole[ROWS, COLUMNS])


STARTS = tuple(142 + 800 * i for i in range(5))  # of strips of 16 rows, the last of 6


@pytest.mark.parametrize(
    ("content", "end"),
    [
        (striped_tiff(70, 50) + PIXELS, 122 + 3500),
        (striped_tiff(70, 50, starts=STARTS, rows=16) + PIXELS, 142 + 3500),
        (tiled_tiff(PICTURE, 16), 312 + 20 * 768 - 10 * 48),  # the last ten rows of the lowest tiles are not needed
    ],
    ids=["one strip", "strips", "tiles"],
)
def test_an_unpacked_tiff_that_ends_too_early_is_told_when_it_is_opened(tmp_path, content, end):
    path = tmp_path / "short.tif"
    path.write_bytes(content[:end])
    open_large(path)
    path.write_bytes(content[: end - 1])
    with pytest.raises(CorruptPicture, match=rf"short\.tif is not a whole picture \(it has {end - 1} bytes of {end}\)"):
        open_large(path)


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
