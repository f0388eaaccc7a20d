"""Few-shot episodes that ask for something without saying what, so that the prompt must tell.

Open-ended binding follows Open-Ended miniImageNet (Frozen, arXiv:2106.13884, §4.3) and VL-ICL
(arXiv:2403.13164): made-up words, drawn anew for each episode.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Container, Sequence
from typing import TypeVar

import numpy as np

from flamingo_jax.data.drawings import Drawing
from flamingo_jax.data.views import view
from flamingo_jax.errors import UserError

T = TypeVar("T")

NAME_LANGUAGES = ("en", "es", "fr", "de")
NAME_CANDIDATES = 8
_LONGEST_NAME = 16  # letters
_DRAWS = 1000  # of one drawing, before it is clear that there is none


@dataclasses.dataclass(frozen=True)
class Turn:
    """Media and the answer to them.

    Attributes:
      media: uint8 [F, H, W, 3] each.
      answer: text.
      scored: False for the first occurrence of a word that nobody could know yet.
      drawings: what the media show.
    """

    media: tuple[np.ndarray, ...]
    answer: str
    scored: bool = True
    drawings: tuple[Drawing, ...] = ()


@dataclasses.dataclass(frozen=True)
class Episode:
    """Supports and, last, the query.

    Attributes:
      family: what is asked for.
      turns: each with media and answer.
      candidates: the answers that could be right.
      language: of the answers of the family `name`, else None.
    """

    family: str
    turns: tuple[Turn, ...]
    candidates: tuple[str, ...]
    language: str | None = None


class Pool:
    """Drawings of one split, to be drawn from by base emoji, and that split's made-up words."""

    def __init__(self, drawings: Sequence[Drawing], split: str) -> None:
        """Takes the drawings of one split.

        Raises:
          UserError: there are none.
        """
        self.drawings = [drawing for drawing in drawings if drawing.split == split]
        if not self.drawings:
            raise UserError(
                f"No drawings of the split {split!r}: use one of those in the data set."
            )
        self.words = made_up_words(split == "train")
        self._bases = [bases[0] for bases in self._bases_by(lambda d: d.base).values()]
        self._by_category = self._bases_by(lambda drawing: drawing.category)
        self._by_colour = self._bases_by(lambda drawing: drawing.colour)
        self.categories = sorted(self._by_category)
        self.colours = sorted(k for k, bases in self._by_colour.items() if len(bases) >= 4)

    def any(self, rng: np.random.Generator) -> Drawing:
        """A drawing; each base is equally likely."""
        return _choose(rng, _choose(rng, self._bases))

    def of_category(self, category: str, rng: np.random.Generator) -> Drawing:
        """A drawing of a category; each of its bases is equally likely."""
        return _choose(rng, _choose(rng, self._by_category[category]))

    def of_colour(self, colour: str, rng: np.random.Generator) -> Drawing:
        """A drawing of a dominant colour; each of its bases is equally likely."""
        return _choose(rng, _choose(rng, self._by_colour[colour]))

    def two_words(self, rng: np.random.Generator) -> tuple[str, str]:
        """Two made-up words that begin with different letters, and so with different tokens."""
        first = _choose(rng, self.words)
        while (second := _choose(rng, self.words))[0] == first[0]:
            pass
        return first, second

    def _bases_by(self, key: Callable[[Drawing], str | None]) -> dict[str, list[list[Drawing]]]:
        """For each key the drawings that have it, those of one base together."""
        groups: dict[str, dict[str, list[Drawing]]] = {}
        for drawing in self.drawings:
            if (found := key(drawing)) is not None:
                groups.setdefault(found, {}).setdefault(drawing.base, []).append(drawing)
        return {name: list(bases.values()) for name, bases in groups.items()}


def made_up_words(training: bool) -> tuple[str, ...]:
    """Pronounceable words of two syllables; those of training and of evaluation are disjoint."""
    syllables = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
    words = (first + second for first in syllables for second in syllables)

    def for_training(word: str) -> bool:
        return hashlib.blake2b(word.encode(), digest_size=1).digest()[0] >= 64

    return tuple(word for word in words if for_training(word) == training)


def make_episode(family: str, pool: Pool, rng: np.random.Generator, turns: int) -> Episode:
    """An episode of a family: `turns` - 1 supports and the query, labels drawn independently.

    In the binding families the query's label is one that the supports show, if there are any.
    """
    return FAMILIES[family](pool, turns, rng)


def _name(pool: Pool, turns: int, rng: np.random.Generator) -> Episode:
    language = _choose(rng, NAME_LANGUAGES)
    made = []
    for _ in range(turns):
        drawing = _named(pool, language, (), rng)
        made.append(Turn((drawing.image[None],), drawing.names[language], True, (drawing,)))
    candidates = {made[-1].answer}
    while len(candidates) < NAME_CANDIDATES:
        candidates.add(_named(pool, language, candidates, rng).names[language])
    return Episode("name", tuple(made), tuple(sorted(candidates)), language)


