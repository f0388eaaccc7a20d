"""Rows of JSON lines, CSV and Parquet files as dicts, by number."""

import csv
import gzip
import io
import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from flamingo_jax.data.bad_records import MOST_BYTES, BadRecord
from flamingo_jax.data.sources.spans import Spans, cache_folder, fingerprint
from flamingo_jax.errors import UserError

_CHUNK = 2**22  # bytes
_MOST_UNPACKED = 64 * 2**30  # bytes of one file
_MOST_ROW_GROUP = 2 * 2**30  # bytes

_UNREADABLE = (
    *(EOFError, zlib.error, gzip.BadGzipFile),
    *(zipfile.BadZipFile, NotImplementedError, RuntimeError),  # unknown compression, a password
)

csv.field_size_limit(2**24)


class Rows(Protocol):
    """Rows of a table's files."""

    folder: Path

    def __len__(self) -> int: ...

    def __getitem__(self, i: int) -> Mapping[str, Any]: ...

    def where(self, i: int) -> str:
        """File and number of a row, for people."""
        ...


class JsonLines:
    """One JSON object a line; `.jsonl`, and `.jsonl.gz` or `.jsonl.zip`, which are unpacked once.

    Attributes:
      folder: where the first file lies.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.folder = paths[0].parent
        self._names = {_plain(path): path for path in paths}
        self._spans = Spans(list(self._names), _lines)

    def __len__(self) -> int:
        return len(self._spans)

    def __getitem__(self, i: int) -> Mapping[str, Any]:
        text = _text(self._spans.read(i))
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BadRecord("damaged_record", f"no JSON ({error})") from error
        if not isinstance(row, dict):
            raise BadRecord("damaged_record", "no JSON object")
        return row

    def where(self, i: int) -> str:
        """File and line."""
        path, row = self._spans.place(i)
        return f"{self._names[path]}#{row}"


class Csv:
    """One record a row; the first row names the columns, `.tsv` has tabs between them.

    Attributes:
      folder: where the first file lies.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.folder = paths[0].parent
        self._columns = {path: _header(path) for path in paths}
        self._spans = Spans(paths, _csv_records)

    def __len__(self) -> int:
        return len(self._spans)

    def __getitem__(self, i: int) -> Mapping[str, Any]:
        path, _ = self._spans.place(i)
        lines = io.StringIO(_text(self._spans.read(i)), newline="")
        try:
            values = next(csv.reader(lines, delimiter=_delimiter(path)), [])
        except csv.Error as error:
            raise BadRecord("damaged_record", f"no row of CSV ({error})") from error
        columns = self._columns[path]
        if len(values) != len(columns):
            message = f"{len(values)} values for {len(columns)} columns"
            raise BadRecord("damaged_record", message)
        return dict(zip(columns, values, strict=True))

    def where(self, i: int) -> str:
        """File and number of the row."""
        path, row = self._spans.place(i)
        return f"{path}#{row}"


