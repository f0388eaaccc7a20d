"""Frames of clips: when each is taken, and of which part."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from flamingo_jax.errors import UserError
from flamingo_jax.evaluation.benchmark import Media
from flamingo_jax.evaluation.footage import read_frames

RATE, SECONDS = 10, 4


GREYS = [np.full((32, 32, 3), round(60 * i / RATE), np.uint8) for i in range(RATE * SECONDS)]
"""Frames whose grey level tells the time: 60 a second."""


def write(
    path: Path,
    frames: Sequence[np.ndarray],
    codec: str = "mpeg4",
    options: dict[str, str] | None = None,
    turned: int = 0,
) -> Path:
    """A clip, which players turn by so many degrees."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=RATE, options=options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.bit_rate = "yuv420p", 4_000_000
        if turned:
            stream.set_display_rotation(turned)
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds."""
    return write(tmp_path_factory.mktemp("clip") / "clip.mp4", GREYS)


def seconds(frames: np.ndarray) -> list[float]:
    return (frames.mean((1, 2, 3)) / 60).tolist()


def test_frames_are_evenly_from_the_whole(clip: Path) -> None:
    frames = read_frames(Media(clip), 16, "stretch", 4)
    assert frames.shape == (4, 16, 16, 3)
    np.testing.assert_allclose(seconds(frames), [0.5, 1.5, 2.5, 3.5], atol=0.12)


def test_frames_are_from_the_part_that_is_named(clip: Path) -> None:
    frames = read_frames(Media(clip, 1.0, 3.0), 16, "pad", 2)
    np.testing.assert_allclose(seconds(frames), [1.5, 2.5], atol=0.12)
    frames = read_frames(Media(clip, 2.0), 16, "pad", 1)
    np.testing.assert_allclose(seconds(frames), [3.0], atol=0.12)


def test_a_short_clip_gives_what_it_has(clip: Path) -> None:
    assert 1 <= len(read_frames(Media(clip, 1.0, 1.2), 16, "pad", 30)) <= 4


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_an_avi_that_does_not_say_when_frames_are_shown(tmp_path: Path, codec: str) -> None:
    path = write(tmp_path / "clip.avi", GREYS, codec, {"bf": "2"})
    frames = read_frames(Media(path), 16, "stretch", 4)
    np.testing.assert_allclose(seconds(frames), [0.5, 1.5, 2.5, 3.5], atol=0.35)
    (part,) = read_frames(Media(path, 1.0, 3.0), 16, "stretch", 1)
    np.testing.assert_allclose(seconds(part[None]), [2.0], atol=0.35)


def test_a_clip_is_shown_upright(tmp_path: Path) -> None:
    frame = np.zeros((32, 32, 3), np.uint8)
    frame[:16] = 255  # white above
    path = write(tmp_path / "turned.mp4", [frame] * RATE, turned=180)
    (shown,) = read_frames(Media(path), 32, "stretch", 1)
    assert shown[:12].mean() < 40
    assert shown[-12:].mean() > 215


def test_what_cannot_be_read_is_told(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"clip.mp4 shows no frame from second 9 to 10"):
        read_frames(Media(clip, 9.0, 10.0), 16, "pad", 2)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(clip.read_bytes()[:500])
    with pytest.raises(UserError, match="cannot be decoded as a video: is it damaged"):
        read_frames(Media(broken), 16, "pad", 2)
    with pytest.raises(UserError, match=r"missing\.png cannot be read"):
        read_frames(Media(tmp_path / "missing.png"), 16, "pad", 2)
