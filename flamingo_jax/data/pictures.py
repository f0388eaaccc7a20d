"""Images of training data: what they are, and their pixels, or why they cannot be used.

Stricter than `media.decode_media`, which reads what a user gives by hand: of millions of files the
strange ones are skipped.
"""

import contextlib
import dataclasses
import io
import math
import re
import warnings
from collections.abc import Iterator
from typing import Literal

import numpy as np
from PIL import ExifTags, Image

from flamingo_jax.data.bad_records import BadRecord, Reason
from flamingo_jax.data.media import MOST_PIXELS, Fit, fitted

MOST_ASPECT = 10
"""Times the longer side may be as long as the shorter one."""

_KINDS = ("PNG", "JPEG", "WEBP", "GIF")
_DEEP = ("I", "F")  # modes of 16 bits and more begin so
Strange = Literal["animated", "cmyk", "deep"]
_REASONS: dict[Strange, tuple[Reason, str]] = {
    "animated": ("animated_image", "an animation where an image should be"),
    "cmyk": ("cmyk_image", "colours for print (CMYK)"),
    "deep": ("deep_image", "more than 8 bits a channel"),
}


@dataclasses.dataclass(frozen=True)
class Size:
    """Pixels of an image, or of a video's frames.

    Attributes:
      width: of a row.
      height: rows.
      frames: of a video; 1 for an image.
    """

    width: int
    height: int
    frames: int = 1


def picture_size(content: bytes) -> Size:
    """The size of an image that `read_picture` can read; all of it is decoded to know.

    Raises:
      BadRecord: as `read_picture`.
    """
    with _opened(content) as picture:
        size = Size(picture.width, picture.height)
        picture.load()
    return size


def read_picture(content: bytes, size: int, fit: Fit) -> np.ndarray:
    """A PNG, JPEG, WebP or GIF as uint8 [size, size, 3], made square as `fit` says.

    A JPEG of twice the size or more is decoded at half, a quarter or an eighth of its own, which
    takes half the time; a turned one whole.

    Raises:
      BadRecord: it is missing, damaged, huge, animated, CMYK, of more than 8 bits a channel, or
        far longer than wide.
    """
    with _opened(content) as picture:
        fills = max(picture.size) if fit == "pad" else min(picture.size)
        width, height = (math.ceil(side * size / fills) for side in picture.size)
        drafted = None if _turned(picture) else picture.draft(None, (width, height))
        return fitted(picture, size, fit, drafted and drafted[1][2:])


def strange_kind(picture: Image.Image, content: bytes) -> Strange | None:
    """What an opened picture is that none in training may be; `deep`: over 8 bits a channel."""
    # What follows the picture in a phone's JPEG is a preview, not another frame.
    if picture.format != "MPO" and getattr(picture, "is_animated", False):
        return "animated"
    if picture.mode == "CMYK":
        return "cmyk"
    if picture.mode.startswith(_DEEP) or _png_depth(picture, content) > 8:
        return "deep"
    return None


@contextlib.contextmanager
def _opened(content: bytes) -> Iterator[Image.Image]:
    """A picture whose header is fit for use; what decoding it raises becomes BadRecord."""
    if not content:
        raise BadRecord("missing_media", "the file is missing or empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about sizes, which are checked, and odd metadata
            with Image.open(io.BytesIO(content), formats=_KINDS) as picture:
                _check(picture, content)
                yield picture
    except BadRecord:
        raise
    except Image.DecompressionBombError as error:
        raise BadRecord("huge_image", f"more than {MOST_PIXELS:,} pixels") from error
    except Exception as error:  # decoders raise many types on damaged input
        raise BadRecord("corrupt_image", f"no PNG, JPEG, WebP or GIF ({_words(error)})") from error


def _check(picture: Image.Image, content: bytes) -> None:
    width, height = picture.size
    if width * height > MOST_PIXELS:
        raise BadRecord("huge_image", f"{width} x {height} are more than {MOST_PIXELS:,} pixels")
    if max(width, height) > MOST_ASPECT * min(width, height):
        raise BadRecord("aspect_ratio", f"{width} x {height} is beyond {MOST_ASPECT} : 1")
    if kind := strange_kind(picture, content):
        raise BadRecord(*_REASONS[kind])


def _turned(picture: Image.Image) -> bool:
    """Whether EXIF has it shown turned or mirrored; a damaged block, as elsewhere, says no."""
    with contextlib.suppress(Exception):
        return picture.getexif().get(ExifTags.Base.Orientation, 1) != 1
    return False


def _png_depth(picture: Image.Image, content: bytes) -> int:
    """Bits a channel of a PNG, which Pillow does not tell of coloured ones; 8 of all else."""
    return content[24] if picture.format == "PNG" and len(content) > 24 else 8


def _words(error: Exception) -> str:
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return re.sub(r" <_io\.[^>]*>", "", first)[:100]  # an address, another in each process
