"""Picture files of many kinds become uint8 arrays; damaged ones are named."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from cnnlab.data.pictures import CorruptPicture, decode_picture, read_picture


def encode(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def smooth(height, width):
    """A colour picture without sharp edges: JPEG keeps it nearly."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [x * 255 / (width - 1), y * 255 / (height - 1), 255 - x * 255 / (width - 1)]
    return np.round(np.stack(planes, -1)).astype(np.uint8)


def quarters(height=32, width=48):
    """White in the upper left quarter, black elsewhere: shows a picture that is turned."""
    array = np.zeros((height, width), np.uint8)
    array[: height // 2, : width // 2] = 255
    return array


GREY = np.array([[0, 60, 120], [180, 240, 255]], np.uint8)
COLOUR = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [10, 20, 30]]], np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF", "PPM"])
def test_a_grey_picture_without_loss(kind):
    data = encode(Image.fromarray(GREY), kind)
    np.testing.assert_array_equal(decode_picture(data, (2, 3, 1))[..., 0], GREY)
    np.testing.assert_array_equal(decode_picture(data, (2, 3, 3)), np.stack([GREY] * 3, -1))


def test_a_colour_png_in_colour_and_grey():
    data = encode(Image.fromarray(COLOUR), "PNG")
    np.testing.assert_array_equal(decode_picture(data, (2, 2, 3)), COLOUR)
    luma = np.round(COLOUR @ np.array([0.299, 0.587, 0.114]))
    np.testing.assert_allclose(decode_picture(data, (2, 2, 1))[..., 0], luma, atol=1)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_in_colour_and_grey(progressive):
    array = smooth(32, 48)
    data = encode(Image.fromarray(array), "JPEG", quality=95, progressive=progressive)
    np.testing.assert_allclose(decode_picture(data, (32, 48, 3)).astype(int), array, atol=8)
    luma = array @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(decode_picture(data, (32, 48, 1))[..., 0], luma, atol=6)


def test_a_grey_jpeg_in_colour_and_grey():
    array = smooth(32, 48)[..., 0]
    data = encode(Image.fromarray(array), "JPEG", quality=95)
    np.testing.assert_allclose(decode_picture(data, (32, 48, 1))[..., 0].astype(int), array, atol=4)
    np.testing.assert_allclose(decode_picture(data, (32, 48, 3)).astype(int), np.stack([array] * 3, -1), atol=4)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_parts_become_white(mode):
    alpha = np.array([[0, 255, 128]], np.uint8)
    colour = np.zeros((1, 3, 3 if mode == "RGBA" else 1), np.uint8)
    data = encode(Image.fromarray(np.concatenate([colour, alpha[..., None]], -1), mode), "PNG")
    np.testing.assert_array_equal(decode_picture(data, (1, 3, 1))[0, :, 0], [255, 0, 127])


