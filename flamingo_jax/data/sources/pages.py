"""Pages of interleaved text and images: OBELICS and Multimodal C4."""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flamingo_jax.data.bad_records import BadRecord
from flamingo_jax.data.documents import Document, Medium
from flamingo_jax.data.sources.base import Schema
from flamingo_jax.data.sources.fields import decoded_base64, medium_of, text_of
from flamingo_jax.data.sources.rows import Rows


class Obelics:
    """OBELICS (arXiv:2306.16527): lists of texts and images, None in one where the other has one.

    Published are the images' addresses only: they are looked for beside the files, see `fields`.
    Rows that hold the images' bytes, as Hugging Face's libraries write them, need no files.
    """

    schema = Schema(
        "OBELICS",
        "pages",
        {
            "texts": "list of text or null",
            "images": "list of address, path, bytes, {bytes, path} or null; as long as texts",
            "metadata": "optional; JSON list with the `src` of each image",
            "general_metadata": "optional; JSON object with the page's `url`",
        },
    )

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, i: int) -> Document:
        row = self._rows[i]
        texts, images = row.get("texts"), row.get("images")
        if not isinstance(texts, list) or not isinstance(images, list):
            raise BadRecord("damaged_record", "texts and images are no lists")
        if len(texts) != len(images):
            message = f"{len(texts)} texts and {len(images)} images: lists of one length are asked"
            raise BadRecord("damaged_record", message)
        told = _json(row.get("metadata"), list)
        names = told if len(told) == len(images) else [None] * len(images)
        items: list[str | Medium] = []
        for text, image, about in zip(texts, images, names, strict=True):
            if image is not None:
                name = about.get("src") if isinstance(about, dict) else None
                named = name if isinstance(name, str) else f"image {len(items)}"
                unnamed = not isinstance(image, str) and not _path(image)
                try:
                    medium = medium_of(image, self._rows.folder, named if unnamed else None)
                except BadRecord:  # costs the page this image, which is then a missing one
                    medium = Medium(named, b"")
                items.append(medium)
            elif cleaned := text_of(text):
                items.append(cleaned)
        page = _json(row.get("general_metadata"), dict).get("url")
        return Document(page if isinstance(page, str) else self._rows.where(i), tuple(items))


class Mmc4:
    """Multimodal C4 (arXiv:2304.06939): sentences, and images each matched with one of them.

    An image comes before its sentence. It is a file named `image_name` beside the documents or in
    a folder `images`, or base64 in `image_base64`, as OpenFlamingo's shards hold it.
    """

    schema = Schema(
        "MMC4",
        "pages",
        {
            "text_list": "list of sentences",
            "image_info": "list of {image_name, raw_url, matched_text_index, image_base64}",
            "url": "optional; of the page",
        },
    )

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, i: int) -> Document:
        return mmc4_document(self._rows[i], self._rows.folder, self._rows.where(i))


def mmc4_document(row: Mapping[str, Any], folder: Path, where: str) -> Document:
    """A page of Multimodal C4.

    Raises:
      BadRecord: its fields are of other types.
    """
    sentences, told = row.get("text_list"), row.get("image_info")
    if not isinstance(sentences, list) or not isinstance(told, list):
        raise BadRecord("damaged_record", "text_list and image_info are no lists")
    before: dict[int, list[Medium]] = {}
    for each in told:
        about = each if isinstance(each, dict) else {}
        index = about.get("matched_text_index")
        place = index if isinstance(index, int) and index >= 0 else len(sentences)
        before.setdefault(min(place, len(sentences)), []).append(_mmc4_image(about, folder))
    items: list[str | Medium] = []
    for number, sentence in enumerate([*sentences, ""]):
        items += before.get(number, [])
        text = text_of(sentence)
        if text and items and isinstance(items[-1], str):
            items[-1] = f"{items[-1]} {text}"
        elif text:
            items.append(text)
    page = row.get("url")
    return Document(page if isinstance(page, str) else where, tuple(items))


def _mmc4_image(about: Mapping[str, Any], folder: Path) -> Medium:
    """An image; without content where there is none to use, which costs the page no other one."""
    names = [about.get(field) for field in ("raw_url", "image_name")]
    known = [name for name in names if isinstance(name, str) and name]
    name = (*known, "image")[0]
    inside = about.get("image_base64")
    if isinstance(inside, str) and inside:
        return Medium(name, decoded_base64(inside))
    for place in reversed(known):
        with contextlib.suppress(BadRecord):  # a file that is too large
            medium = medium_of(place, folder, name)
            if medium.content:
                return medium
    return Medium(name, b"")


def _path(image: Any) -> bool:
    return isinstance(image, Mapping) and isinstance(image.get("path"), str)


def _json(value: Any, kind: type) -> Any:
    """What a text in JSON holds, if it is of a kind; else nothing of it."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return kind()
    return value if isinstance(value, kind) else kind()
