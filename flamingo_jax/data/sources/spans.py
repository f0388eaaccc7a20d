"""Where records lie in files: found once, read in any order with one seek."""

import bisect
import hashlib
import itertools
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from flamingo_jax.data.bad_records import MOST_BYTES, BadRecord
from flamingo_jax.errors import UserError

Find = Callable[[Path], np.ndarray]
"""Of a file, int64 [records, 2]: first byte and number of bytes, -1 of what has no end."""

_WORTH_KEEPING = 16 * 2**20  # bytes of a file whose spans take noticeable time to find


class Spans:
    """Records of some files, one file after another, by number."""

    def __init__(self, paths: Sequence[Path], find: Find) -> None:
        self._paths = tuple(paths)
        self._spans = [_found(path, find) for path in paths]
        self._ends = list(itertools.accumulate(len(spans) for spans in self._spans))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def place(self, i: int) -> tuple[Path, int]:
        """The file of record i and its number there."""
        file, row = self._find(i)
        return self._paths[file], row

    def read(self, i: int) -> bytes:
        """The bytes of record i.

        Raises:
          BadRecord: they are not all there, or too many.
        """
        file, row = self._find(i)
        path = self._paths[file]
        start, size = map(int, self._spans[file][row])
        if size > MOST_BYTES:
            raise BadRecord("huge_media", f"a record of {size:,} bytes")
        if size < 0:
            raise BadRecord("truncated_file", f"{path} cannot be read beyond byte {start:,}")
        try:
            content = _read(path, start, size)
        except OSError as error:
            raise BadRecord("truncated_file", f"{path}: {error.strerror}") from error
        if len(content) < size:
            raise BadRecord("truncated_file", f"{path} ends in the middle of the record")
        return content

    def _find(self, i: int) -> tuple[int, int]:
        """The number of the file of record i, and the record's there."""
        file = bisect.bisect_right(self._ends, i)
        return file, i - self._ends[file] + len(self._spans[file])


def _read(path: Path, start: int, size: int) -> bytes:
    """Bytes of a file, fewer at its end. Without a file object, which takes twice as long."""
    file, parts, left = os.open(path, os.O_RDONLY), [], size
    try:
        # Some file systems give less at a time than is asked for.
        while left and (part := os.pread(file, left, start + size - left)):
            parts.append(part)
            left -= len(part)
    finally:
        os.close(file)
    return b"".join(parts)


def cache_folder() -> Path:
    """Where what was found out about large files is kept between runs."""
    home = os.environ.get("XDG_CACHE_HOME")
    folder = Path(home) if home else Path.home() / ".cache"
    return folder / "flamingo_jax" / "data"


def fingerprint(path: Path) -> str:
    """Changes with a file's path, size and time."""
    status = path.stat()
    told = f"{path.absolute()}:{status.st_size}:{status.st_mtime_ns}"
    return hashlib.blake2b(told.encode("utf-8", "surrogateescape"), digest_size=12).hexdigest()


def _found(path: Path, find: Find) -> np.ndarray:
    """The spans of a file, from the cache if it is large and was seen before."""
    try:
        if path.stat().st_size < _WORTH_KEEPING:
            return find(path)
        kept = cache_folder() / f"{fingerprint(path)}.npy"
        if kept.exists():
            return np.load(kept, allow_pickle=False)
        spans = find(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}).") from error
    _keep(kept, spans)
    return spans


def _keep(path: Path, spans: np.ndarray) -> None:
    """Writes spans, whole or not at all; where that is not possible they are found again."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent) as part:
            np.save(part, spans)
            part.flush()
            os.link(part.name, path)
    except OSError:  # no room, no right, or another process was first
        return
