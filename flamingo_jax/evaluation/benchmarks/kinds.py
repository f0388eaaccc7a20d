"""Benchmarks that are prompted and scored alike."""

from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np

from flamingo_jax.errors import UserError
from flamingo_jax.evaluation.benchmark import CLASS_MEMBERS, Answer, Example, Score
from flamingo_jax.evaluation.benchmarks.published import Published
from flamingo_jax.evaluation.metrics import cider_each


def mean_score(
    examples: Sequence[Example],
    answers: Sequence[Answer],
    score: Callable[[Example, Answer], float],
) -> Score:
    """The mean of a score of each query.

    Raises:
      UserError: there are none, or one has no published answer.
    """
    check_answered(examples, answers)
    found = np.array([score(*pair) for pair in zip(examples, answers, strict=True)], np.float64)
    return Score(float(found.mean()), found)


def check_answered(examples: Sequence[Example], answers: Sequence[Answer]) -> None:
    """Refuses what cannot be scored.

    Raises:
      UserError: there are no queries, the counts differ, or one has no published answer.
    """
    if not examples or len(examples) != len(answers):
        raise UserError(f"There are {len(examples)} queries and {len(answers)} answers to score.")
    for example in examples:
        if not example.answers and not example.relevance:
            raise UserError(
                f"Example {example.id} has no published answer: its split cannot be scored here, "
                "only by the benchmark's server."
            )


def best(answer: Answer) -> int:
    """Index of the most probable candidate, the first of equal ones."""
    return int(np.argmax(answer.log_probs))


class Captioning(Published):
    """`Output: a caption`, scored by CIDEr."""

    metric = "CIDEr"

    def postprocess(self, text: str) -> str:
        """What stands before a next `Output`, without quotation marks.

        As OpenFlamingo does (arXiv:2308.01390).
        """
        return text.split("Output", 1)[0].replace('"', "").strip()

    def score(self, examples: Sequence[Example], answers: Sequence[Answer]) -> Score:
        check_answered(examples, answers)
        references = {n: example.answers for n, example in enumerate(examples)}
        found = cider_each(references, {n: answer.text for n, answer in enumerate(answers)})
        return Score(float(found.mean()), found)


class QuestionAnswering(Published):
    """`Question: … Answer: …` with a generated answer."""

    new_tokens = 10

    def prompt(self, example: Example) -> str:
        return f"Question: {example.question} Answer:"


class ExactAnswers(QuestionAnswering):
    """Questions whose one answer must be met to the letter, case aside."""

    metric = "top-1 accuracy"

    def score(self, examples: Sequence[Example], answers: Sequence[Answer]) -> Score:
        return mean_score(examples, answers, _exact)


class Choices(Published):
    """`Question: … Answer: …` where the most probable candidate is the answer."""

    metric = "top-1 accuracy"
    open_ended = False

    def prompt(self, example: Example) -> str:
        return f"Question: {example.question} Answer:"

    def score(self, examples: Sequence[Example], answers: Sequence[Answer]) -> Score:
        return mean_score(examples, answers, _chosen)


class Classification(Published):
    """`Output: a class name`, the most probable one of all."""

    metric = "top-1 accuracy"
    open_ended = False
    class_members: ClassVar[int | None] = CLASS_MEMBERS

    def score(self, examples: Sequence[Example], answers: Sequence[Answer]) -> Score:
        return mean_score(examples, answers, _chosen)


def _exact(example: Example, answer: Answer) -> float:
    return float(answer.text.strip().lower() in {text.lower() for text in example.answers})


def _chosen(example: Example, answer: Answer) -> float:
    return float(example.candidates[best(answer)] in example.answers)
