"""Whether a page's text is worth reading: length, language, words that must not be in it."""

import dataclasses
import functools
import re
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flamingo_jax.data.web.limits import Limits
from flamingo_jax.errors import UserError

# Scripts that are written without spaces between words: a character counts as one.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
)
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")
_HOST = re.compile(r"[\w-]+(\.[\w-]+)+")
_IDENTIFIED = 20_000


def words(text: str) -> list[str]:
    """The words of a text, without regard to case."""
    return _WORD.findall(text.casefold())


@dataclasses.dataclass(frozen=True)
class BlockList:
    """What pages must not have.

    Attributes:
      phrases: words, or several words in a row.
      hosts: sites, with all below them.
    """

    phrases: tuple[str, ...]
    hosts: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> "BlockList":
        """Of a file with a word, a phrase or a site (`example.org`) a line; `#` begins a comment.

        Raises:
          UserError: the file cannot be read.
        """
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path} cannot be read as a block list: {error}.") from error
        entries = [entry for line in lines if (entry := line.partition("#")[0].strip())]
        hosts = [entry.casefold() for entry in entries if _HOST.fullmatch(entry)]
        phrases = [" ".join(words(entry)) for entry in entries if not _HOST.fullmatch(entry)]
        return cls(tuple(filter(None, phrases)), tuple(hosts))

    def blocks(self, source: str, text_words: Sequence[str]) -> bool:
        """Whether a page's site or text is on the list."""
        try:
            host = urllib.parse.urlsplit(source).hostname or ""
        except ValueError:  # of another spelling than Python knows
            host = ""
        if any(host == blocked or host.endswith(f".{blocked}") for blocked in self.hosts):
            return True
        text = f" {' '.join(text_words)} "
        return not self._single.isdisjoint(text_words) or any(
            f" {phrase} " in text for phrase in self._several
        )

    @functools.cached_property
    def _single(self) -> frozenset[str]:
        return frozenset(phrase for phrase in self.phrases if " " not in phrase)

    @functools.cached_property
    def _several(self) -> tuple[str, ...]:
        return tuple(phrase for phrase in self.phrases if " " in phrase)


def text_reason(
    source: str,
    text: str,
    limits: Limits,
    languages: Sequence[str] = (),
    blocked: BlockList | None = None,
) -> str | None:
    """Why a page's text is not kept; None if it is.

    Args:
      source: the page's address.
      text: all of it.
      limits: of its length.
      languages: the ones that are kept, as ISO 639-1 codes; all of them if empty.
      blocked: what it must not have.
    """
    if len(text) > limits.max_characters:
        return "too_long"
    found = words(text)
    if len(found) < limits.min_words:
        return "too_little_text"
    if blocked is not None and blocked.blocks(source, found):
        return "block_list"
    if languages and _identifier().classify(text[:_IDENTIFIED])[0] not in languages:
        return "language"
    return None


def count_words(text: str) -> int:
    """How many words a text has."""
    return len(words(text))


def check_languages(languages: Sequence[str]) -> None:
    """Refuses codes of languages that are not identified.

    Raises:
      UserError: there is one.
    """
    known = set(_identifier().labels) if languages else set()
    for language in languages:
        if language not in known:
            raise UserError(
                f"{language!r} is no language that is identified: take ISO 639-1 codes, of "
                f"{', '.join(sorted(known))}."
            )


@functools.cache
def _identifier() -> Any:
    """py3langid's model, which is in its package; loaded when it is first needed."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE)
