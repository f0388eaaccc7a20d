"""Pairs of an image or a video and its caption: tables beside the files, and WebDataset shards."""

import contextlib
import io
import json
import tarfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flamingo_jax.data.bad_records import BadRecord
from flamingo_jax.data.documents import Document, Medium
from flamingo_jax.data.sources import fields
from flamingo_jax.data.sources.base import Gives, Schema
from flamingo_jax.data.sources.pages import Mmc4, mmc4_document
from flamingo_jax.data.sources.rows import Rows
from flamingo_jax.data.sources.spans import Spans
from flamingo_jax.errors import UserError

_LOOKED_AT = 20  # records, to tell images from videos
_IMAGE_ENDINGS = ("jpg", "jpeg", "png", "webp")
_VIDEO_ENDINGS = ("mp4", "webm", "gif")
_PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE)
_MEDIA_ENDINGS = (*_VIDEO_ENDINGS, *_IMAGE_ENDINGS)
_SCHEMAS: Mapping[Gives, Schema] = {
    "pages": Schema("MMC4 in WebDataset", "pages", Mmc4.schema.fields),
    "pairs": Schema(
        "WebDataset", "pairs", {"|".join(_IMAGE_ENDINGS): "image", "txt|json": "caption"}
    ),
    "videos": Schema(
        "WebDataset", "videos", {"|".join(_VIDEO_ENDINGS): "video", "txt|json": "caption"}
    ),
}


class Table:
    """A folder with a csv or jsonl, or Parquet files: a path or bytes, and a caption, a row."""

    def __init__(self, rows: Rows, columns: Sequence[str]) -> None:
        """`columns`: names of the rows' fields, see `fields` for those that are known.

        Raises:
          UserError: none of them holds a medium, or a text.
        """
        self._rows = rows
        webvid = {"videoid", "page_dir", "name"} <= set(columns)
        medium = "videoid" if webvid else fields.chosen(columns, fields.MEDIA)
        text = fields.chosen([c for c in columns if c != medium], fields.TEXTS)
        if medium is None or text is None:
            missing = ("a text", fields.TEXTS) if medium else ("an image or a video", fields.MEDIA)
            raise UserError(
                f"{rows.folder}: no field of {', '.join(columns) or 'nothing'} holds {missing[0]}: "
                f"name one {', '.join(missing[1][:-1])} or {missing[1][-1]}."
            )
        self._medium, self._text, self._webvid = medium, text, webvid
        named = webvid or medium in fields.VIDEOS
        videos = named or (medium not in fields.IMAGES and self._holds_videos())
        self.schema = Schema(
            "table",
            "videos" if videos else "pairs",
            {medium: "path, bytes or {bytes, path}", text: "caption"},
        )

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, i: int) -> Document:
        row = self._rows[i]
        medium = fields.medium_of(self._path(row), self._rows.folder)
        return Document(self._rows.where(i), (medium, fields.text_of(row.get(self._text))))

    def _path(self, row: Mapping[str, Any]) -> Any:
        if self._webvid:  # as WebVid's csv names its files
            return f"{row.get('page_dir')}/{row.get('videoid')}.mp4"
        return row.get(self._medium)

    def _holds_videos(self) -> bool:
        """Whether most of the first rows that can be read name a video: a GIF may be an image."""
        found = []
        for i in range(min(_LOOKED_AT, len(self._rows))):
            with contextlib.suppress(BadRecord):
                found.append(fields.looks_like_video(self._rows[i].get(self._medium)))
        return 2 * sum(found) > len(found)


