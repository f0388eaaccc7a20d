"""The extraction as an Apache Beam pipeline, on whatever machines its runner has.

Images stay in files: each unit's candidates are written to a shard of its own, only facts about
them travel between workers, and a second step copies what was kept. Both write under another name
first, so that a worker that is started twice does no harm. A unit of the input makes one shard of
the output, whichever worker reads it.
"""

import dataclasses
import os
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import AsSingleton, PCollection, TaggedOutput

from flamingo_jax.data.documents import Document
from flamingo_jax.data.shards import Shard, read_shard, write_index, write_shard
from flamingo_jax.data.web import duplicates
from flamingo_jax.data.web.duplicates import Position
from flamingo_jax.data.web.extraction import Unit, extract, joined, text_of
from flamingo_jax.data.web.settings import Settings

CANDIDATES = "candidates"
"""Folder of what the first step leaves to the second."""

Keyed = tuple[Position, tuple[str, np.ndarray, tuple[bytes, ...]]]
"""A candidate: its source, its text's signature, its images' digests."""


@dataclasses.dataclass(frozen=True)
class TokenCount:
    """How the tokens of kept texts are counted.

    Attributes:
      name: of the tokenizer.
      count: of a text.
    """

    name: str
    count: Callable[[str], int]


def build(
    pipeline: beam.Pipeline, units: list[Unit], settings: Settings, folder: Path, tokens: TokenCount
) -> None:
    """Adds the whole extraction to a pipeline; it leaves a finished folder but for its name.

    Args:
      pipeline: to add to.
      units: the input.
      settings: how pages become documents.
      folder: that all workers can reach, with an empty folder `candidates` in it.
      tokens: how to count them.
    """
    read = (
        pipeline
        | "Units" >> beam.Create(units)
        | "Spread" >> beam.Reshuffle()
        | "Read" >> beam.ParDo(_Read(settings, folder)).with_outputs("tally", main="pages")
    )
    dropped = _duplicates(read["pages"], settings)
    kept = dropped | "Only kept" >> beam.FlatMap(_kept)
    taken = (
        kept
        | "By image" >> beam.FlatMap(_images)
        | "Same image" >> beam.GroupByKey()
        | "Repeats" >> beam.FlatMap(_repeats, settings.limits.max_repeats)
    )
    verdicts = {"pages": dropped | "Reasons" >> beam.FlatMap(_reasons), "images": taken}
    written = (
        verdicts
        | "By unit" >> beam.CoGroupByKey()
        | "Write"
        >> beam.ParDo(_Write(settings, folder, tokens)).with_outputs("tally", main="shard")
    )
    tally = (
        (read["tally"], written["tally"])
        | "All tallies" >> beam.Flatten()
        | "Sum" >> beam.CombineGlobally(_sum)
    )
    _ = (
        written["shard"]
        | "All shards" >> beam.combiners.ToList()
        | "Finish" >> beam.Map(_finish, AsSingleton(tally), folder, tokens.name)
    )


def _duplicates(pages: PCollection, settings: Settings) -> PCollection:
    """(position, {`page`: what is known of it, `reason`: why it is dropped, if it is})."""
    same = (
        pages
        | "By address" >> beam.Map(lambda page: (page[1][0], page[0]))
        | "Same address" >> beam.GroupByKey()
        | "Later ones" >> beam.FlatMap(_later_addresses)
    )
    near = (
        pages
        | "Bands" >> beam.FlatMap(_banded)
        | "Same band" >> beam.GroupByKey()
        | "Alike" >> beam.FlatMap(_alike, settings.limits.similarity)
    )
    reason = (
        (same, near)
        | "Dropped" >> beam.Flatten()
        | "One reason" >> beam.CombinePerKey(max)  # the same address goes before
    )
    return {"page": pages, "reason": reason} | "Judge" >> beam.CoGroupByKey()


def _banded(page: Keyed) -> Iterator[tuple[bytes, tuple[Position, np.ndarray]]]:
    position, (_, values, _) = page
    for key in duplicates.bands(values):
        yield key, (position, values)


def _alike(group: tuple[bytes, Iterable[Any]], similarity: float) -> Iterator[tuple[Position, str]]:
    for position in duplicates.later_alike(group[1], similarity):
        yield position, "near_duplicate"


def _later_addresses(group: tuple[str, Iterable[Position]]) -> Iterator[tuple[Position, str]]:
    for position in sorted(group[1])[1:]:
        yield position, "same_address"


def _kept(judged: tuple[Position, Mapping[str, Any]]) -> Iterator[tuple[Position, tuple]]:
    position, found = judged
    if not list(found["reason"]):
        (page,) = found["page"]
        yield position, page[2]


