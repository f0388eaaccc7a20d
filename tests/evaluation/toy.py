"""Two small benchmarks over random pictures, one written and one chosen, for a random model."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from flamingo_jax.evaluation.benchmark import Answer, Benchmark, Example, Media, Score

WORDS = ("a", "b", "c", "w20 w21", "w22")


class Written(Benchmark):
    """Captions of one word; the score is a mean over queries."""

    name, title, task, metric = "written", "Written", "captions", "accuracy"
    query = paper_query = "test"
    splits = ("train", "test")
    files = ()
    new_tokens = 4

    def read(self, data_dir: Path, split: str) -> list[Example]:
        rows = json.loads((data_dir / f"{split}.json").read_text())
        return [
            Example(str(i), (Media(data_dir / name),), answers=(word,), candidates=self.choices())
            for i, (name, word) in enumerate(rows)
        ]

    def choices(self) -> tuple[str, ...]:
        return ()

    def score(self, examples: Sequence[Example], answers: Sequence[Answer]) -> Score:
        right = [a.text == e.answers[0] for e, a in zip(examples, answers, strict=True)]
        values = np.array(right, float)
        return Score(float(values.mean()), values)


class Chosen(Written):
    """One of five words; the score is no mean."""

    name, title, metric = "chosen", "Chosen", "AUC"
    open_ended = False

    def choices(self) -> tuple[str, ...]:
        return WORDS

    def score(self, examples: Sequence[Example], answers: Sequence[Answer]) -> Score:
        best = [WORDS[int(np.argmax(answer.log_probs))] for answer in answers]
        return Score(
            float(np.median([w == e.answers[0] for w, e in zip(best, examples, strict=True)]))
        )


def write_data(folder: Path, supports: int = 12, queries: int = 10) -> Path:
    """Pictures of random size and their words."""
    draw = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    for split, count in (("train", supports), ("test", queries)):
        rows = []
        for i in range(count):
            size = (*draw.integers(8, 40, 2).tolist(), 3)
            Image.fromarray(draw.integers(0, 256, size, np.uint8)).save(folder / f"{split}{i}.png")
            rows.append((f"{split}{i}.png", WORDS[int(draw.integers(len(WORDS)))]))
        (folder / f"{split}.json").write_text(json.dumps(rows))
    return folder
