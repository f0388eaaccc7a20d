"""Work that stops halfway, so that many pieces of it are done half by half.

A processor that goes back and forth between texts and images, which need other code and tables,
finds neither in its caches: a batch takes a tenth less time where all its texts come first.
"""

from collections.abc import Generator, Sequence
from typing import TypeVar

T = TypeVar("T")
Staged = Generator[None, None, T]
"""Work that stops once at least, with texts laid out and media still to be decoded."""

_AT_ONCE = 32  # whose files, not decoded yet, are held in memory


def finish(work: Staged[T]) -> T:
    """Does what is left of a piece of work, and returns its result."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


def finish_all(works: Sequence[Staged[T]]) -> list[T]:
    """Does all of many pieces, the first halves of some dozens before their second halves."""
    results: list[T] = []
    for start in range(0, len(works), _AT_ONCE):
        some = works[start : start + _AT_ONCE]
        for work in some:
            next(work)
        results += map(finish, some)
    return results
