"""Folders of documents: ArrayRecord shards, the index that says what is in them, and `stats.json`.

A folder without an index is not finished. Whoever writes one does so under another name and renames
it at the end; the index is written last.
"""

import dataclasses
import functools
import itertools
import json
import operator
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from array_record.python import array_record_module

from flamingo_jax.data.documents import Document, from_bytes, to_bytes
from flamingo_jax.errors import UserError

INDEX = "index.json"
STATS = "stats.json"

_AT_RANDOM = "readahead_buffer_size:0,max_parallelism:0"
_AGAIN = "write the folder anew."


@dataclasses.dataclass(frozen=True)
class Shard:
    """One file of documents.

    Attributes:
      name: of the file, in the index's folder.
      documents: how many it holds.
      size: of the file, in bytes.
    """

    name: str
    documents: int
    size: int


def write_shard(path: Path, documents: Iterable[Document]) -> Shard:
    """Writes documents one by one, each to be read alone; the file's bytes follow from them."""
    writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1")
    count = 0
    try:
        for document in documents:
            writer.write(to_bytes(document))
            count += 1
    finally:
        writer.close()
    return Shard(path.name, count, path.stat().st_size)


def write_index(folder: Path, shards: Sequence[Shard], stats: Mapping[str, Any]) -> None:
    """Writes `stats.json`, and last of all the index, which makes the folder a finished one."""
    _write_json(folder / STATS, stats)
    _write_json(folder / INDEX, {"shards": [dataclasses.asdict(shard) for shard in shards]})


class DocumentShards:
    """The documents of a folder, read one by one in any order.

    Of a damaged shard its own documents cannot be read, and each of them says so; the others can.

    Attributes:
      folder: the folder.
      shards: its files, in order.
    """

    def __init__(self, folder: Path) -> None:
        """Reads the index alone.

        Raises:
          UserError: the folder is missing, was not finished, or its index is damaged.
        """
        self.folder = folder
        self.shards = _read_index(folder)
        self._ends = list(itertools.accumulate(shard.documents for shard in self.shards))

    def __len__(self) -> int:
        """Number of documents."""
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> Document:
        """A document by its place.

        Raises:
          IndexError: there is none.
          UserError: its shard is missing or damaged.
        """
        place = operator.index(index)
        if not 0 <= place < len(self):
            raise IndexError(f"There are {len(self)} documents, none at {index}.")
        which = bisect_right(self._ends, place)
        shard = self.shards[which]
        path = self.folder / shard.name
        record = place - self._ends[which] + shard.documents
        try:
            return from_bytes(_reader(path, shard).read([record])[0])
        except (RuntimeError, IndexError) as error:  # what array_record raises
            raise UserError(f"{path} is damaged at document {record}: {_AGAIN}") from error
        except UserError as error:
            raise UserError(f"{path}: {error}") from error


@functools.lru_cache(maxsize=64)  # of a large folder, files are opened when they are needed
def _reader(path: Path, shard: Shard) -> array_record_module.ArrayRecordReader:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror}): {_AGAIN}") from error
    # A file that was cut short would be taken for one without records.
    if size != shard.size:
        raise UserError(f"has {size:,} bytes where the index says {shard.size:,}: {_AGAIN}")
    reader = array_record_module.ArrayRecordReader(str(path), _AT_RANDOM)
    if (found := reader.num_records()) != shard.documents:
        raise UserError(f"{found} of {shard.documents} documents can be found: {_AGAIN}")
    return reader


def _read_index(folder: Path) -> tuple[Shard, ...]:
    path = folder / INDEX
    try:
        shards = [Shard(**entry) for entry in json.loads(path.read_bytes())["shards"]]
    except OSError as error:
        if folder.is_dir() and not path.exists():
            raise UserError(
                f"{folder} has no {INDEX}: it is no folder of documents, or its writer was stopped."
            ) from error
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is damaged ({error}): {_AGAIN}") from error
    for shard in shards:
        counts = (shard.documents, shard.size)
        if not all(isinstance(count, int) and count >= 0 for count in counts):
            raise UserError(f"{path} is damaged (its counts are no numbers): {_AGAIN}")
        if not isinstance(shard.name, str) or Path(shard.name).name != shard.name:
            raise UserError(f"{path} is damaged ({shard.name!r} is no file's name): {_AGAIN}")
    return tuple(shards)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
