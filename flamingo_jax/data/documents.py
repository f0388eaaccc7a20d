"""Documents: what every source of pages, pairs and clips gives, and their form on disk."""

import dataclasses
from typing import Any

import msgpack

from flamingo_jax.data.bad_records import MOST_CHARACTERS, BadRecord
from flamingo_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Medium:
    """An image or a video of a document, not yet decoded.

    Attributes:
      name: the file name or address that the document calls it by.
      content: the file's bytes as they were found.
    """

    name: str
    content: bytes

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", _writable(self.name))


@dataclasses.dataclass(frozen=True)
class Document:
    """Text and media in reading order: a page, or one medium and its caption.

    Attributes:
      source: the page's address, or the path of what it was read from.
      items: texts and media.
    """

    source: str
    items: tuple[str | Medium, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", _writable(self.source))


def check(document: Document) -> None:
    """Looks at a document's texts, and whether there is anything to look at; no medium is decoded.

    Raises:
      BadRecord: it has no text, no medium, too much text, or text that is none.
    """
    texts = [item for item in document.items if isinstance(item, str)]
    if not any(text.strip() for text in texts):
        raise BadRecord("empty", "there is no text")
    if len(texts) == len(document.items):
        raise BadRecord("empty", "there is no image or video")
    if (characters := sum(map(len, texts))) > MOST_CHARACTERS:
        raise BadRecord("long_text", f"{characters:,} characters are more than {MOST_CHARACTERS:,}")
    try:
        "".join(texts).encode("utf-8")
    except UnicodeEncodeError as error:  # halves of characters, which JSON can hold
        raise BadRecord("charset", f"the text is no Unicode ({error.reason})") from error


def to_bytes(document: Document) -> bytes:
    """A document as a MessagePack record; a medium is a list of its name and content."""
    items = [
        item if isinstance(item, str) else [item.name, item.content] for item in document.items
    ]
    record: Any = msgpack.packb([document.source, items])  # None without a buffer of its own
    return record


def from_bytes(record: bytes) -> Document:
    """A document that `to_bytes` wrote.

    Raises:
      UserError: the record is damaged, or was never a document.
    """
    try:
        source, items = msgpack.unpackb(record)
        read = tuple(item if isinstance(item, str) else Medium(*item) for item in items)
        document = Document(source, read)
    except (ValueError, TypeError, AttributeError, msgpack.UnpackException) as error:
        raise UserError(f"The record is no document ({error}): is the file damaged?") from error
    if not all(isinstance(item, str) or isinstance(item.content, bytes) for item in read):
        raise UserError("The record is no document: its fields are of other types.")
    return document


def _writable(name: str) -> str:
    """A name as UTF-8 can hold it: bytes and halves of characters that are none become escapes.

    Files' names may be of any bytes, and JSON can hold such halves; a replacement character would
    make two names the same.
    """
    return name.encode("utf-8", "backslashreplace").decode("utf-8")
