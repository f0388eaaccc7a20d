"""WARC files: their pages, and the images that were recorded with them.

A first pass notes where what is; pages and images are then read at their places, so that memory
holds one page.
"""

import contextlib
import dataclasses
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from fastwarc.warc import WarcRecord, WarcRecordType

from flamingo_jax.data.web.addresses import resolve
from flamingo_jax.data.web.limits import Limits
from flamingo_jax.data.web.records import MOST_HEADER, open_records, parse

_CHUNKED = re.compile(rb"[0-9a-fA-F]+[ \t]*(;[^\r\n]*)?\r\n")
_MOST_HOPS = 5
_PAGES = ("text/html", "application/xhtml+xml")
_REDIRECTS = (301, 302, 303, 307, 308)


@dataclasses.dataclass(frozen=True)
class Page:
    """A page as it was found.

    Attributes:
      source: its address or path.
      base: the address that its references are relative to.
      content: its HTML; nothing of a page that is refused.
      charset: what the HTTP header says.
      refused: why it is not read; None if it is.
    """

    source: str
    base: str
    content: bytes
    charset: str | None = None
    refused: str | None = None


@dataclasses.dataclass(frozen=True)
class _Entry:
    """Where a record with an answer is and what it says about itself."""

    place: int
    source: str  # the address as recorded
    address: str  # as browsers spell it
    status: int
    kind: str


class Archive:
    """A WARC file, compressed or not.

    Attributes:
      tally: `records/in`, and `records/bad/REASON` of those that could not be read.
    """

    def __init__(self, path: Path, limits: Limits) -> None:
        """Notes what is in the file.

        Raises:
          OSError: the file cannot be read.
        """
        self._limits = limits
        self._most = max(limits.max_page_bytes, limits.max_image_bytes) + MOST_HEADER
        self.tally: Counter[str] = Counter()
        self._stack = contextlib.ExitStack()
        self._records = self._stack.enter_context(open_records(path, self._most))
        self._pages: list[_Entry] = []
        self._places: dict[str, int] = {}
        self._elsewhere: dict[str, str] = {}
        for place, record in self._records.scan(self.tally):
            try:
                self._note(place, record)
            except (OSError, ValueError):  # what fastwarc raises
                self.tally["records/bad/http"] += 1

    def close(self) -> None:
        """Closes the file."""
        self._stack.close()

    def pages(self) -> Iterator[Page]:
        """The pages in the order of the file; of one address, each time it was recorded."""
        for entry in self._pages:
            if entry.status >= 400:
                yield Page(entry.source, entry.address, b"", refused="http_status")
                continue
            try:
                content, charset = self._content(entry.place, self._limits.max_page_bytes)
            except (OSError, ValueError):
                yield Page(entry.source, entry.address, b"", refused="damaged")
                continue
            large = len(content) > self._limits.max_page_bytes
            yield Page(
                entry.source,
                entry.address,
                b"" if large else content,
                charset,
                "too_large" if large else None,
            )

    def find(self, address: str) -> bytes | None:
        """What was recorded at an address, redirects followed; None if nothing was.

        It is cut after the largest size that an image may have, and one byte.
        """
        for _ in range(_MOST_HOPS):
            other = re.sub("^http(s?):", lambda s: "http:" if s[1] else "https:", address)
            for each in (address, other):
                if (place := self._places.get(each)) is not None:
                    try:
                        return self._content(place, self._limits.max_image_bytes)[0]
                    except (OSError, ValueError):
                        return b""
            following = self._elsewhere.get(address) or self._elsewhere.get(other)
            if following is None:
                return None
            address = following
        return None

    def _note(self, place: int, record: WarcRecord) -> None:
        source = (record.headers.get("WARC-Target-URI") or "").strip("<> ")
        address = resolve(source, "about:blank")
        if not source or not address:
            return
        status, kind, moved = _answer(record)
        if record.record_type == WarcRecordType.revisit:
            first = record.headers.get("WARC-Refers-To-Target-URI")
            if first and (target := resolve(first.strip("<> "), address)) and target != address:
                self._elsewhere.setdefault(address, target)
        elif status in _REDIRECTS:
            if moved and (target := resolve(moved, address)):
                self._elsewhere.setdefault(address, target)
        elif kind in _PAGES and (status == 200 or status >= 400):
            self._pages.append(_Entry(place, source, address, status, kind))
        elif status == 200:
            self._places.setdefault(address, place)

    def _content(self, place: int, most: int) -> tuple[bytes, str | None]:
        """(a record's content, at most a byte more than `most`; its charset by the header).

        Raises:
          OSError, ValueError: it is damaged.
        """
        content = self._records.read(place)
        for decode in ("all", "content", "none"):
            record = parse(content)
            _http(record, decode)
            try:
                found = record.reader.read(most + 1)
            except OSError:  # archives may hold a content decoded and its header as it was
                continue
            if decode != "all" and _CHUNKED.match(found):
                break
            return found, record.http_charset if record.is_http_parsed else None
        raise ValueError("The content's encoding is damaged.")


def _answer(record: WarcRecord) -> tuple[int, str, str | None]:
    """(HTTP status, content type, where it moved to) of a record."""
    if record.record_type == WarcRecordType.resource:
        return 200, _kind(record.headers.get("Content-Type")), None
    _http(record, "none")
    headers = record.http_headers if record.is_http_parsed else None
    if headers is None:
        return 0, "", None
    kind = _kind(headers.get("Content-Type"))
    if not kind and record.reader.read(512).lstrip()[:9].lower().startswith(
        (b"<!doctype", b"<html")
    ):
        kind = _PAGES[0]
    return headers.status_code or 0, kind, headers.get("Location")


def _kind(header: str | None) -> str:
    return (header or "").split(";")[0].strip().lower()


def _http(record: WarcRecord, decode: Literal["all", "content", "none"]) -> None:
    if record.is_http:
        record.parse_http(auto_decode=decode, max_header_len=MOST_HEADER)
