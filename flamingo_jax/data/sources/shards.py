"""Folders that `flamingo_jax.data.extract` writes."""

from pathlib import Path

from flamingo_jax.data.bad_records import BadRecord
from flamingo_jax.data.documents import Document
from flamingo_jax.data.shards import DocumentShards
from flamingo_jax.data.sources.base import Schema
from flamingo_jax.errors import UserError


class Extracted:
    """Documents in ArrayRecord shards with an index: pages as they were extracted."""

    schema = Schema(
        "extracted pages",
        "pages",
        {"source": "address of the page", "items": "list of text or [name, bytes]"},
    )

    def __init__(self, folder: Path) -> None:
        self._shards = DocumentShards(folder)

    def __len__(self) -> int:
        return len(self._shards)

    def __getitem__(self, i: int) -> Document:
        try:
            return self._shards[i]
        except UserError as error:
            raise BadRecord("damaged_record", str(error)) from error
