"""Named drawings in memory, read from the TFDS data set."""

import contextlib
import dataclasses
import io
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.utils import gcs_utils

from flamingo_jax.data.colours import dominant_colour
from flamingo_jax.data.media import decode_media
from flamingo_jax.data.openmoji.builder import Openmoji
from flamingo_jax.errors import UserError, no_room

SPLITS = ("train", "validation", "test")

_AGAIN = "delete that folder and run again to render the drawings anew."

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, eq=False)
class Drawing:
    """One drawing.

    Attributes:
      code: code points, joined with hyphens.
      base: code of the base emoji; all its variants are in one split.
      names: name by language code.
      category: one of nine short words.
      group: finer category.
      colour: dominant colour's word, None where there is none.
      split: `train`, `validation` or `test`.
      image: uint8 [64, 64, 3], on white.
    """

    code: str
    base: str
    names: dict[str, str]
    category: str
    group: str
    colour: str | None
    split: str
    image: np.ndarray


def load_drawings(folder: Path) -> list[Drawing]:
    """All drawings; builds the data set in `folder` if it is not there.

    Records that cannot be read are left out and counted in one warning.

    Raises:
      UserError: the disk is full, or hardly anything can be read.
    """
    gcs_utils._is_gcs_disabled = True  # nothing leaves the machine
    for leftover in folder.glob("openmoji/*incomplete*"):
        shutil.rmtree(leftover)  # the writer was killed
    tfds.disable_progress_bar()
    try:
        builder = openmoji_builder(folder)
        with contextlib.redirect_stdout(io.StringIO()):  # it announces a download that is none
            builder.download_and_prepare()
        return _read(builder, folder)
    except UserError:
        raise
    except Exception as error:  # TFDS, array_record and protobuf raise their own types
        if no_room(error):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"{folder} cannot be read ({reason}): {_AGAIN}") from error


def _read(builder: Any, folder: Path) -> list[Drawing]:
    drawings, failed = [], 0
    for split in SPLITS:
        undecoded = {"image": tfds.decode.SkipDecoding()}  # TFDS would ask for OpenCV
        source = builder.as_data_source(split, decoders=undecoded)
        before = len(drawings)
        for i in range(len(source)):
            try:
                drawings.append(_drawing(source[i], split))
            except Exception as error:  # array_record and the decoders raise their own types
                failed += 1
                _log.debug("Record %d of %s: %s", i, split, error)
        if len(drawings) == before:
            raise UserError(f"{folder} has no readable drawing of the split {split}: {_AGAIN}")
    if failed:
        _log.warning("%d damaged records in %s were left out.", failed, folder)
    return drawings


def openmoji_builder(folder: Path) -> Any:
    """The TFDS builder, its files under `folder`."""
    build: Any = Openmoji  # TFDS wraps the class so that its arguments are not seen
    return build(data_dir=folder, file_format="array_record")


def _drawing(record: dict, split: str) -> Drawing:
    text = {
        name: value.decode() if isinstance(value, bytes) else str(value)
        for name, value in record.items()
        if name != "image"
    }
    image = decode_media(record["image"])[0]
    names = json.loads(text.pop("names"))
    return Drawing(**text, names=names, colour=dominant_colour(image), split=split, image=image)