class Parquet:
    """Rows of Parquet files; whole row groups are read, and the last one is kept.

    Attributes:
      folder: where the first file lies.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.folder = paths[0].parent
        self._paths = tuple(paths)
        counts = [_row_groups(path) for path in paths]
        self._files = np.repeat(np.arange(len(paths)), [len(groups) for groups in counts])
        self._ends = np.cumsum(np.concatenate(counts)) if counts else np.zeros(0, np.int64)
        self._kept: tuple[int, Any] | None = None

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, i: int) -> Mapping[str, Any]:
        group = int(np.searchsorted(self._ends, i, side="right"))
        first = int(self._ends[group - 1]) if group else 0
        if self._kept is None or self._kept[0] != group:
            self._kept = (group, self._read(group))
        try:
            return self._kept[1].slice(i - first, 1).to_pylist()[0]
        except Exception as error:  # text that is not UTF-8, for one
            raise BadRecord("charset", f"the row cannot be read ({error})") from error

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_kept": None}

    def where(self, i: int) -> str:
        """File and number of the row."""
        file = int(self._files[np.searchsorted(self._ends, i, side="right")])
        first = int(np.searchsorted(self._files, file))
        before = int(self._ends[first - 1]) if first else 0
        return f"{self._paths[file]}#{i - before}"

    def _read(self, group: int) -> Any:
        from pyarrow import parquet

        file = int(self._files[group])
        number = group - int(np.searchsorted(self._files, file))
        try:
            with parquet.ParquetFile(self._paths[file]) as opened:
                if opened.metadata.row_group(number).total_byte_size > _MOST_ROW_GROUP:
                    message = "a row group of more than 2 GiB: write the file with smaller ones"
                    raise BadRecord("huge_media", message)
                return opened.read_row_group(number)
        except BadRecord:
            raise
        except Exception as error:  # pyarrow raises many types on damaged input
            words = str(error).splitlines()[0][:200]
            raise BadRecord("damaged_record", f"its row group cannot be read ({words})") from error


def _row_groups(path: Path) -> np.ndarray:
    """Numbers of rows; one that cannot be read stands for a damaged file."""
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise UserError(
            f"{path} needs pyarrow: pip install 'flamingo_jax[data]', or pyarrow itself."
        ) from error
    try:
        metadata = parquet.read_metadata(path)
        groups = range(metadata.num_row_groups)
        return np.array([metadata.row_group(g).num_rows for g in groups], np.int64)
    except Exception:  # pyarrow raises many types on damaged input
        return np.ones(1, np.int64)


def _text(line: bytes) -> str:
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadRecord("charset", f"the text is not UTF-8 ({error.reason})") from error


def _lines(path: Path) -> np.ndarray:
    """Spans of the lines that are not blank."""
    ends, size = [], 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            ends.append(np.flatnonzero(np.frombuffer(chunk, np.uint8) == 10) + size + 1)
            size += len(chunk)
    end = np.concatenate([*ends, [size]]).astype(np.int64)
    start = np.concatenate([[0], end[:-1]])
    spans = np.stack([start, end - start], 1)[end > start]
    if not size:
        return spans
    kept = np.memmap(path, np.uint8, "r")[spans[:, 0]] > 32  # most lines begin with their brace
    with path.open("rb") as file:
        for row in np.flatnonzero(~kept):
            file.seek(spans[row, 0])
            kept[row] = bool(file.read(min(int(spans[row, 1]), MOST_BYTES)).strip())
    return spans[kept]


def _csv_records(path: Path) -> np.ndarray:
    """Spans of the records after the header; quoted fields may hold line breaks."""
    place, spans = 0, []

    def lines(file: IO[bytes]) -> Iterator[str]:
        nonlocal place
        while line := file.readline(MOST_BYTES):
            place += len(line)
            yield line.decode("latin-1")  # only commas, quotes and line breaks matter here

    with path.open("rb") as file:
        reader = csv.reader(lines(file), delimiter=_delimiter(path))
        while True:
            before = place
            try:
                filled = bool(next(reader))
            except StopIteration:
                break
            except csv.Error:
                filled = True  # told when it is read
            if filled and before:
                spans.append((before, place - before))
    return np.array(spans, np.int64).reshape(-1, 2)


def _header(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            columns = next(csv.reader([file.readline(2**20)], delimiter=_delimiter(path)), [])
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"The first row of {path} cannot be read ({error}).") from error
    return [column.strip() for column in columns]


def _delimiter(path: Path) -> str:
    return "\t" if path.suffix == ".tsv" else ","


def _plain(path: Path) -> Path:
    """The file itself, or where its content was unpacked to."""
    if path.suffix not in (".gz", ".zip"):
        return path
    kept = cache_folder() / f"{fingerprint(path)}.jsonl"
    if kept.exists():
        return kept
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=kept.parent) as part:
            _unpack(path, part)
            part.flush()
            os.link(part.name, kept)
    except FileExistsError:
        return kept  # another process was first
    except OSError as error:
        raise UserError(f"{path} cannot be unpacked to {kept.parent} ({error}).") from error
    return kept


def _unpack(path: Path, into: Any) -> None:
    """Writes what can be read; a line that is no JSON tells of what cannot."""
    size = 0
    try:
        for chunk in _unpacked(path):
            size += len(chunk)
            if size > _MOST_UNPACKED:
                raise UserError(f"{path} is larger than {_MOST_UNPACKED:,} bytes unpacked.")
            into.write(chunk)
    except _UNREADABLE as error:
        into.write(f"\ntruncated: {error}\n".encode())


def _unpacked(path: Path) -> Iterator[bytes]:
    if path.suffix == ".gz":
        with gzip.open(path) as file:
            while chunk := file.read1(_CHUNK):  # all there is before the damage
                yield chunk
        return
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            opened: Any = archive.open(name)
            with opened as file:
                while chunk := file.read1(_CHUNK):
                    yield chunk
