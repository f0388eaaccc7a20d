"""From a unit of the input, an archive or some files of a folder, to candidates for documents.

Everything that one page alone decides is decided here; what depends on other pages, duplicates, is
left to the pipeline, which gets a few facts about each candidate instead of its images.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from flamingo_jax.data.documents import Document, Medium
from flamingo_jax.data.web import addresses, charset, html
from flamingo_jax.data.web.archives import Archive, Page
from flamingo_jax.data.web.duplicates import signature
from flamingo_jax.data.web.folders import Folder
from flamingo_jax.data.web.images import Examiner, Verdict
from flamingo_jax.data.web.limits import Limits
from flamingo_jax.data.web.settings import Settings
from flamingo_jax.data.web.texts import text_reason

_REMEMBERED = 100_000


@dataclasses.dataclass(frozen=True)
class Unit:
    """A part of the input that one worker reads.

    Attributes:
      number: its place in the input.
      path: an archive, or a folder.
      pages: files of the folder; None for an archive.
    """

    number: int
    path: Path
    pages: tuple[Path, ...] | None = None

    def open(self, limits: Limits) -> Archive | Folder:
        """Its pages and images.

        Raises:
          OSError: an archive cannot be read.
        """
        if self.pages is None:
            return Archive(self.path, limits)
        return Folder(self.path, self.pages, limits)


@dataclasses.dataclass(frozen=True)
class Facts:
    """What other pages are compared with.

    Attributes:
      signature: of the text.
      digests: SHA-256 of each image.
    """

    signature: np.ndarray
    digests: tuple[bytes, ...]


def extract(
    unit: Unit, settings: Settings, tally: Counter[str]
) -> Iterator[tuple[Document, Facts]]:
    """Candidates in the order of the input.

    Args:
      unit: what to read.
      settings: how.
      tally: gets `pages/in`, `pages/dropped/REASON`, `images/in`, `images/dropped/REASON` and the
        archive's counts.
    """
    limits = settings.limits
    try:
        library = unit.open(limits)
    except OSError:
        tally["archives/unreadable"] += 1
        return
    examiner = Examiner(limits, settings.excluded)
    album = _Album(library, examiner, limits)
    try:
        for page in library.pages():
            tally["pages/in"] += 1
            found = _candidate(page, album, settings, tally)
            if isinstance(found, str):
                tally[f"pages/dropped/{found}"] += 1
            else:
                yield found
        if unit.pages is None and not library.tally["records/in"]:  # no archive, or cut at once
            tally["archives/unreadable"] += 1
    finally:
        tally.update(library.tally)
        library.close()


def text_of(items: Sequence[str | object]) -> str:
    """All texts of a page."""
    return "\n\n".join(item for item in items if isinstance(item, str))


def joined(items: Sequence[str | Medium]) -> tuple[str | Medium, ...]:
    """Items with texts as one that have no image between them any more."""
    found: list[str | Medium] = []
    for item in items:
        if isinstance(item, str) and found and isinstance(found[-1], str):
            found[-1] = f"{found[-1]}\n\n{item}"
        else:
            found.append(item)
    return tuple(found)


def _candidate(
    page: Page, album: "_Album", settings: Settings, tally: Counter[str]
) -> tuple[Document, Facts] | str:
    """A page's document and facts, or why it is dropped."""
    if page.refused is not None:
        return page.refused
    content = charset.decode(page.content, page.charset)
    if charset.damaged(content):
        return "charset"
    try:
        reading = html.read(content)
    except html.TooDeep:
        return "too_deep"
    except Exception:  # several parsers read what strangers wrote, and a crawl has billions of it
        return "damaged"
    references = sum(not isinstance(item, str) for item in reading.items)
    tally["images/in"] += references
    text = text_of(reading.items)
    reason = text_reason(page.source, text, settings.limits, settings.languages, settings.blocked)
    if reason is None and not references:
        reason = "no_image"
    if reason is not None:
        tally["images/dropped/page_dropped"] += references
        return reason
    base = addresses.resolve(reading.base, page.base) if reading.base else None
    items, digests = album.fill(reading.items, base or page.base, tally)
    if not digests:
        return "no_image"
    return Document(page.source, joined(items)), Facts(signature(text), digests)


class _Album:
    """Looks images up; what was found about an address is remembered."""

    def __init__(self, library: Archive | Folder, examiner: Examiner, limits: Limits) -> None:
        self._library = library
        self._examiner = examiner
        self._limits = limits
        self._verdicts: dict[str, Verdict] = {}

    def fill(
        self, items: Sequence[str | html.ImageReference], base: str, tally: Counter[str]
    ) -> tuple[list[str | Medium], tuple[bytes, ...]]:
        """Items with images in the references' places, and the images' digests."""
        filled: list[str | Medium] = []
        digests: dict[bytes, None] = {}
        room, looked_up = self._limits.max_document_bytes, 0
        in_line = False  # an image that stood in a line was left out
        for item in items:
            if isinstance(item, str):
                if in_line and filled and isinstance(filled[-1], str):
                    filled[-1] = f"{filled[-1]} {item}"
                else:
                    filled.append(item)
                continue
            in_line = item.inline
            looked_up += 1
            if looked_up > self._limits.max_images:
                tally["images/dropped/too_many"] += 1
                continue
            medium, verdict = self._look_up(item, base)
            if medium is not None and verdict.digest in digests:
                verdict = Verdict("repeated")
            elif medium is not None and len(medium.content) > room:
                verdict = Verdict("too_many")
            if medium is None or verdict.reason is not None:
                tally[f"images/dropped/{verdict.reason}"] += 1
                continue
            room -= len(medium.content)
            digests[verdict.digest] = None
            filled.append(medium)
        return filled, tuple(digests)

    def _look_up(self, image: html.ImageReference, base: str) -> tuple[Medium | None, Verdict]:
        """The first of an image's addresses where there is one to keep, or why there is none.

        The reason told is that of the best address at which there is anything.
        """
        if image.tiny:
            return None, Verdict("tracking")
        reason = Verdict("missing")
        for reference in image.candidates:
            medium, verdict = self._at(reference, base)
            if medium is not None:
                return medium, verdict
            if reason.reason == "missing":
                reason = verdict
        return None, reason

    def _at(self, reference: str, base: str) -> tuple[Medium | None, Verdict]:
        if addresses.is_inline(reference):
            content = addresses.inline(reference, self._limits.max_image_bytes)
            verdict = Verdict("broken") if content is None else self._examiner.examine(content)
            return self._kept(addresses.name_of(reference), content, verdict)
        address = addresses.resolve(reference, base)
        if address is None:
            return None, Verdict("missing")
        known = self._verdicts.get(address)
        if known is not None and known.reason is not None:
            return None, known
        content = self._library.find(address)
        if known is None:
            known = Verdict("missing") if content is None else self._examiner.examine(content)
            if len(self._verdicts) < _REMEMBERED:
                self._verdicts[address] = known
        name = address if isinstance(self._library, Archive) else reference
        return self._kept(name, content, known)

    @staticmethod
    def _kept(name: str, content: bytes | None, verdict: Verdict) -> tuple[Medium | None, Verdict]:
        if content is None or verdict.reason is not None:
            return None, verdict
        return Medium(name, content), verdict
