"""Episodes and their prompts, in the three conditions that a figure compares.

An episode has one list of supports and a few queries; its k-shot prompts are the first k supports
and one query. The same queries are asked at every k, so that a curve's points differ in the
supports alone. Where two labels are bound, one of each stands among the first two supports: from
two shots on a prompt shows all that its query needs. (At one shot a query of the other label is
answered by elimination.) Queries' labels are independent draws, so their order says nothing.
"""

import dataclasses
import zlib
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from flamingo_jax.data.sequences import PROMPT, encode_turns, last_media
from flamingo_jax.data.tasks import Pool, Turn, make_episode
from flamingo_jax.data.tokenizer import Tokenizer
from flamingo_jax.evaluation.tree import Request

BINDING = ("instance_binding", "category_binding", "colour_binding")
FAMILIES = (*BINDING, "category", "name", "colour", "same_different")
BLANK = 1
"""Key of the white image; 0 stands for no medium."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One episode of the evaluation.

    Attributes:
      family: of tasks.
      number: of the episode within its family.
      supports: as many turns as the largest number of shots.
      queries: turns asked after any number of supports.
      candidates: answers to choose among, the same for all queries.
      language: of the answers of the family `name`, else None.
    """

    family: str
    number: int
    supports: tuple[Turn, ...]
    queries: tuple[Turn, ...]
    candidates: tuple[str, ...]
    language: str | None = None


def draw_cases(
    family: str, pool: Pool, shots: int, queries: int, episodes: int, seed: int
) -> list[Case]:
    """Draws episodes; those of a family depend on the seed and the drawings alone."""
    return [_draw_case(family, pool, shots, queries, seed, number) for number in range(episodes)]


def _draw_case(family: str, pool: Pool, shots: int, queries: int, seed: int, number: int) -> Case:
    rng = np.random.default_rng([seed, zlib.crc32(family.encode()), number])
    episode = make_episode(family, pool, rng, shots + queries)
    supports, asked = episode.turns[:shots], episode.turns[shots:]
    if family in BINDING:
        supports = both_first(supports)
    candidates = merge_candidates([turn.answer for turn in asked], episode.candidates)
    return Case(family, number, supports, asked, candidates, episode.language)


def both_first(supports: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """The first support of another label than the first's moves to the second place."""
    for place, turn in enumerate(supports):
        if turn.answer != supports[0].answer:
            return (supports[0], turn, *supports[1:place], *supports[place + 1 :])
    return supports


def merge_candidates(answers: Sequence[str], candidates: Sequence[str]) -> tuple[str, ...]:
    """The queries' answers and others from the episode's candidates, no more than those."""
    merged = tuple(dict.fromkeys((*answers, *candidates)))
    return tuple(sorted(merged[: max(len(candidates), len(set(answers)))]))


class MediaTable:
    """Keys of media by content, and their features."""

    def __init__(self, features: Callable[[np.ndarray], np.ndarray], blank: np.ndarray) -> None:
        """`features`: images [..., H, W, 3] -> [..., P, C]. `blank`: FxHxWx3, key `BLANK`."""
        self._features = features
        self._keys = {blank.tobytes(): BLANK}
        self._media = [blank]

    def key(self, medium_FxHxWx3: np.ndarray) -> int:
        """The medium's key, 1 or more; the same for the same pixels."""
        key = self._keys.setdefault(medium_FxHxWx3.tobytes(), len(self._media) + 1)
        if key > len(self._media):
            self._media.append(medium_FxHxWx3)
        return key

    def features(self) -> dict[int, np.ndarray]:
        """features_FxPxC of every key so far."""
        return dict(enumerate(self._features(np.stack(self._media)), start=1))


def make_requests(
    case: Case, shots: int, tokenizer: Tokenizer, key: Callable[[np.ndarray], int]
) -> list[Request]:
    """The prompts of one episode at one number of shots, one for each query."""
    before = encode_turns(case.supports[:shots], tokenizer)
    shown = [key(medium) for medium in before.media]
    answers = encode_answers(case, tokenizer)
    requests = []
    for query in case.queries:
        images = [tokenizer.image_id] * len(query.media)
        tokens = (*before.tokens, *images, *tokenizer.encode(PROMPT))
        keys = [0, *shown, *(key(medium) for medium in query.media)]
        seen = tuple(keys[index] for index in last_media(tokens, tokenizer.image_id))
        gold = case.candidates.index(query.answer)
        requests.append(Request(tokens, seen, answers, gold))
    return requests


def encode_answers(case: Case, tokenizer: Tokenizer) -> tuple[tuple[int, ...], ...]:
    """Token ids of the candidates as they follow the prompt."""
    return tuple(tuple(tokenizer.encode(f" {text}")) for text in case.candidates)


def blanked(groups: Iterable[Sequence[Request]]) -> list[list[Request]]:
    """The same text with the blank image wherever there was one."""
    return [
        [
            dataclasses.replace(request, seen=tuple(BLANK if key else 0 for key in request.seen))
            for request in group
        ]
        for group in groups
    ]
