"""Images of training data: the same pixels as in prompts, and why others are not used."""

import io
import struct
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from flamingo_jax.data import pictures
from flamingo_jax.data.bad_records import BadRecord
from flamingo_jax.data.media import encode_gif, fitted
from flamingo_jax.data.pictures import Size, picture_size, read_picture
from flamingo_jax.inference.prompt import read_media


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def waves(width: int, height: int) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    channels = [127 + 120 * np.sin(x / w + y / 60) for w in (20, 35, 50)]
    return Image.fromarray(np.stack(channels, -1).astype(np.uint8))


def orientation(number: int) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = number
    return exif.tobytes()


def gigapixel_png() -> bytes:
    """A header that claims 40,000 x 40,000 pixels, and hardly anything behind it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "JPEG"])
def test_the_same_as_in_a_prompt(kind: str, fit: Any) -> None:
    content = saved(waves(90, 60), kind)
    read = read_picture(content, 48, fit)
    assert read.shape == (48, 48, 3)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, read_media(content, 48, fit)[0])
    assert picture_size(content) == Size(90, 60)


@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
@pytest.mark.parametrize("sides", [(1600, 1200), (300, 520), (512, 384), (201, 127)])
@pytest.mark.parametrize("exif", [b"", orientation(1), orientation(6), b"Exif\x00\x00nonsense"])
def test_a_large_jpeg_is_decoded_smaller_to_nearly_the_same(
    fit: Any, sides: tuple[int, int], exif: bytes
) -> None:
    content = saved(waves(*sides), "JPEG", quality=95, exif=exif)
    near = np.abs(read_picture(content, 64, fit).astype(int) - read_media(content, 64, fit)[0])
    assert near.mean() < 1.5


@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
@pytest.mark.parametrize("sides", [(1600, 1200), (300, 520), (127, 64), (128, 128), (200, 127)])
def test_no_jpeg_is_decoded_smaller_than_it_is_shown(
    fit: Any, sides: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = []

    def spied(picture: Image.Image, *how: Any) -> np.ndarray:
        picture.load()
        decoded.append(picture.size)
        return fitted(picture, *how)

    monkeypatch.setattr(pictures, "fitted", spied)
    read_picture(saved(waves(*sides), "JPEG"), 64, fit)
    (found,) = decoded
    assert (max if fit == "pad" else min)(found) >= 64
    assert max(found) <= max(sides)


def sixteen_bits() -> bytes:
    grey = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    return saved(Image.fromarray(grey), "PNG")


def sixteen_bit_colour() -> bytes:
    """An 8-bit PNG whose header says 16, with twice the bytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    rows = b"".join(b"\x00" + bytes(range(48)) for _ in range(8))
    header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


BAD = {
    "missing_media": b"",
    "corrupt_image": saved(waves(64, 64), "JPEG")[:600],
    "huge_image": gigapixel_png(),
    "animated_image": encode_gif(np.stack([np.full((8, 8, 3), 90 * i, np.uint8) for i in (0, 1)])),
    "cmyk_image": saved(Image.new("CMYK", (8, 8)), "JPEG"),
    "deep_image": sixteen_bits(),
    "aspect_ratio": saved(Image.new("RGB", (1000, 3)), "PNG"),
}


@pytest.mark.parametrize("reason", BAD)
@pytest.mark.parametrize("read", [picture_size, lambda content: read_picture(content, 32, "pad")])
def test_reasons(reason: str, read: Any) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(BadRecord) as error:
            read(BAD[reason])
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
    assert error.value.reason == reason


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (sixteen_bit_colour(), "deep_image"),
        (b"<html>404</html>", "corrupt_image"),
        (b"\x89PNG\r\n\x1a\n", "corrupt_image"),
        (saved(Image.new("RGB", (3, 1000)), "PNG"), "aspect_ratio"),
        (saved(waves(64, 64), "TIFF"), "corrupt_image"),
        (
            saved(waves(9, 9), "WEBP", save_all=True, append_images=[waves(9, 9).rotate(90)]),
            "animated_image",
        ),
        (saved(Image.new("F", (8, 8)), "TIFF"), "corrupt_image"),
    ],
)
def test_more_reasons(content: bytes, reason: str) -> None:
    with pytest.raises(BadRecord) as error:
        read_picture(content, 32, "pad")
    assert error.value.reason == reason
