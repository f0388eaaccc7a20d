"""Media of a benchmark from disk: pictures, clips, and parts of clips.

Axes: F frames, H and W pixels.
"""

from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from flamingo_jax.data.media import upright
from flamingo_jax.data.tokenizer import Fit
from flamingo_jax.errors import UserError
from flamingo_jax.evaluation.benchmark import Media
from flamingo_jax.inference.prompt import read_media

VIDEOS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")


def read_frames(medium: Media, size: int, fit: Fit, frames: int) -> np.ndarray:
    """A picture, or frames evenly from a clip, uint8 [F, size, size, 3], made square as `fit` says.

    Args:
      medium: where it is, and which part of it.
      size: pixels.
      fit: how pictures are made square.
      frames: F of a clip; of one that has fewer, all of them.

    Raises:
      UserError: the file is missing, damaged, or the part lies outside of it.
    """
    if medium.path.suffix.lower() not in VIDEOS:
        return read_media(medium.path, size, fit)
    try:
        with av.open(str(medium.path), "r") as container:
            chosen = _chosen(container, medium, frames)
    except UserError:
        raise
    except Exception as error:  # decoders raise many types on damaged input
        raise UserError(f"{medium.path} cannot be decoded as a video: is it damaged?") from error
    return read_media(chosen, size, fit)


def _chosen(container: InputContainer, medium: Media, frames: int) -> list[np.ndarray]:
    """Each frame nearest, from before, to the middle of one of `frames` equal spans."""
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    start = medium.start or 0.0
    end = medium.end if medium.end is not None else _seconds(container, stream, medium.path)
    first = float((stream.start_time or 0) * (stream.time_base or 0))
    times = first + start + (np.arange(frames) + 0.5) * max(end - start, 0.0) / frames
    if start:
        container.seek(int((first + start) * av.time_base))  # to the key frame before it
    chosen: list[np.ndarray] = []
    last, wanted = None, times.tolist()
    time = 0.0
    for frame in container.decode(stream):
        time = _time(frame, stream, time)
        while wanted and last is not None and time > wanted[0]:
            chosen.append(upright(last))
            while wanted and time > wanted[0]:
                wanted.pop(0)
        last = frame
        if not wanted:
            break
    # A seek beyond the end arrives at the last key frame, which is not of the part.
    if wanted and last is not None and (chosen or time + 0.5 > first + start):
        chosen.append(upright(last))
    if not chosen:
        where = f" from second {start:g} to {end:g}" if medium.end is not None else ""
        raise UserError(f"{medium.path} shows no frame{where}.")
    return chosen


def _time(frame: av.VideoFrame, stream: VideoStream, before: float) -> float:
    """The second at which a frame is shown; in an AVI, which may not say so, that of its packet.

    Where there is neither it is a frame's time after the one `before`.
    """
    if frame.time is not None:
        return frame.time
    if frame.dts is not None and stream.time_base:
        return float(frame.dts * stream.time_base)
    return before + 1 / float(stream.average_rate or 25)


def _seconds(container: InputContainer, stream: VideoStream, path: Path) -> float:
    """How long a clip is."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    if container.duration:
        return container.duration / av.time_base
    raise UserError(f"{path} does not say how long it is: convert it to MP4.")
