"""WARC files as records, cut one from another; what is damaged is counted and passed over.

Records are one after another, mostly each compressed by itself. They are cut here, each by its own
gzip member or length, and read by fastwarc, whose iterator takes the records after one with a wrong
length for a part of it, and ends at what is damaged.
"""

import contextlib
import io
import re
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from fastwarc.warc import ArchiveIterator, WarcRecord

MOST_HEADER = 65_536
"""Bytes of a record's header, and of an HTTP header in it."""

_MEMBER = re.compile(rb"\x1f\x8b\x08")
_START = re.compile(rb"WARC/1\.\d\r?\n")
_LENGTH = re.compile(rb"^content-length:[ \t]*(\d{1,18})[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_HEADER_END = re.compile(rb"\r?\n\r?\n")
_CHUNK = 1 << 16


def parse(content: bytes) -> WarcRecord:
    """A record of its bytes.

    Raises:
      OSError, ValueError: they are none.
    """
    for record in ArchiveIterator(io.BytesIO(content), parse_http=False, stream_detect=False):
        return record
    raise ValueError("no record")


class Plain:
    """Records one after another without compression."""

    def __init__(self, file: IO[bytes], most: int) -> None:
        self._file = file
        self._most = most

    def scan(self, tally: Counter[str]) -> Iterator[tuple[int, WarcRecord]]:
        """Each whole record and its place."""
        place = self._next(0)
        while place is not None:
            tally["records/in"] += 1
            size = self._size(place)
            after = None if size is None else self._after(place + size)
            if size is None or after is None:
                tally["records/bad/length"] += 1
                place = self._next(place + 1)
                continue
            try:
                yield place, parse(self.read(place))
            except (OSError, ValueError):
                tally["records/bad/header"] += 1
            place = after if after >= 0 else None

    def read(self, place: int) -> bytes:
        """A record, cut after the largest size."""
        self._file.seek(place)
        size = self._size(place)
        self._file.seek(place)
        return self._file.read(min(size or 0, self._most))

    def _size(self, place: int) -> int | None:
        """Bytes of the record that begins at a place, None if its header says none."""
        self._file.seek(place)
        head = self._file.read(MOST_HEADER)
        end = _HEADER_END.search(head)
        length = _LENGTH.search(head, 0, end.start() + 1) if end else None
        return end.end() + int(length[1]) if end and length else None

    def _after(self, end: int) -> int | None:
        """Where the record after one that ends at `end` begins.

        -1 at the end of the file; None if neither is there, so that the length was wrong.
        """
        self._file.seek(0, io.SEEK_END)
        if end > self._file.tell():
            return None
        self._file.seek(end)
        gap = self._file.read(64)
        rest = gap.lstrip(b"\r\n")
        if not rest:
            return -1
        return end + len(gap) - len(rest) if _START.match(rest) else None

    def _next(self, place: int) -> int | None:
        """The next place where a record may begin."""
        return _search(self._file, _START, place)


class Members:
    """Records of which each is a gzip member."""

    def __init__(self, file: IO[bytes], most: int) -> None:
        self._file = file
        self._most = most

    def scan(self, tally: Counter[str]) -> Iterator[tuple[int, WarcRecord]]:
        """Each whole record and its place."""
        place: int | None = 0
        while (place := _search(self._file, _MEMBER, place)) is not None:
            try:
                content, size, consumed = self._member(place)
            except (zlib.error, EOFError):
                # The bytes may look like a member's start within one that is damaged.
                tally["records/bad/compression"] += 1
                tally["records/in"] += 1
                place = self._whole_after(place)
                if place is None:
                    return
                continue
            tally["records/in"] += 1
            end, length = _HEADER_END.search(content), _LENGTH.search(content)
            said = end.end() + int(length[1]) if end and length else -1
            if not _START.match(content) or said < 0:
                tally["records/bad/header"] += 1
            elif not said <= size <= said + 4:
                tally["records/bad/length"] += 1
            else:
                try:
                    yield place, parse(content)
                except (OSError, ValueError):
                    tally["records/bad/header"] += 1
            place += consumed

    def read(self, place: int) -> bytes:
        """A record, cut after the largest size."""
        self._file.seek(place)
        content, _, _ = self._member(place)
        return content

    def _whole_after(self, place: int) -> int | None:
        """The next member that is one and begins a record."""
        found: int | None = place
        while found is not None:
            found = _search(self._file, _MEMBER, found + 1)
            if found is not None and _begins_record(self._file, found):
                return found
        return None

    def _member(self, place: int) -> tuple[bytes, int, int]:
        """(a member's content, cut after the largest size; its whole size; its compressed size).

        Raises:
          zlib.error, EOFError: it is damaged or cut short.
        """
        decoder = zlib.decompressobj(31)
        parts, size, consumed = [], 0, 0
        self._file.seek(place)
        while not decoder.eof:
            chunk = decoder.unconsumed_tail or self._file.read(_CHUNK)
            if not chunk:
                raise EOFError
            if not decoder.unconsumed_tail:
                consumed += len(chunk)
            part = decoder.decompress(chunk, 16 * _CHUNK)
            if size < self._most:
                parts.append(part[: self._most - size])
            size += len(part)
        return b"".join(parts), size, consumed - len(decoder.unused_data)


def _begins_record(file: IO[bytes], place: int) -> bool:
    file.seek(place)
    try:
        return bool(_START.match(zlib.decompressobj(31).decompress(file.read(_CHUNK), 64)))
    except zlib.error:
        return False


def _search(file: IO[bytes], pattern: re.Pattern[bytes], place: int) -> int | None:
    """Where a pattern of at most 16 bytes is next found at or after a place."""
    while True:
        file.seek(place)
        chunk = file.read(_CHUNK)
        if found := pattern.search(chunk):
            return place + found.start()
        if len(chunk) < _CHUNK:
            return None
        place += len(chunk) - 16


@contextlib.contextmanager
def open_records(path: Path, most: int) -> Iterator[Plain | Members]:
    """The records of a file; one that is compressed as a whole is unpacked to a temporary file."""
    with path.open("rb") as file:
        if not _MEMBER.match(file.read(3)):
            yield Plain(file, most)
        elif not _is_one_member(file):
            yield Members(file, most)
        else:
            with tempfile.TemporaryFile() as unpacked:
                _unpack(file, unpacked)
                yield Plain(unpacked, most)


def _is_one_member(file: IO[bytes]) -> bool:
    """Whether a gzip member holds more than one record, so that no record can be read alone."""
    file.seek(0)
    decoder = zlib.decompressobj(31)
    try:
        content = decoder.decompress(file.read(16 * _CHUNK), 16 * _CHUNK)
    except zlib.error:
        return False
    end, length = _HEADER_END.search(content), _LENGTH.search(content)
    said = end.end() + int(length[1]) if end and length else -1
    return said >= 0 and bool(_START.match(content[said:].lstrip(b"\r\n")))


def _unpack(file: IO[bytes], to: IO[bytes]) -> None:
    """Unpacks a gzip file as far as it is whole."""
    file.seek(0)
    decoder = zlib.decompressobj(31)
    rest = b""
    while chunk := rest or file.read(_CHUNK):
        try:
            to.write(decoder.decompress(chunk, 16 * _CHUNK))
        except zlib.error:
            return
        rest = decoder.unconsumed_tail
        if decoder.eof:
            rest, decoder = decoder.unused_data, zlib.decompressobj(31)
