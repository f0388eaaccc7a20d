"""Whether an image of a page is worth showing to a model, from its bytes."""

import dataclasses
import hashlib
import io
import re
import warnings

import numpy as np
from PIL import Image

from flamingo_jax.data.hashes import perceptual_hash
from flamingo_jax.data.media import on_white
from flamingo_jax.data.pictures import strange_kind
from flamingo_jax.data.web.limits import Limits

_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a")
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
# What was read once is not read in other ways: a hundred comments would have 2^100 of them.
_SVG = re.compile(
    rb"^(?:\xef\xbb\xbf)?"
    rb"(?>\s+|<\?xml.*?\?>|<!--.*?-->|<!DOCTYPE[^>\[]*(?:\[.*?\]\s*)?>)*+<svg\b",
    re.S,
)
_TINY = 3
_DRAFT = 256


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What was found about an image.

    Attributes:
      reason: why it is left out; None if it is kept.
      digest: SHA-256 of its bytes.
    """

    reason: str | None
    digest: bytes = b""


class Examiner:
    """Examines images, one after another."""

    def __init__(self, limits: Limits, excluded: np.ndarray | None = None) -> None:
        """`excluded`: uint64 [N], perceptual hashes of images that must not be in the data."""
        self._limits = limits
        self._excluded = excluded if excluded is not None and len(excluded) else None

    def examine(self, content: bytes) -> Verdict:
        """Decodes an image and judges it.

        SVG is left out: it is a program for a renderer, and what training decodes are pixels. So is
        what training skips: animations, colours for print (CMYK), more than 8 bits a channel.
        """
        if len(content) > self._limits.max_image_bytes:
            return Verdict("too_large")
        if not content:
            return Verdict("broken")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # decompression bombs are looked for here
                reason = self._reason(content)
        except Image.DecompressionBombError:
            reason = "too_many_pixels"
        except Exception:  # decoders raise many types on damaged input
            reason = _unreadable(content)
        return Verdict(reason, hashlib.sha256(content).digest() if reason is None else b"")

    def _reason(self, content: bytes) -> str | None:
        limits = self._limits
        picture = Image.open(io.BytesIO(content), formats=_FORMATS)
        width, height = picture.size
        if max(width, height) <= _TINY:
            return "tracking"
        if min(width, height) < limits.min_side:
            return "small"
        if max(width, height) > limits.max_aspect * min(width, height):
            return "aspect"
        if width * height > limits.max_pixels:
            return "too_many_pixels"
        if kind := strange_kind(picture, content):
            return kind
        if self._excluded is None:
            picture.draft("RGB", (_DRAFT, _DRAFT))  # JPEG at a fraction of its size, much faster
        pixels = picture if picture.mode in ("RGB", "L") else Image.fromarray(on_white(picture))
        pixels.load()
        low, high = np.array(pixels.getextrema()).reshape(-1, 2).T
        if (high - low <= limits.min_contrast).all():
            return "single_colour"
        if self._excluded is not None and self._is_excluded(pixels):
            return "in_evaluation"
        return None

    def _is_excluded(self, picture: Image.Image) -> bool:
        """Whether it looks like an excluded one as it is seen, or as its file holds it.

        Hashes of turned photos may have been made either way.
        """
        assert self._excluded is not None
        shown = [picture]
        if "exif" in picture.info:
            shown.append(Image.fromarray(np.asarray(picture)))
        hashes = np.array([[perceptual_hash(each)] for each in shown], np.uint64)
        differing = np.bitwise_count(self._excluded ^ hashes)
        return bool((differing <= self._limits.evaluation_distance).any())


def _unreadable(content: bytes) -> str:
    if _SVG.match(content[:4096]):
        return "svg"
    webp = content[:4] == b"RIFF" and content[8:12] == b"WEBP"
    return "broken" if webp or content.startswith(_MAGIC) else "format"
