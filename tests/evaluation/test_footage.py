"""Frames of clips: when each is taken, and of which part."""

from pathlib import Path

import av
import numpy as np
import pytest

from flamingo_jax.errors import UserError
from flamingo_jax.evaluation.benchmark import Media
from flamingo_jax.evaluation.footage import read_frames

RATE, SECONDS = 10, 4


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds whose grey level tells the time: 60 a second."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=RATE)
        stream.width = stream.height = 32
        stream.pix_fmt, stream.bit_rate = "yuv420p", 4_000_000
        for i in range(RATE * SECONDS):
            frame = np.full((32, 32, 3), round(60 * i / RATE), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


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
    path = tmp_path / "clip.avi"
    with av.open(str(path), "w", format="avi") as container:
        stream = container.add_stream(codec, rate=RATE, options={"bf": "2"})
        stream.width = stream.height = 32
        stream.pix_fmt, stream.bit_rate = "yuv420p", 4_000_000
        for i in range(RATE * SECONDS):
            frame = np.full((32, 32, 3), round(60 * i / RATE), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    frames = read_frames(Media(path), 16, "stretch", 4)
    np.testing.assert_allclose(seconds(frames), [0.5, 1.5, 2.5, 3.5], atol=0.35)
    (part,) = read_frames(Media(path, 1.0, 3.0), 16, "stretch", 1)
    np.testing.assert_allclose(seconds(part[None]), [2.0], atol=0.35)


def test_a_clip_is_shown_upright(tmp_path: Path) -> None:
    path = tmp_path / "turned.mp4"
    frame = np.zeros((32, 32, 3), np.uint8)
    frame[:16] = 255  # white above
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=RATE)
        stream.width = stream.height = 32
        stream.pix_fmt, stream.bit_rate = "yuv420p", 4_000_000
        stream.set_display_rotation(180)
        for _ in range(RATE):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
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