def _reasons(judged: tuple[Position, Mapping[str, Any]]) -> Iterator[tuple[int, tuple[int, str]]]:
    (unit, number), found = judged
    yield unit, (number, next(iter(found["reason"]), ""))


def _images(page: tuple[Position, tuple[bytes, ...]]) -> Iterator[tuple[bytes, Any]]:
    position, digests = page
    for place, digest in enumerate(digests):
        yield digest, (position, place)


def _repeats(group: tuple[bytes, Iterable[Any]], most: int) -> Iterator[tuple[int, Any]]:
    for (unit, number), place in duplicates.repeated(group[1], most):
        yield unit, (number, place)


def _sum(tallies: Iterable[Mapping[str, int]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for tally in tallies:
        total.update(tally)
    return total


def _finish(shards: list[Shard], tally: Mapping[str, int], folder: Path, tokenizer: str) -> None:
    ordered = sorted(shards, key=lambda shard: shard.name)
    write_index(folder, ordered, {**nested(tally), "tokenizer": tokenizer})


def nested(tally: Mapping[str, int]) -> dict[str, Any]:
    """Counts by names with slashes as dictionaries in dictionaries, sorted; pages and images first.

    What is usually asked for is there even if it is zero.
    """
    usual = ("pages/in", "pages/kept", "images/in", "images/kept", "tokens")
    found: dict[str, Any] = {"pages": {}, "images": {}, "tokens": 0}
    for name in (*usual, *sorted(tally.keys() - set(usual))):
        *path, last = name.split("/")
        inner = found
        for each in path:
            inner = inner.setdefault(each, {})
        inner[last] = tally.get(name, 0)
    for kind in ("pages", "images"):
        found[kind].setdefault("dropped", {})
    return found


class _Read(beam.DoFn):
    """A unit to its shard of candidates, facts about them, and a tally."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings, self._folder = settings, folder

    def process(self, unit: Unit) -> Iterator[Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        tally: Counter[str] = Counter()
        facts: list[Keyed] = []

        def documents() -> Iterator[Document]:
            for number, (document, fact) in enumerate(extract(unit, self._settings, tally)):
                position = (unit.number, number)
                facts.append((position, (document.source, fact.signature, fact.digests)))
                yield document

        _write_new(self._folder / CANDIDATES / _name(unit.number), documents())
        yield from facts
        yield TaggedOutput("tally", dict(tally))


class _Write(beam.DoFn):
    """What is kept of a unit's candidates to its shard, and a tally."""

    def __init__(self, settings: Settings, folder: Path, tokens: TokenCount) -> None:
        self._settings, self._folder, self._tokens = settings, folder, tokens

    def process(self, group: tuple[int, Mapping[str, Any]]) -> Iterator[Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        unit, verdicts = group
        reasons: dict[int, str] = dict(verdicts["pages"])
        taken: dict[int, set[int]] = {}
        for number, place in verdicts["images"]:
            taken.setdefault(number, set()).add(place)
        tally: Counter[str] = Counter()

        def documents() -> Iterator[Document]:
            for number, document in enumerate(read_shard(self._folder / CANDIDATES / _name(unit))):
                kept = self._judge(document, reasons[number], taken.get(number, set()), tally)
                if kept is not None:
                    yield kept

        path = self._folder / _name(unit)
        shard = _write_new(path, documents())
        if shard.documents:
            yield shard
        else:
            path.unlink()
        yield TaggedOutput("tally", dict(tally))

    def _judge(
        self, document: Document, reason: str, taken: set[int], tally: Counter[str]
    ) -> Document | None:
        images = sum(not isinstance(item, str) for item in document.items)
        if reason:
            tally[f"pages/dropped/{reason}"] += 1
            tally["images/dropped/page_dropped"] += images
            return None
        tally["images/dropped/repeated"] += len(taken)
        if len(taken) == images:
            tally["pages/dropped/no_image"] += 1
            return None
        tally["images/kept"] += images - len(taken)
        tally["pages/kept"] += 1
        places = iter(range(images))
        items = [
            item for item in document.items if isinstance(item, str) or next(places) not in taken
        ]
        tally["tokens"] += self._tokens.count(text_of(items))
        return Document(document.source, joined(items))


def _name(unit: int) -> str:
    return f"documents-{unit:06d}.array_record"


def _write_new(path: Path, documents: Iterable[Document]) -> Shard:
    """Writes a shard under a name of its own and gives it its name when it is whole."""
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    try:
        shard = write_shard(part, documents)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return dataclasses.replace(shard, name=path.name)