class WebDataset:
    """Tar shards as img2dataset and video2dataset write them: files of one key are one sample.

    A key's image or video comes with its caption in a `txt`, or in the `caption` of a `json`, whose
    `url` tells where it was found. Shards of OpenFlamingo's with a page of MMC4 in each `json` are
    read too.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._spans = Spans(paths, _samples)
        self.schema = _SCHEMAS[self._gives()]

    def __len__(self) -> int:
        return len(self._spans)

    def __getitem__(self, i: int) -> Document:
        files = _members(self._spans.read(i))
        path, _ = self._spans.place(i)
        told = _told(files)
        where = f"{path}#{_key(next(iter(files.values()))[0])}"
        if self.schema.gives == "pages":
            return mmc4_document(told, path.parent, where)
        ending = fields.chosen(files, _MEDIA_ENDINGS)
        if ending is None:
            raise BadRecord("missing_media", f"no {' or '.join(_MEDIA_ENDINGS)}")
        name, content = files[ending]
        address = told.get("url")
        text = fields.text_of(files["txt"][1] if "txt" in files else told.get("caption"))
        medium = Medium(address if isinstance(address, str) else name, content)
        return Document(where, (medium, text))

    def _gives(self) -> Gives:
        """What most of the first samples are that can be read; one may lack its image."""
        found: Counter[Gives] = Counter()
        for i in range(min(_LOOKED_AT, len(self._spans))):
            with contextlib.suppress(BadRecord):
                found.update(_given(_members(self._spans.read(i))))
        return found.most_common(1)[0][0] if found else "pairs"


def _given(files: Mapping[str, tuple[str, bytes]]) -> tuple[Gives, ...]:
    """What a sample is; nothing where it has neither a medium nor a page."""
    ending = fields.chosen(files, _MEDIA_ENDINGS)
    if ending is None:
        return ("pages",) if "text_list" in _told(files) else ()
    return ("videos",) if ending in _VIDEO_ENDINGS else ("pairs",)


def _samples(path: Path) -> np.ndarray:
    """Spans of samples in a tar: their headers and contents; one without end where it is cut."""
    spans: list[tuple[int, int]] = []
    key, end, whole = None, 0, True
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                after = member.offset_data + -(-member.size // 512) * 512
                if member.isfile():
                    if spans and _key(member.name) == key:
                        spans[-1] = (spans[-1][0], after - spans[-1][0])
                    else:
                        spans.append((end, after - end))
                    key = _key(member.name)
                end = after
    except (tarfile.TarError, EOFError, ValueError):
        whole = False
    with path.open("rb") as file:  # tarfile takes a damaged header for the end
        file.seek(end)
        if not whole or file.read(512) != bytes(512):
            spans.append((end, -1))
    return np.array(spans, np.int64).reshape(-1, 2)


def _members(content: bytes) -> dict[str, tuple[str, bytes]]:
    """(name, content) of a sample's files by what comes after the key's point.

    Raises:
      BadRecord: a file is damaged.
    """
    if files := _plain_members(content):
        return files
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            for member in archive:
                opened = archive.extractfile(member) if member.isfile() else None
                if opened is not None:
                    files[_ending(member.name)] = (member.name, opened.read())
    except Exception as error:  # tarfile raises many types on damaged input
        raise BadRecord("damaged_record", f"no files of a tar ({error})") from error
    if not files:
        raise BadRecord("damaged_record", "no files of a tar")
    return files


def _plain_members(content: bytes) -> dict[str, tuple[str, bytes]]:
    """`_members` in a tenth of the time, where all are whole and of the plainest kind; else none.

    Opening a tar takes longer than reading the few files of a sample.
    """
    files, at = {}, 0
    while at < len(content):
        try:
            name, size = _plain_header(content[at : at + 512])
        except ValueError:
            return {}
        first, last = at + 512, at + 512 + size
        at = first + -(-size // 512) * 512
        if not first <= last <= at <= len(content):
            return {}
        files[_ending(name)] = (name, content[first:last])
    return files


def _plain_header(block: bytes) -> tuple[str, int]:
    """A file's name and its size in bytes, of a tar's header (POSIX.1-1988, ustar).

    Raises:
      ValueError: it is damaged, or one with more in it than that.
    """
    if len(block) != 512 or block[156:157] not in _PLAIN or block[345]:
        raise ValueError("no plain file")
    size, checksum = (int(octal.strip(b" \0"), 8) for octal in (block[124:136], block[148:156]))
    if sum(block) - sum(block[148:156]) + 8 * ord(" ") != checksum:
        raise ValueError("damaged")
    name = block[:100].partition(b"\0")[0].decode("utf-8", "surrogateescape")
    if not name or name.endswith("/"):
        raise ValueError("a folder")
    return name, size


def _told(files: Mapping[str, tuple[str, bytes]]) -> Mapping[str, Any]:
    """What a sample's json holds; nothing where there is none that can be read."""
    try:
        found = json.loads(files["json"][1]) if "json" in files else {}
    except (ValueError, RecursionError) as error:
        raise BadRecord("damaged_record", f"no JSON ({error})") from error
    return found if isinstance(found, dict) else {}


def _key(name: str) -> str:
    folder, _, file = name.rpartition("/")
    return f"{folder}/{file.split('.', 1)[0]}".lstrip("/")


def _ending(name: str) -> str:
    return name.rpartition("/")[2].partition(".")[2].lower()
