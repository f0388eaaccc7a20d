"""Pages that say nearly the same, and repeated images."""

import random

import numpy as np
import pytest

from flamingo_jax.data.web.duplicates import bands, later_alike, repeated, signature


def text(seed: int, words: int = 200) -> list[str]:
    draw = random.Random(seed)
    return [f"w{draw.randrange(5000)}" for _ in range(words)]


def shared(a: list[str], b: list[str]) -> float:
    """The share of runs of three words that two texts have in common, counted."""
    runs = [{tuple(words[i : i + 3]) for i in range(len(words) - 2)} for words in (a, b)]
    return len(runs[0] & runs[1]) / len(runs[0] | runs[1])


@pytest.mark.parametrize("changes", [0, 1, 5, 15, 60])
def test_signatures_estimate_what_is_shared(changes: int) -> None:
    a = text(0)
    b = list(a)
    for i in range(changes):
        b[3 * i] = "other"
    estimate = (signature(" ".join(a)) == signature(" ".join(b))).mean()
    assert estimate == pytest.approx(shared(a, b), abs=0.13)  # three standard deviations


def test_pages_at_the_threshold_meet() -> None:
    for seed in range(20):
        a = text(seed)
        b = [*a[:-20], *text(seed + 1000, 20)]
        assert shared(a, b) > 0.8
        keys = [set(bands(signature(" ".join(words)))) for words in (a, b)]
        assert keys[0] & keys[1]


def test_later_pages_are_dropped_in_any_order() -> None:
    first, other = signature(" ".join(text(0))), signature(" ".join(text(1)))
    near = signature(" ".join([*text(0)[:-5], "a", "b"]))
    pages = [((2, 0), first), ((0, 7), near), ((1, 0), other), ((0, 9), first)]
    for seed in range(5):
        random.Random(seed).shuffle(pages)
        assert set(later_alike(pages, 0.8)) == {(0, 9), (2, 0)}


def test_short_and_long_texts() -> None:
    assert signature("one").shape == (128,)
    assert (signature("One, two") == signature("one two")).all()
    long = " ".join(text(3, 30_000))
    assert (signature(long) == signature(long)).all()
    assert signature(long).dtype == np.uint32


def test_repeated_images() -> None:
    places = [((3, 0), 1), ((0, 2), 4), ((0, 1), 0)]
    assert repeated(places, 3) == [((0, 2), 4), ((3, 0), 1)]
    assert repeated(places, 2) == sorted(places)
    assert repeated(places[:1], 3) == []
