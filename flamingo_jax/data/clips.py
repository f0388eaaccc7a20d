"""Videos of training data: frames at a steady rate from a random or the first moment."""

import contextlib
import io
from collections.abc import Iterator, Sequence
from typing import Any

import av
import numpy as np
from PIL import Image

from flamingo_jax.data.bad_records import BadRecord
from flamingo_jax.data.media import MOST_PIXELS, Fit, fitted, upright
from flamingo_jax.data.pictures import Size

MOST_SECONDS = 3600
"""A longer video is skipped: it is no clip."""
MOST_FRAMES = 20_000
"""Frames that are decoded, at most, for one clip."""


def is_video(content: bytes) -> bool:
    """Whether a file is an MP4 or a WebM by its first bytes; a GIF may be either."""
    return content[4:8] == b"ftyp" or content[:4] == b"\x1aE\xdf\xa3"


def read_clip(
    content: bytes,
    frames: int,
    size: int,
    fit: Fit,
    rate: float = 1.0,
    rng: np.random.Generator | None = None,
) -> np.ndarray:
    """Frames of an MP4, WebM or GIF as uint8 [F, size, size, 3].

    Flamingo (arXiv:2204.14198, appendix A.3.1) trains on 8 frames at 1 a second and evaluates on 30
    at 3 a second, with time embeddings interpolated. Where a clip is shorter than that, its frames
    are taken evenly from first to last.

    Args:
      content: the file.
      frames: F.
      size: side of the vision encoder's input, pixels.
      fit: how frames become square.
      rate: frames a second.
      rng: draws the moment to begin at; None begins with the first.

    Raises:
      BadRecord: it is missing, damaged, ends before its time, or is too long or large.
    """
    with _opened(content) as (container, stream):
        seconds = _seconds(container, stream)
        spare = seconds - frames / rate
        if spare >= 0:
            start = rng.uniform(0, spare) if rng is not None else 0.0
            wanted = start + np.arange(frames) / rate
        else:
            wanted = (np.arange(frames) + 0.5) * seconds / frames
        return np.stack(
            [
                fitted(Image.fromarray(upright(frame)), size, fit)
                for frame in _shown(container, stream, wanted)
            ]
        )


def clip_size(content: bytes) -> Size:
    """Width, height and number of frames of a video; all of it is decoded to know.

    Raises:
      BadRecord: as `read_clip`.
    """
    with _opened(content) as (container, stream):
        _seconds(container, stream)
        frames = sum(1 for _ in _frames(container, stream))
        return Size(stream.width, stream.height, frames)


@contextlib.contextmanager
def _opened(content: bytes) -> Iterator[tuple[Any, Any]]:
    """Container and video stream; what decoding raises becomes BadRecord."""
    if not content:
        raise BadRecord("missing_media", "the file is missing or empty")
    if content[:4] == b"GIF8" and not content.rstrip(b"\0").endswith(b";"):
        raise BadRecord("half_video", "the end of the GIF is missing")
    if content[4:8] == b"ftyp" and _box_is_cut(content):
        raise BadRecord("half_video", "the end of the MP4 is missing")
    kind = "gif" if content[:4] == b"GIF8" else "mp4" if content[4:8] == b"ftyp" else "matroska"
    try:
        with av.open(io.BytesIO(content), "r", format=kind) as container:
            stream = container.streams.video[0]
            if stream.width * stream.height > MOST_PIXELS:
                raise BadRecord("huge_media", f"more than {MOST_PIXELS:,} pixels a frame")
            stream.thread_type = "SLICE"  # threads by frame read ahead, and one core is ours
            yield container, stream
    except BadRecord:
        raise
    except Exception as error:  # decoders raise many types on damaged input
        words = getattr(error, "strerror", None) or type(error).__name__
        raise BadRecord("corrupt_video", f"no MP4, WebM or GIF ({words})") from error


def _box_is_cut(content: bytes) -> bool:
    """Whether one of an MP4's boxes (ISO/IEC 14496-12, §4.2) says that it ends beyond the file."""
    place = 0
    while place + 8 <= len(content):
        size = int.from_bytes(content[place : place + 4])
        if size == 1:  # of 64 bits, after the box's name
            size = int.from_bytes(content[place + 8 : place + 16])
        if size < 8:  # 0 reaches to the end; others are for the decoder to judge
            return False
        place += size
    return place > len(content)


def _seconds(container: Any, stream: Any) -> float:
    """The video's length by its packets, none of them decoded; it is at its beginning afterwards.

    Raises:
      BadRecord: that is less than what the file declares, or longer than a clip.
    """
    packets = [packet for packet in container.demux() if packet.pts is not None]
    shown = [packet for packet in packets if packet.stream.index == stream.index]
    if not shown or any(packet.is_corrupt for packet in shown):
        raise BadRecord("half_video" if shown else "corrupt_video", "some of it is missing")
    seconds = _end(shown) - float((stream.start_time or 0) * stream.time_base)
    if stream.duration is not None:
        found, declared = seconds, float(stream.duration * stream.time_base)
    else:  # a Matroska file tells the end of its longest stream alone, which may be the sound's
        found, declared = _end(packets), (container.duration or 0) / av.time_base
    if found < declared - _slack(stream):
        raise BadRecord("half_video", f"it ends after {found:.1f} of {declared:.1f} seconds")
    if seconds > MOST_SECONDS:
        raise BadRecord("huge_media", f"{seconds:.0f} seconds are no clip")
    container.seek(0)
    return seconds


def _end(packets: Sequence[Any]) -> float:
    """The second at which the last of some packets ends."""
    ends = ((packet.pts + (packet.duration or 0)) * packet.time_base for packet in packets)
    return float(max(ends))


def _shown(container: Any, stream: Any, wanted_F: np.ndarray) -> Iterator[av.VideoFrame]:
    """The frame on the screen at each of some rising moments, in seconds."""
    begin = float(wanted_F[0])
    if begin > 2 and stream.duration is not None:
        container.seek(int(begin / stream.time_base), stream=stream)
    last, place = None, 0
    for frame in _frames(container, stream):
        while place < len(wanted_F) and _time(frame, stream) > wanted_F[place]:
            yield last or frame
            place += 1
        if place == len(wanted_F):
            return
        last = frame
    if last is None or wanted_F[-1] > _until(last, stream) + _slack(stream):
        raise BadRecord("half_video", "some of its frames are missing")
    yield from [last] * (len(wanted_F) - place)


def _frames(container: Any, stream: Any) -> Iterator[av.VideoFrame]:
    for number, frame in enumerate(container.decode(stream)):
        if number == MOST_FRAMES:
            raise BadRecord("huge_media", f"more than {MOST_FRAMES:,} frames")
        if frame.width * frame.height > MOST_PIXELS:
            raise BadRecord("huge_media", f"more than {MOST_PIXELS:,} pixels a frame")
        yield frame


def _time(frame: av.VideoFrame, stream: Any) -> float:
    """Seconds after the stream's first moment."""
    start = float((stream.start_time or 0) * stream.time_base)
    return max(0.0, (frame.time or 0.0) - start)


def _until(frame: av.VideoFrame, stream: Any) -> float:
    """The second until which a frame is shown: the last one of a clip may stay."""
    return _time(frame, stream) + float((frame.duration or 0) * (frame.time_base or 0))


def _slack(stream: Any) -> float:
    """Twice the time of a frame, in seconds, which its last one may stay beyond its own."""
    rate = stream.average_rate
    return 2 / float(rate) if rate else 1.0
