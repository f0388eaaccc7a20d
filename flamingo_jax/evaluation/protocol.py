"""How a benchmark is asked: which supports, in which order, and the text around the images.

All of it is pure functions of examples and a seed (Flamingo, arXiv:2204.14198, appendix A.2 for the
prompts' form, B.1.5 for the rest):

- supports are drawn once from a seed, and the k-shot prompts show the first k of them, so that the
  points of a curve differ in their number alone; or they are the most similar ones (`rices`); what
  shows a query's own file is passed over;
- 0-shot prompts of open-ended benchmarks begin with two examples whose images are left out, those
  of close-ended ones with nothing;
- close-ended answers are weighed in several orders of the supports, and the log-likelihoods of an
  answer averaged.
"""

import collections
import dataclasses
import itertools
import math
import zlib
from collections.abc import Sequence

import numpy as np

from flamingo_jax.data.tokenizer import TextConfig
from flamingo_jax.errors import UserError
from flamingo_jax.evaluation.benchmark import Benchmark, Example, Media

TEXT_ONLY = 2
"""Examples without images in a 0-shot prompt."""


@dataclasses.dataclass(frozen=True)
class Prompt:
    """One prompt.

    Attributes:
      before: the text of the supports; queries with the same supports have the same.
      text: the text of the query, up to its answer.
      media: of `before` and `text`, one for each image token.
    """

    before: str
    text: str
    media: tuple[Media, ...]


def support_pool(benchmark: Benchmark, examples: Sequence[Example], seed: int) -> list[int]:
    """Indices of the examples that supports are drawn from, in their order.

    As many as the paper draws from (`Benchmark.members`), or as many of each class where classes
    are named; all if there are fewer.
    """
    order = _generator(benchmark, "pool", seed).permutation(len(examples))
    if benchmark.class_members is None:
        return sorted(order[: benchmark.members].tolist())
    chosen: list[int] = []
    taken: collections.Counter[str] = collections.Counter()
    for index in order.tolist():
        label = benchmark.shown_answer(examples[index])
        if taken[label] < benchmark.class_members:
            taken[label] += 1
            chosen.append(index)
    return sorted(chosen)


def draw_supports(
    benchmark: Benchmark, pool: Sequence[int], shots: Sequence[int], seed: int
) -> tuple[int, ...]:
    """The pool in the order drawn, of which k shots show the first k.

    Raises:
      UserError: there are not enough for the largest number of shots.
    """
    most = max((*shots, TEXT_ONLY if 0 in shots and benchmark.open_ended else 0))
    if most > len(pool):
        raise UserError(
            f"{benchmark.title} has {len(pool)} supports, but {most} are asked for: take fewer "
            "--shots."
        )
    order = _generator(benchmark, "supports", seed).permutation(len(pool))
    return tuple(pool[place] for place in order.tolist())


def take(
    benchmark: Benchmark, drawn: Sequence[Example], query: Example, count: int
) -> list[Example]:
    """The first `count` supports that show no file that the query shows.

    Raises:
      UserError: there are not enough.
    """
    own = {medium.path for medium in query.media}
    others = (s for s in drawn if own.isdisjoint(medium.path for medium in s.media))
    found = list(itertools.islice(others, count))
    if len(found) < count:
        raise UserError(
            f"{benchmark.title} has {len(found)} supports that do not show what query {query.id} "
            f"shows, but {count} are asked for: take fewer --shots."
        )
    return found


def orders(count: int, number: int, seed: int) -> list[tuple[int, ...]]:
    """Different orders of `count` supports: the given one, then random ones (appendix B.1.5).

    Args:
      count: of supports.
      number: of orders; there are fewer if fewer exist.
      seed: of the draw.
    """
    given = tuple(range(count))
    if math.factorial(count) <= number:
        return list(itertools.permutations(given))
    rng = np.random.default_rng([seed, count])
    found = {given: None}
    while len(found) < number:
        found[tuple(rng.permutation(count).tolist())] = None
    return list(found)


def make_prompt(
    benchmark: Benchmark, supports: Sequence[Example], query: Example, shots: int, text: TextConfig
) -> Prompt:
    """A prompt of some supports and a query, in the tokens of a model.

    Args:
      benchmark: whose text stands between image and answer.
      supports: in the order shown; with `shots` 0 those shown without their images.
      query: whose answer is left out.
      shots: 0, or how many supports there are.
      text: of the model.
    """
    shown = "".join(
        _turn(benchmark, support, text, shots > 0)
        + f" {benchmark.shown_answer(support)}{text.eoc_token}"
        for support in supports
    )
    media = [medium for support in supports if shots for medium in support.media]
    return Prompt(shown, _turn(benchmark, query, text, True), (*media, *query.media))


def _turn(benchmark: Benchmark, example: Example, text: TextConfig, shown: bool) -> str:
    images = text.image_token * len(example.media) if shown else ""
    return images + benchmark.prompt(example)


def _generator(benchmark: Benchmark, purpose: str, seed: int) -> np.random.Generator:
    """Random numbers that depend on nothing but benchmark, purpose and seed."""
    return np.random.default_rng([seed, zlib.crc32(f"{benchmark.name} {purpose}".encode())])
