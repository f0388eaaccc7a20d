"""What every source of documents is: a length, documents by number, and a declared schema."""

import dataclasses
from collections.abc import Mapping
from typing import Literal, Protocol

from flamingo_jax.data.documents import Document

Gives = Literal["pages", "pairs", "videos"]
"""Pages with text and images interleaved; pairs of an image and a text; of a video and a text."""


@dataclasses.dataclass(frozen=True)
class Schema:
    """What a source reads, and what documents it makes of that.

    Attributes:
      format: its name, for people.
      gives: what a document is.
      fields: what is read of a record, by the name it has in the file.
    """

    format: str
    gives: Gives
    fields: Mapping[str, str]


class Source(Protocol):
    """Documents by number.

    Worker processes get a copy: what an instance holds is plain data, and files are opened when
    they are read.
    """

    schema: Schema

    def __len__(self) -> int:
        """The number of records, those that cannot be used included."""
        ...

    def __getitem__(self, i: int) -> Document:
        """Record i, its media not decoded.

        Raises:
          BadRecord: it cannot be used.
        """
        ...
