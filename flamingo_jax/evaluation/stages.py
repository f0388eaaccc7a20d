"""One benchmark at one number of shots from one seed: its prompts in tokens, and its lines."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from flamingo_jax.data.tokenizer import Tokenizer
from flamingo_jax.errors import UserError
from flamingo_jax.evaluation import protocol
from flamingo_jax.evaluation.answering import Reply
from flamingo_jax.evaluation.benchmark import Answer, Benchmark, Example
from flamingo_jax.evaluation.packing import Ask
from flamingo_jax.evaluation.records import Stage
from flamingo_jax.inference.prompt import prompt_tokens

Choose = Callable[[Example], Sequence[Example]]
"""From a query to its supports, in the order shown."""


@dataclasses.dataclass(frozen=True)
class Question:
    """A query with its prompts.

    Attributes:
      query: what is asked.
      supports: in the order of the first prompt.
      asks: a prompt for each order of the supports.
    """

    query: Example
    supports: tuple[Example, ...]
    asks: tuple[Ask, ...]


class StagePrompts:
    """Makes the prompts of a stage."""

    def __init__(
        self,
        benchmark: Benchmark,
        shots: int,
        seed: int,
        choose: Choose,
        tokenizer: Tokenizer,
        permutations: int,
    ) -> None:
        """`choose`: supports of a query. `permutations`: orders to weigh candidates in."""
        self.benchmark, self.shots, self.seed = benchmark, shots, seed
        self.choose, self._tokenizer = choose, tokenizer
        number = 1 if benchmark.open_ended else permutations
        self.orders = protocol.orders(shots, number, seed) if shots else [()]
        self._answer = functools.lru_cache(1 << 16)(self._answer_tokens)

    @property
    def stage(self) -> Stage:
        """Name of the stage."""
        return self.benchmark.name, self.shots, self.seed

    def question(self, query: Example) -> Question:
        """The prompts of a query.

        Raises:
          UserError: its text holds an image token.
        """
        supports = tuple(self.choose(query))
        orders = self.orders if self.shots else [tuple(range(len(supports)))]
        asks = tuple(self._ask([supports[i] for i in order], query) for order in orders)
        return Question(query, supports, asks)

    def line(self, question: Question, replies: Sequence[Reply]) -> dict[str, Any]:
        """What `predictions.jsonl` keeps of a query and the replies to its prompts."""
        query = question.query
        log_probs = None
        if self.benchmark.open_ended:
            raw = self._tokenizer.decode(list(replies[0].tokens))
            answer = self.benchmark.postprocess(raw)
        else:
            log_probs = np.mean([reply.log_probs for reply in replies], axis=0).tolist()
            raw = answer = query.candidates[int(np.argmax(log_probs))]
        return {
            "benchmark": self.benchmark.name,
            "shots": self.shots,
            "seed": self.seed,
            "query": query.id,
            "supports": [support.id for support in question.supports],
            "prompt": self.shown(question),
            "raw": raw,
            "answer": answer,
            "log_probs": log_probs,
            "score": None,
        }

    def shown(self, question: Question) -> str:
        """The first prompt of a query as the model reads it, from its tokens."""
        return self._tokenizer.show(question.asks[0].tokens)

    def _ask(self, supports: Sequence[Example], query: Example) -> Ask:
        text = self._tokenizer.text
        prompt = protocol.make_prompt(self.benchmark, supports, query, self.shots, text)
        tokens = prompt_tokens(prompt.before + prompt.text, self._tokenizer)
        if tokens.count(text.image_id) != len(prompt.media):
            raise UserError(
                f"{self.benchmark.title}: the prompt of query {query.id} holds "
                f"{text.image_token!r} in its text: remove it from the annotations."
            )
        before = prompt_tokens(prompt.before, self._tokenizer) if prompt.before else ()
        tail = prompt.text.rsplit(text.image_token, 1)[-1]
        candidates = tuple(self._answer(tail, candidate) for candidate in self._weighed(query))
        return Ask(tokens, prompt.media, _common(before, tokens), candidates)

    def _weighed(self, query: Example) -> Sequence[str]:
        return () if self.benchmark.open_ended else query.candidates

    def _answer_tokens(self, tail: str, answer: str) -> tuple[int, ...]:
        """Ids of an answer after the text that it follows."""
        before = self._tokenizer.encode(tail)
        both = self._tokenizer.encode(f"{tail} {answer}")
        if both[: len(before)] == before and len(both) > len(before):
            return tuple(both[len(before) :])
        return tuple(self._tokenizer.encode(f" {answer}"))


def answers(benchmark: Benchmark, lines: Sequence[dict[str, Any]]) -> list[Answer]:
    """The answers in lines of `predictions.jsonl`."""
    if benchmark.open_ended:
        return [Answer(text=line["answer"]) for line in lines]
    return [Answer(log_probs=tuple(line["log_probs"])) for line in lines]


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    """How many leading tokens are the same, fewer than all of the second."""
    most = min(len(first), len(second) - 1)
    return next((i for i in range(most) if first[i] != second[i]), most)
