"""Clips survive their files; damaged, foreign and huge files give one sentence."""

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
