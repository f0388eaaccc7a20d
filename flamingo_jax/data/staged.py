"""Work in stages, so that many pieces of it are done stage by stage.

A processor that goes back and forth between files, texts and images, which need other code and
tables, finds none of them in its caches: a batch takes an eighth less time where all its records
are read first, then all its texts laid out, then all its images decoded.
"""

from collections.abc import Generator, Sequence
from typing import TypeVar

T = TypeVar("T")
Staged = Generator[None, None, T]
"""Work that stops after each stage but the last."""

_AT_ONCE = 32  # whose files, not decoded yet, are held in memory


def finish(work: Staged[T]) -> T:
    """Does all stages of a piece of work, and returns its result."""
    return _side_by_side([work])[0]


def finish_all(works: Sequence[Staged[T]]) -> list[T]:
    """Does all of many pieces, the same stage of some dozens of them one after another."""
    results: list[T] = []
    for start in range(0, len(works), _AT_ONCE):
        results += _side_by_side(works[start : start + _AT_ONCE])
    return results


def _side_by_side(works: Sequence[Staged[T]]) -> list[T]:
    results: dict[int, T] = {}
    left = dict(enumerate(works))
    while left:
        for number, work in list(left.items()):
            try:
                next(work)
            except StopIteration as end:
                results[number] = end.value
                del left[number]
    return [results[number] for number in range(len(works))]
