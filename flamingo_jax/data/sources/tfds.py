"""TFDS data sets, read through ArrayRecord and without TensorFlow."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flamingo_jax.data.bad_records import BadRecord
from flamingo_jax.data.documents import Document
from flamingo_jax.data.sources import fields
from flamingo_jax.data.sources.base import Schema
from flamingo_jax.errors import UserError

# Names of features that tell where an image comes from, not what it shows.
_NO_CAPTION = re.compile(r"(^|_)(file_?(name|path)?|path|id|url|uri|key)$", re.IGNORECASE)


class Tfds:
    """The split `train` of a prepared TFDS data set, or its only one.

    The first image or video feature is the medium, and the first text the caption, of captions in a
    list the first; where there is no text, the name of the class label is. Names of files, numbers
    and addresses are no such texts.
    """

    def __init__(self, folder: Path) -> None:
        """`folder`: with `dataset_info.json` in it.

        Raises:
          UserError: it is damaged, has no such features, or its files are not ArrayRecord.
        """
        import tensorflow_datasets as tfds

        self._folder, self._opened = folder, None
        try:
            builder: Any = tfds.builder_from_directory(folder)
            splits, found = list(builder.info.splits), dict(builder.info.features)
            format = builder.info.file_format.value
        except Exception as error:  # TFDS and protobuf raise their own types
            words = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise UserError(f"{folder} cannot be read as a TFDS data set ({words}).") from error
        if format != "array_record":
            raise UserError(
                f"{folder} holds files of {format}: prepare it with file_format='array_record'."
            )
        if not splits:
            raise UserError(f"{folder} holds no split: was it prepared to the end?")
        self._split = "train" if "train" in splits else splits[0]
        kinds = {name: type(feature).__name__ for name, feature in found.items()}
        videos = [name for name, kind in kinds.items() if kind == "Video"]
        images = [name for name, kind in kinds.items() if kind in ("Image", "LabeledImage")]
        keys = {name: _text_keys(name, feature) for name, feature in found.items()}
        texts = [name for name in found if keys[name]]
        labels = [name for name, kind in kinds.items() if kind == "ClassLabel"]
        if not (videos or images) or not (texts or labels):
            raise UserError(
                f"{folder} has the features {', '.join(map(' of '.join, kinds.items()))}: an "
                "image or a video, and a text or a class label, are needed."
            )
        self._medium = (*videos, *images)[0]
        text = fields.chosen(texts, fields.TEXTS) or (*texts, *labels)[0]
        self._text = keys[text] or (text,)
        self._names = found[text].names if not texts else None
        self.schema = Schema(
            "TFDS",
            "videos" if videos else "pairs",
            {self._medium: kinds[self._medium], text: kinds[text]},
        )

    def __len__(self) -> int:
        return len(self._source())

    def __getitem__(self, i: int) -> Document:
        try:
            record = self._source()[i]
        except Exception as error:  # array_record and TFDS raise their own types
            words = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise BadRecord("damaged_record", f"the record cannot be read ({words})") from error
        where = f"{self._folder}/{self._split}#{i}"
        name = record.get("image/filename") or record.get("file_name") or record.get("filename")
        medium = fields.medium_of(_bytes(record[self._medium]), self._folder)
        named = name.decode("utf-8", "replace") if isinstance(name, bytes) else f"{self._split}#{i}"
        return Document(where, (type(medium)(named, medium.content), self._caption(record)))

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_opened": None}

    def _caption(self, record: Any) -> str:
        for key in self._text:
            record = record[key]
        if self._names is None:
            return fields.text_of(_plain(record))
        label = int(record)
        if not 0 <= label < len(self._names):  # -1 where it is not known
            raise BadRecord("empty", f"the class label {label} has no name")
        return self._names[label]

    def _source(self) -> Any:
        if self._opened is None:
            import tensorflow_datasets as tfds

            builder: Any = tfds.builder_from_directory(self._folder)
            undecoded = {self._medium: tfds.decode.SkipDecoding()}
            self._opened = builder.as_data_source(self._split, decoders=undecoded)
        return self._opened


def tfds_folder(path: Path) -> Path | None:
    """The folder of a prepared data set: this one, or its newest version inside; None if none."""
    if (path / "dataset_info.json").is_file():
        return path
    inside = [info.parent for info in path.glob("*/dataset_info.json")]
    return max(inside, key=lambda folder: _version(folder.name), default=None)


def _version(name: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", name)]


def _text_keys(name: str, feature: Any) -> tuple[str, ...]:
    """The keys that lead to a feature's text or list of texts; none if it holds no caption."""
    if _NO_CAPTION.search(name.rpartition("/")[2]):
        return ()
    held = feature.np_dtype
    if isinstance(held, Mapping) and type(feature).__name__ == "Sequence":
        inner = fields.chosen(held, ("caption", "text"))
        return (name, inner) if inner and held[inner] == np.object_ else ()
    return (name,) if held == np.object_ else ()


def _plain(value: Any) -> Any:
    """Lists of what were arrays."""
    return value.tolist() if hasattr(value, "tolist") else value


def _bytes(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
