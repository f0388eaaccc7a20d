"""Perceptual hashes of images, by which those of evaluation sets are kept out of training data."""

import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import imagehash
import numpy as np
from PIL import Image
from tqdm import tqdm

from flamingo_jax.data.media import on_white
from flamingo_jax.errors import UserError

_DIGITS = 16
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")


def perceptual_hash(picture: Image.Image) -> int:
    """64 bits that images that look alike mostly share: imagehash's `phash`, of what is seen."""
    return int(str(imagehash.phash(Image.fromarray(on_white(picture)))), 16)


def read_hashes(path: Path) -> np.ndarray:
    """Perceptual hashes, uint64 [N], of a file with one in 16 hexadecimal digits a line.

    What follows a hash on its line, a name for instance, is not read; `#` begins a comment.

    Raises:
      UserError: the file cannot be read, or a line begins with something else.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as perceptual hashes: {error}.") from error
    found = []
    for number, line in enumerate(lines, 1):
        if words := line.partition("#")[0].split():
            if not re.fullmatch(rf"[0-9a-fA-F]{{{_DIGITS}}}", words[0]):
                raise UserError(
                    f"{path}, line {number}: {words[0][:40]!r} is no perceptual hash: write its 64 "
                    "bits as 16 hexadecimal digits, as str(imagehash.phash(image)) does."
                )
            found.append(int(words[0], 16))
    return np.array(found, np.uint64)


def write_hashes(images: Sequence[Path], output: Path) -> int:
    """Writes a file that `read_hashes` reads; returns the number of hashes.

    Raises:
      UserError: an image cannot be decoded: an evaluation set is wanted whole.
    """
    lines = []
    for path in tqdm(images, desc="Hashing", unit="image", disable=None):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about sizes and metadata
                with Image.open(path, formats=_FORMATS) as picture:
                    value = perceptual_hash(picture)
        except Exception as error:  # decoders raise many types
            raise UserError(f"{path} cannot be decoded: {error}.") from error
        lines.append(f"{value:0{_DIGITS}x} {path}\n")
    output.write_text("".join(lines), encoding="utf-8")
    return len(lines)
