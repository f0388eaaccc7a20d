"""Still pictures and clips as arrays of frames; decoding of files that others made."""

import contextlib
import io
import itertools
import warnings
from pathlib import Path
from typing import Literal

import av
import numpy as np
from PIL import Image, ImageOps, ImageSequence

from flamingo_jax.errors import UserError

Fit = Literal["pad", "crop", "stretch"]
"""How a picture becomes a square: white borders, the centre of it, or its sides stretched."""

MOST_PIXELS = 50_000_000
"""A picture that claims to be larger is refused before it is decoded."""


def decode_media(source: Path | str | bytes, most_frames: int = 8) -> np.ndarray:
    """A PNG, JPEG, WebP, GIF or MP4 as uint8 [F, H, W, 3]; transparency becomes white.

    Args:
      source: a path, or a file's content.
      most_frames: of longer clips, so many are taken evenly from first to last.

    Raises:
      UserError: the file is missing, damaged, too large or of another kind.
    """
    name = "The given bytes" if isinstance(source, bytes) else str(source)
    try:
        content = source if isinstance(source, bytes) else Path(source).read_bytes()
    except OSError as error:
        raise UserError(f"{name} cannot be read: {error.strerror}.") from error
    try:
        movie = content[4:8] == b"ftyp"
        frames = _decode_mp4(content) if movie else _decode_picture(content)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    except Exception as error:  # decoders raise many types on damaged input
        raise UserError(
            f"{name} cannot be decoded as PNG, JPEG, WebP, GIF or MP4: is it damaged?"
        ) from error
    if not frames:
        raise UserError(f"{name} holds no frame.")
    chosen = np.linspace(0, len(frames) - 1, min(len(frames), most_frames)).round().astype(int)
    return np.stack([frames[i] for i in chosen])


def encode_gif(frames_FxHxWx3: np.ndarray) -> bytes:
    """uint8 frames as an animated GIF of ten frames a second."""
    first, *rest = (Image.fromarray(frame) for frame in frames_FxHxWx3)
    buffer = io.BytesIO()
    first.save(buffer, "GIF", save_all=True, append_images=rest, duration=100, loop=0)
    return buffer.getvalue()


def encode_mp4(frames_FxHxWx3: np.ndarray) -> bytes:
    """uint8 frames of even height and width as an MPEG-4 clip of ten frames a second."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.height, stream.width = frames_FxHxWx3.shape[1:3]
        stream.pix_fmt, stream.bit_rate = "yuv420p", 2_000_000
        for frame in frames_FxHxWx3:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


def _decode_picture(content: bytes) -> list[np.ndarray]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # checked below
        picture = Image.open(io.BytesIO(content), formats=("PNG", "JPEG", "WEBP", "GIF"))
    # What follows the picture in a phone's JPEG is a preview or a depth map, not another frame.
    frames = 1 if picture.format == "MPO" else getattr(picture, "n_frames", 1)
    if picture.width * picture.height * frames > MOST_PIXELS:
        raise UserError(f"more than {MOST_PIXELS:,} pixels: make the picture smaller.")
    shown = itertools.islice(ImageSequence.Iterator(picture), frames)
    return [on_white(frame) for frame in shown]


def _decode_mp4(content: bytes) -> list[np.ndarray]:
    with av.open(io.BytesIO(content), "r", format="mp4") as container:
        frames, pixels = [], 0
        for frame in container.decode(video=0):
            pixels += frame.width * frame.height
            if pixels > MOST_PIXELS:
                raise UserError(f"more than {MOST_PIXELS:,} pixels: make the clip shorter.")
            frames.append(upright(frame))
    return frames


def upright(frame: av.VideoFrame) -> np.ndarray:
    """A frame as players show it, uint8 [H, W, 3]: phones write into a clip how they were held."""
    return np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))


def on_white(picture: Image.Image) -> np.ndarray:
    """A picture as a viewer shows it, uint8 [H, W, 3]: upright, 8 bits, on white."""
    with contextlib.suppress(Exception):  # a damaged EXIF block says nothing against the pixels
        picture = ImageOps.exif_transpose(picture)
    if picture.mode == "RGB" and "transparency" not in picture.info:
        return np.asarray(picture)
    if picture.mode.startswith("I"):  # 16-bit grey, which Pillow would clip at 255
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    drawn = picture.convert("RGBA")
    white = Image.new("RGBA", drawn.size, "white")
    return np.asarray(Image.alpha_composite(white, drawn).convert("RGB"))


def fitted(
    image: Image.Image, size: int, fit: Fit, sides: tuple[float, float] | None = None
) -> np.ndarray:
    """A picture as uint8 [size, size, 3], transparency and borders white.

    `sides` are its width and height in its own pixels where its last column and row are not whole.
    """
    flat = Image.fromarray(on_white(image))
    width, height = sides or flat.size
    if (width, height) == (size, size):
        return np.asarray(flat)
    whole = (0, 0, width, height)
    if fit == "stretch":
        return np.asarray(flat.resize((size, size), Image.Resampling.BICUBIC, whole))
    if fit == "crop":
        left, top = (max(0, side - min(width, height)) / 2 for side in (width, height))
        middle = (left, top, width - left, height - top)
        return np.asarray(flat.resize((size, size), Image.Resampling.BICUBIC, middle))
    across, down = (max(1, round(side * size / max(width, height))) for side in (width, height))
    square = Image.new("RGB", (size, size), "white")
    place = (round((size - across) / 2), round((size - down) / 2))
    square.paste(flat.resize((across, down), Image.Resampling.LANCZOS, whole), place)
    return np.asarray(square)
