"""Clips: the frames of the seconds asked for, and a reason for each file that is not whole."""

import io
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from flamingo_jax.data.bad_records import BadRecord
from flamingo_jax.data.clips import clip_size, is_video, read_clip
from flamingo_jax.data.media import decode_media
from flamingo_jax.data.pictures import Size

RATE = 5
CODECS = {"mp4": "mpeg4", "webm": "libvpx", "gif": ""}


def clip(kind: str, seconds: int, options: dict[str, str] | None = None) -> bytes:
    """A clip whose grey level is 20 plus 8 times the second."""
    grey = [20 + int(8 * i / RATE) for i in range(seconds * RATE)]
    frames = [np.full((32, 48, 3), value, np.uint8) for value in grey]
    buffer = io.BytesIO()
    if kind == "gif":
        for i, frame in enumerate(frames):
            frame[0, 0, 0] = i  # or the writer joins equal frames
        first, *rest = map(Image.fromarray, frames)
        first.save(buffer, "GIF", save_all=True, append_images=rest, duration=1000 // RATE)
        return buffer.getvalue()
    with av.open(buffer, "w", format=kind, options=options or {}) as container:
        stream: Any = container.add_stream(CODECS[kind], rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        stream.bit_rate = 1_000_000
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


def seconds(frames: np.ndarray) -> np.ndarray:
    """The second that each frame shows."""
    return ((frames[:, 16, 16].mean(-1) - 20) / 8).round().astype(int)


@pytest.mark.parametrize("kind", CODECS)
def test_a_frame_a_second_from_a_random_moment(kind: str) -> None:
    content, begins = clip(kind, 20), set()
    for seed in range(12):
        frames = read_clip(content, 8, 32, "pad", rng=np.random.default_rng(seed))
        assert frames.shape == (8, 32, 32, 3)
        assert frames.dtype == np.uint8
        shown = seconds(frames)
        assert set(np.diff(shown)) <= {0, 1, 2}
        assert abs(shown[-1] - shown[0] - 7) <= 1
        begins.add(int(shown[0]))
    assert min(begins) <= 3
    assert max(begins) >= 9
    again = read_clip(content, 8, 32, "pad", rng=np.random.default_rng(11))
    np.testing.assert_array_equal(frames, again)


@pytest.mark.parametrize("kind", CODECS)
def test_evaluation_begins_with_the_first_frame(kind: str) -> None:
    """30 frames at 3 a second, as the paper evaluates."""
    frames = read_clip(clip(kind, 12), 30, 32, "pad", rate=3.0)
    np.testing.assert_allclose(seconds(frames), np.arange(30) // 3, atol=1)
    assert seconds(frames)[0] == 0


@pytest.mark.parametrize("kind", CODECS)
def test_a_short_clip_is_shown_from_first_to_last(kind: str) -> None:
    shown = seconds(read_clip(clip(kind, 4), 8, 32, "pad", rng=np.random.default_rng(0)))
    np.testing.assert_allclose(shown, [0, 0, 1, 1, 2, 2, 3, 3], atol=1)
    assert shown[0] == 0
    assert shown[-1] >= 3


@pytest.mark.parametrize("kind", CODECS)
def test_size(kind: str) -> None:
    content = clip(kind, 4)
    assert clip_size(content) == Size(48, 32, 4 * RATE)
    assert is_video(content) == (kind != "gif")


@pytest.mark.parametrize("kind", CODECS)
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.9])
def test_half_a_video_is_told_wherever_one_looks(kind: str, share: float) -> None:
    content = clip(kind, 20)
    part = content[: int(share * len(content))]
    for seed in range(4):
        with pytest.raises(BadRecord) as error:
            read_clip(part, 2, 32, "pad", rng=np.random.default_rng(seed))
        assert error.value.reason in ("half_video", "corrupt_video", "missing_media")
    with pytest.raises(BadRecord):
        clip_size(part)


def test_a_video_that_streams_is_told_of_its_missing_end() -> None:
    """With its index first, what is there could be played."""
    content = clip("mp4", 20, {"movflags": "frag_keyframe+empty_moov+default_base_moof"})
    assert read_clip(content, 8, 32, "pad").shape == (8, 32, 32, 3)
    with pytest.raises(BadRecord):
        read_clip(content[: len(content) // 2 - 7], 8, 32, "pad")


def with_sound(kind: str, codecs: tuple[str, str], seen_s: float, heard_s: float) -> bytes:
    """A clip whose sound ends at another moment than its picture."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=kind) as container:
        video: Any = container.add_stream(codecs[0], rate=RATE)
        video.width, video.height, video.pix_fmt = 48, 32, "yuv420p"
        audio: Any = container.add_stream(codecs[1], rate=48_000)
        parts = [], []
        for i in range(round(seen_s * RATE)):
            pixels = np.full((32, 48, 3), 20 + i, np.uint8)
            parts[0].extend(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        silence = np.zeros((1, round(heard_s * 48_000)), np.float32)
        heard = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
        heard.sample_rate, heard.pts = 48_000, 0
        parts[1].extend(audio.encode(heard))
        packets = [*parts[0], *video.encode(), *parts[1], *audio.encode()]
        for packet in sorted(packets, key=lambda packet: packet.pts * packet.time_base):
            container.mux(packet)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("kind", "codecs"),
    [
        ("webm", ("libvpx", "libopus")),
        ("matroska", ("mpeg4", "aac")),
        ("mp4", ("mpeg4", "aac")),
    ],
)
@pytest.mark.parametrize("heard_s", [9.0, 10.3, 13.0])
def test_sound_may_end_before_or_after_the_picture(
    kind: str, codecs: tuple[str, str], heard_s: float
) -> None:
    content = with_sound(kind, codecs, 10.0, heard_s)
    assert clip_size(content) == Size(48, 32, 10 * RATE)
    shown = read_clip(content, 2, 32, "pad", rate=0.2)[:, 16, 16].mean(-1)
    np.testing.assert_allclose(shown, [20, 20 + 5 * RATE], atol=3)
    with pytest.raises(BadRecord) as error:
        clip_size(content[: len(content) * 2 // 3])
    assert error.value.reason in ("half_video", "corrupt_video")


def test_a_last_frame_that_stays_is_shown_until_its_end() -> None:
    frames = [Image.fromarray(np.full((32, 48, 3), 20 + i, np.uint8)) for i in range(30)]
    buffer = io.BytesIO()
    first, *rest = frames
    first.save(buffer, "GIF", save_all=True, append_images=rest, duration=[100] * 29 + [2000])
    shown = read_clip(buffer.getvalue(), 8, 32, "pad")[:, 16, 16].mean(-1)
    assert shown[-1] == pytest.approx(49, abs=1)
    assert (np.diff(shown) >= 0).all()


@pytest.mark.parametrize("degrees", [0, 90, 180, -90])
def test_a_clip_is_shown_upright(degrees: int) -> None:
    """Phones film lying down; a matrix in the file says how players turn the frames."""
    height, width = (48, 32) if degrees % 180 else (32, 48)
    upright = np.full((height, width, 3), 40, np.uint8)
    upright[: height // 4] = 220  # light above
    held = np.ascontiguousarray(np.rot90(upright, -degrees // 90))
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream: Any = container.add_stream("mpeg4", rate=RATE)
        stream.height, stream.width = held.shape[:2]
        stream.pix_fmt, stream.bit_rate = "yuv420p", 1_000_000
        stream.set_display_rotation(degrees)
        for _ in range(2 * RATE):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(held, format="rgb24")))
        container.mux(stream.encode())
    (trained,) = read_clip(buffer.getvalue(), 1, 48, "stretch")
    prompted = decode_media(buffer.getvalue())[0]
    assert prompted.shape == upright.shape
    for frame in (trained, prompted):
        assert frame[: len(frame) // 6].mean() > 180
        assert frame[len(frame) // 2 :].mean() < 80


@pytest.mark.parametrize("content", [b"", b"no video", b"\x1aE\xdf\xa3" + bytes(50), b"GIF89a;"])
def test_what_is_no_video(content: bytes) -> None:
    with pytest.raises(BadRecord, match=r"\w"):
        read_clip(content, 8, 32, "pad")
