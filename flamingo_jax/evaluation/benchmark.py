"""What every published benchmark is: examples, prompts, post-processing and a score.

Splits, prompts and metrics are those of Flamingo (arXiv:2204.14198, table 2 and §4.1.3 of the first
version; appendix B of the second).
"""

import abc
import collections
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

MEMBERS = 2048
"""Examples that supports are drawn from (arXiv:2204.14198v1, appendix C.3)."""
CLASS_MEMBERS = 32
"""The same for each class, where classes are named."""


@dataclasses.dataclass(frozen=True)
class Media:
    """An image, or a video or a part of one.

    Attributes:
      path: of the file.
      start: of the part, seconds; None for the beginning.
      end: of the part, seconds; None for the end.
    """

    path: Path
    start: float | None = None
    end: float | None = None


@dataclasses.dataclass(frozen=True)
class Example:
    """One example of a split, a support or a query.

    Attributes:
      id: unique in the split; the official one where there is one.
      media: what is shown, mostly one.
      question: what is asked, or the words of a meme.
      context: text before the question: a dialogue's caption and earlier turns.
      answers: references of a caption or a question, the labels of a class; empty where they are
        not published.
      candidates: what the answer is chosen among; empty if it is open-ended.
      relevance: of each candidate, where the score needs more than the right answer.
      kind: of question, where the score depends on it.
      group: of examples that are not independent, such as those of one video.
    """

    id: str
    media: tuple[Media, ...]
    question: str = ""
    context: str = ""
    answers: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()
    relevance: tuple[float, ...] = ()
    kind: str = ""
    group: str = ""


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a model answers to a query.

    Attributes:
      text: after `Benchmark.postprocess`, if the benchmark is open-ended.
      log_probs: of `Example.candidates`, nats, if it is close-ended.
    """

    text: str = ""
    log_probs: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True)
class Score:
    """What some answers are worth.

    Attributes:
      value: the benchmark's metric.
      queries: [n] scores whose mean `value` is; None where it is no mean (ROC AUC, mWAP).
    """

    value: float
    queries: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class File:
    """A file or folder that a user has to bring.

    Attributes:
      path: below the data folder, a folder's with a slash at the end.
      source: where it is had.
      splits: that need it; empty for all.
    """

    path: str
    source: str
    splits: tuple[str, ...] = ()


class Benchmark(abc.ABC):
    """One benchmark. Subclasses fill in the attributes and `read` and `score`.

    Attributes:
      name: as commands call it.
      title: as papers call it.
      task: in a few words.
      metric: as papers call it.
      open_ended: answers are generated; else one of the candidates is chosen.
      video: media are videos.
      support: split that supports are drawn from; None if only zero shots are published.
      query: split asked by default, whose answers are public.
      paper_query: split that Flamingo reports.
      splits: that can be read.
      files: that a user brings.
      new_tokens: most tokens of a generated answer.
      members: examples of `support` that supports are drawn from.
      class_members: the same for each class, where classes are named; else None.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    task: ClassVar[str]
    metric: ClassVar[str]
    open_ended: ClassVar[bool] = True
    video: ClassVar[bool] = False
    support: ClassVar[str | None] = "train"
    query: ClassVar[str]
    paper_query: ClassVar[str]
    splits: ClassVar[tuple[str, ...]]
    files: ClassVar[tuple[File, ...]]
    new_tokens: ClassVar[int] = 20
    members: ClassVar[int] = MEMBERS
    class_members: ClassVar[int | None] = None

    def check(self, data_dir: Path, split: str) -> None:
        """Makes sure that the files of a split are there, without reading them.

        Raises:
          UserError: a file is missing or misplaced; the message shows the layout.
        """
        del data_dir, split

    @abc.abstractmethod
    def read(self, data_dir: Path, split: str) -> list[Example]:
        """The examples of a split, in the order of its annotation file.

        Args:
          data_dir: holds what `files` names.
          split: one of `splits`.

        Raises:
          UserError: a file is missing or misplaced (the message shows the layout) or damaged.
        """

    def prompt(self, example: Example) -> str:
        """The text between an example's `<image>` and its answer, which follows after a space."""
        return "Output:"

    def shown_answer(self, example: Example) -> str:
        """A support's answer in the prompt: the most frequent one, the first of several.

        On one line and without space around it, which some captions of COCO have.
        """
        answer = collections.Counter(example.answers).most_common(1)[0][0]
        return answer.replace("\n", " ").strip()

    def postprocess(self, text: str) -> str:
        """A generated text as it is scored."""
        return text.strip()

    @abc.abstractmethod
    def score(self, examples: Sequence[Example], answers: Sequence[Answer]) -> Score:
        """The metric over queries and the answers to them, one for each.

        Raises:
          UserError: there are none, or an example has no published answer.
        """
