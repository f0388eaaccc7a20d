"""Documents of any source, to be read by people and by programs."""

import collections
import dataclasses
import hashlib
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

from flamingo_jax.data.bad_records import BadRecord, Problem
from flamingo_jax.data.clips import clip_size, is_video
from flamingo_jax.data.documents import Document, Medium, check
from flamingo_jax.data.pictures import Size, picture_size
from flamingo_jax.data.sources.base import Source

_INDENT = "    "


@dataclasses.dataclass(frozen=True)
class Shown:
    """A document whose media can be decoded.

    Attributes:
      document: without the media that cannot be.
      sizes: of its media, in order.
      number: of the record, from 0.
    """

    document: Document
    sizes: tuple[Size, ...]
    number: int


def documents(
    source: Source, path: str, limit: int | None, tell: Callable[[Problem], None]
) -> Iterator[Shown]:
    """Documents of a source that can be used, as training would; of all others it is told why.

    Args:
      source: of the documents.
      path: of the source, for people.
      limit: most documents; None for all.
      tell: called with what cannot be used.
    """
    given = 0
    for number in range(len(source)):
        if given == limit:
            return
        where = f"{path}#{number}"
        try:
            document = source[number]
            where = document.source
            check(document)
            found = _usable(document, source.schema.gives == "videos", number, tell)
        except BadRecord as error:
            tell(Problem(where, error.reason, str(error)))
            continue
        given += 1
        yield found


def as_json(shown: Shown) -> dict[str, Any]:
    """`source` and `items` of a document: texts, images and videos; sha256 of a file's bytes."""
    sizes = iter(shown.sizes)
    items = [
        {"text": item} if isinstance(item, str) else _medium(item, next(sizes))
        for item in shown.document.items
    ]
    return {"source": shown.document.source, "items": items}


def as_text(shown: Shown) -> str:
    """A document for people, ended by a blank line."""
    lines, sizes = [f"{shown.number}  {shown.document.source}"], iter(shown.sizes)
    for item in shown.document.items:
        if isinstance(item, str):
            lines.append(
                textwrap.fill(
                    " ".join(item.split()), 100, initial_indent=_INDENT, subsequent_indent=_INDENT
                )
            )
        else:
            lines.append(f"{_INDENT}[{item.name}, {_words(item, next(sizes))}]")
    return "\n".join(lines) + "\n"


def summary(problems: list[Problem], given: int) -> str:
    """How many were skipped, by reason."""
    records = sum(problem.medium is None for problem in problems)
    media = len(problems) - records
    counts = collections.Counter(problem.reason for problem in problems)
    reasons = ", ".join(f"{reason} {count}" for reason, count in counts.most_common())
    return f"{given} documents; skipped: {records} records and {media} media of others ({reasons})."


def _usable(
    document: Document, videos: bool, number: int, tell: Callable[[Problem], None]
) -> Shown:
    """The document with the media that can be decoded; BadRecord if there are none."""
    items: list[str | Medium] = []
    sizes: list[Size] = []
    problems: list[Problem] = []
    media = sum(isinstance(item, Medium) for item in document.items)
    for item in document.items:
        if isinstance(item, Medium):
            try:
                read = clip_size if videos or is_video(item.content) else picture_size
                sizes.append(read(item.content))
            except BadRecord as error:
                where = (document.source, error.reason, str(error))
                problems.append(Problem(*where, item.name, 1 / media))
                continue
        items.append(item)
    if not sizes:
        raise BadRecord(problems[0].reason, problems[0].message)
    for problem in problems:
        tell(problem)
    return Shown(Document(document.source, tuple(items)), tuple(sizes), number)


def _medium(medium: Medium, size: Size) -> dict[str, Any]:
    kind = _kind(medium, size)
    frames = {"frames": size.frames} if kind == "video" else {}
    return {
        kind: medium.name,
        "width": size.width,
        "height": size.height,
        **frames,
        "sha256": hashlib.sha256(medium.content).hexdigest(),
    }


def _kind(medium: Medium, size: Size) -> str:
    return "video" if size.frames > 1 or is_video(medium.content) else "image"


def _words(medium: Medium, size: Size) -> str:
    frames = f", {size.frames} frames" if _kind(medium, size) == "video" else ""
    return f"{size.width} × {size.height}{frames}"
