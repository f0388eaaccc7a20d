"""Clips survive their files; damaged, foreign and huge files give one sentence."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flamingo_jax.data.media import decode_media, encode_gif, encode_mp4
from flamingo_jax.errors import UserError


def clip() -> np.ndarray:
    frames = np.full((4, 64, 64, 3), 255, np.uint8)
    for i, frame in enumerate(frames):
        frame[20:40, 8 * i : 8 * i + 24] = (200, 40, 40)
    return frames


@pytest.mark.parametrize("encode", [encode_gif, encode_mp4])
def test_round_trip(encode) -> None:
    decoded = decode_media(encode(clip()))
    assert decoded.shape == (4, 64, 64, 3)
    assert np.abs(decoded.astype(float) - clip()).mean() < 8


def test_long_clips_are_sampled_from_first_to_last() -> None:
    frames = np.stack([np.full((16, 16, 3), 10 * i, np.uint8) for i in range(20)])
    decoded = decode_media(encode_gif(frames), 4)
    np.testing.assert_allclose(decoded[:, 0, 0, 0], [0, 60, 130, 190], atol=3)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_transparency_is_white(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a"
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(path, kind)
    assert (decode_media(path) == 255).all()


def test_jpeg(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.new("RGB", (8, 8), (200, 30, 30)).save(path)
    assert np.abs(decode_media(path)[0, 4, 4].astype(int) - (200, 30, 30)).max() < 6


def test_faults_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing\.png cannot be read"):
        decode_media(tmp_path / "missing.png")
    damaged = tmp_path / "damaged.png"
    Image.new("RGB", (64, 64)).save(damaged)
    damaged.write_bytes(damaged.read_bytes()[:60])
    with pytest.raises(UserError, match=r"damaged\.png cannot be decoded"):
        decode_media(damaged)
    with pytest.raises(UserError, match="cannot be decoded"):
        decode_media(b"not a picture")
    with pytest.raises(UserError, match="cannot be decoded"):
        decode_media(encode_mp4(clip())[:200])


def test_a_huge_picture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    Image.new("1", (9000, 9000)).save(path)
    with pytest.raises(UserError, match="more than 50,000,000 pixels"):
        decode_media(path)


def left_red() -> Image.Image:
    """8 x 16 pixels, the left half red, the right one blue."""
    picture = Image.new("RGB", (16, 8), (0, 0, 255))
    picture.paste((255, 0, 0), (0, 0, 8, 8))
    return picture


@pytest.mark.parametrize(
    ("orientation", "red"), [(1, "left"), (3, "right"), (6, "top"), (8, "bottom")]
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation_is_honoured(kind: str, orientation: int, red: str) -> None:
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    left_red().save(buffer, kind, exif=exif, quality=95)
    (frame,) = decode_media(buffer.getvalue())
    assert frame.shape == ((8, 16, 3) if red in ("left", "right") else (16, 8, 3))
    half = {"left": frame[:, :7], "right": frame[:, 9:], "top": frame[:7], "bottom": frame[9:]}[red]
    np.testing.assert_allclose(half, np.broadcast_to((255, 0, 0), half.shape), atol=40)


def test_a_damaged_exif_block_does_not_matter() -> None:
    buffer = io.BytesIO()
    left_red().save(buffer, "PNG", exif=b"Exif\x00\x00nonsense")
    assert decode_media(buffer.getvalue()).shape == (1, 8, 16, 3)


@pytest.mark.parametrize(
    ("mode", "kind", "colour", "expected"),
    [
        ("L", "PNG", 100, (100, 100, 100)),
        ("L", "JPEG", 100, (100, 100, 100)),
        ("1", "PNG", 1, (255, 255, 255)),
        ("LA", "PNG", (100, 0), (255, 255, 255)),
        ("RGBA", "PNG", (200, 0, 0, 128), (227, 127, 127)),
        ("I;16", "PNG", 100 * 257, (100, 100, 100)),
        ("CMYK", "JPEG", (0, 255, 255, 0), (255, 0, 0)),
    ],
)
def test_modes(mode: str, kind: str, colour: object, expected: tuple[int, int, int]) -> None:
    buffer = io.BytesIO()
    Image.new(mode, (8, 8), colour).save(buffer, kind)  # pyright: ignore[reportArgumentType]
    (frame,) = decode_media(buffer.getvalue())
    np.testing.assert_allclose(frame, np.broadcast_to(expected, (8, 8, 3)), atol=4)


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_palette_with_a_transparent_entry(kind: str) -> None:
    picture = Image.new("P", (8, 8), 1)
    picture.putpalette([0, 0, 0, 200, 30, 30])
    picture.paste(0, (0, 0, 4, 8))
    buffer = io.BytesIO()
    picture.save(buffer, kind, transparency=0)
    (frame,) = decode_media(buffer.getvalue())
    assert (frame[:, :4] == 255).all()
    assert (frame[:, 4:] == (200, 30, 30)).all()


def test_the_preview_in_a_phones_picture_is_not_a_frame() -> None:
    buffer = io.BytesIO()
    preview = Image.new("RGB", (4, 4))
    left_red().save(buffer, "MPO", save_all=True, append_images=[preview])
    assert decode_media(buffer.getvalue()).shape == (1, 8, 16, 3)


def test_an_animated_gif_is_a_video() -> None:
    decoded = decode_media(encode_gif(clip()))
    assert decoded.shape == (4, 64, 64, 3)
    starts = [int(np.argmax((frame[30] < 230).any(-1))) for frame in decoded]
    assert starts == [0, 8, 16, 24]


def test_a_directory_and_an_empty_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        decode_media(tmp_path)
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"empty\.png cannot be decoded"):
        decode_media(tmp_path / "empty.png")
