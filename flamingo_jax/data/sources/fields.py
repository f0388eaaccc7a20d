"""Fields of records as texts and media, under the names that people give them."""

import base64
import itertools
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from flamingo_jax.data.bad_records import MOST_BYTES, BadRecord
from flamingo_jax.data.clips import is_video
from flamingo_jax.data.documents import Medium

TEXTS = ("caption", "text", "captions", "texts", "txt", "TEXT", "title", "name", "description")
IMAGES = ("image", "jpg", "png", "image_path", "img", "picture")
VIDEOS = ("video", "mp4", "video_path", "clip")
FILES = ("file_name", "filename", "image_name", "path", "file", "filepath")
MEDIA = (*VIDEOS, *IMAGES, *FILES)
VIDEO_ENDINGS = (".mp4", ".webm", ".gif")

_FOLDERS = ("", "images", "videos")


def chosen(names: Iterable[str], known: Iterable[str]) -> str | None:
    """The first of the known names that is among a record's."""
    found = set(names)
    return next((name for name in known if name in found), None)


def text_of(value: Any) -> str:
    """A text, the first of several, or none.

    Raises:
      BadRecord: it is something else.
    """
    while isinstance(value, list | tuple):
        value = value[0] if value else None
    if value is None:
        return ""
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise BadRecord("charset", f"the text is not UTF-8 ({error.reason})") from error
    if not isinstance(value, str):
        raise BadRecord("damaged_record", f"a {type(value).__name__} where a text should be")
    return value.strip()


def medium_of(value: Any, folder: Path, name: str | None = None) -> Medium:
    """A medium from a field: its path or address, its bytes, or both in a struct.

    Args:
      value: of the field.
      folder: where its path begins.
      name: what to call it; None for its path or address.

    Raises:
      BadRecord: the field holds something else.
    """
    if isinstance(value, str):
        return Medium(name or value, _file(folder, value))
    if isinstance(value, bytes):
        return Medium(name or "", value)
    if isinstance(value, Mapping):
        path, content = value.get("path"), value.get("bytes")
        if isinstance(path, str) and content is None:
            return medium_of(path, folder, name)
        if isinstance(content, bytes):
            return Medium(name or (path if isinstance(path, str) else ""), content)
    raise BadRecord("damaged_record", f"a {type(value).__name__} where a medium should be")


def decoded_base64(text: str) -> bytes:
    """The bytes of a text in base64, in one line or several; of a damaged one, what is no medium.

    So it costs a page the one image, whose decoder will say that it is corrupt.
    """
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except ValueError:
        return b"no base64"


def looks_like_video(value: Any) -> bool:
    """Whether a field that holds a medium holds a video."""
    if isinstance(value, Mapping):
        content = value.get("bytes")
        return looks_like_video(content if content is not None else value.get("path"))
    if isinstance(value, bytes):
        return is_video(value)
    return isinstance(value, str) and value.lower().endswith(VIDEO_ENDINGS)


def _file(folder: Path, name: str) -> bytes:
    """The content of a local file; none if there is no such file. No address is ever fetched.

    Raises:
      BadRecord: it is too large.
    """
    for path in _places(folder, name):
        try:
            if not path.is_file():
                continue
            content = path.read_bytes() if path.stat().st_size <= MOST_BYTES else None
        except (OSError, ValueError):  # a name too long, or with a zero in it
            continue
        if content is None:
            raise BadRecord("huge_media", f"{path} has more than {MOST_BYTES:,} bytes")
        return content
    return b""


def _places(folder: Path, name: str) -> Iterator[Path]:
    """Where a file of this name may be: beside, or in a folder for images or videos.

    What an address names may be there under its host and path, as `wget -x` saves it, or under the
    last part of its path. Strangers wrote it: it names nothing outside of the folder.
    """
    names = [name]
    if "://" in name:
        try:
            parts = urllib.parse.urlsplit(name)
        except ValueError:  # its host is none
            return
        path = urllib.parse.unquote(parts.path)
        names = [f"{parts.netloc}{path}"] if parts.netloc else []
        names = [each for each in (*names, path.rsplit("/", 1)[-1]) if ".." not in each.split("/")]
    for place, each in itertools.product(_FOLDERS, names):
        if each and not each.endswith("/"):
            yield folder / place / each
