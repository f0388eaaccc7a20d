"""Which images are kept, and why others are not."""

import hashlib
import io
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from flamingo_jax.data.hashes import perceptual_hash, read_hashes, write_hashes
from flamingo_jax.data.web.images import Examiner
from flamingo_jax.data.web.limits import Limits
from tests.data.web.pages import picture

EXAMINER = Examiner(Limits())


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def header_of_png(width: int, height: int) -> bytes:
    """A PNG that claims a size and has hardly any content."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    content = chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(b"\0" * 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + content


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
@pytest.mark.parametrize("size", [(64, 64), (192, 64), (64, 192), (900, 700)])
def test_pictures_are_kept(kind: str, size: tuple[int, int]) -> None:
    content = picture(1, *size, kind)
    verdict = EXAMINER.examine(content)
    assert verdict.reason is None
    assert verdict.digest == hashlib.sha256(content).digest()


RAMP = Image.fromarray(np.arange(80 * 80, dtype=np.uint16).reshape(80, 80) * 10)
DOTS = Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 80, 4), np.uint8))


@pytest.mark.parametrize(
    "content",
    [
        encoded(DOTS),
        encoded(DOTS.convert("LA")),
        encoded(DOTS.convert("P")),
        encoded(DOTS.convert("1")),
        encoded(DOTS.convert("L"), "JPEG"),
    ],
    ids=["RGBA", "LA", "P", "1", "L"],
)
def test_modes_of_pictures(content: bytes) -> None:
    assert EXAMINER.examine(content).reason is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (picture(1, 63, 100), "small"),
        (picture(1, 300, 63), "small"),
        (picture(1, 193, 64), "aspect"),
        (picture(1, 64, 193), "aspect"),
        (picture(1, 1, 1), "tracking"),
        (encoded(Image.new("RGB", (99, 99), "red")), "single_colour"),
        (encoded(Image.new("RGB", (999, 999), "red"), "JPEG"), "single_colour"),
        (encoded(Image.new("RGBA", (99, 99), (255, 0, 0, 0))), "single_colour"),
        (encoded(Image.new("P", (99, 99), 3)), "single_colour"),
        (picture(1)[:-40], "broken"),
        (picture(1, 500, 400, "JPEG")[:2000], "broken"),
        (picture(1, kind="WEBP")[:60], "broken"),
        (b"\x89PNG\r\n\x1a\n", "broken"),
        (b"", "broken"),
        (b"<html>Not found</html>", "format"),
        (encoded(DOTS.convert("RGB"), "BMP"), "format"),
        (encoded(DOTS.convert("CMYK"), "JPEG"), "cmyk"),
        (encoded(RAMP), "deep"),
        (encoded(DOTS, "GIF", save_all=True, append_images=[DOTS.rotate(90)]), "animated"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "svg"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- x --><!DOCTYPE svg>\n<svg/>", "svg"),
        (header_of_png(40_000, 40_000), "too_many_pixels"),
        (header_of_png(2_000_000_000, 2_000_000_000), "too_many_pixels"),
        (b"\xff\xd8\xff" + bytes(20_000_001), "too_large"),
    ],
)
def test_reasons(content: bytes, reason: str) -> None:
    assert EXAMINER.examine(content).reason == reason


@pytest.mark.parametrize("repeated", [b"<!---->", b"<?xml?>", b"<!DOCTYPE svg>", b" <!-- --> "])
def test_what_is_nearly_svg_is_read_once(repeated: bytes) -> None:
    began = time.monotonic()
    assert EXAMINER.examine(repeated * 400).reason == "format"
    assert EXAMINER.examine(repeated * 200 + b"<svg/>").reason == "svg"
    assert time.monotonic() - began < 5  # it took longer than the universe has been there


def test_limits_can_be_changed() -> None:
    examiner = Examiner(Limits(min_side=20, max_aspect=9.0, max_pixels=10_000))
    assert examiner.examine(picture(1, 160, 20)).reason is None
    assert examiner.examine(picture(1, 101, 100)).reason == "too_many_pixels"


def test_images_of_an_evaluation_set() -> None:
    shown = Image.open(io.BytesIO(picture(1, 400, 300)))
    excluded = np.array([perceptual_hash(shown), 0], np.uint64)
    examiner = Examiner(Limits(), excluded)
    for other in (shown, shown.resize((200, 150)), shown.convert("P")):
        assert examiner.examine(encoded(other)).reason == "in_evaluation"
    assert examiner.examine(encoded(shown, "JPEG", quality=40)).reason == "in_evaluation"
    assert examiner.examine(picture(2, 400, 300)).reason is None


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_a_turned_photo_of_an_evaluation_set(tmp_path: Path, mode: str, turn: int) -> None:
    """Whether its hash was made of what is seen, as `hash_images` does, or of what is held."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = turn
    held = Image.open(io.BytesIO(picture(1, 400, 300))).convert(mode)
    content = encoded(held, "JPEG", exif=exif)
    (tmp_path / "a.jpg").write_bytes(content)
    write_hashes([tmp_path / "a.jpg"], tmp_path / "hashes")
    plain = np.array([perceptual_hash(held)], np.uint64)
    for excluded in (read_hashes(tmp_path / "hashes"), plain):
        assert Examiner(Limits(), excluded).examine(content).reason == "in_evaluation"
    other = Examiner(Limits(), plain).examine(picture(2, 400, 300, "JPEG", exif=exif))
    assert other.reason is None


FILES = [picture(1, kind=kind) for kind in ("PNG", "JPEG", "WEBP", "GIF")]


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from(FILES),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=20),
    st.integers(0, 10**6),
)
def test_any_damage_is_told(content: bytes, changes: list[tuple[int, int]], cut: int) -> None:
    damaged = bytearray(content)
    for place, value in changes:
        damaged[place % len(damaged)] = value
    EXAMINER.examine(bytes(damaged[: max(cut % (2 * len(damaged)), 1)]))
