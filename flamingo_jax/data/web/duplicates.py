"""Pages that say nearly the same, and images that were seen before.

Of two pages whose runs of three words are mostly the same (MinHash, estimated on 128 permutations;
banded so that pages at the usual threshold meet with certainty) the later one is dropped, whether
or not the earlier one is a duplicate itself: the answer does not depend on an order of work.

An image on several pages stays on the first, and on more than a few it is a part of the site's
furniture and stays on none (OBELICS, arXiv:2306.16527 §3.2, drops those on more than ten pages).
"""

from collections.abc import Iterable, Iterator

import numpy as np
from datasketch import MinHash

from flamingo_jax.data.web.texts import words

Position = tuple[int, int]
"""Of a page: its unit of the input, and its place among the pages of it."""

_PERMUTATIONS = 128
_BANDS, _ROWS = 25, 5  # pages that share 0.8 of their runs meet with a probability of 0.99995
_RUN = 3
_AT_ONCE = 4096
_EMPTY = MinHash(_PERMUTATIONS, seed=1)


def signature(text: str) -> np.ndarray:
    """uint32 [128]: equal in as many places as two texts have runs of words in common."""
    found = words(text)
    last = max(len(found) - _RUN + 1, 1)
    runs = sorted({" ".join(found[i : i + _RUN]).encode() for i in range(last)})
    hashed = _EMPTY.copy()
    for start in range(0, len(runs), _AT_ONCE):
        hashed.update_batch(runs[start : start + _AT_ONCE])
    return hashed.hashvalues.astype(np.uint32)


def bands(values: np.ndarray) -> Iterator[bytes]:
    """Keys of which two pages that are alike have at least one in common."""
    for band in range(_BANDS):
        yield bytes([band]) + values[band * _ROWS : (band + 1) * _ROWS].tobytes()


def later_alike(
    pages: Iterable[tuple[Position, np.ndarray]], similarity: float
) -> Iterator[Position]:
    """The pages that an earlier one is like, of some with a key in common."""
    first: list[np.ndarray] = []
    for position, values in sorted(pages, key=lambda page: page[0]):
        if first and (np.stack(first) == values).mean(1).max() >= similarity:
            yield position
        else:
            first.append(values)


def repeated(places: Iterable[tuple[Position, int]], most: int) -> list[tuple[Position, int]]:
    """Of the places of one image, a page's position and a number, those that it is taken from."""
    found = sorted(places)
    return found if len(found) > most else found[1:]