def test_a_palette():
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    expected = [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
    np.testing.assert_array_equal(decode_picture(encode(image, "PNG"), (1, 3, 3))[0], expected)
    expected[1] = [255, 255, 255]
    np.testing.assert_array_equal(decode_picture(encode(image, "PNG", transparency=1), (1, 3, 3))[0], expected)


def test_one_bit_a_pixel():
    image = Image.fromarray(np.array([[0, 255, 0]], np.uint8)).convert("1")
    np.testing.assert_array_equal(decode_picture(encode(image, "PNG"), (1, 3, 1))[0, :, 0], [0, 255, 0])


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_of_grey_keep_the_upper_eight(kind):
    image = Image.fromarray(np.array([[0, 255, 256, 32768, 65535]], np.uint16))
    decoded = decode_picture(encode(image, kind), (1, 5, 1))
    np.testing.assert_array_equal(decoded[0, :, 0], [0, 0, 1, 128, 255])


def test_a_cmyk_jpeg():
    array = smooth(32, 48)
    data = encode(Image.fromarray(array).convert("CMYK"), "JPEG", quality=95)
    assert Image.open(io.BytesIO(data)).mode == "CMYK"
    np.testing.assert_allclose(decode_picture(data, (32, 48, 3)).astype(int), array, atol=12)


# What undoes each orientation, as numpy sees the stored array.
UPRIGHT = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a.T, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_picture_from_a_turned_camera_comes_upright(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.fromarray(quarters()), kind, exif=exif)
    expected = UPRIGHT[orientation](quarters())
    decoded = decode_picture(data, (*expected.shape, 1))[..., 0]
    np.testing.assert_allclose(decoded.astype(int), expected, atol=3)


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_picture_is_decoded_at_all_the_pixels_that_are_used(orientation):
    # Upright it is 400×800, with lines of two rows each, and all rows are wanted: half the size would blur them.
    upright = np.broadcast_to((np.arange(400)[:, None] // 2 % 2 * 255).astype(np.uint8), (400, 800))
    stored = upright if orientation == 1 else np.rot90(upright, 1)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.fromarray(np.ascontiguousarray(stored)), "JPEG", quality=95, exif=exif)
    np.testing.assert_allclose(decode_picture(data, (400, 100, 1))[..., 0].astype(int), upright[:, :100], atol=20)


@pytest.mark.parametrize(("data", "shape"), [("PNG", (2, 3, 1)), ("JPEG", (2, 3, 1)), ("PNG", (2, 3, 3))])
def test_invert_exchanges_black_and_white(data, shape):
    data = encode(Image.fromarray(GREY), data)
    np.testing.assert_array_equal(decode_picture(data, shape, invert=True), 255 - decode_picture(data, shape))


@pytest.mark.parametrize("shape", [(28, 28, 1), (7, 50, 3), (64, 10, 3), (1, 1, 1)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_any_size_becomes_the_shape(kind, shape):
    decoded = decode_picture(encode(Image.fromarray(smooth(37, 53)), kind), shape)
    assert (decoded.shape, decoded.dtype) == (shape, np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_large_jpeg_is_near_to_one_decoded_in_full(channels):
    data = encode(Image.fromarray(smooth(600, 900)), "JPEG", quality=95)
    full = Image.open(io.BytesIO(data)).convert("L" if channels == 1 else "RGB")
    expected = np.asarray(full.resize((48, 32), Image.Resampling.BILINEAR)).reshape(32, 48, channels).astype(int)
    np.testing.assert_allclose(decode_picture(data, (32, 48, channels)), expected, atol=6)


JPEG = encode(Image.fromarray(smooth(64, 96)), "JPEG", quality=90)
PNG = encode(Image.fromarray(smooth(64, 96)), "PNG")
END_OF_JPEG = b"\xff\xd9"
DAMAGED = {
    "empty.png": b"",
    "empty.jpg": b"",
    "text.jpg": b"no picture at all\n",
    "text.png": b"no picture at all\n",
    "half.png": PNG[: len(PNG) // 2],
    "flipped.png": PNG[:60] + bytes(20) + PNG[80:],
    "signature.png": PNG[:8],
    "half.jpg": JPEG[: len(JPEG) // 2],
    "without_end.jpg": JPEG[:-2],
    "half_with_end.jpg": JPEG[: len(JPEG) // 2] + END_OF_JPEG,
    "header_only.jpg": JPEG[:300],
    "header_with_end.jpg": JPEG[:300] + END_OF_JPEG,
    "hole.jpg": JPEG[: len(JPEG) // 2] + bytes(100) + JPEG[len(JPEG) // 2 + 100 :],
}


@pytest.mark.parametrize("name", DAMAGED)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_damaged_file_is_named(tmp_path, name, channels):
    path = tmp_path / name
    path.write_bytes(DAMAGED[name])
    with pytest.raises(CorruptPicture, match=re.escape(f"{path} is not a whole picture")) as raised:
        read_picture(path, (16, 16, channels))
    assert "\n" not in str(raised.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    for path in (tmp_path / "missing.png", tmp_path):
        with pytest.raises(CorruptPicture, match=re.escape(f"{path} cannot be read")):
            read_picture(path, (16, 16, 1))


def test_bytes_after_the_end_do_no_harm():
    np.testing.assert_allclose(
        decode_picture(JPEG + bytes(50), (64, 96, 3)).astype(int), decode_picture(JPEG, (64, 96, 3)), atol=8
    )


@pytest.mark.parametrize(("kind", "atol"), [("PNG", 1), ("JPEG", 8)])
@pytest.mark.parametrize("turned", [False, True])
def test_a_crop_keeps_the_proportions(kind, atol, turned):
    # 32×48, the shorter side to 16: half the size, 16×24, of which the middle 16 columns stay.
    array = smooth(32, 48)
    expected = array.reshape(16, 2, 24, 2, 3).mean((1, 3))[:, 4:20]
    if turned:
        array, expected = array.transpose(1, 0, 2), expected.transpose(1, 0, 2)
    data = encode(Image.fromarray(np.ascontiguousarray(array)), kind)
    cropped = decode_picture(data, (16, 16, 3), crop=True).astype(int)
    # The borders differ: there the filter has fewer pixels to average.
    np.testing.assert_allclose(cropped[1:-1, 1:-1], expected[1:-1, 1:-1], atol=atol)
    stretched = decode_picture(data, (16, 16, 3)).astype(int)
    assert np.abs(stretched - expected).max() > 20


def test_a_small_picture_is_enlarged_to_cover_the_crop(tmp_path):
    path = tmp_path / "small.png"
    Image.fromarray(smooth(4, 8)).save(path)
    picture = read_picture(path, (16, 16, 3), crop=True)
    assert picture.shape == (16, 16, 3)
    # Columns 2 to 5 of 8, in x from 73 to 182.
    assert int(picture[..., 0].min()) == pytest.approx(73, abs=20)
    assert int(picture[..., 0].max()) == pytest.approx(182, abs=20)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_three_squares_of_any_shape(turned, channels):
    wide = np.repeat(np.arange(9, dtype=np.uint8).reshape(1, 9, 1).repeat(4, 0), 3, -1)
    data = encode(Image.fromarray(wide.swapaxes(0, 1) if turned else wide), "PNG")
    squares = decode_picture(data, (3, 4, 4, channels), crop=True)
    assert squares.shape == (3, 4, 4, channels)
    places = squares[:, :, 0, 0] if turned else squares[:, 0, :, 0]
    assert places[0].tolist() == [0, 1, 2, 3]
    assert places[2].tolist() == [5, 6, 7, 8]
    np.testing.assert_array_equal(squares[1], decode_picture(data, (4, 4, channels), crop=True))
    square = decode_picture(encode(Image.fromarray(wide[:, :4]), "PNG"), (3, 4, 4, channels))
    np.testing.assert_array_equal(square, np.stack([square[0]] * 3))