def _named(pool: Pool, language: str, known: Container[str], rng: np.random.Generator) -> Drawing:
    """A drawing whose name in a language is one short word, not one of those known.

    Raises:
      UserError: after many draws there was none.
    """
    for _ in range(_DRAWS):
        drawing = pool.any(rng)
        name = drawing.names.get(language, "")
        if 0 < len(name) <= _LONGEST_NAME and " " not in name and name not in known:
            return drawing
    raise UserError(
        f"The family name needs drawings with {NAME_CANDIDATES} different names of one word, at "
        f"most {_LONGEST_NAME} letters long, in each language, and there are fewer in "
        f"{language!r}: leave the family out or use more drawings."
    )


def _category(pool: Pool, turns: int, rng: np.random.Generator) -> Episode:
    labels = [_choose(rng, pool.categories) for _ in range(turns)]
    drawings = [pool.of_category(label, rng) for label in labels]
    made = (
        Turn((d.image[None],), label, True, (d,)) for d, label in zip(drawings, labels, strict=True)
    )
    return Episode("category", tuple(made), tuple(pool.categories))


def _colour(pool: Pool, turns: int, rng: np.random.Generator) -> Episode:
    labels = [_choose(rng, pool.colours) for _ in range(turns)]
    drawings = [pool.of_colour(label, rng) for label in labels]
    made = (
        Turn((d.image[None],), label, True, (d,)) for d, label in zip(drawings, labels, strict=True)
    )
    return Episode("colour", tuple(made), tuple(pool.colours))


def _words(
    family: str,
    words: Sequence[str],
    pick: Callable[[str, np.random.Generator], Drawing],
    turns: int,
    rng: np.random.Generator,
) -> Episode:
    """A word of the language for each drawing, drawn first so that words are equally likely."""
    made = []
    for _ in range(turns):
        word = _choose(rng, words)
        drawing = pick(word, rng)
        made.append(Turn((drawing.image[None],), word, True, (drawing,)))
    return Episode(family, tuple(made), tuple(words))


def _same_different(pool: Pool, turns: int, rng: np.random.Generator) -> Episode:
    made = []
    for _ in range(turns):
        first = pool.any(rng)
        second = first if rng.random() < 0.5 else pool.any(rng)
        media = (view(first.image, rng)[None], view(second.image, rng)[None])
        answer = "same" if second is first else "different"
        made.append(Turn(media, answer, True, (first, second)))
    return Episode("same_different", tuple(made), ("different", "same"))


def _instance_binding(pool: Pool, turns: int, rng: np.random.Generator) -> Episode:
    concepts = (pool.any(rng), pool.any(rng))
    while concepts[1].base == concepts[0].base:
        concepts = (concepts[0], pool.any(rng))

    def show(concept: int) -> tuple[Drawing, np.ndarray]:
        return concepts[concept], view(concepts[concept].image, rng)

    return _binding("instance_binding", pool, turns, rng, show)


def _category_binding(pool: Pool, turns: int, rng: np.random.Generator) -> Episode:
    return _binding_of("category_binding", pool, pool.categories, pool.of_category, turns, rng)


def _colour_binding(pool: Pool, turns: int, rng: np.random.Generator) -> Episode:
    return _binding_of("colour_binding", pool, pool.colours, pool.of_colour, turns, rng)


def _binding_of(
    family: str,
    pool: Pool,
    properties: Sequence[str],
    pick: Callable[[str, np.random.Generator], Drawing],
    turns: int,
    rng: np.random.Generator,
) -> Episode:
    two = [int(i) for i in rng.choice(len(properties), 2, replace=False)]

    def show(concept: int) -> tuple[Drawing, np.ndarray]:
        drawing = pick(properties[two[concept]], rng)
        return drawing, drawing.image

    return _binding(family, pool, turns, rng, show)


def _binding(
    family: str,
    pool: Pool,
    turns: int,
    rng: np.random.Generator,
    show: Callable[[int], tuple[Drawing, np.ndarray]],
) -> Episode:
    """Two made-up words for two concepts; the first occurrence of each is not scored."""
    words = pool.two_words(rng)
    concepts = [int(rng.integers(2)) for _ in range(turns)]
    if turns > 1:
        concepts[-1] = concepts[int(rng.integers(turns - 1))]
    made, seen = [], set()
    for concept in concepts:
        drawing, image = show(concept)
        made.append(Turn((image[None],), words[concept], concept in seen, (drawing,)))
        seen.add(concept)
    return Episode(family, tuple(made), words)


FAMILIES: dict[str, Callable[[Pool, int, np.random.Generator], Episode]] = {
    "name": _name,
    "category": _category,
    "colour": _colour,
    "same_different": _same_different,
    "instance_binding": _instance_binding,
    "category_binding": _category_binding,
    "colour_binding": _colour_binding,
}
HELD_OUT = ("colour_binding",)
"""Families used in evaluation only."""


def _choose(rng: np.random.Generator, items: Sequence[T]) -> T:
    return items[int(rng.integers(len(items)))]
